"""The holder of a bus's lock, and whether that process still lives.

The lock word of a bus (shm_lock) says that the lock is held but not by whom, so upstream a holder
that dies leaves the bus dead. Here the word is swapped together with the spare word behind it, as
one of 64 bits: the process that takes the lock stores its *mark* there in the same step, and
removes it in the step that frees the lock. A process that knows nothing of marks (a NetBSD rump
kernel) swaps the lower half from 0 to 1, and is seen as a holder without a mark.

A mark is proof because of an open file description lock (fcntl F_OFD_SETLK, Linux 3.15). As long as
its owner has the bus open, it locks one byte of the bus file, far behind the end, whose number is
the mark's. The kernel frees that byte when the process dies, however it dies, and not before. A
process that gets the byte has proof that the owner is dead, and keeps new owners from the mark.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from xennet.abi.shmifvar import LOCK_LOCKED

#: The byte of the file that mark 0 would lock.
_BYTES = 1 << 40
#: A mark: the process id (Linux has less than 2^22), and the number of the opening in that process.
_PID_BITS, _OPENINGS = 22, 128
_SHIFT = 32
#: Set in the lock's upper half by a process that waits for the holder, who has a mark.
_ASKED = 1 << 29
#: The byte of number 0, counted from that of mark 0: behind those of all marks.
_NUMBERS = 1 << 30
#: Set in the lock's upper half while the holder may change the bus.
WRITING = 1 << 30
_FREE, _TAKEN = fcntl.F_UNLCK, fcntl.F_WRLCK


def held_by(mark: int, writing: bool) -> int:
    """The 64-bit word of a lock that the owner of ``mark`` holds; mark 0: a holder that is not
    known."""
    return (mark | (WRITING if writing else 0)) << _SHIFT | LOCK_LOCKED


def mark_of(word: int) -> int:
    """The mark of a lock's holder; 0 for a holder that leaves none."""
    return word >> _SHIFT & (_ASKED - 1)


def asked_for(word: int) -> int:
    """The word of a lock whose holder knows that somebody waits for it."""
    return word | _ASKED << _SHIFT


def is_writing(word: int) -> bool:
    """Whether the holder may have changed the bus; True for a holder without a mark."""
    return not mark_of(word) or bool(word >> _SHIFT & WRITING)


def process_of(mark: int) -> int:
    """The process id in a mark, as that process itself knows it."""
    return mark & ((1 << _PID_BITS) - 1)


def claim(fd: int) -> int:
    """Get a mark that is unique as long as ``fd``, a bus file, is open; 0 where the system or the
    file has no such locks."""
    pid = os.getpid()
    if pid >> _PID_BITS:
        return 0
    for opening in range(_OPENINGS):
        mark = opening << _PID_BITS | pid
        if mark and _lock(fd, mark, _TAKEN):
            return mark
    return 0


def claim_number(fd: int) -> int:
    """Get a number (16 bits) that no other opening of the bus file has: the lowest that is free,
    until :func:`release_number`. Where the system or the file has no such locks it is any one."""
    for number in range(_OPENINGS):
        if _lock(fd, _NUMBERS + number, _TAKEN):
            return number
    return int.from_bytes(os.urandom(2))


def release_number(fd: int, number: int) -> None:
    """Give back a number that :func:`claim_number` got."""
    _lock(fd, _NUMBERS + number, _FREE)


def died(fd: int, mark: int) -> bool:
    """Whether the owner of ``mark``, another than that of ``fd``, is proven dead.

    If so, its mark is kept from new owners until :func:`release`.
    """
    return _lock(fd, mark, _TAKEN)


def release(fd: int, mark: int) -> None:
    """Give back a mark that :func:`died` or :func:`claim` got."""
    _lock(fd, mark, _FREE)


def _lock(fd: int, mark: int, kind: int) -> bool:
    """Lock or free the byte of ``mark``. Returns False if another open file has it, or there is no
    such lock."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return False
    # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for these locks)
    what = struct.pack("hhqqi4x", kind, os.SEEK_SET, _BYTES + mark, 1, 0)
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, what)
        return True
    return False
