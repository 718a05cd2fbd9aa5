"""A loop for a server of nothing but sockets: it sleeps until one is ready, and calls back.

It is the :class:`~xennet.xenstore.daemon.Descriptors` of ``xennet xenstored``, which has no machine
whose time goes on. Beside its system call a turn costs a look into a table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT, epoll

_Calls = tuple[Callable[[], None] | None, Callable[[], None] | None]
_NOBODY: _Calls = (None, None)


class EpollLoop:
    """Watches descriptors from the first :meth:`watch` to :meth:`close`."""

    def __init__(self) -> None:
        self._epoll = epoll()
        self._watched: dict[int, _Calls] = {}
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wake, self._woken)

    def watch(
        self,
        fd: int,
        readable: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None:
        """Call ``readable`` whenever ``fd`` can be read or is at its end, ``writable`` whenever it
        can be written to or is at its end. With neither, ``fd`` is left alone from now on."""
        events = EPOLLIN * (readable is not None) | EPOLLOUT * (writable is not None)
        if not events:
            if self._watched.pop(fd, None) is not None:
                self._epoll.unregister(fd)
            return
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = readable, writable

    def run(self, turned: Callable[[], None] = lambda: None) -> None:
        """Call back until :meth:`stop`, one turn after the other: who is ready is called once, then
        ``turned``."""
        poll, watched = self._epoll.poll, self._watched
        while not self._stopped:
            for fd, events in poll():
                # Each callback may end the watch of any descriptor.
                readable, writable = watched.get(fd, _NOBODY)
                if readable is not None and events != EPOLLOUT:
                    readable()
                    writable = watched.get(fd, _NOBODY)[1]
                if writable is not None and events != EPOLLIN:
                    writable()
            turned()

    def stop(self) -> None:
        """Let :meth:`run` return behind the present turn. A signal handler, or another thread, may
        call it."""
        self._stopped = True
        with suppress(OSError):  # full: it wakes up anyway
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let go of all descriptors. May be repeated."""
        if not self._epoll.closed:
            self._watched.clear()
            self._epoll.close()
            os.close(self._wake)

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
