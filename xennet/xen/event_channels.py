"""Event channels through libxenevtchn and its descriptor.

Linux masks a port when its event is read from /dev/xen/evtchn, and unmasks it when its number is
written back (drivers/xen/evtchn.c). Here a number is written back just before the handler is
called: what comes from then on is another event.
"""

from __future__ import annotations

import ctypes
import errno
import os
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from attrs import define

from xennet.abi.xen import DOMID_SELF
from xennet.frames import Watch
from xennet.interface import HypercallError
from xennet.runloop import Delivery, RunLoop
from xennet.xen.errors import XenError, because
from xennet.xen.libraries import library, quiet_logger

DEVICE = "/dev/xen/evtchn"
#: Bytes of port numbers that are read at once.
_CHUNK = 4096


@define(eq=False)
class _Port:
    """One port. ``masked``: by its user; ``arrived``: an event was read and not handled, so the
    kernel holds the next ones back."""

    handler: Callable[[], None] | None = None
    masked: bool = False
    arrived: bool = False


class EventChannels:
    """The ports of this process, as deliveries of ``loop`` in ``domid``; ``watch`` watches the
    descriptor."""

    def __init__(self, loop: RunLoop, domid: int, watch: Watch) -> None:
        self._loop, self._domid, self._watch = loop, domid, watch
        self._ports: dict[int, _Port] = {}
        self._library: Any = None
        self._handle: int | None = None
        self._fd = -1

    def __len__(self) -> int:
        """Number of ports that are bound."""
        return len(self._ports)

    def bind_unbound(self, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound. Raises HypercallError; XenError if there is no such device."""
        handle = self.open()
        return self._bound(
            self._library.xenevtchn_bind_unbound_port(handle, remote_domid),
            "EVTCHNOP_alloc_unbound",
            f"a port for domain {remote_domid}",
        )

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. Raises HypercallError; XenError if there is no such device."""
        handle = self.open()
        domid = self._domid if remote_domid == DOMID_SELF else remote_domid
        return self._bound(
            self._library.xenevtchn_bind_interdomain(handle, domid, remote_port),
            "EVTCHNOP_bind_interdomain",
            f"port {remote_port} of domain {remote_domid}",
        )

    def on_event(self, port: int, handler: Callable[[], None]) -> None:
        """Call ``handler()`` for events of ``port``, also for one that has come already."""
        self._port(port, "on_event").handler = handler
        self.unmask(port)

    def mask(self, port: int) -> None:
        """Hold events of ``port`` back; the first is remembered."""
        self._port(port, "mask").masked = True

    def unmask(self, port: int) -> None:
        """Let events of ``port`` through, also one that was held back."""
        state = self._port(port, "EVTCHNOP_unmask")
        state.masked = False
        if state.arrived:
            self._post(port)

    def notify(self, port: int) -> None:
        """EVTCHNOP_send. Raises HypercallError."""
        if port not in self._ports or self._library.xenevtchn_notify(self._handle, port):
            self._port(port, "EVTCHNOP_send")
            raise _refused("EVTCHNOP_send", f"port {port}")

    def unbind(self, port: int) -> None:
        """EVTCHNOP_close. Raises HypercallError."""
        self._port(port, "EVTCHNOP_close")
        del self._ports[port]
        self._loop.cancel(Delivery("evtchn", self._domid, port))
        if self._library.xenevtchn_unbind(self._handle, port):
            raise _refused("EVTCHNOP_close", f"port {port}")

    def close(self) -> None:
        """Close all ports, and the device. May be repeated. Raises HypercallError if a port is
        refused; all else is done nevertheless."""
        handle, fd = self._handle, self._fd
        if handle is None:
            return
        with ExitStack() as rest:
            rest.callback(setattr, self, "_handle", None)
            rest.callback(self._library.xenevtchn_close, handle)
            rest.callback(self._watch, fd, None, None)
            for port in self._ports:
                rest.callback(self.unbind, port)

    # -- events ------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise XenError(f"{DEVICE}: {because(error.errno or 0)}") from None
        if not data:
            raise XenError(f"{DEVICE}: closed by the other side")
        for port in array("I", data):
            # A port may have been closed since its number was written.
            if (state := self._ports.get(port)) is not None:
                state.arrived = True
                if not state.masked and state.handler is not None:
                    self._post(port)

    def _post(self, port: int) -> None:
        self._loop.post(Delivery("evtchn", self._domid, port), self._deliver)

    def _deliver(self, delivery: Delivery) -> None:
        port = delivery.ident
        state = self._ports.get(port)
        if state is None or state.masked or state.handler is None:
            return
        state.arrived = False
        try:
            os.write(self._fd, port.to_bytes(4, "little"))
        except OSError as error:
            raise XenError(f"{DEVICE}: port {port}: {because(error.errno or 0)}") from None
        state.handler()

    # -- inside ------------------------------------------------------------------------------------

    def _bound(self, port: int, op: str, what: str) -> int:
        if port < 0:
            raise _refused(op, what)
        self._ports[port] = _Port()
        return port

    def _port(self, port: int, op: str) -> _Port:
        if port not in self._ports:
            raise HypercallError(op, -errno.EINVAL, f"port {port} is not bound")
        return self._ports[port]

    def open(self) -> int:
        """Open the device if it is not open yet. Returns the library's handle. Raises XenError."""
        if self._handle is None:
            self._library = library("libxenevtchn.so.1")
            handle = self._library.xenevtchn_open(quiet_logger(), 0)
            if handle is None:
                number = ctypes.get_errno()
                raise XenError(f"{DEVICE}: {because(number)}; the module is xen-evtchn")
            self._handle = handle
            self._fd = self._library.xenevtchn_fd(handle)
            os.set_blocking(self._fd, False)
            self._watch(self._fd, self._readable, None)
        return self._handle


def _refused(op: str, what: str) -> HypercallError:
    number = ctypes.get_errno()
    return HypercallError(op, -number, f"{DEVICE}: {what}: {because(number)}")
