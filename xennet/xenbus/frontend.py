"""The frontend's life: start, answer the backend, close, unload, start again.

The engine does what Linux xen-netfront does around its rings (netfront_probe, netback_changed,
xennet_bus_close, xennet_remove, xenbus_reset_frontend); the rings belong to a
:class:`FrontendDriver`. Where Linux sleeps until the backend has moved, the engine goes on from the
next event of its one watch on the backend's state, and therefore keeps that watch until an unload
is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor
from xennet.xenbus.device import (
    DEVICE_ERRORS,
    DeviceWatch,
    StoreValue,
    XenbusDevice,
    as_xenbus_error,
)
from xennet.xenbus.tables import (
    FRONTEND_RESET,
    FRONTEND_UNLOAD,
    FrontendAction,
    UnloadStep,
    frontend_action,
)

#: Backend states to which an unloading frontend has nothing more to say.
_BACKEND_GONE = frozenset({XenbusState.Unknown, XenbusState.Closed})


class FrontendDriver(Protocol):
    """What a frontend has to do at each turn of its device's life.

    ``setup`` and ``ready`` may raise any of xennet.xenbus.device.DEVICE_ERRORS: the device then
    leaves an error node and goes to Closing.
    """

    def setup(self, dev: XenbusDevice) -> Sequence[tuple[str, StoreValue]] | None:
        """The backend is in InitWait: read its features (``dev.otherend``), make the rings.

        Returns the keys (name, value) to publish in one transaction, in order; None if this
        backend cannot be used, and the device then stays in Initialising without an error.
        """
        ...

    def ready(self, dev: XenbusDevice) -> None:
        """The keys are in the store and Connected will be next: post buffers, notify once."""
        ...

    def connected(self, dev: XenbusDevice) -> None:
        """The backend is Connected too, seen once per connection: announce the interface."""
        ...

    def disconnect(self, dev: XenbusDevice) -> None:
        """The backend is Closed or gone: end grants, close channels; idempotent, must not raise."""
        ...


class Phase(Enum):
    """Which rules a frontend follows just now."""

    IDLE = "no driver: not started, unloaded or removed"
    STARTING = "waits for a backend that is ready for a start"
    RUNNING = "answers the backend"
    UNLOADING = "closes, and ends when the backend has closed"


@define(eq=False)
class Frontend:
    """One frontend device in directory ``nodename`` of domain ``hv.domid``.

    ``on_unloaded`` is called whenever an unload or removal has come to its end.
    """

    hv: Hypervisor
    nodename: str
    driver: FrontendDriver
    on_unloaded: Callable[[Frontend], None] | None = None
    dev: XenbusDevice = field(init=False)
    phase: Phase = field(init=False, default=Phase.IDLE)
    announced: bool = field(init=False, default=False)
    _watch: DeviceWatch | None = field(init=False, default=None)
    _set_up: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.dev = XenbusDevice(self.hv, self.nodename, "backend")

    # -- what a kernel does to its driver ----------------------------------------------------------

    def start(self) -> None:
        """Probe the device, the first time or after :meth:`close`. Nothing if it runs already."""
        if self.phase is not Phase.IDLE:
            return
        self.phase = Phase.STARTING
        try:
            self.dev.find_otherend()
            self._starting(self.dev.otherend_state())
            self._watch = self.dev.watch_otherend("state", self._backend_changed)
        except DEVICE_ERRORS as error:
            self._fatal(error)
            self._end()

    def close(self) -> None:
        """Unload the driver: Closing, wait for the backend, Closed, wait again, end."""
        if self.phase in (Phase.IDLE, Phase.UNLOADING):
            return
        self.phase = Phase.UNLOADING
        if self.dev.otherend_state() not in _BACKEND_GONE:
            self.dev.switch_state(XenbusState.Closing)
        self._unloading(self.dev.otherend_state())

    def remove(self) -> None:
        """The device's directory has vanished."""
        self._end()

    # -- what the backend does ---------------------------------------------------------------------

    def _backend_changed(self) -> None:
        _RULES[self.phase](self, self.dev.otherend_state())

    def _starting(self, backend: int) -> None:
        if backend == XenbusState.Unknown:
            return  # it may still show a state from which it has to be reset
        step = FRONTEND_RESET.get(backend)
        if step is not None:
            self.dev.switch_state(step)
            return
        self.dev.switch_state(XenbusState.Initialising)
        self.phase = Phase.RUNNING
        if self._watch is not None:
            self._running(backend)

    def _running(self, backend: int) -> None:
        if backend == XenbusState.Closed:
            # Only now: in Closing, which may be the toolstack's word, our rings are still mapped.
            self._disconnect()
        _ACTIONS[frontend_action(backend, self.dev.state)](self)

    def _unloading(self, backend: int) -> None:
        step = FRONTEND_UNLOAD.get((self.dev.state, backend), UnloadStep.WAIT)
        if step is UnloadStep.WRITE_CLOSED:
            self.dev.switch_state(XenbusState.Closed)
        elif step is UnloadStep.DONE:
            self.dev.switch_state(XenbusState.Closed)
            self._end()

    def _idle(self, backend: int) -> None:
        """No driver, no answer."""

    # -- actions -----------------------------------------------------------------------------------

    def _nothing(self) -> None:
        """Linux netfront looks at no other state."""

    def _connect(self) -> None:
        try:
            self._set_up = True
            keys = self.driver.setup(self.dev)
            if keys is None:
                self._disconnect()
                return
            self.dev.publish(keys)
            self.driver.ready(self.dev)
        except DEVICE_ERRORS as error:
            self._fatal(error)
        else:
            self.dev.switch_state(XenbusState.Connected)

    def _announce(self) -> None:
        if self._set_up and not self.announced and self.dev.state is XenbusState.Connected:
            self.announced = True
            self.driver.connected(self.dev)

    def _close(self) -> None:
        self.dev.switch_state(XenbusState.Closed)

    def _disconnect(self) -> None:
        self.announced = False
        if self._set_up:
            self._set_up = False
            self.driver.disconnect(self.dev)

    def _fatal(self, error: Exception) -> None:
        fault = as_xenbus_error(error)
        self.dev.fatal(fault.errno, str(fault))
        self._disconnect()

    def _end(self) -> None:
        if self.phase is Phase.IDLE:
            return
        self.phase = Phase.IDLE
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.cancel()
        self.dev.cancel_watches()
        self._disconnect()
        if self.on_unloaded is not None:
            self.on_unloaded(self)


_RULES: dict[Phase, Callable[[Frontend, int], None]] = {
    Phase.IDLE: Frontend._idle,
    Phase.STARTING: Frontend._starting,
    Phase.RUNNING: Frontend._running,
    Phase.UNLOADING: Frontend._unloading,
}

_ACTIONS: dict[FrontendAction, Callable[[Frontend], None]] = {
    FrontendAction.NOTHING: Frontend._nothing,
    FrontendAction.CONNECT: Frontend._connect,
    FrontendAction.ANNOUNCE: Frontend._announce,
    FrontendAction.CLOSE: Frontend._close,
}
