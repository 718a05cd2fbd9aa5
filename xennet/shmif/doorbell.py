"""Being woken when somebody has written to a bus (libshmif shmif_user.c 1.2).

Stores into a map are no event of the file, so a writer writes four bytes of it in the ordinary
way (Bus.ring), and inotify tells of that on Linux. Elsewhere the bus is looked at every 10 ms. A
ring is not tied to a frame: whoever is woken looks at the bus, and writers wake themselves as well.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import suppress

#: linux/inotify.h
_IN_MODIFY = 0x00000002
#: Seconds between two looks where nobody tells.
POLLING = 0.01


class Doorbell:
    """Hears when the bus file ``fd`` is written to. ``fileno``: readable when it was, -1 where only
    looking again helps."""

    def __init__(self, fd: int) -> None:
        self.fileno = _watch(fd)

    def heard(self) -> bool:
        """Whether it rang since the last call."""
        rang = False
        with suppress(BlockingIOError):
            while self.fileno >= 0 and os.read(self.fileno, 4096):
                rang = True
        return rang

    def wait(self, seconds: float) -> None:
        """Sleep until it rings, or ``seconds`` are over; where nobody tells, for 10 ms."""
        if self.fileno < 0:
            time.sleep(min(seconds, POLLING))
        elif select.select([self.fileno], [], [], seconds)[0]:
            self.heard()

    def close(self) -> None:
        """Stop listening. May be repeated."""
        if self.fileno >= 0:
            os.close(self.fileno)
            self.fileno = -1


def _watch(fd: int) -> int:
    """An inotify descriptor that does not block, -1 where there is none."""
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
