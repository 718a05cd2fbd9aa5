"""The wakeup of a bus: learning that another process has written to it (libshmif shmif_user.c 1.2).

Stores into a map are no event of the file. So a writer also writes four bytes of the file with an
ordinary write (Bus.ring), and inotify reports that on Linux; elsewhere the bus is looked at every
10 ms: a thread of the watcher's own says when. A wakeup is not tied to a frame: a process that is
woken looks at the bus, and a writer wakes itself as well.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from contextlib import suppress

#: linux/inotify.h
_IN_MODIFY = 0x00000002
#: Seconds between two looks where there is no inotify.
POLLING = 0.01


class _Ticks:
    """A descriptor, ``fileno``, that becomes readable every 10 ms."""

    def __init__(self) -> None:
        self.fileno, self._write = os.pipe()
        for fd in (self.fileno, self._write):
            os.set_blocking(fd, False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shmif polling", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(POLLING):
            with suppress(BlockingIOError):  # the last ones have not been read yet
                os.write(self._write, b"\0")

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        os.close(self.fileno)
        os.close(self._write)


class Doorbell:
    """Watches the bus file ``fd`` for writes. ``fileno`` is a descriptor that is readable after a
    write, -1 where the bus has to be looked at again and again."""

    def __init__(self, fd: int) -> None:
        self.fileno = _watch(fd)
        self._ticks: _Ticks | None = None

    def descriptor(self) -> int:
        """A descriptor that is readable when there is a reason to look at the bus: after a write,
        or every 10 ms where writes are not told. Valid until :meth:`close`."""
        if self.fileno >= 0:
            return self.fileno
        if self._ticks is None:
            self._ticks = _Ticks()
        return self._ticks.fileno

    def heard(self) -> bool:
        """Whether there has been a reason to look at the bus since the last call."""
        heard = self.fileno if self._ticks is None else self._ticks.fileno
        rang = False
        with suppress(BlockingIOError):
            while heard >= 0 and os.read(heard, 4096):
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
        if self._ticks is not None:
            self._ticks.close()
            self._ticks = None


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
