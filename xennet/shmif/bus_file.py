"""A bus as a file: opening it, creating it, mapping it, and checking it before use."""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from array import array
from errno import EINTR, ENOSYS, EOPNOTSUPP

from attrs import frozen

from xennet.abi.codec import Codec
from xennet.abi.shmifvar import (
    BUSMEM_DATASIZE,
    BUSMEM_SIZE,
    IFMEM_DATA,
    PKTHDR,
    PKTHDR_I386,
    SHMIF_MAGIC,
    SHMIF_MEM,
)
from xennet.shmif import bus_ops
from xennet.shmif.errors import BusError

#: The packet header by the name of its form: "64" for 64-bit processes, "i386" for 32-bit x86.
FORMS: dict[str, Codec] = {"64": PKTHDR, "i386": PKTHDR_I386}
#: Errors of a system or a file system that reserves no room.
_CANNOT = (EOPNOTSUPP, ENOSYS)
_SWAPPED = int.from_bytes(SHMIF_MAGIC.to_bytes(4, "little"), "big")


def form_named(name: str) -> Codec:
    """The packet header of form "64" or "i386". Raises ValueError for any other name."""
    if name not in FORMS:
        raise ValueError(f"there is no form {name!r}; there are {', '.join(FORMS)}")
    return FORMS[name]


@frozen(eq=False)
class BusMemory:
    """The bytes of a bus, ``whole``, and views of them: ``mem`` is its struct shmif_mem in 64-bit
    words, ``data`` the data behind that. ``form`` is the packet header that all processes on the
    bus use."""

    name: str
    whole: memoryview
    form: Codec

    @property
    def mem(self) -> memoryview:
        return self.whole[:IFMEM_DATA].cast("Q")

    @property
    def mem32(self) -> memoryview:
        return self.whole[:IFMEM_DATA].cast("I")

    @property
    def data(self) -> memoryview:
        return self.whole[IFMEM_DATA:]

    def views(self) -> tuple[memoryview, memoryview, memoryview, memoryview, array[int]]:
        """The bus as kernels take it (xennet.shmif.bus_ops.BusViews), with scratch memory of its
        own."""
        header = memoryview(bytearray(bus_ops.SCRATCH))
        form = array("I", [self.form.size, self.form.offsets["sp_sender"] // 4])
        return self.mem32, self.data, header, header.cast("I"), form

    def check(self) -> None:
        """Check that this is an initialised bus of this machine's byte order. Raises BusError if
        not."""
        magic = SHMIF_MEM.read(self.whole).shm_magic
        if magic == SHMIF_MAGIC:
            return
        if magic == 0:
            raise self.error("not initialised, its magic number is 0", 0)
        if magic == _SWAPPED:
            raise self.error("a bus of a big-endian host, which cannot be used here", 0)
        raise self.error(f"no bus, its magic number is {magic:#010x}, not {SHMIF_MAGIC:#x}", 0)

    def judge(self, res: array[int]) -> None:
        """Check the result vector ``res`` of a kernel. Raises BusError if the kernel found
        something on the bus that no writer of frames leaves there."""
        verdict, place, found = res[: bus_ops.R_FOUND + 1]
        if verdict == bus_ops.OK:
            return
        if verdict == bus_ops.BAD_LENGTH:
            size = f"a frame of {found} bytes cannot be on a bus, or is longer than is taken"
            raise self.error(size, self._offset(place))
        if verdict == bus_ops.ASTRAY:
            where = f"the newest one, at {self._offset(found)}"
            raise self.error(f"frames that do not lead to {where}", self._offset(place))
        name = "shm_first" if verdict == bus_ops.BAD_FIRST else "shm_last"
        raise self.error(f"{name} is {found}, the data has {BUSMEM_DATASIZE} bytes", 4 * place)

    def error(self, what: str, offset: int) -> BusError:
        """A BusError about the byte at ``offset`` of the file."""
        return BusError(f"{self.name}: {what} (at byte offset {offset})")

    @staticmethod
    def _offset(place: int) -> int:
        """The offset in the file of data offset ``place``; the end of the data is its beginning."""
        return IFMEM_DATA + place % BUSMEM_DATASIZE


def open_bus(path: str, create: bool, writable: bool = True) -> int:
    """Open the bus file ``path`` and return its descriptor. A file that is empty, or new because of
    ``create``, gets the size of a bus. If it is ``writable`` the disk has room for all of it.

    Raises BusError if the file cannot be opened, is no regular file, or has a size other than a
    bus's, or the disk is full.
    """
    flags = (os.O_RDWR if writable else os.O_RDONLY) | (os.O_CREAT if create else 0)
    try:
        # O_NONBLOCK: a FIFO is not waited for, it is refused below.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise BusError(f"{path}: cannot be opened: {why}") from e
    try:
        about = os.fstat(fd)
        size = about.st_size
        if not stat.S_ISREG(about.st_mode):
            raise BusError(f"{path}: no bus, it is no regular file")
        if size != BUSMEM_SIZE and not (size == 0 and create):
            raise BusError(f"{path}: no bus, it has {size} bytes, not {BUSMEM_SIZE}")
        if writable:
            _reserve(fd)
        if size == 0:
            os.ftruncate(fd, BUSMEM_SIZE)
    except OSError as e:
        os.close(fd)
        raise BusError(f"{path}: cannot be used: {e.strerror}") from e
    except BusError:
        os.close(fd)
        raise
    return fd


def _reserve(fd: int) -> None:
    """Have the disk keep room for a whole bus in ``fd``; its content stays as it is.

    A store into a mapped page for which there is no room kills the process (SIGBUS). Raises OSError
    if there is none. Where the system or the file system cannot reserve room, nothing is done:
    posix_fallocate of the C library would do without, and write between the stores of others.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # By either name sizes have 64 bits: musl has the second one only.
    fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if fallocate is None:
        return
    fallocate.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
    while fallocate(fd, 0, 0, BUSMEM_SIZE):
        error = ctypes.get_errno()
        if error in _CANNOT:
            return
        if error != EINTR:
            raise OSError(error, os.strerror(error))


def map_bus(path: str, fd: int) -> mmap.mmap:
    """Map the bus file ``fd``, shared with every process that has it open. Raises BusError if it
    cannot be mapped."""
    try:
        return mmap.mmap(fd, BUSMEM_SIZE)
    except (OSError, ValueError) as e:
        raise BusError(f"{path}: cannot be mapped: {e}") from e


def snapshot(path: str, form: str) -> BusMemory:
    """Copy the bytes of a bus as they are at this moment, without its lock; only the head is
    checked. Raises BusError if the file is no bus."""
    fd = open_bus(path, create=False, writable=False)
    try:
        content = os.pread(fd, BUSMEM_SIZE, 0)
    finally:
        os.close(fd)
    memory = BusMemory(path, memoryview(bytearray(content)), form_named(form))
    memory.check()
    return memory
