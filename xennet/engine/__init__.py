"""How kernels run: as they are, or compiled from the same source."""
