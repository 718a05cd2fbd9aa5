"""The memory of a program, as a driver in a kernel sees it: copyin and copyout.

process_vm_readv(2) and process_vm_writev(2) honour the program's protections, so an address fails
where copy_from_user() and copy_to_user() of Linux do.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence

#: IOV_MAX of Linux.
_MOST_PARTS = 1024


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


_libc = ctypes.CDLL(None, use_errno=True)
_readv, _writev = _libc.process_vm_readv, _libc.process_vm_writev
_part = ctypes.c_void_p, ctypes.c_ulong
for _call in (_readv, _writev):
    _call.restype = ctypes.c_ssize_t
    _call.argtypes = (ctypes.c_int, *_part, *_part, ctypes.c_ulong)

#: Address and length of one part.
Part = tuple[int, int]


def _iovecs(parts: Sequence[Part]) -> ctypes.Array[_Iovec]:
    return (_Iovec * len(parts))(*(_Iovec(*part) for part in parts))


def _fault(where: str) -> OSError:
    return OSError(errno.EFAULT, f"the program cannot {where} there")


class ClientMemory:
    """The memory of process ``pid``. Every address and length may be nonsense."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``. Raises OSError EFAULT if the program cannot read them."""
        buffer = ctypes.create_string_buffer(size)
        if size:
            self.gather([(address, size)], [(ctypes.addressof(buffer), size)])
        return buffer.raw

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Write ``data`` at ``address``. Raises OSError EFAULT if the program cannot write it."""
        if data:
            buffer = (ctypes.c_char * len(data)).from_buffer_copy(data)
            self.scatter([(ctypes.addressof(buffer), len(data))], [(address, len(data))])

    def gather(self, theirs: Sequence[Part], mine: Sequence[Part]) -> None:
        """Copy the program's parts ``theirs`` to own memory, which ``mine`` names, pair by pair of
        equal lengths. Raises OSError EFAULT; some may have been copied then."""
        self._move(_readv, "read", theirs, mine)

    def scatter(self, mine: Sequence[Part], theirs: Sequence[Part]) -> None:
        """Copy own memory to the program's, as :meth:`gather`."""
        self._move(_writev, "write", theirs, mine)

    def _move(self, call: object, verb: str, theirs: Sequence[Part], mine: Sequence[Part]) -> None:
        assert callable(call)
        for first in range(0, len(theirs), _MOST_PARTS):
            remote = theirs[first : first + _MOST_PARTS]
            local = mine[first : first + _MOST_PARTS]
            if any(not 0 <= address < 1 << 63 for address, _ in remote):
                raise _fault(verb)
            size = sum(length for _, length in remote)
            moved = call(self._pid, _iovecs(local), len(local), _iovecs(remote), len(remote), 0)
            if moved != size:
                raise _fault(verb)
