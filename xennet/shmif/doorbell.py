"""The wakeup of a bus: learning that another process has written to it (libshmif shmif_user.c 1.2).

Stores into a map are no event of the file. So a writer also writes four bytes of the file with an
ordinary write (Bus.ring), and inotify reports that on Linux; elsewhere the bus is looked at every
10 ms. A wakeup is not tied to a frame: a process that is woken looks at the bus, and a writer wakes
itself as well.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import suppress

#: linux/inotify.h
_IN_MODIFY = 0x00000002
#: Seconds between two looks where there is no inotify.
POLLING = 0.01


class Doorbell:
    """Watches the bus file ``fd`` for writes. ``fileno`` is a descriptor that is readable after a
    write, -1 where the bus has to be looked at again and again."""

    def __init__(self, fd: int) -> None:
        self.fileno = _watch(fd)

    def heard(self) -> bool:
        """Whether the file was written to since the last call."""
        rang = False
        with suppress(BlockingIOError):
            while self.fileno >= 0 and os.read(self.fileno, 4096):
                rang = True
        return rang

    def wait(self, seconds: float) -> None:
        """Sleep until the file is written to, or ``seconds`` are over; for 10 ms where there is no
        inotify."""
        if self.fileno < 0:
            time.sleep(min(seconds, POLLING))
        elif select.select([self.fileno], [], [], seconds)[0]:
            self.heard()

    def close(self) -> None:
        """Stop watching. May be repeated."""
        if self.fileno >= 0:
            os.close(self.fileno)
            self.fileno = -1


def _watch(fd: int) -> int:
    """An inotify descriptor for the file ``fd`` that does not block; -1 where there is none."""
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None, use_errno=True)
        watching: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if watching < 0:
            return -1
        file = f"/proc/self/fd/{fd}".encode()
        if library.inotify_add_watch(watching, file, _IN_MODIFY) >= 0:
            return watching
        os.close(watching)
    return -1
