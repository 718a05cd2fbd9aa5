"""/dev/xen/guest: a program is the kernel of its domain, and makes hypercalls itself.

No Linux has this device: xennet-guest.c (xennet/include) is written against it. The domain is left
to the program that opens it first. An ioctl is a hypercall, whose pointers lead into the program's
memory; mmap shows the frame whose number is the offset; a byte to read is an upcall, as an
interrupt would be. With the end of the last descriptor the domain shuts down, and leaves everything
in place for its toolstack: a kernel that ends without SCHEDOP_shutdown has crashed.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from xennet.abi.linux_xen import (
    IOCTL_GUEST_HYPERCALL,
    IOCTL_GUEST_START_INFO,
    PRIVCMD_HYPERCALL,
)
from xennet.abi.sched import SHUTDOWN_crash
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xs_wire import XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE_RECONNECTION
from xennet.exec.devices import (
    MAP_SHARED,
    PROT_WRITE,
    Call,
    Device,
    MapRequest,
    OpenFile,
    Pages,
    of_frames,
)
from xennet.hypercall import Caller, hypercall, start_info
from xennet.xenstore.ring_page import RingPage


class GuestFile(Device):
    """The device file of a domain's own kernel."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._domain = file.domain.domain
        self._reason: int | None = None
        self.ioctls = {
            IOCTL_GUEST_START_INFO: self._start_info,
            IOCTL_GUEST_HYPERCALL: self._hypercall,
        }

    def opened(self) -> None:
        """EPERM in domain 0, EBUSY if the domain has a kernel, ENXIO without a store ring."""
        domain, ring = self._domain, self._domain.store_ring
        if domain.privileged:
            raise OSError(errno.EPERM, "the kernel of domain 0 is xennet's")
        if ring is None:
            raise OSError(errno.ENXIO, "the domain has no store ring")
        try:
            domain.take_upcalls(self._upcall)
        except ValueError as busy:
            raise OSError(errno.EBUSY, str(busy)) from busy
        # Whatever the ring was used for before, it begins anew (xenstore-ring.txt).
        page = RingPage.over(ring.page)
        if page.server_features & XENSTORE_SERVER_FEATURE_RECONNECTION:
            page.connection = XENSTORE_RECONNECT
            domain.send(ring.port)

    def _start_info(self, call: Call) -> None:
        call.out = start_info(self._domain)

    def _hypercall(self, call: Call) -> int:
        number, a1, a2, a3, _, _ = PRIVCMD_HYPERCALL.unpack_from(call.argument())
        if self._reason is not None:
            raise OSError(errno.ESRCH, "the domain has shut down")
        caller = Caller(self._domain, call.client.memory, self._shut_down)
        return hypercall(caller, number, a1, a2, a3)

    def mmap(self, request: MapRequest) -> Pages:
        """Show frames from number ``offset / 4096`` on: EACCES unless the domain may access all of
        them like that, EINVAL for a private mapping."""
        write = bool(request.prot & PROT_WRITE)
        first = request.offset // PAGE_SIZE
        frames = range(first, first + request.count)
        if not request.flags & MAP_SHARED:
            raise OSError(errno.EINVAL, "frames are shared")
        if not all(self._domain.can_access(frame, write=write) for frame in frames):
            raise OSError(errno.EACCES, "a frame that the domain may not access")
        return of_frames(self.file.domain, frames, request.prot)

    def release(self) -> None:
        """The kernel has ended."""
        domain = self.file.domain
        if domain.running:
            reason = SHUTDOWN_crash if self._reason is None else self._reason
            domain.machine.shutdown_domain(domain.domid, reason)

    def _shut_down(self, reason: int) -> None:
        """The program ends by itself now, with its own exit status, and the domain with it."""
        self._reason = reason

    def _upcall(self) -> None:
        # A socket that is full is readable already.
        with suppress(OSError):
            self.file.socket.send(b"\0")
