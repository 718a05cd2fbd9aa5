"""Frames that were given up and cannot be freed yet, because a domain has them mapped.

Xen counts the references to a page and frees it with the last one. So a page that its owner gives
up (or that a destroyed domain leaves behind) lingers until its last grant mapping is gone.
Otherwise a domain could read, through a mapping that it kept, what the next owner of the frame
writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field

from xennet.abi.xen import DOMID_XEN
from xennet.memory import Memory


@define(eq=False, repr=False)
class FrameAllocator:
    """Allocates and frees the memory of domains.

    ``mappings(frame)`` is the number of mappings of a frame, ``mapped(frames)`` tells whether any
    of many frames is mapped. A lingering frame belongs to DOMID_XEN, so it cannot be mapped again.
    """

    memory: Memory
    mappings: Callable[[int], int]
    mapped: Callable[[range], bool]
    _lingering: dict[int, int] = field(factory=dict, init=False)
    _count: Counter[int] = field(factory=Counter, init=False)

    def alloc(self, domid: int, count: int) -> int:
        """Allocate ``count`` consecutive zeroed frames. Returns the first. Raises
        OutOfFramesError."""
        return self.memory.alloc(domid, count)

    def free(self, domid: int, first: int, count: int = 1) -> None:
        """Free frames of ``domid``; a frame that is mapped is freed when its last mapping is
        gone."""
        frames = range(first, first + count)
        if not self.mapped(frames):
            self.memory.free(domid, first, count)
            return
        for frame in frames:
            if self.mappings(frame):
                self.memory.reassign(domid, frame, DOMID_XEN)
                self._lingering[frame] = domid
                self._count[domid] += 1
            else:
                self.memory.free(domid, frame)

    def unmapped(self, frame: int) -> None:
        """Free ``frame`` if it lingers: its last mapping is gone."""
        if (domid := self._lingering.pop(frame, None)) is not None:
            self._count[domid] -= 1
            self.memory.free(DOMID_XEN, frame)

    def nr_lingering(self, domid: int) -> int:
        """The number of frames that ``domid`` gave up and that are still mapped."""
        return self._count[domid]

    def lingering(self, domid: int) -> list[int]:
        """The frames that ``domid`` gave up and that are still mapped."""
        return [frame for frame, owner in self._lingering.items() if owner == domid]
