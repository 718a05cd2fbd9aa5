"""The machine's page frames: one contiguous arena and who owns which frame.

A frame is PAGE_SIZE (4096) bytes, named by its number; frame ``f`` is bytes ``f * 4096`` to
``f * 4096 + 4095`` of the arena. Ownership is one 16-bit domid per frame in a flat array, so a
machine of any size holds no Python object per frame, and the grant-copy kernel can check an owner
with one load. Untouched frames cost no memory: the arena is an anonymous mapping, or (``shared``) a
memfd which other processes can map.

What a domain may touch is decided in one place, :class:`AddressSpace`: its own frames and those
that a grant mapped to it (xen/grant_table.h, GNTTABOP_map_grant_ref), nothing else. Every view that
a domain gets (xennet.hypervisor.Domain) is one of its address space.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

from attrs import define, field

from xennet.abi.xen import DOMID_INVALID, PAGE_SIZE
from xennet.engine.atomics import OwnMap, SharedMap, of_processes
from xennet.interface import OutOfFramesError
from xennet.memfd import new_memfd

#: The owner of a free frame.
FREE = DOMID_INVALID

#: From this size on freed memory goes back to the system, which gives zeroes when it is touched
#: again; pages that were never touched are not touched then. Less is quicker to overwrite.
_PUNCH_BYTES = 16 * PAGE_SIZE


def _owners(domid: int, count: int) -> bytes:
    """``count`` entries of the table of owners."""
    return domid.to_bytes(2, "little") * count


class MemoryAccessError(Exception):
    """A domain accessed a frame that is neither its own nor mapped to it."""


@define(slots=True, eq=False)
class PageRun:
    """Consecutive frames as flat integer views, the form in which kernels see memory.

    ``first`` is the frame number that hypercalls use, ``count`` the number of frames; ``u8``,
    ``u16``, ``u32`` and ``u64`` are views of the same bytes (native little-endian, as every shared
    structure of Xen on x86 and Arm). After :meth:`revoke` any use of a view raises ValueError.
    """

    first: int
    count: int
    u8: memoryview
    u16: memoryview
    u32: memoryview
    u64: memoryview

    def __repr__(self) -> str:
        return f"<PageRun {self.count} from frame {self.first:#x}>"

    def revoke(self) -> None:
        """End the views: the holder of this run has lost the frames."""
        for view in (self.u16, self.u32, self.u64, self.u8):
            view.release()


class Memory:
    """The arena: ``nr_frames`` page frames and their owners.

    ``u8`` ... ``u64`` view the whole arena and belong to the hypervisor alone; domains get
    :class:`PageRun` views through their :class:`AddressSpace`. ``owner`` is a ``memoryview`` of one
    unsigned 16-bit domid per frame (FREE for a frame without an owner).

    A ``shared`` arena may be mapped by other processes (``fd``): words that both sides change are
    changed by real atomic operations then; the owner of a view tells that (xennet.engine.atomics).
    Raises MemoryError if the system does not have that much memory, AtomicsError if it has no such
    operations.
    """

    def __init__(self, nr_frames: int = 131072, *, shared: bool = False) -> None:
        if nr_frames < 1:
            raise ValueError(f"an arena needs at least one frame, not {nr_frames}")
        if shared:
            of_processes()
        self.nr_frames = nr_frames
        self.fd: int | None = None
        size = nr_frames * PAGE_SIZE
        try:
            self._map: OwnMap | SharedMap
            if shared:
                self.fd = new_memfd("xennet-arena", size)
                self._map = SharedMap(self.fd, size)
            else:
                self._map = OwnMap(size)
        except OSError as error:
            if self.fd is not None:
                os.close(self.fd)
            raise MemoryError(f"no arena of {size >> 20} MiB: {error.strerror}") from error
        self.u8 = memoryview(self._map)
        self.u16 = self.u8.cast("H")
        self.u32 = self.u8.cast("I")
        self.u64 = self.u8.cast("Q")
        # Two bytes per frame, of which `owner` is the view: runs are compared and set at C speed.
        self._owners = bytearray(_owners(FREE, nr_frames))
        self.owner = memoryview(self._owners).cast("H")
        # One byte per frame, 1 = free: bytearray.find looks for runs at C speed.
        self._free = bytearray(b"\x01" * nr_frames)
        self._hint = 0
        self._used = 0

    def __repr__(self) -> str:
        return f"<Memory {self.used} of {self.nr_frames} frames used>"

    @property
    def quiet(self) -> bool:
        """Whether no other process has a page of a shared arena in which there are words that this
        process changes by atomic operations: those of grant tables and of event channels. To be set
        by who knows; False until then."""
        return isinstance(self._map, SharedMap) and self._map.quiet

    @quiet.setter
    def quiet(self, quiet: bool) -> None:
        if isinstance(self._map, SharedMap):
            self._map.quiet = quiet

    def close(self) -> None:
        """Give the arena back to the system. Views that are still held keep its memory mapped."""
        for view in (self.u16, self.u32, self.u64, self.u8):
            view.release()
        # While a PageRun is still alive the mapping stays; it goes when that does.
        with contextlib.suppress(BufferError):
            self._map.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def alloc(self, domid: int, count: int = 1) -> int:
        """Give ``count`` consecutive zeroed frames to ``domid``. Returns the first frame's number.

        Raises OutOfFramesError if no free run is long enough.
        """
        if count < 1:
            raise ValueError(f"cannot allocate {count} frames")
        want = b"\x01" * count
        # Nearly always the run that begins there: to search for a long one takes preparations.
        first = self._free.find(1, self._hint)
        if first < 0 or not self._free.startswith(want, first):
            first = self._free.find(want, self._hint)
        if first < 0:
            first = self._free.find(want)
        if first < 0:
            raise OutOfFramesError(
                f"domain {domid} wants {count} consecutive frames; "
                f"{self.nr_frames - self._used} of {self.nr_frames} are free, in shorter runs"
            )
        self._free[first : first + count] = bytes(count)
        self._owners[2 * first : 2 * (first + count)] = _owners(domid, count)
        self._hint = first + count
        self._used += count
        return first

    def free(self, domid: int, first: int, count: int = 1) -> None:
        """Take frames back from ``domid`` and scrub them.

        Xen scrubs freed memory so that the next owner reads zeroes. Raises MemoryAccessError when
        a frame is not owned by ``domid`` (nothing is freed then).
        """
        if count < 1:
            raise ValueError(f"cannot free {count} frames")
        if not self.is_owned(domid, first, count):
            for frame in range(first, first + count):
                self._check_owner(domid, frame)
        self._owners[2 * first : 2 * (first + count)] = _owners(FREE, count)
        self._free[first : first + count] = b"\x01" * count
        self._scrub(first * PAGE_SIZE, count * PAGE_SIZE)
        self._hint = min(self._hint, first)
        self._used -= count

    def _scrub(self, start: int, size: int) -> None:
        whole = not (start | size) % mmap.PAGESIZE
        if sys.platform == "linux" and size >= _PUNCH_BYTES and whole:
            advice = mmap.MADV_DONTNEED if self.fd is None else mmap.MADV_REMOVE
            self._map.madvise(advice, start, size)
        else:
            self.u8[start : start + size] = bytes(size)

    def reassign(self, domid: int, frame: int, new_owner: int) -> None:
        """Move one frame to another owner with its contents (GNTTABOP_transfer)."""
        self._check_owner(domid, frame)
        self.owner[frame] = new_owner

    def is_owned(self, domid: int, first: int, count: int) -> bool:
        """Whether ``domid`` owns all of ``count`` frames from ``first`` on."""
        there = self._owners[2 * first : 2 * (first + count)] if first >= 0 else b""
        return there == _owners(domid, count)

    def owned_by(self, domid: int) -> list[int]:
        """The numbers of all frames that ``domid`` owns, ascending. Walks the whole table."""
        return [frame for frame, owner in enumerate(self.owner) if owner == domid]

    @property
    def end(self) -> int:
        """The number behind the last frame that has an owner; all from there on hold zeroes."""
        return self._free.rfind(0) + 1

    @property
    def hint(self) -> int:
        """The frame at which the search for free ones begins."""
        return self._hint

    @property
    def used(self) -> int:
        """Number of frames that have an owner."""
        return self._used

    def run(self, first: int, count: int = 1) -> PageRun:
        """Views of ``count`` frames from ``first`` on, without a check: for the hypervisor."""
        if first < 0 or count < 1 or first + count > self.nr_frames:
            raise MemoryAccessError(
                f"frames {first:#x}..{first + count - 1:#x} lie outside the arena "
                f"of {self.nr_frames:#x} frames"
            )
        u8 = self.u8[first * PAGE_SIZE : (first + count) * PAGE_SIZE]
        return PageRun(first, count, u8, u8.cast("H"), u8.cast("I"), u8.cast("Q"))

    def _check_owner(self, domid: int, frame: int) -> None:
        if not 0 <= frame < self.nr_frames:
            raise MemoryAccessError(f"frame {frame:#x} lies outside the arena")
        if self.owner[frame] != domid:
            raise MemoryAccessError(
                f"frame {frame:#x} belongs to domain {self.owner[frame]}, not to {domid}"
            )


@define(slots=True, eq=False, repr=False)
class AddressSpace:
    """The frames that one domain can reach.

    ``mapped`` counts, for each frame of another domain, the grant mappings through which it can be
    reached; ``writable`` those of them that are not read-only.
    """

    memory: Memory
    domid: int
    mapped: dict[int, int] = field(factory=dict)
    writable: dict[int, int] = field(factory=dict)

    def can_access(self, frame: int) -> bool:
        """Whether the domain owns ``frame`` or has it mapped."""
        return 0 <= frame < self.memory.nr_frames and (
            self.memory.owner[frame] == self.domid or frame in self.mapped
        )

    def can_write(self, frame: int) -> bool:
        """Whether the domain owns ``frame`` or has it mapped other than read-only."""
        return self.can_access(frame) and (
            self.memory.owner[frame] == self.domid or frame in self.writable
        )

    def run(self, first: int, count: int = 1, *, readonly: bool = False) -> PageRun:
        """Views of consecutive frames. Raises MemoryAccessError if one of them is out of reach.

        The views are read-only if ``readonly`` is True, or if a frame is reachable through
        read-only mappings only.
        """
        if not self.memory.is_owned(self.domid, first, count):
            for frame in range(first, first + count):
                self._check(frame)
                readonly = readonly or not self.can_write(frame)
        run = self.memory.run(first, count)
        if readonly:
            run.u8, run.u16 = run.u8.toreadonly(), run.u16.toreadonly()
            run.u32, run.u64 = run.u32.toreadonly(), run.u64.toreadonly()
        return run

    def read(self, frame: int, offset: int = 0, length: int = PAGE_SIZE) -> bytes:
        """Copy ``length`` bytes out of one frame; offset + length <= 4096."""
        start = self._span(frame, offset, length)
        return bytes(self.memory.u8[start : start + length])

    def write(self, frame: int, offset: int, data: bytes | memoryview) -> None:
        """Copy ``data`` into one frame; offset + len(data) <= 4096."""
        start = self._span(frame, offset, len(data))
        if not self.can_write(frame):
            raise MemoryAccessError(f"domain {self.domid} has frame {frame:#x} mapped read-only")
        self.memory.u8[start : start + len(data)] = data

    def map(self, frame: int, readonly: bool = False) -> None:
        """Count a grant mapping of ``frame``."""
        for counts in (self.mapped,) if readonly else (self.mapped, self.writable):
            counts[frame] = counts.get(frame, 0) + 1

    def unmap(self, frame: int, readonly: bool = False) -> None:
        """Uncount a grant mapping of ``frame``, made with the same ``readonly``."""
        for counts in (self.mapped,) if readonly else (self.mapped, self.writable):
            if counts[frame] == 1:
                del counts[frame]
            else:
                counts[frame] -= 1

    def _check(self, frame: int) -> None:
        if not self.can_access(frame):
            raise MemoryAccessError(
                f"domain {self.domid} can reach neither as owner nor through a grant: "
                f"frame {frame:#x}"
            )

    def _span(self, frame: int, offset: int, length: int) -> int:
        self._check(frame)
        if offset < 0 or length < 0 or offset + length > PAGE_SIZE:
            raise MemoryAccessError(
                f"bytes {offset}..{offset + length - 1} leave frame {frame:#x} (4096 bytes)"
            )
        return frame * PAGE_SIZE + offset
