"""What threads of programs sleep on in poll(2): a socket each that can be read when it is over."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from errno import EAGAIN
from functools import partial

from xennet.exec.messages import cookie_of
from xennet.pump import Pump

#: Threads of all programs that can sleep.
_MOST = 256


class _Waker:
    def __init__(self, mine: socket.socket) -> None:
        self.socket = mine

    def __call__(self) -> None:
        with suppress(OSError):  # it is awake, or gone
            self.socket.send(b"\0", socket.MSG_DONTWAIT)


class Wakers:
    """The wakers of all threads; one goes when its thread closes its end."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._all: dict[int, _Waker] = {}

    def new(self) -> int:
        """Make one. Returns the thread's end, for the caller to close. Raises OSError(EAGAIN) if
        there are very many: a thread without one looks now and then."""
        if len(self._all) >= _MOST:
            raise OSError(EAGAIN, f"{_MOST} threads sleep")
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        cookie = cookie_of(theirs)
        self._all[cookie] = _Waker(mine)
        self._pump.watch(mine.fileno(), partial(self._readable, cookie))
        return theirs.detach()

    def by(self, cookie: int) -> Callable[[], None] | None:
        """What wakes the thread whose end has this SO_COOKIE; None if there is none."""
        return self._all.get(cookie)

    def _readable(self, cookie: int) -> None:
        waker = self._all[cookie].socket
        try:
            if waker.recv(64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(cookie)

    def _drop(self, cookie: int) -> None:
        waker = self._all.pop(cookie).socket
        self._pump.unwatch(waker.fileno())
        waker.close()

    def close(self) -> None:
        """Let go of all."""
        for cookie in list(self._all):
            self._drop(cookie)
