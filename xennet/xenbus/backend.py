"""The backend's life: probe, features, walks along the state table, wait for the hotplug script.

The engine does what Linux xen-netback does around its rings (netback_probe, frontend_changed,
set_backend_state, hotplug_status_changed, netback_remove); the rings belong to a
:class:`BackendDriver`. It differs in three places where Linux would leave a peer hanging or a page
mapped: a connect that fails ends in Closing, not in Connected; a frontend that closes while the
hotplug script still runs gets its Closing and Closed at once; a frontend state without a rule
unmaps the rings as well as being reported.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from attrs import define, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor
from xennet.xenbus.device import (
    DEVICE_ERRORS,
    DeviceWatch,
    StoreValue,
    XenbusDevice,
    as_xenbus_error,
)
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.state import state_name
from xennet.xenbus.tables import BACKEND_NEXT, Afterwards, BackendAction, BackendRow, backend_row
from xennet.xenstore.errors import XsError

#: The one value of hotplug-status that lets a backend go on (exact, without a nul).
HOTPLUG_CONNECTED = b"connected"


@frozen
class Advertisement:
    """Feature nodes (name, value) of a backend, in the order in which they are written.

    ``features`` go into one transaction; ``extras`` follow, each by itself.
    """

    features: Sequence[tuple[str, StoreValue]] = ()
    extras: Sequence[tuple[str, StoreValue]] = ()


class BackendDriver(Protocol):
    """What a backend has to do at each turn of its device's life.

    ``probe`` and ``connect`` may raise any of xennet.xenbus.device.DEVICE_ERRORS: the device then
    leaves an error node and goes to Closing.
    """

    def probe(self, dev: XenbusDevice) -> Advertisement:
        """The device appeared: say what to advertise."""
        ...

    def connect(self, dev: XenbusDevice) -> None:
        """The frontend is Connected: read its keys (``dev.otherend``), map its rings."""
        ...

    def disconnect(self, dev: XenbusDevice) -> None:
        """Unmap everything; must not raise. Also called after a connect that failed half way."""
        ...

    def remove(self, dev: XenbusDevice) -> None:
        """The device goes, after a disconnect if it was connected. Once, even if probe failed."""
        ...


@runtime_checkable
class ReconfigurableDriver(Protocol):
    """A backend driver that advertises feature-xdp-headroom."""

    def reconfigure(self, dev: XenbusDevice) -> None:
        """The frontend is Reconfiguring: read its xdp-headroom again."""
        ...


@define(eq=False)
class Backend:
    """One backend device in directory ``nodename`` of domain ``hv.domid``.

    ``state`` is where the walk has got to; the store lags behind it (``dev.state``) while the
    hotplug script is not done. ``on_removed`` is called once when the device has gone.
    """

    hv: Hypervisor
    nodename: str
    driver: BackendDriver
    on_removed: Callable[[Backend], None] | None = None
    dev: XenbusDevice = field(init=False)
    state: XenbusState = field(init=False, default=XenbusState.Initialising)
    failed: bool = field(init=False, default=False)
    removed: bool = field(init=False, default=False)
    _otherend_watch: DeviceWatch | None = field(init=False, default=None)
    _hotplug_watch: DeviceWatch | None = field(init=False, default=None)
    _connected: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.dev = XenbusDevice(self.hv, self.nodename, "frontend")

    # -- probe -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Probe: write the features, go to InitWait, watch the frontend.

        A device that cannot be probed leaves an error node, goes to Closing and stays ``failed``
        until its directory vanishes.
        """
        try:
            self.dev.find_otherend()
            self.dev.switch_state(XenbusState.Initialising)
            offer = self.driver.probe(self.dev)
            self.dev.publish(offer.features)
            for name, value in offer.extras:
                self.dev.write(name, value)
            self._enter(XenbusState.InitWait)
            # Both are required: what plugs the interface in, and which one it is.
            self.dev.own.text("script")
            self.dev.own.unsigned("handle")
            self._otherend_watch = self.dev.watch_otherend("state", self._frontend_changed)
        except DEVICE_ERRORS as error:
            self.failed = True
            self._fatal(as_xenbus_error(error))
            self.dev.cancel_watches()

    # -- life --------------------------------------------------------------------------------------

    def close(self) -> None:
        """The backend's own wish to close: walk to Closed. A frontend may start again later."""
        if not self.removed:
            self._walk(XenbusState.Closed)

    def remove(self) -> None:
        """The device goes now: unmap, end the watches, forget the hotplug script's answer."""
        if self.removed:
            return
        self.removed = True
        self._drop_hold()
        self._disconnect()
        if self._otherend_watch is not None:
            self._otherend_watch.cancel()
        self.dev.cancel_watches()
        with suppress(XsError):  # the directory may be gone already
            self.dev.store.rm(self.dev.own.node("hotplug-status"))
        self.driver.remove(self.dev)
        if self.on_removed is not None:
            self.on_removed(self)

    def _frontend_changed(self) -> None:
        frontend_state = self.dev.otherend_state()
        row = backend_row(frontend_state)
        if row.action is BackendAction.WALK and row.target is not None:
            self._follow(row, row.target)
        elif row.action is BackendAction.RECONFIGURE and isinstance(
            self.driver, ReconfigurableDriver
        ):
            self._reconfigure(self.driver)
        elif row.action is not BackendAction.NOTHING:
            self._fatal(
                XenbusError(
                    errno.EINVAL,
                    f"saw state {state_name(frontend_state)} at frontend",
                    path=self.dev.otherend.node("state"),
                )
            )

    def _follow(self, row: BackendRow, target: XenbusState) -> None:
        if target is XenbusState.Connected and self.dev.state is XenbusState.Reconfigured:
            self.dev.switch_state(XenbusState.Connected)
        self._walk(target)
        if row.afterwards is Afterwards.REMOVE or (
            row.afterwards is Afterwards.REMOVE_IF_OFFLINE
            and not self.dev.own.optional_unsigned("online", 0)
        ):
            self.remove()

    def _walk(self, target: XenbusState) -> None:
        try:
            while self.state is not target:
                self._enter(BACKEND_NEXT[self.state, target])
        except DEVICE_ERRORS as error:
            self._fatal(as_xenbus_error(error))

    def _enter(self, state: XenbusState) -> None:
        if state is XenbusState.Connected:
            self._connect()
        elif self.state is XenbusState.Connected:
            self._drop_hold()
            self._disconnect()
        self.state = state
        if self._hotplug_watch is None:
            self.dev.switch_state(state)

    def _connect(self) -> None:
        self._connected = True
        self.driver.connect(self.dev)
        # Connected is shown only when the hotplug script is done; the watch's first event asks.
        self._hotplug_watch = self.dev.watch("hotplug-status", self._hotplug_status_changed)

    def _disconnect(self) -> None:
        if self._connected:
            self._connected = False
            self.driver.disconnect(self.dev)

    def _reconfigure(self, driver: ReconfigurableDriver) -> None:
        try:
            driver.reconfigure(self.dev)
        except DEVICE_ERRORS as error:
            self._fatal(as_xenbus_error(error))
        else:
            self.dev.switch_state(XenbusState.Reconfigured)

    def _fatal(self, error: XenbusError) -> None:
        self._drop_hold()
        self._disconnect()
        self.state = XenbusState.Closing
        self.dev.fatal(error.errno, str(error))

    # -- hotplug script ----------------------------------------------------------------------------

    def _hotplug_status_changed(self) -> None:
        try:
            status = self.dev.own.raw("hotplug-status")
        except XenbusError:
            return
        if status == HOTPLUG_CONNECTED:
            self.dev.switch_state(self.state)
            self._drop_hold()

    def _drop_hold(self) -> None:
        if self._hotplug_watch is not None:
            watch, self._hotplug_watch = self._hotplug_watch, None
            watch.cancel()
