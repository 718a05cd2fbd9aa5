"""What is to happen when a page is unmapped: a byte of it is cleared, an event is sent.

The same for gntdev and gntalloc (IOCTL_GNTDEV_SET_UNMAP_NOTIFY, IOCTL_GNTALLOC_SET_UNMAP_NOTIFY).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from attrs import define

from xennet.abi.linux_xen import UNMAP_NOTIFY, UNMAP_NOTIFY_CLEAR_BYTE, UNMAP_NOTIFY_SEND_EVENT
from xennet.abi.xen import PAGE_SIZE
from xennet.exec.served_domain import BoundPort, ServedDomain


@define(eq=False, repr=False)
class UnmapNotify:
    """``clears``: byte ``offset`` of page ``page`` is set to 0; ``port``: an event is sent there,
    which keeps the port open until then."""

    domain: ServedDomain
    clears: bool
    port: BoundPort | None
    page: int = 0
    offset: int = 0

    def unmapped(self, frames: Sequence[int], first: int, count: int) -> None:
        """Pages ``first`` to ``first + count - 1``, which are ``frames``, are being unmapped. A
        domain that does not run any more leaves its byte as it is."""
        if self.clears and first <= self.page < first + count and frames[self.page] >= 0:
            self.clears = False
            if self.domain.running:
                at = frames[self.page] * PAGE_SIZE + self.offset
                self.domain.machine.memory.u8[at] = 0

    def gone(self) -> None:
        """The last user has gone: the event is sent."""
        if self.port is not None:
            self.port.send()
        self.drop()

    def drop(self) -> None:
        """Nothing is to happen any more."""
        if self.port is not None:
            self.domain.put_port(self.port)
        self.port, self.clears = None, False


def read_notify(domain: ServedDomain, argument: bytes) -> tuple[int, UnmapNotify]:
    """The offset in the file, and the notification that is asked for. Raises OSError EINVAL for an
    action that there is not, and for a port that evtchn has not bound."""
    index, action, number = UNMAP_NOTIFY.unpack_from(argument)
    if action & ~(UNMAP_NOTIFY_CLEAR_BYTE | UNMAP_NOTIFY_SEND_EVENT):
        raise OSError(errno.EINVAL, f"action {action:#x}")
    port = None
    if action & UNMAP_NOTIFY_SEND_EVENT:
        bound = domain.ports.get(number)
        if bound is None:
            raise OSError(errno.EINVAL, f"no file has bound port {number}")
        port = bound.get()
    return index, UnmapNotify(domain, bool(action & UNMAP_NOTIFY_CLEAR_BYTE), port)
