"""Locks between processes for work that one of them does for all, such as compiling a kernel.

They only save work: who does not get one in time, or cannot, goes on without it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import suppress

#: Seconds after which another process's work is no longer waited for.
PATIENCE = 60.0
#: Seconds between two looks at whether it is done.
_PAUSE = 0.02


class ProcessLocks:
    """Locks by name in the file ``path``, which is made if it is not there; a name is a byte of it.

    They are record locks of POSIX: a process has them, not one of its threads, which the caller
    keeps apart; they go with the process, however it ends; children that it forks have none. The
    file is open while a lock is held.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._file = -1
        self._held: set[int] = set()

    def acquire(self, name: str, patience: float | None = None) -> bool:
        """Wait up to ``patience`` seconds (None: :data:`PATIENCE`) for the lock. Returns whether
        this process has it now; it has not, either, where the file cannot be made or locked."""
        give_up = time.monotonic() + (PATIENCE if patience is None else patience)
        try:
            while not self._taken(_byte(name)):
                if time.monotonic() >= give_up:
                    return False
                time.sleep(_PAUSE)
            return True
        except OSError:
            return False
        finally:
            self._close_unused()

    def release(self, name: str) -> None:
        """Release the lock if this process has it."""
        byte = _byte(name)
        if byte in self._held:
            self._held.remove(byte)
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
            self._close_unused()

    def _taken(self, byte: int) -> bool:
        """Take the lock unless another process has it. Raises OSError where that is impossible."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        self._held.add(byte)
        return True

    def _close_unused(self) -> None:
        # Closing any descriptor of the file would release all locks in it.
        if self._file >= 0 and not self._held:
            os.close(self._file)
            self._file = -1


def _byte(name: str) -> int:
    """Where in the file the lock is; that two names have one does no harm."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
