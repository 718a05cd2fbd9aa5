"""What can be wrong with a TAP interface."""

from __future__ import annotations

from xennet.port.base import PortError


class TapError(PortError):
    """A TAP interface cannot be made or used. The message is one line that begins with its
    name."""
