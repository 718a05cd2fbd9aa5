"""A program's memory as the netmap device wants it (xennet.netmap.address_space.AddressSpace)."""

from __future__ import annotations

import ctypes
import mmap
import os
from errno import EBADF, ENOMEM

from xennet.exec.client_memory import ClientMemory
from xennet.exec.devices import Client, Pages
from xennet.memfd import new_memfd
from xennet.netmap.address_space import PAGE_SIZE, FaultError
from xennet.netmap.errors import NetmapError

_SYS_PIDFD_GETFD = 438
_syscall = ctypes.CDLL(None, use_errno=True).syscall
#: Protection of pages that take the place of a program's own.
_READ_WRITE = 3
#: Bytes of a program's memory that can be a region; they are copied.
_MOST = 1 << 30
#: Bytes that are copied at once.
_PART = 1 << 20


class ProgramMemory:
    """The memory and the descriptors of ``client``."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._memory: ClientMemory = client.memory
        self._replaced: Pages | None = None

    def read(self, address: int, length: int) -> bytes:
        try:
            return self._memory.read(address, length)
        except OSError as e:
            raise FaultError(str(e)) from e

    def write(self, address: int, data: bytes) -> None:
        try:
            self._memory.write(address, data)
        except OSError as e:
            raise FaultError(str(e)) from e

    def pin(self, address: int, length: int) -> memoryview:
        """A new memfd with the same bytes, which takes the place of the program's pages
        (:meth:`replaced`); it is sealed, so that the program cannot take it away. Raises
        FaultError, NetmapError(ENOMEM) for more than a GiB."""
        if address % PAGE_SIZE:
            raise FaultError(f"{address:#x} is no begin of a page")
        if length > _MOST:
            raise NetmapError(ENOMEM, f"{length} bytes of a program's memory")
        length = -(-length // PAGE_SIZE) * PAGE_SIZE
        for at in range(0, length, PAGE_SIZE):  # each page has to be writable, too
            self.write(address + at, self.read(address + at, 1))
        fd = new_memfd("netmap", length)
        try:
            pages = mmap.mmap(fd, length)
            for at in range(0, length, _PART):
                part = self.read(address + at, min(_PART, length - at))
                pages[at : at + len(part)] = part
        except BaseException:
            os.close(fd)
            raise
        extent = (0, length // PAGE_SIZE)
        self._replaced = Pages(fd, _READ_WRITE, [extent], dont_fork=False, address=address)
        return memoryview(pages)

    def replaced(self) -> Pages | None:
        """Pages that are to take the place of the program's own, since the last call."""
        replaced, self._replaced = self._replaced, None
        return replaced

    def descriptor(self, number: int) -> int:
        fd = int(_syscall(_SYS_PIDFD_GETFD, self.client.pidfd, number, 0))
        if fd < 0:
            raise OSError(EBADF, f"the program has no descriptor {number}")
        return fd
