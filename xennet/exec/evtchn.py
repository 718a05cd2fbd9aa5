"""/dev/xen/evtchn (drivers/xen/evtchn.c of Linux): event channels of a program.

A port that has fired is masked and its number sent, four bytes a message; what the program writes
are ports to unmask.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from collections import deque
from functools import partial

from attrs import define

from xennet.abi.linux_xen import (
    EVTCHN_BIND_INTERDOMAIN,
    IOCTL_EVTCHN_BIND_INTERDOMAIN,
    IOCTL_EVTCHN_BIND_UNBOUND_PORT,
    IOCTL_EVTCHN_BIND_VIRQ,
    IOCTL_EVTCHN_NOTIFY,
    IOCTL_EVTCHN_RESET,
    IOCTL_EVTCHN_RESTRICT_DOMID,
    IOCTL_EVTCHN_UNBIND,
)
from xennet.abi.xen import DOMID_FIRST_RESERVED, DOMID_SELF
from xennet.exec.devices import Call, Device, OpenFile
from xennet.exec.served_domain import BoundPort

#: Ports of the ring at first (evtchn_resize_ring).
_RING = 64
_PAGE = 4096
#: No port can have such a number (EVTCHN_FIFO_NR_CHANNELS).
_NR_PORTS = 1 << 17


@define(eq=False)
class _Port:
    bound: BoundPort
    enabled: bool = True


class EvtchnFile(Device):
    """One open file of /dev/xen/evtchn."""

    kind = socket.SOCK_SEQPACKET
    no_ioctl = errno.ENOSYS  # evtchn_ioctl

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._domain = file.domain.domain
        self._ports: dict[int, _Port] = {}
        self._restricted: int | None = None
        self._ring_size = 0
        self._overflow = False
        #: Ports that the socket has no room for.
        self._waiting: deque[bytes] = deque()
        #: Messages in the socket, at most; bytes that one of them takes there.
        self._unread = self._unit = 0
        self.ioctls = {
            IOCTL_EVTCHN_BIND_VIRQ: self._bind_virq,
            IOCTL_EVTCHN_BIND_INTERDOMAIN: self._bind_interdomain,
            IOCTL_EVTCHN_BIND_UNBOUND_PORT: self._bind_unbound,
            IOCTL_EVTCHN_UNBIND: self._unbind,
            IOCTL_EVTCHN_NOTIFY: self._notify,
            IOCTL_EVTCHN_RESET: self._reset,
            IOCTL_EVTCHN_RESTRICT_DOMID: self._restrict,
        }

    def readable(self, data: bytes) -> None:
        data = data[:_PAGE]
        for at in range(0, len(data) & ~3, 4):
            port = int.from_bytes(data[at : at + 4], "little")
            user = self._ports.get(port)
            if user is not None and not user.enabled:
                user.enabled = True
                if self._domain.running:
                    self._domain.unmask(port)

    def overflowed(self) -> int:
        if not self.file.open:
            return 0
        if self._overflow:
            if not self._waiting and not self._sent():  # one is enough to be found
                self._send(b"")
            return errno.EFBIG
        return errno.EAGAIN

    def release(self) -> None:
        for port in list(self._ports):
            self._put(port)
        self._waiting.clear()

    # -- ioctls ------------------------------------------------------------------------------------

    def _bind_virq(self, call: Call) -> int:
        if self._restricted is not None:
            raise OSError(errno.EACCES, "restricted to one domain")
        virq = _u32(call.argument())
        return self._bind(self._domain.bind_virq(virq, 0))

    def _bind_interdomain(self, call: Call) -> int:
        domid, port = EVTCHN_BIND_INTERDOMAIN.unpack_from(call.argument())
        self._require(domid)
        return self._bind(self._domain.bind_interdomain(domid & 0xFFFF, port))

    def _bind_unbound(self, call: Call) -> int:
        domid = _u32(call.argument())
        self._require(domid)
        return self._bind(self._domain.alloc_unbound(DOMID_SELF, domid & 0xFFFF))

    def _unbind(self, call: Call) -> int:
        port = _u32(call.argument())
        if port >= _NR_PORTS:
            raise OSError(errno.EINVAL, f"{port} is no port")
        if port not in self._ports:
            raise OSError(errno.ENOTCONN, f"port {port} is not bound by this file")
        self._put(port)
        return 0

    def _notify(self, call: Call) -> int:
        port = _u32(call.argument())
        if port not in self._ports:
            raise OSError(errno.ENOTCONN, f"port {port} is not bound by this file")
        self._domain.send(port)
        return 0

    def _reset(self, call: Call) -> int:
        # The shim has read what was in the socket.
        self._waiting.clear()
        self._overflow = False
        return 0

    def _restrict(self, call: Call) -> int:
        if self._restricted is not None:
            raise OSError(errno.EACCES, "restricted already")
        domid = int.from_bytes(call.argument()[:2], "little")
        if domid == 0 or domid >= DOMID_FIRST_RESERVED:
            raise OSError(errno.EINVAL, f"{domid} is no domain to be restricted to")
        self._restricted = domid
        return 0

    def _require(self, domid: int) -> None:
        if self._restricted is not None and self._restricted != domid:
            raise OSError(errno.EACCES, f"restricted to domain {self._restricted}")

    # -- ports and their events --------------------------------------------------------------------

    def _bind(self, port: int) -> int:
        self._ports[port] = user = _Port(self.file.domain.bound(port))
        while len(self._ports) > self._ring_size:
            self._ring_size = 2 * self._ring_size or _RING
        self._domain.set_handler(port, partial(self._fired, port, user))
        self._domain.unmask(port)
        return port

    def _put(self, port: int) -> None:
        user = self._ports.pop(port)
        if user.bound.users > 1 and self._domain.running:
            # It stays bound for a notification at unmapping, and tells nobody.
            self._domain.mask(port)
        self.file.domain.put_port(user.bound)

    def _fired(self, port: int, user: _Port) -> None:
        if self._ports.get(port) is not user:
            return
        self._domain.mask(port)
        user.enabled = False
        if self._overflow:
            return
        self._unread += 1
        if self._unread > self._ring_size and self._in_ring() >= self._ring_size:
            self._overflow = True
            self._waiting.clear()
            self._send(b"")
            return
        self._send(port.to_bytes(4, "little"))

    def _in_ring(self) -> int:
        """Number of ports that the program has not read."""
        sent = self._sent() // self._unit if self._unit else 0
        self._unread = 1 + len(self._waiting) + sent
        return self._unread - 1

    def _sent(self) -> int:
        """Bytes that what the program has not read takes in the socket."""
        return int.from_bytes(fcntl.ioctl(self.file.socket, termios.TIOCOUTQ, bytes(4)), "little")

    def _send(self, message: bytes) -> None:
        if self._waiting:
            self._waiting.append(message)
            return
        try:
            self.file.socket.send(message)
        except BlockingIOError:
            self._waiting.append(message)
            self._watch_room()
        except OSError:
            pass  # it has just been closed
        else:
            if not self._unit:
                self._unit = self._sent()

    def _watch_room(self) -> None:
        self.watch_writable(self._room)

    def _room(self) -> None:
        try:
            while self._waiting:
                self.file.socket.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()
        self.watch_writable(None)


def _u32(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")
