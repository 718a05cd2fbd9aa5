"""The pages of a process in a domain: an arena of virtual memory whose frames are numbered from 0.

The frames that drivers name are those of this arena, not of the machine: a process does not know
where its pages are. A page can be replaced by one that the kernel shares with another domain
(gntalloc), in the same place, so that views of it stay as they are.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.libatomic import address_of
from xennet.interface import PageRun
from xennet.memory import Memory
from xennet.memory import PageRun as OwnRun
from xennet.xen.errors import XenError, because

#: Frames of the arena: 256 MiB of addresses, which take memory when they are touched.
NR_FRAMES = 65536
#: linux/mman.h: fail rather than replace what has come there meanwhile.
_MAP_FIXED, _MAP_FIXED_NOREPLACE = 0x10, 0x100000
_FAILED = ctypes.c_void_p(-1).value


class OwnPages:
    """The arena. ``base`` is its address; frame ``f`` is 4096 bytes at ``base + f * 4096``."""

    def __init__(self, domid: int, nr_frames: int = NR_FRAMES) -> None:
        self.nr_frames = nr_frames
        self._domid = domid
        self._memory = Memory(nr_frames)
        self.u8 = self._memory.u8
        self.base = address_of(self.u8, 0)
        self._runs: dict[int, OwnRun] = {}
        self._replaced: set[int] = set()
        libc = ctypes.CDLL(None, use_errno=True)
        self._mmap: Any = libc.mmap64 if hasattr(libc, "mmap64") else libc.mmap
        self._mmap.restype = ctypes.c_void_p
        place, number = ctypes.c_size_t, ctypes.c_int
        self._mmap.argtypes = place, place, number, number, number, ctypes.c_int64
        self._munmap: Any = libc.munmap
        self._munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t

    @property
    def used(self) -> int:
        """Number of pages that are allocated."""
        return self._memory.used

    def alloc(self, count: int) -> OwnRun:
        """Allocate ``count`` consecutive zeroed pages. Raises OutOfFramesError if there is no such
        run."""
        run = self._memory.run(self._memory.alloc(self._domid, count), count)
        self._runs[run.first] = run
        return run

    def free(self, pages: PageRun) -> None:
        """Free a whole run of :meth:`alloc`; its views end. Raises ValueError for any other run."""
        run = self._runs.get(pages.first)
        if run is None or run is not pages:
            raise ValueError(f"no run of pages was allocated at {pages.first:#x}")
        del self._runs[run.first]
        run.revoke()
        for frame in range(run.first, run.first + run.count):
            self.restore(frame)
        self._memory.free(self._domid, run.first, run.count)

    def replace(self, frame: int, fd: int, offset: int) -> None:
        """Put the page at ``offset`` of the device ``fd`` in the place of ``frame``. Raises
        OSError."""
        self._put(frame, mmap.MAP_SHARED | _MAP_FIXED, fd, offset)
        self._replaced.add(frame)

    def restore(self, frame: int) -> None:
        """Put a zeroed page in the place of one that :meth:`replace` has put there; the latter is
        unmapped. Does nothing for any other page."""
        if frame not in self._replaced:
            return
        self._replaced.remove(frame)
        # Unmapped by itself, so that everybody who counts the mappings of the device sees it.
        self._munmap(self.base + frame * PAGE_SIZE, PAGE_SIZE)
        try:
            private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
            self._put(frame, private, -1, 0)
        except OSError as error:
            raise XenError(f"page {frame:#x} is lost: {because(error.errno or 0)}") from None

    def close(self) -> None:
        """Unmap all pages that were replaced, and end all views."""
        for frame in list(self._replaced):
            self.restore(frame)
        for run in self._runs.values():
            run.revoke()
        self._runs.clear()
        self.u8.release()
        self._memory.close()

    def _put(self, frame: int, flags: int, fd: int, offset: int) -> None:
        address, access = self.base + frame * PAGE_SIZE, mmap.PROT_READ | mmap.PROT_WRITE
        got = self._mmap(address, PAGE_SIZE, access, flags, fd, offset)
        if got in (None, _FAILED) or got != address:
            number = ctypes.get_errno()
            raise OSError(number, because(number))
