"""Who holds the lock of a bus, and whether that process still lives.

The lock word of a bus (shm_lock) says that it is held and not by whom, so upstream a holder that
dies leaves the bus dead. Here the word is swapped together with the spare word behind it, as one of
64 bits: whoever takes the lock leaves its *mark* there in the same step, and takes it away in the
step that frees the lock. A process that knows nothing of marks (a NetBSD rump kernel) swaps the
lower half from 0 to 1 as ever, and is seen as a holder without a mark.

A mark is proof because of an open file description lock (fcntl F_OFD_SETLK, Linux 3.15): as long as
it has the bus open, its owner locks the byte of the bus file, far behind its end, whose number is
the mark's. The kernel lets go of it when the process dies, however it dies, and not before. Who
gets that byte has proof that the owner is dead, and keeps new owners of the same mark out.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from xennet.abi.shmifvar import LOCK_LOCKED

#: The byte of the file that mark 0 would lock.
_BYTES = 1 << 40
#: A mark: the process id (Linux has less than 2^22), and which of its openings it is.
_PID_BITS, _OPENINGS = 22, 256
_SHIFT = 32
#: Set in the lock's upper half while the holder may change the bus.
WRITING = 1 << 30
_FREE, _TAKEN = fcntl.F_UNLCK, fcntl.F_WRLCK


def held_by(mark: int, writing: bool) -> int:
    """The 64-bit word of a lock that is held by the owner of ``mark`` (0: by nobody known)."""
    return (mark | (WRITING if writing else 0)) << _SHIFT | LOCK_LOCKED


def mark_of(word: int) -> int:
    """The mark of a lock's holder; 0 for one that leaves none."""
    return word >> _SHIFT & (WRITING - 1)


def is_writing(word: int) -> bool:
    """Whether the holder may have changed the bus: one without a mark may."""
    return not mark_of(word) or bool(word >> _SHIFT & WRITING)


def process_of(mark: int) -> int:
    """The process id in a mark, as that process knows it."""
    return mark & ((1 << _PID_BITS) - 1)


def claim(fd: int) -> int:
    """A mark that is nobody else's as long as ``fd``, a bus file, is open; 0 where the system or
    the file has no such locks."""
    pid = os.getpid()
    if pid >> _PID_BITS:
        return 0
    for opening in range(_OPENINGS):
        mark = opening << _PID_BITS | pid
        if mark and _lock(fd, mark, _TAKEN):
            return mark
    return 0


def died(fd: int, mark: int) -> bool:
    """Whether the owner of ``mark``, which is not that of ``fd`` itself, is proven dead.

    If so its mark is kept from new owners until :func:`release`.
    """
    return _lock(fd, mark, _TAKEN)


def release(fd: int, mark: int) -> None:
    """Let go of a mark that :func:`died` or :func:`claim` has got."""
    _lock(fd, mark, _FREE)


def _lock(fd: int, mark: int, kind: int) -> bool:
    """Lock or free the byte of ``mark``; False if another open file has it, or there is no way."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for these locks)
    what = struct.pack("hhqqi4x", kind, os.SEEK_SET, _BYTES + mark, 1, 0)
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, what)
        return True
    return False
