"""Memory regions (netmap_mem2.c): one mapping for clients, with three pools in it.

A region is laid out when it is made and gets its memory when it is first used. When its last user
is gone every object of its pools is free again, also those that a client lost.
"""

from __future__ import annotations

import mmap
import os
from errno import EINVAL, ENOMEM
from typing import Any

from attrs import define, field, frozen

from xennet.abi.netmap import IF, RING, SLOT
from xennet.engine.choice import current, shared
from xennet.memfd import new_memfd
from xennet.netmap.address_space import PAGE_SIZE
from xennet.netmap.errors import NetmapError
from xennet.netmap.pools import Layout, Pool, PoolLimits, PoolSize, laid_out

IF_LIMITS = PoolLimits("if", IF.size, PAGE_SIZE, 1, 10000)
RING_LIMITS = PoolLimits("ring", RING.size, 32 * PAGE_SIZE, 2, 1024)
BUF_LIMITS = PoolLimits("buf", 64, 65536, 4, 1000000)
#: Buffers 0 and 1 stand in slots that have none.
RESERVED_BUFFERS = 2
#: Most extra buffers that a private region makes room for (NM_BDG_MAXSLOTS * 128).
MAX_EXTRA_BUFS = 524288


@frozen
class Sizes:
    """What a region is asked to have in its pools."""

    ifs: PoolSize
    rings: PoolSize
    bufs: PoolSize


#: The module's parameters if_num, if_size, ...: the global region.
GLOBAL_SIZES = Sizes(PoolSize(100, 1024), PoolSize(200, 36864), PoolSize(163840, 2048))
#: priv_if_num, priv_if_size, ...: the least of a private region.
PRIVATE_SIZES = Sizes(PoolSize(2, 1024), PoolSize(4, 20480), PoolSize(4098, 2048))


def private_sizes(
    tx: tuple[int, int], rx: tuple[int, int], extra_bufs: int = 0, pipes: int = 0
) -> Sizes:
    """What a private region needs for a port (netmap_mem_private_new).

    ``tx``, ``rx``: number of rings, host ring included, and slots of each. ``pipes``: of how many
    pipes the region has room for both ends, with rings of the port's size.
    """
    (tx_rings, tx_slots), (rx_rings, rx_slots) = tx, rx
    least = PRIVATE_SIZES
    slots = (4 * pipes + rx_rings) * rx_slots + (4 * pipes + tx_rings) * tx_slots
    return Sizes(
        PoolSize(
            max(least.ifs.number, 2 + 4 * pipes),
            max(least.ifs.size, IF.size + 8 * (tx_rings + rx_rings)),
        ),
        PoolSize(
            max(least.rings.number, tx_rings + rx_rings + 8 * pipes),
            max(least.rings.size, RING.size + SLOT.size * max(tx_slots, rx_slots)),
        ),
        PoolSize(
            max(least.bufs.number, slots + RESERVED_BUFFERS + min(extra_bufs, MAX_EXTRA_BUFS)),
            least.bufs.size,
        ),
    )


@define(eq=False)
class Region:
    """A memory region: the pools ``ifs``, ``rings`` and ``bufs``, and the memory they lie in.

    ``u8`` and ``u32`` are all of the memory, in bytes and in words, ``view8`` and ``view32`` the
    same for kernels; they are there while ``active`` (the number of users) is not 0, and stay in
    the global region. ``nm_id`` is what requests call the region by, ``private`` what NI_PRIV_MEM
    says. ``references`` counts the ports that have it for theirs.
    """

    nm_id: int
    sizes: Sizes
    private: bool = True
    active: int = 0
    references: int = 0
    memfd: int = -1
    ifs: Pool = field(init=False)
    rings: Pool = field(init=False)
    bufs: Pool = field(init=False)
    u8: memoryview = field(init=False, default=memoryview(b""))
    u32: memoryview = field(init=False, default=memoryview(b"").cast("I"))
    view8: Any = field(init=False, default=None)
    view32: Any = field(init=False, default=None)
    _pinned: memoryview | None = None

    def __attrs_post_init__(self) -> None:
        self._lay_out(
            laid_out(self.sizes.ifs, IF_LIMITS),
            laid_out(self.sizes.rings, RING_LIMITS),
            laid_out(self.sizes.bufs, BUF_LIMITS),
        )

    def _lay_out(self, ifs: Layout, rings: Layout, bufs: Layout) -> None:
        self.ifs = Pool(ifs, 0)
        self.rings = Pool(rings, ifs.memtotal)
        self.bufs = Pool(bufs, ifs.memtotal + rings.memtotal, RESERVED_BUFFERS)

    @classmethod
    def on_client_memory(cls, nm_id: int, sizes: Sizes, memory: memoryview) -> Region:
        """A region in the client's own pages (NETMAP_REQ_OPT_EXTMEM).

        What the pools of interfaces and rings leave becomes buffers: more than asked for, or fewer
        since the other pools were rounded up. Raises NetmapError(ENOMEM) if what is asked for does
        not fit.
        """
        ifs = laid_out(sizes.ifs, IF_LIMITS)
        rings = laid_out(sizes.rings, RING_LIMITS)
        bufs = laid_out(sizes.bufs, BUF_LIMITS)
        asked = sum(pool.number * pool.size for pool in (sizes.ifs, sizes.rings, sizes.bufs))
        given, memory = len(memory), memory[: len(memory) // PAGE_SIZE * PAGE_SIZE]
        left = len(memory) - ifs.memtotal - rings.memtotal
        if given < asked or left < RESERVED_BUFFERS * bufs.objsize:
            raise NetmapError(ENOMEM, "the pools are larger than the memory given")
        whole = PAGE_SIZE // min(bufs.objsize, PAGE_SIZE)
        number = left // bufs.objsize // whole * whole
        region = cls(nm_id, sizes)
        region._lay_out(ifs, rings, Layout(number, bufs.objsize))
        region._pinned = memory
        return region

    @property
    def memsize(self) -> int:
        """Bytes that a client may map."""
        return self.bufs.offset + self.bufs.layout.memtotal

    @property
    def buf_size(self) -> int:
        return self.bufs.layout.objsize

    def resize(self, sizes: Sizes) -> None:
        """Take other pool sizes, if nobody uses the region; they count from the next use on."""
        if self.active or sizes == self.sizes:
            return
        self.sizes = sizes
        self._release()
        self.__attrs_post_init__()

    def finalize(self) -> None:
        """Count a user, and get the memory for the first. Raises NetmapError(ENOMEM)."""
        if not len(self.u8):
            self._get_memory()
        self.active += 1

    def _get_memory(self) -> None:
        memory = self._pinned
        if memory is None:
            try:
                self.memfd = new_memfd("netmap", self.memsize)
                memory = memoryview(mmap.mmap(self.memfd, self.memsize))
            except OSError as e:
                raise NetmapError(ENOMEM, str(e)) from e
        self.u8 = memory
        self.u32 = shared(memory.cast("I"), "netmap region")
        self.view8 = current().view(self.u8)
        self.view32 = current().view(self.u32)

    def deref(self) -> None:
        """A user less. With the last one all objects become free, and a private region gives its
        memory back."""
        self.active -= 1
        if self.active == 0:
            for pool in (self.ifs, self.rings, self.bufs):
                pool.reset()
            if self.private:
                self._release()

    def _release(self) -> None:
        self.view8 = self.view32 = None
        self.u8 = memoryview(b"")
        self.u32 = memoryview(b"").cast("I")
        if self.memfd >= 0:
            os.close(self.memfd)
            self.memfd = -1

    def new_buffers(self, number: int) -> list[int]:
        """``number`` buffers for a ring. Raises NetmapError(ENOMEM) and takes none if there are not
        so many."""
        taken = self.bufs.allocate(number)
        if len(taken) < number:
            for index in taken:
                self.bufs.give_back(index)
            raise NetmapError(ENOMEM, f"no {number} buffers are left")
        return taken

    def new_object(self, pool: Pool, size: int) -> int:
        """An object of ``pool`` for ``size`` bytes. Returns its offset in the region; raises
        NetmapError(ENOMEM)."""
        if size > pool.layout.objsize or not (taken := pool.allocate(1)):
            raise NetmapError(ENOMEM, f"no object of {size} bytes is left")
        offset = pool.offset_of(taken[0])
        self.u8[offset : offset + pool.layout.objsize] = bytes(pool.layout.objsize)
        return offset

    def free_object(self, pool: Pool, offset: int) -> None:
        pool.give_back((offset - pool.offset) // pool.layout.objsize)

    def extra_alloc(self, number: int) -> tuple[int, int]:
        """Take up to ``number`` buffers and chain them through their first words.

        Returns the first of the chain, which is the highest (0 if there is none), and how many.
        """
        head = 0
        taken = self.bufs.allocate(number)
        for index in taken:
            self.u32[self.bufs.offset_of(index) // 4] = head
            head = index
        return head, len(taken)

    def extra_free(self, head: int) -> int:
        """Free the chain from ``head`` on, until an index that is reserved, beyond the pool or free
        already. Returns how many were freed."""
        freed = 0
        while RESERVED_BUFFERS <= head < self.bufs.layout.objtotal:
            following = self.u32[self.bufs.offset_of(head) // 4]
            if not self.bufs.give_back(head):
                break
            freed += 1
            head = following
        return freed


@define(eq=False)
class Regions:
    """All regions by id. Region 1 is the global one."""

    sizes: Sizes = GLOBAL_SIZES
    by_id: dict[int, Region] = field(init=False)
    _last: int = field(init=False, default=1)

    def __attrs_post_init__(self) -> None:
        self.by_id = {1: Region(1, self.sizes, private=False, references=1)}

    @property
    def shared(self) -> Region:
        """The global region."""
        return self.by_id[1]

    def find(self, nm_id: int) -> Region:
        """The region ``nm_id``. Raises NetmapError(EINVAL) if there is none."""
        if nm_id not in self.by_id:
            raise NetmapError(EINVAL, f"no memory region {nm_id}")
        return self.by_id[nm_id]

    def private(self, sizes: Sizes) -> Region:
        """A new private region. Raises NetmapError(ENOMEM) for sizes that pools cannot have."""
        try:
            region = Region(self._free_id(), sizes)
        except NetmapError as e:
            raise NetmapError(ENOMEM, str(e)) from e
        return self._added(region)

    def external(self, sizes: Sizes, memory: memoryview) -> Region:
        """A new region in a client's memory. Raises NetmapError(ENOMEM)."""
        try:
            region = Region.on_client_memory(self._free_id(), sizes, memory)
        except NetmapError as e:
            raise NetmapError(ENOMEM, str(e)) from e
        return self._added(region)

    def _added(self, region: Region) -> Region:
        self.by_id[region.nm_id] = region
        self._last = region.nm_id
        return region

    def _free_id(self) -> int:
        # The first free one behind the last that was given (nm_mem_assign_id).
        after = self._last
        while after in self.by_id:
            after = after + 1 if after < 0xFFFF else 1
        return after

    def get(self, region: Region) -> Region:
        """One reference more to a region."""
        region.references += 1
        return region

    def put(self, region: Region) -> None:
        """One reference less; without any the region is gone."""
        region.references -= 1
        if region.references:
            return
        del self.by_id[region.nm_id]
        if region.nm_id == self._last:
            below = [nm_id for nm_id in self.by_id if nm_id < region.nm_id]
            self._last = max(below or self.by_id)
