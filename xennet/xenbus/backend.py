"""The engine of a backend: probe, features, walks along the state table, wait for the hotplug
script.

It does what a driver does around its rings, as the rows of its
:class:`~xennet.xenbus.backend_rules.BackendRules` say; the rings belong to :class:`BackendDriver`.
With Linux's rules it differs from Linux in three places, in which Linux would leave a peer hanging
or a page mapped: a connect that fails ends in Closing, not in Connected; a frontend that closes
while the hotplug script still runs gets its Closing and Closed at once; a frontend state without a
row unmaps the rings and is reported.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor
from xennet.xenbus.backend_rules import (
    LINUX_BACKEND,
    Afterwards,
    BackendAction,
    BackendRow,
    BackendRules,
    Do,
    Task,
    Teardown,
)
from xennet.xenbus.device import (
    DEVICE_ERRORS,
    DeviceWatch,
    StoreValue,
    XenbusDevice,
    fault_of,
)
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.state import read_state, state_name
from xennet.xenstore.errors import XsError

#: The value of hotplug-status for which a backend waits (exact, without a nul).
HOTPLUG_CONNECTED = b"connected"


class Advertisement(NamedTuple):
    """The feature nodes (name, value) of a backend, in the order in which they are written.

    ``features`` go into one transaction; ``extras`` follow, each by itself.
    """

    features: Sequence[tuple[str, StoreValue]] = ()
    extras: Sequence[tuple[str, StoreValue]] = ()


class BackendDriver(Protocol):
    """What a backend's driver does at each turn of its device's life.

    ``probe`` and ``connect`` may raise any of xennet.xenbus.device.DEVICE_ERRORS: the device then
    leaves an error node and goes to Closing. It does so for any other exception, too, which comes
    out of the run loop afterwards.
    """

    def probe(self, dev: XenbusDevice) -> Advertisement:
        """The device was found. Returns the features to advertise."""
        ...

    def connect(self, dev: XenbusDevice) -> None:
        """Read the frontend's keys (``dev.otherend``) and map its rings: the frontend is
        Connected."""
        ...

    def disconnect(self, dev: XenbusDevice) -> None:
        """Unmap everything. Must not raise.

        With Teardown.PAIRED it is called once for each connect, one that failed half way included.
        With Teardown.BLIND it is called without a connect as well, and twice, but not after a
        connect that failed (defect C5 of xnb: the driver decides what that does).
        """
        ...

    def remove(self, dev: XenbusDevice) -> None:
        """Forget the device, after a disconnect if it was connected. Called once, also if probe
        failed."""
        ...


@runtime_checkable
class ReconfigurableDriver(Protocol):
    """A backend driver that advertises feature-xdp-headroom."""

    def reconfigure(self, dev: XenbusDevice) -> None:
        """Read the frontend's xdp-headroom again: the frontend is Reconfiguring."""
        ...


_D = TypeVar("_D", bound=BackendDriver)


@define(eq=False)
class Backend(Generic[_D]):
    """One backend device in directory ``nodename`` of domain ``hv.domid``.

    ``state`` is where the walk has got to. The state in the store (``dev.state``) is behind it
    while the hotplug script has not ended. ``on_removed(backend)`` is called once, when the device
    has gone.
    """

    hv: Hypervisor
    nodename: str
    driver: _D
    on_removed: Callable[[Backend[_D]], None] | None = None
    rules: BackendRules = LINUX_BACKEND
    dev: XenbusDevice = field(init=False)
    state: XenbusState = field(init=False, default=XenbusState.Initialising)
    failed: bool = field(init=False, default=False)
    removed: bool = field(init=False, default=False)
    _otherend_watch: DeviceWatch | None = field(init=False, default=None)
    _hotplug_watch: DeviceWatch | None = field(init=False, default=None)
    _connected: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.dev = XenbusDevice(self.hv, self.nodename, "frontend")

    def __repr__(self) -> str:
        return f"<Backend {self.nodename} of domain {self.hv.domid}, {self.state.name}>"

    # -- probe -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Probe the device as the rules say, up to InitWait, then watch the frontend.

        A device that cannot be probed leaves an error node, goes to Closing and stays ``failed``
        until its directory vanishes.
        """
        try:
            self.dev.find_otherend()
            for task in self.rules.probe:
                _TASKS[task.do](self, task, _NO_ERROR)
            self._otherend_watch = self.dev.watch_otherend("state", self._frontend_changed)
        except Exception as error:
            self.failed = True
            fault = fault_of(self.hv, error)
            for task in self.rules.probe_failed:
                with suppress(*DEVICE_ERRORS):  # the directory may have vanished
                    _TASKS[task.do](self, task, fault)
            self.dev.cancel_watches()

    # -- life --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Walk to Closed, by the backend's own decision. A frontend may start again later."""
        if not self.removed:
            self._shut_down(XenbusState.Closed)
            self._drop_hold()
            self._walk(XenbusState.Closed)

    def remove(self) -> None:
        """Remove the device: end the watch of the frontend, then do what the rules say."""
        if self.removed:
            return
        self.removed = True
        if self._otherend_watch is not None:
            self._otherend_watch.cancel()
        self._drop_hold()
        for task in self.rules.removal:
            with suppress(*DEVICE_ERRORS):  # the directory may be gone already
                _TASKS[task.do](self, task, _NO_ERROR)
        self.dev.cancel_watches()
        self.driver.remove(self.dev)
        if self.on_removed is not None:
            self.on_removed(self)

    def _frontend_changed(self) -> None:
        frontend_state = self.dev.otherend_state(self.rules.unreadable)
        row = self.rules.row(frontend_state)
        if row.action is BackendAction.WALK and row.target is not None:
            self._follow(row, row.target)
        elif row.action is BackendAction.RECONFIGURE and isinstance(
            self.driver, ReconfigurableDriver
        ):
            self._reconfigure(row, self.driver)
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
        self._shut_down(target)
        if target is not XenbusState.Connected and row.afterwards is not Afterwards.REMOVE:
            self._drop_hold()  # a command waits for what comes now
        if self.state not in row.stay:
            self._walk(target)
        _AFTERWARDS[row.afterwards](self)

    def _walk(self, target: XenbusState) -> None:
        try:
            while self.state is not target:
                self._enter(self.rules.next[self.state, target])
        except Exception as error:
            self._fatal(fault_of(self.hv, error))

    def _enter(self, state: XenbusState) -> None:
        if state is XenbusState.Connected:
            self._connect()
        elif self.state is XenbusState.Connected:
            self._disconnect()
        self.state = state
        if self._hotplug_watch is None:
            self.dev.switch_state(state)

    def _connect(self) -> None:
        if self.rules.teardown is Teardown.PAIRED:
            self._connected = True
            self.driver.connect(self.dev)
        elif not self._connected:  # a fatal error may have left it so (XNBF_RING_CONNECTED)
            self.driver.connect(self.dev)
            self._connected = True
        if self.rules.script_writes_status:
            # Connected is shown only when the script is done; the watch's first event asks.
            self._hotplug_watch = self.dev.watch("hotplug-status", self._hotplug_status_changed)

    def _shut_down(self, target: XenbusState) -> None:
        if self.rules.teardown is Teardown.BLIND and target in _CLOSING:
            self._connected = False
            self.driver.disconnect(self.dev)

    def _disconnect(self) -> None:
        if self._connected and self.rules.teardown is Teardown.PAIRED:
            self._connected = False
            self.driver.disconnect(self.dev)

    def _reconfigure(self, row: BackendRow, driver: ReconfigurableDriver) -> None:
        if self.dev.state in row.stay:
            return
        try:
            driver.reconfigure(self.dev)
        except Exception as error:
            self._fatal(fault_of(self.hv, error))
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

    # -- what rules are made of --------------------------------------------------------------------

    def _task_show(self, task: Task, _error: XenbusError) -> None:
        self._enter(task.state)

    def _task_show_at_least(self, task: Task, _error: XenbusError) -> None:
        if self.dev.state < task.state:
            self.dev.switch_state(task.state)

    def _task_advertise(self, _task: Task, _error: XenbusError) -> None:
        advertisement = self.driver.probe(self.dev)
        self.dev.publish(advertisement.features)
        for name, value in advertisement.extras:
            self.dev.write(name, value)

    def _task_require(self, task: Task, _error: XenbusError) -> None:
        self.dev.own.text(task.node)

    def _task_require_number(self, task: Task, _error: XenbusError) -> None:
        self.dev.own.unsigned(task.node)

    def _task_write(self, task: Task, error: XenbusError) -> None:
        self.dev.publish([(task.node, task.value.replace("{error}", str(error)))])

    def _task_remove(self, task: Task, _error: XenbusError) -> None:
        self.dev.store.rm(self.dev.own.node(task.node))

    def _task_fatal(self, _task: Task, error: XenbusError) -> None:
        self._fatal(error)

    def _task_disconnect(self, _task: Task, _error: XenbusError) -> None:
        if self.rules.teardown is Teardown.BLIND:
            self._connected = False
            self.driver.disconnect(self.dev)
        else:
            self._disconnect()

    def _task_confirm_closed(self, _task: Task, _error: XenbusError) -> None:
        if read_state(self.dev.store, self.nodename) == XenbusState.Closing:
            self.dev.switch_state(XenbusState.Closed)

    def _keep(self) -> None:
        """Keep the device: it may connect again."""

    def _unplug_if_offline(self) -> None:
        if not self._online():
            with suppress(XsError):
                self.dev.store.rm(self.dev.own.node("hotplug-status"))

    def _remove_if_offline(self) -> None:
        if not self._online():
            self.remove()

    def _online(self) -> bool:
        return self.dev.own.optional_unsigned("online", 0) != 0


_CLOSING = frozenset({XenbusState.Closing, XenbusState.Closed})
_NO_ERROR = XenbusError(0, "")

_TASKS: dict[Do, Callable[[Backend[Any], Task, XenbusError], None]] = {
    Do.SHOW: Backend._task_show,
    Do.SHOW_AT_LEAST: Backend._task_show_at_least,
    Do.ADVERTISE: Backend._task_advertise,
    Do.REQUIRE: Backend._task_require,
    Do.REQUIRE_NUMBER: Backend._task_require_number,
    Do.WRITE: Backend._task_write,
    Do.REMOVE: Backend._task_remove,
    Do.FATAL: Backend._task_fatal,
    Do.DISCONNECT: Backend._task_disconnect,
    Do.CONFIRM_CLOSED: Backend._task_confirm_closed,
}

_AFTERWARDS: dict[Afterwards, Callable[[Backend[Any]], None]] = {
    Afterwards.KEEP: Backend._keep,
    Afterwards.UNPLUG_IF_OFFLINE: Backend._unplug_if_offline,
    Afterwards.REMOVE_IF_OFFLINE: Backend._remove_if_offline,
    Afterwards.REMOVE: Backend.remove,
}
