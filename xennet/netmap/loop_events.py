"""Event descriptors of a kernel loop: by one the client tells that it has written, by another it is
told of news, for each ring.

They are the client's own eventfds. As in the kernel, nothing is read from those that the client
kicks with: each write to one counts, whatever its counter is (edge-triggered epoll). Rules:
netmap_kloop.c, netmap_sync_kloop.
"""

from __future__ import annotations

import os
import select
from array import array
from collections.abc import Iterator
from errno import EBADF, EINVAL, ENOSYS

from attrs import define, field

from xennet.netmap.address_space import AddressSpace
from xennet.netmap.errors import NetmapError
from xennet.netmap.event_signal import EventSignal

#: Two descriptors of each ring in the option: its ioeventfd, its irqfd.
PAIR_BYTES = 8
_EVENTFD = "anon_inode:[eventfd]"


@define(eq=False)
class LoopEvents:
    """Duplicates of a client's descriptors, by ring. ``irqfds``: -1 for none. ``ioeventfds``: none
    at all unless there is one for each ring."""

    irqfds: list[int] = field(factory=list)
    ioeventfds: list[int] = field(factory=list)
    _epoll: select.epoll | None = None
    _signal: EventSignal | None = None

    @classmethod
    def of(cls, memory: AddressSpace, raw: bytes) -> LoopEvents:
        """From the body of the option. Raises NetmapError: EBADF for a descriptor that the client
        does not have, EINVAL for one that is no eventfd; that of EventSignal if there is none."""
        numbers = array("i", raw)
        kicks, interrupts = numbers[0::2], numbers[1::2]
        events = cls()
        kicked = all(number >= 0 for number in kicks)
        try:
            for kick, interrupt in zip(kicks, interrupts, strict=True):
                events.irqfds.append(_eventfd(memory, interrupt) if interrupt >= 0 else -1)
                if kicked:
                    events.ioeventfds.append(_eventfd(memory, kick))
            if max(interrupts, default=-1) >= 0:
                events._signal = _event_signal()
        except NetmapError:
            events.close()
            raise
        return events

    def fileno(self) -> int:
        """A descriptor that can be read when the client has kicked."""
        if self._epoll is None:
            self._epoll = select.epoll()
            for fd in self.ioeventfds:
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        return self._epoll.fileno()

    def kicks(self) -> Iterator[int]:
        """The rings that the client has kicked since the last call."""
        if self._epoll is not None:
            for fd, _ in self._epoll.poll(0):
                yield self.ioeventfds.index(fd)

    def interrupt(self, ring: int) -> None:
        """Tell the client of news of a ring. Nobody waits for it to read its counter."""
        fd = self.irqfds[ring]
        if fd >= 0 and self._signal is not None:
            self._signal.signal(fd)

    def close(self) -> None:
        """Let go of the descriptors."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        for fds in (self.irqfds, self.ioeventfds):
            while fds:
                if (fd := fds.pop()) >= 0:
                    os.close(fd)


def _eventfd(memory: AddressSpace, number: int) -> int:
    try:
        fd = memory.descriptor(number)
    except OSError as e:
        raise NetmapError(EBADF, f"the client has no descriptor {number}") from e
    if os.readlink(f"/proc/self/fd/{fd}") != _EVENTFD:
        os.close(fd)
        raise NetmapError(EINVAL, f"descriptor {number} is no eventfd")
    return fd


def _event_signal() -> EventSignal:
    try:
        return EventSignal()
    except OSError as e:
        raise NetmapError(e.errno or ENOSYS, str(e)) from e
