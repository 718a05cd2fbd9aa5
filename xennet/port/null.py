"""``null:`` gives nothing and swallows everything."""

from __future__ import annotations

from xennet.port.base import BasePort, PortError


class NullPort(BasePort):
    """``null:``. Raises PortError unless ``argument`` is empty."""

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise PortError(f"null: takes no argument, not {argument!r}")
        super().__init__("null:")
