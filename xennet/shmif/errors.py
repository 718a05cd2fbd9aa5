"""What can be wrong with a bus."""

from __future__ import annotations

from xennet.port.base import PortError


class BusError(PortError):
    """A bus is no good, or cannot be used; one line that begins with its file."""
