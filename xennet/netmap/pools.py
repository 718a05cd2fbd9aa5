"""Pools of equal objects, of which a memory region has three: interfaces, rings and buffers.

A pool lies in clusters: the fewest objects that fill whole pages. Which objects are free is a byte
each; the lowest free one is given first, as the kernel's bitmaps are searched.
"""

from __future__ import annotations

from errno import EINVAL

from attrs import define, field, frozen

from xennet.netmap.address_space import PAGE_SIZE
from xennet.netmap.errors import NetmapError

#: Objects begin at a multiple of this.
NM_BUF_ALIGN = 64
#: Bytes of the longest cluster (netmap_mem2.c).
MAX_CLUSTSIZE = 1 << 22


@frozen
class PoolSize:
    """How many objects a pool is asked to have, and the bytes of each."""

    number: int
    size: int


@frozen
class PoolLimits:
    """What may be asked of a kind of pool (netmap_mem2.c: objminsize, objmaxsize, nummin,
    nummax)."""

    what: str
    min_size: int
    max_size: int
    min_number: int
    max_number: int


@frozen
class Layout:
    """A pool as it will lie in memory: whole clusters of objects of aligned size."""

    objtotal: int
    objsize: int

    @property
    def memtotal(self) -> int:
        """Bytes of the whole pool: a multiple of the page size."""
        return self.objtotal * self.objsize


def laid_out(asked: PoolSize, limits: PoolLimits) -> Layout:
    """The layout of a pool: sizes rounded up to NM_BUF_ALIGN, numbers up to whole clusters.

    Raises NetmapError(EINVAL) for sizes or numbers outside the limits, and for a size of which no
    number up to MAX_CLUSTSIZE fills whole pages.
    """
    size = -(-asked.size // NM_BUF_ALIGN) * NM_BUF_ALIGN
    if not limits.min_size <= size <= limits.max_size:
        raise NetmapError(EINVAL, f"{limits.what} objects of {size} bytes")
    if not limits.min_number <= asked.number <= limits.max_number:
        raise NetmapError(EINVAL, f"{asked.number} {limits.what} objects")
    entries = 1
    while entries * size % PAGE_SIZE:
        entries += 1
        if entries * size > MAX_CLUSTSIZE:
            raise NetmapError(EINVAL, f"{limits.what} objects of {size} bytes fill no whole pages")
    return Layout(-(-asked.number // entries) * entries, size)


@define(eq=False)
class Pool:
    """A pool at ``offset`` of a region. The first ``reserved`` objects are never given."""

    layout: Layout
    offset: int
    reserved: int = 0
    free: bytearray = field(init=False)
    objfree: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make every object free, taken or not."""
        total = self.layout.objtotal
        self.free = bytearray(self.reserved) + b"\1" * (total - self.reserved)
        self.objfree = total - self.reserved

    def allocate(self, number: int) -> list[int]:
        """Take ``number`` objects, lowest index first. Returns fewer if no more are free."""
        taken = []
        at = 0
        free = self.free
        for _ in range(number):
            at = free.find(1, at)
            if at < 0:
                break
            free[at] = 0
            taken.append(at)
        self.objfree -= len(taken)
        return taken

    def give_back(self, index: int) -> bool:
        """Make an object free. Returns whether it was one that was taken; nothing changes
        otherwise (reserved, out of range, freed before)."""
        if not self.reserved <= index < self.layout.objtotal or self.free[index]:
            return False
        self.free[index] = 1
        self.objfree += 1
        return True

    def offset_of(self, index: int) -> int:
        """Bytes from the start of the region to an object."""
        return self.offset + index * self.layout.objsize
