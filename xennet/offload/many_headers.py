"""The usual headers of many frames, looked at by whole columns of bytes.

That is for plain Python: it compares a byte of all frames in one call, where a look at each frame
costs it ten times as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import repeat
from struct import Struct
from typing import Any

from xennet.engine.kernel import Bytes, U32Array

#: Ethernet type, IP version and type of service; fragment, time to live and protocol: what
#: xennet.offload.headers.usual_l4 asks for, but for the lengths.
HEAD = Struct(">12xI4xI")
#: Its bytes in a frame.
_HEAD_BYTES = (*range(12, 16), *range(20, 24))


@lru_cache(maxsize=64)
def _every(layout: Struct, size: int) -> Struct:
    """What unpacks ``layout`` from each of many frames of ``size`` bytes that lie end to end."""
    return Struct(f"{layout.format}{size - layout.size}x")


class ManyHeaders:
    """Frames of a batch, at least one, by their columns ``offset`` and ``length``.

    ``shortest``: bytes of the shortest. What else is asked for has to lie within all of them.
    """

    def __init__(self, data: Bytes, offset: U32Array, length: U32Array) -> None:
        self._data = data
        self._offset = offset
        self._size = size = length[0]
        begin = offset[0]
        self._end = end = begin + size * len(length)
        alike = length[1:] == length[:-1]
        self.shortest = size if alike else min(length)
        #: Whether they are of one length, and lie end to end.
        self._regular = alike and offset[-1] + size == end

    def __repr__(self) -> str:
        return f"<ManyHeaders of {len(self._offset)} frames>"

    def common_head(self) -> tuple[int, int] | None:
        """HEAD of the frames, if all have the same and are of one length; None otherwise, though
        they may still be alike."""
        if not self._regular:
            return None
        data, begin, end, size = self._data, self._offset[0], self._end, self._size
        for place in _HEAD_BYTES:
            column = data[begin + place : end : size]
            if column[1:] != column[:-1]:
                return None
        first, last = HEAD.unpack_from(data, begin)
        return first, last

    def fields(self, layout: Struct) -> Iterable[tuple[Any, ...]]:
        """What ``layout`` unpacks from each frame."""
        if self._regular:
            whole = self._data[self._offset[0] : self._end]
            return _every(layout, self._size).iter_unpack(whole)
        return map(layout.unpack_from, repeat(self._data), self._offset)
