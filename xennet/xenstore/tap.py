"""Who may be shown the bytes of a server's sessions, both ways, as they pass the transport."""

from __future__ import annotations

from typing import Protocol


class Line(Protocol):
    """Who is shown the bytes of one session, cut anywhere."""

    def asked(self, data: bytes | bytearray | memoryview, /) -> None:
        """Bytes from the client, before anything in them is handled."""

    def answered(self, data: bytes, /) -> None:
        """Bytes to the client, when the transport takes them."""

    def cut(self) -> None:
        """What has begun is not completed: the session was reset, or has ended. It may be told
        again."""


class Tap(Protocol):
    """Who is shown the bytes of all sessions of a server
    (:attr:`xennet.xenstore.handlers.Server.tap`)."""

    def line(self, domid: int, name: str, /) -> Line:
        """A session of domain ``domid`` begins, called ``name``."""
