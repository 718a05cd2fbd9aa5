"""The memory of a program, as a driver in a kernel sees it: copyin and copyout.

process_vm_readv(2) and process_vm_writev(2) honour the program's protections, so an address fails
where copy_from_user() and copy_to_user() of Linux do.
"""

from __future__ import annotations

import ctypes
import errno
from array import array
from collections.abc import Callable
from typing import TypeAlias

#: IOV_MAX of Linux.
_MOST_PARTS = 1024
#: No process of any machine has such an address.
_ADDRESSES = 1 << 63


_libc = ctypes.CDLL(None, use_errno=True)
_readv, _writev = _libc.process_vm_readv, _libc.process_vm_writev
_part = ctypes.c_void_p, ctypes.c_ulong
for _call in (_readv, _writev):
    _call.restype = ctypes.c_ssize_t
    _call.argtypes = (ctypes.c_int, *_part, *_part, ctypes.c_ulong)

#: Parts of memory: address and length, one behind the other (struct iovec).
Parts: TypeAlias = "array[int]"


def _fault(where: str) -> OSError:
    return OSError(errno.EFAULT, f"the program cannot {where} there")


def address_of(buffer: bytearray) -> int:
    """The address of a buffer that is not empty; it stays as long as the buffer does not grow."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class ClientMemory:
    """The memory of process ``pid``. Every address and length may be nonsense."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = False

    def end(self) -> None:
        """The process has ended, and its number may be another's: every access is EFAULT."""
        self._ended = True

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``. Raises OSError EFAULT if the program cannot read them."""
        return bytes(self.fetch(address, size))

    def fetch(self, address: int, size: int) -> bytearray:
        """As :meth:`read`, in a buffer of their own."""
        buffer = bytearray(size)
        if size:
            self.gather(array("Q", (address, size)), array("Q", (address_of(buffer), size)))
        return buffer

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Write ``data`` at ``address``. Raises OSError EFAULT if the program cannot write it."""
        if data:
            buffer, size = bytearray(data), len(data)
            self.scatter(array("Q", (address_of(buffer), size)), array("Q", (address, size)))

    def gather(self, theirs: Parts, mine: Parts) -> None:
        """Copy the program's parts ``theirs`` to own memory, which ``mine`` names, pair by pair of
        equal lengths. Raises OSError EFAULT; some may have been copied then."""
        self._move(_readv, "read", theirs, mine)

    def scatter(self, mine: Parts, theirs: Parts) -> None:
        """Copy own memory to the program's, as :meth:`gather`."""
        self._move(_writev, "write", theirs, mine)

    def _move(self, call: Callable[..., int], verb: str, theirs: Parts, mine: Parts) -> None:
        if self._ended or max(theirs[::2]) >= _ADDRESSES:
            raise _fault(verb)
        remote, local = theirs.buffer_info()[0], mine.buffer_info()[0]
        for first in range(0, len(theirs) // 2, _MOST_PARTS):
            count = min(_MOST_PARTS, len(theirs) // 2 - first)
            size = sum(theirs[2 * first + 1 : 2 * (first + count) : 2])
            at = 16 * first
            if call(self._pid, local + at, count, remote + at, count, 0) != size:
                raise _fault(verb)
