"""What can be wrong with a bus."""

from __future__ import annotations

from xennet.port.base import PortError


class BusError(PortError):
    """A bus is damaged or cannot be used. The message is one line that begins with the file's
    name."""
