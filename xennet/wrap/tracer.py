"""A :class:`Tracer` shows every frame that passes, and can record it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.frames import MAX_FRAME, Endpoint, FrameBatch, large_enough, require_endpoint
from xennet.port.base import PortWrapper

#: Directions, named after the call: out of the endpoint, and into it.
PULLED = "pulled"
PUSHED = "pushed"


@frozen
class Passed:
    """A frame that passed.

    ``direction`` is PULLED or PUSHED, ``number`` counts the frames of a direction from 0, ``data``
    are the bytes; the rest is as in a FrameBatch.
    """

    direction: str
    number: int
    data: bytes
    flags: int
    gso_size: int
    gso_type: int
    timestamp: int


class Tracer(PortWrapper):
    """Calls ``told(passed)`` for each frame that is pulled from ``endpoint`` or pushed to it,
    beforehand.

    Copies go to the endpoints ``pulled`` and ``pushed`` (a ``record:`` port writes a capture; both
    may be the same one), which are finished and closed with this one; ``missed`` counts the copies
    that found no room there. The frames themselves are not changed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        told: Callable[[Passed], None] | None = None,
        *,
        pulled: Endpoint | None = None,
        pushed: Endpoint | None = None,
    ) -> None:
        super().__init__(endpoint)
        self.missed = 0
        self._told = told
        self._copies = {
            name: require_endpoint(name, copy)
            for name, copy in ((PULLED, pulled), (PUSHED, pushed))
            if copy is not None
        }
        self._passed = {PULLED: 0, PUSHED: 0}
        self._kept: FrameBatch | None = None

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        pulled = self.endpoint.pull(batch)
        if pulled:
            self._pass(PULLED, batch, first)
        return pulled

    def push(self, batch: FrameBatch) -> None:
        self._pass(PUSHED, batch, 0)
        self.endpoint.push(batch)

    def _pass(self, direction: str, batch: FrameBatch, first: int) -> None:
        number = self._passed[direction]
        self._passed[direction] += batch.count - first
        if self._told is not None:
            for i in range(first, batch.count):
                self._told(
                    Passed(
                        direction=direction,
                        number=number + i - first,
                        data=bytes(batch.frame(i)),
                        flags=batch.flags[i],
                        gso_size=batch.gso_size[i],
                        gso_type=batch.gso_type[i],
                        timestamp=batch.timestamp[i],
                    )
                )
        if direction in self._copies:
            self._copy(self._copies[direction], batch, first)

    def _copy(self, to: Endpoint, batch: FrameBatch, first: int) -> None:
        end = min(batch.count, first + to.room)
        self.missed += batch.count - end
        if first == end:
            return
        if first or end < batch.count:
            kept = large_enough(self._kept, max(batch.used, MAX_FRAME), batch.max_frames)
            self._kept = kept
            kept.clear()
            for i in range(first, end):
                kept.append_from(batch, i)
            batch = kept
        to.push(batch)

    def finish(self) -> None:
        super().finish()
        for copy in self._copies.values():
            getattr(copy, "finish", _nothing)()

    def close(self) -> None:
        try:
            super().close()
        finally:
            for copy in self._copies.values():
                getattr(copy, "close", _nothing)()


def _nothing() -> None:
    """Do nothing, for an endpoint that is no port."""
