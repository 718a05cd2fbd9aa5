"""Calls that come one behind the other: programs that sync rings make the next one at once.

A turn of the pump takes longer than such a call. So behind one that was answered at once, those who
have made such calls are looked at again, a few times, before the pump goes on.
"""

from __future__ import annotations

import select
from typing import Protocol

#: Looks that find nothing, one behind the other, after which the pump goes on; one takes half a
#: microsecond.
_LOOKS = 6
#: Calls until the pump goes on in any case.
_MOST = 64


class Caller(Protocol):
    """A program's connection."""

    def take(self) -> bool:
        """Take the next call. Returns whether it was answered at once."""
        ...


class FollowUps:
    """The connections by which calls came that were answered at once."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callers: dict[int, Caller] = {}

    def serve(self, fd: int, caller: Caller) -> None:
        """``caller``, whose descriptor is ``fd``, has made such a call: see who makes the next."""
        if fd not in self._callers:
            self._callers[fd] = caller
            self._epoll.register(fd, select.EPOLLIN)
        poll, callers = self._epoll.poll, self._callers
        looks = 0
        for _ in range(_MOST):
            ready = poll(0, 1)
            if ready:
                looks = 0
                if not callers[ready[0][0]].take():
                    return
            else:
                looks += 1
                if looks == _LOOKS:
                    return

    def forget(self, fd: int) -> None:
        """A connection is being closed. May be repeated."""
        if self._callers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Look at nobody any more."""
        self._callers.clear()
        self._epoll.close()
