"""Checks of netfronts, by topic; each module enters its own."""
