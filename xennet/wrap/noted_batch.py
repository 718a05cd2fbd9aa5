"""Frames that a check of order notes together: those of one batch, which lie end to end.

As long as all frames come as they were sent, nobody needs a note for each. Those of a batch are
compared with many that arrive by a few operations on their columns and bytes, each of which goes
over all of them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator

from xennet.frames import CSUM_BLANK, FrameBatch


class NotedBatch:
    """Frames ``first`` .. ``end - 1`` of ``batch``, ``size`` bytes as end_to_end says.

    ``left``: how many of them have not arrived, which are the last ones.
    """

    __slots__ = ("_data", "_flags", "_length", "_timestamp", "_used", "left")

    def __init__(self, batch: FrameBatch, first: int, end: int, size: int) -> None:
        start = batch.offset[first]
        self._data = batch.data[start : start + size].tobytes()
        self._length = batch.length[first:end]
        self._flags = batch.flags[first:end]
        self._timestamp = batch.timestamp[first:end]
        self._used = 0
        self.left = end - first

    def take(self, batch: FrameBatch, first: int, count: int) -> int:
        """Compare the oldest ``count`` frames that are left with frames ``first`` ... of ``batch``.

        If they are the same, they are left no more, and those of ``batch`` get their time stamps.
        Returns the number of bytes; -1 if they may differ, and nothing has changed.
        """
        at, end = len(self._length) - self.left, first + count
        if batch.length[first:end] != self._length[at : at + count]:
            return -1
        size = end_to_end(batch, first, end)
        flags, sent_flags = batch.flags[first:end], self._flags[at : at + count]
        if size < 0 or (flags != sent_flags and _blanks(flags) != _blanks(sent_flags)):
            return -1
        start = batch.offset[first]
        if not self._data.startswith(batch.data[start : start + size], self._used):
            return -1
        batch.timestamp[first:end] = self._timestamp[at : at + count]
        self._used += size
        self.left -= count
        return size

    def frames(self) -> Iterator[tuple[bytes, int, int]]:
        """The frames that are left, each as (bytes, time stamp, CSUM_BLANK or 0)."""
        start = self._used
        for at in range(len(self._length) - self.left, len(self._length)):
            end = start + self._length[at]
            yield self._data[start:end], self._timestamp[at], self._flags[at] & CSUM_BLANK
            start = end


def end_to_end(batch: FrameBatch, first: int, end: int) -> int:
    """The number of bytes of frames ``first`` .. ``end - 1`` of ``batch``, which are at least one,
    if each begins where the one before it ends; else -1."""
    offset, length = batch.offset, batch.length
    # All at once: a column is the digits of one number, to the base 2^32. Offsets are below 2^31,
    # so that the difference is 0 only if it is 0 for each frame.
    steps = _number(offset[first + 1 : end]) - _number(offset[first : end - 1])
    if steps != _number(length[first : end - 1]):
        return -1
    return offset[end - 1] + length[end - 1] - offset[first]


def _blanks(flags: array[int]) -> int:
    """The number whose digits are CSUM_BLANK or 0 of each frame."""
    return _number(flags) & _number(array("I", (CSUM_BLANK,)) * len(flags))


def _number(column: array[int]) -> int:
    return int.from_bytes(column.tobytes(), sys.byteorder)
