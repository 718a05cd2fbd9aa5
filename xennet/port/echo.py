"""``echo:`` gives back every frame that it gets, in order."""

from __future__ import annotations

import mmap
from array import array

from xennet.frames import MAX_FRAME, FrameBatch
from xennet.port.base import BasePort, PortError

#: Bytes from one slot to the next: a frame of any length, rounded up to whole pages.
_STRIDE = MAX_FRAME + 1


class EchoPort(BasePort):
    """``echo:``: a bounded FIFO of ``slots`` frames in flat memory; ``argument`` must be empty.

    Each slot holds a frame of any length, so :attr:`room` is exact. The memory is an anonymous
    mapping whose untouched pages cost nothing. Flags, GSO and timestamp come back unchanged.
    """

    expected = None

    def __init__(self, argument: str = "", *, slots: int = 256) -> None:
        if argument:
            raise PortError(f"echo: takes no argument, not {argument!r}")
        super().__init__("echo:")
        self._slots = slots
        self._data = memoryview(mmap.mmap(-1, slots * _STRIDE))
        self._length = array("I", bytes(4 * slots))
        self._flags = array("I", bytes(4 * slots))
        self._gso_size = array("I", bytes(4 * slots))
        self._gso_type = array("I", bytes(4 * slots))
        self._timestamp = array("q", bytes(8 * slots))
        self._first = 0
        self._count = 0
        self._finished = False

    @property
    def exhausted(self) -> bool:
        return self._finished and not self._count

    @property
    def room(self) -> int:
        return self._slots - self._count

    def push(self, batch: FrameBatch) -> None:
        if batch.count > self.room:
            raise IndexError(f"echo: {batch.count} frames pushed, room for {self.room}")
        for i in range(batch.count):
            slot = (self._first + self._count) % self._slots
            length = batch.length[i]
            self._data[slot * _STRIDE : slot * _STRIDE + length] = batch.frame(i)
            self._length[slot] = length
            self._flags[slot] = batch.flags[i]
            self._gso_size[slot] = batch.gso_size[i]
            self._gso_type[slot] = batch.gso_type[i]
            self._timestamp[slot] = batch.timestamp[i]
            self._count += 1
        super().push(batch)

    def pull(self, batch: FrameBatch) -> int:
        count, used = batch.count, batch.used
        while self._count:
            slot = self._first
            length = self._length[slot]
            if batch.count and not batch.has_room(length):
                break
            batch.append(
                self._data[slot * _STRIDE : slot * _STRIDE + length],
                timestamp=self._timestamp[slot],
                flags=self._flags[slot],
                gso_size=self._gso_size[slot],
                gso_type=self._gso_type[slot],
            )
            self._first = (slot + 1) % self._slots
            self._count -= 1
        return self._pulled(batch.count - count, batch.used - used)

    def finish(self) -> None:
        self._finished = True
