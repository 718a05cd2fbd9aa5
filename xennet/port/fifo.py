"""A bounded queue of whole frames in flat memory, with all metadata of each frame."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator

from xennet.frames import MAX_FRAME, FrameBatch

#: Bytes from one slot to the next: a frame of any length, rounded up to whole pages.
_STRIDE = MAX_FRAME + 1


class FrameFifo:
    """A queue with room for ``slots`` frames of any length, so :attr:`room` is exact.

    The memory is an anonymous mapping whose untouched pages cost nothing. A queue that becomes
    empty starts over at its first slot, so one that is never full does not touch them all. Flags,
    GSO, hash, timestamp and remarks come out unchanged.
    """

    def __init__(self, slots: int = 256) -> None:
        self.slots = slots
        self.count = 0
        self._first = 0
        self._data = memoryview(mmap.mmap(-1, slots * _STRIDE))
        self._length = array("I", bytes(4 * slots))
        self._meta = tuple(array("I", bytes(4 * slots)) for _ in range(5))
        self._meta += (array("q", bytes(8 * slots)),)
        self._remarks: dict[int, object] = {}

    @property
    def room(self) -> int:
        """Number of frames that still fit."""
        return self.slots - self.count

    def put(self, batch: FrameBatch, index: int) -> None:
        """Append a copy of frame ``index`` of ``batch``. Raises IndexError if there is no room."""
        if self.count == self.slots:
            raise IndexError(f"a queue of {self.slots} frames is full")
        slot = (self._first + self.count) % self.slots
        length = batch.length[index]
        at = slot * _STRIDE
        self._data[at : at + length] = batch.frame(index)
        self._length[slot] = length
        for kept, column in zip(self._meta, _meta(batch), strict=True):
            kept[slot] = column[index]
        if index in batch.remarks:
            self._remarks[slot] = batch.remarks[index]
        self.count += 1

    def take(self, batch: FrameBatch) -> int:
        """Move frames to the end of ``batch`` as long as they fit. Returns their number.

        Raises IndexError if ``batch`` is empty and too small for the first frame.
        """
        taken = 0
        while self.count:
            slot = self._first
            length = self._length[slot]
            if batch.count and not batch.has_room(length):
                break
            index, at = batch.count, slot * _STRIDE
            remark = self._remarks.pop(slot, None)
            batch.append(self._data[at : at + length], remark=remark)
            for kept, column in zip(self._meta, _meta(batch), strict=True):
                column[index] = kept[slot]
            self._first = (slot + 1) % self.slots
            self.count -= 1
            taken += 1
        if not self.count:
            self._first = 0
        return taken

    def frames(self) -> Iterator[tuple[object, ...]]:
        """All that is queued, in order: of each frame its bytes, its metadata and its remark."""
        for number in range(self.count):
            slot = (self._first + number) % self.slots
            at = slot * _STRIDE
            data = bytes(self._data[at : at + self._length[slot]])
            yield data, *(column[slot] for column in self._meta), self._remarks.get(slot)

    def clear(self) -> int:
        """Forget all frames. Returns their number."""
        dropped, self.count, self._first = self.count, 0, 0
        self._remarks.clear()
        return dropped


def _meta(batch: FrameBatch) -> tuple[array[int], ...]:
    """All columns but offset and length. The last one, the time stamp, is wider than the others."""
    return batch.all_columns[2:]
