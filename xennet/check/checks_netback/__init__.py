"""Checks of netbacks, by topic; each module enters its own."""
