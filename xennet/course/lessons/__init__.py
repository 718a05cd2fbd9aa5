"""The lessons, each in a module of its own; only the one that is asked for is imported."""
