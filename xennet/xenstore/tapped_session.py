"""Sessions whose bytes a tap is shown (:mod:`xennet.xenstore.tap`)."""

from __future__ import annotations

from collections.abc import Callable

from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Limits, Session
from xennet.xenstore.tap import Line


class TappedSession(Session):
    """A session that shows ``line`` its bytes."""

    __slots__ = ("_line",)

    def __init__(
        self,
        line: Line,
        server: Server,
        domid: int,
        *,
        name: str,
        limits: Limits | None,
        on_output: Callable[[], object] | None,
    ) -> None:
        self._line = line
        super().__init__(server, domid, name=name, limits=limits, on_output=on_output)

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self._line.asked(data)
        super().receive(data)

    def take(self, limit: int | None = None) -> bytes:
        taken = super().take(limit)
        if taken:
            self._line.answered(taken)
        return taken

    def close(self) -> None:
        super().close()
        # Behind a message that ends the session the answers to earlier ones are still taken.
        if not self._busy:
            self._line.cut()

    def _reset(self) -> None:
        super()._reset()
        if not self._ending:
            self._line.cut()


def open_session(
    server: Server,
    domid: int = 0,
    *,
    name: str = "",
    limits: Limits | None = None,
    on_output: Callable[[], object] | None = None,
) -> Session:
    """A session of ``server``, which its tap is shown if it has one. Raises XsError ENOENT if the
    domain is not introduced."""
    tap = server.tap
    if tap is None:
        return Session(server, domid, name=name, limits=limits, on_output=on_output)
    return TappedSession(
        tap.line(domid, name), server, domid, name=name, limits=limits, on_output=on_output
    )
