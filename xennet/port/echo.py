"""``echo:`` gives back every frame that is pushed, in order."""

from __future__ import annotations

from xennet.frames import FrameBatch
from xennet.port.base import BasePort, PortError
from xennet.port.fifo import FrameFifo


class EchoPort(BasePort):
    """``echo:``: a bounded FIFO of ``slots`` frames in flat memory; ``argument`` must be empty.

    Flags, GSO, hash, timestamp and remarks come back unchanged.
    """

    expected = None

    def __init__(self, argument: str = "", *, slots: int = 256) -> None:
        if argument:
            raise PortError(f"echo: takes no argument, not {argument!r}")
        super().__init__("echo:")
        self._queue = FrameFifo(slots)
        self._refused = False  # a push found no room
        self._finished = False

    @property
    def exhausted(self) -> bool:
        return self._finished and not self._queue.count

    @property
    def room(self) -> int:
        room = self._queue.room
        self._refused = self._refused or not room
        return room

    def push(self, batch: FrameBatch) -> None:
        if batch.count > self.room:
            raise IndexError(f"echo: {batch.count} frames pushed, room for {self.room}")
        for i in range(batch.count):
            self._queue.put(batch, i)
        super().push(batch)

    def pull(self, batch: FrameBatch) -> int:
        used = batch.used
        taken = self._pulled(self._queue.take(batch), batch.used - used)
        if taken and self._refused:
            self._refused = False
            self.wake()
        return taken

    def finish(self) -> None:
        self._finished = True
