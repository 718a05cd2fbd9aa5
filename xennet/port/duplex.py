"""``PLAYER+RECORDER``: one port that plays the one and records to the other."""

from __future__ import annotations

from collections.abc import Callable

from xennet.frames import FrameBatch, HasDescriptors, Offload, Watch
from xennet.port.base import Counters, Port, flush, is_live, short_name


class DuplexPort:
    """A port that pulls from ``player`` and pushes to ``recorder``; its counters are the sums of
    theirs."""

    def __init__(self, player: Port, recorder: Port) -> None:
        self.name = f"{player.name}+{recorder.name}"
        self._player = player
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<DuplexPort {short_name(self)}>"

    @property
    def counters(self) -> Counters:
        return self._player.counters + self._recorder.counters

    @property
    def expected(self) -> int | None:
        return self._player.expected

    @property
    def exhausted(self) -> bool:
        return self._player.exhausted

    @property
    def live(self) -> bool:
        return is_live(self._player) or is_live(self._recorder)

    @property
    def carries(self) -> Offload:
        return self._recorder.carries

    @property
    def room(self) -> int:
        return self._recorder.room

    def pull(self, batch: FrameBatch) -> int:
        return self._player.pull(batch)

    def push(self, batch: FrameBatch) -> None:
        self._recorder.push(batch)

    def negotiated(self, offload: Offload) -> None:
        self._player.negotiated(offload)

    def listen(self, wake: Callable[[], None]) -> None:
        self._player.listen(wake)
        self._recorder.listen(wake)

    def watch_descriptors(self, watch: Watch) -> None:
        for port in (self._player, self._recorder):
            if isinstance(port, HasDescriptors):
                port.watch_descriptors(watch)

    def flush(self) -> None:
        flush(self._recorder)

    def finish(self) -> None:
        self._recorder.finish()

    def close(self) -> None:
        try:
            self._player.close()
        finally:
            self._recorder.close()
