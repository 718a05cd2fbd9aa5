"""The engine of a frontend: start, answer the backend, close, unload, start again, resume
elsewhere.

It does what a frontend driver does around its rings, as the rows of its
:class:`~xennet.xenbus.frontend_rules.FrontendRules` say; the rings belong to a
:class:`FrontendDriver`. Where a kernel sleeps until the backend has moved, the engine goes on at
the next event of its one watch on the backend's state, and therefore keeps that watch until an
unload has ended.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor
from xennet.xenbus.device import (
    DeviceWatch,
    StoreValue,
    XenbusDevice,
    fault_of,
    raise_later,
)
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend_rules import (
    LINUX_FRONTEND,
    ConnectDo,
    ConnectStep,
    FrontendAction,
    FrontendRules,
    Phase,
)
from xennet.xenbus.state import state_name

__all__ = ["Frontend", "FrontendDriver", "MovableDriver", "Phase"]

#: Backend states in which an unloading frontend need not show Closing.
_BACKEND_GONE = frozenset({XenbusState.Unknown, XenbusState.Closed})


class FrontendDriver(Protocol):
    """What a frontend's driver does at each turn of its device's life.

    ``setup`` and ``ready`` may raise any of xennet.xenbus.device.DEVICE_ERRORS: the device then
    leaves an error node and goes to Closing. It does so for any other exception, too, which comes
    out of the run loop afterwards.
    """

    def setup(self, dev: XenbusDevice) -> Sequence[tuple[str, StoreValue]] | XenbusError:
        """Read the backend's features (``dev.otherend``) and make the rings: the backend is in
        InitWait.

        Returns the keys (name, value) to publish in one transaction, in order; or an error, which
        is not raised, that says why this backend cannot be used: the device then stays in
        Initialising without an error node.
        """
        ...

    def ready(self, dev: XenbusDevice) -> None:
        """Post buffers and notify once: the keys are in the store, and Connected will be shown
        next."""
        ...

    def connected(self, dev: XenbusDevice) -> None:
        """Announce the interface: the backend is Connected too. Called once for each connection."""
        ...

    def disconnect(self, dev: XenbusDevice) -> None:
        """End grants and close channels: the backend is Closed or gone, or the domain was resumed.

        May be repeated. Must not raise.
        """
        ...


@runtime_checkable
class MovableDriver(Protocol):
    """A frontend driver whose domain can be restored as another one, or migrate."""

    def moved(self, hv: Hypervisor) -> None:
        """Forget rings, grants and ports without a hypercall: the domain goes on as that of ``hv``.

        They stayed in the old domain; ``disconnect`` is not called for them.
        """
        ...


_D = TypeVar("_D", bound=FrontendDriver)


@define(eq=False)
class Frontend(Generic[_D]):
    """One frontend device in directory ``nodename`` of domain ``hv.domid``.

    ``on_unloaded(frontend)`` is called at the end of each unload or removal. ``unplugged``: the
    device ended because the backend's directory vanished (WINDOWS_FRONTEND). ``declined``: why the
    driver cannot use the backend, which is in InitWait; else None.
    """

    hv: Hypervisor
    nodename: str
    driver: _D
    on_unloaded: Callable[[Frontend[_D]], None] | None = None
    rules: FrontendRules = LINUX_FRONTEND
    dev: XenbusDevice = field(init=False)
    phase: Phase = field(init=False, default=Phase.IDLE)
    announced: bool = field(init=False, default=False)
    unplugged: bool = field(init=False, default=False)
    declined: XenbusError | None = field(init=False, default=None)
    _watch: DeviceWatch | None = field(init=False, default=None)
    _set_up: bool = field(init=False, default=False)
    _keys: Sequence[tuple[str, StoreValue]] = field(init=False, default=())
    _steps: Iterator[ConnectStep] = field(init=False, factory=lambda: iter(()))
    _on_reconfigured: Callable[[bool], None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.dev = XenbusDevice(self.hv, self.nodename, "backend")

    def __repr__(self) -> str:
        return f"<Frontend {self.nodename} of domain {self.hv.domid}, {self.dev.state.name}>"

    # -- what a kernel does to its driver ----------------------------------------------------------

    def start(self) -> None:
        """Probe the device, the first time or after :meth:`close`. Does nothing if it runs
        already."""
        if self.phase is not Phase.IDLE:
            return
        self.phase = Phase.STARTING
        self.unplugged = False
        try:
            self.dev.find_otherend()
            self._answer()
            self._watch = self.dev.watch_otherend("state", self._answer)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Unload the driver: Closing, wait for the backend, Closed, wait again, end."""
        if self.phase in (Phase.IDLE, Phase.UNLOADING):
            return
        self.phase = Phase.UNLOADING
        self._reconfigured(False)
        if self._backend_state() not in _BACKEND_GONE:
            self.dev.switch_state(XenbusState.Closing)
        self._answer()

    def remove(self) -> None:
        """Remove the device: its directory has vanished."""
        self._end()

    def reconfigure(
        self,
        nodes: Iterable[tuple[str, StoreValue]],
        on_done: Callable[[bool], None] | None = None,
    ) -> None:
        """Change ``nodes`` (name, value) of a running connection, as for xdp-headroom.

        Goes to Reconfiguring, waits for the backend's Reconfigured and returns to Connected. Then
        it calls ``on_done(True)``; or ``on_done(False)``, if the backend closes or the device goes
        before the backend has answered. Raises XenbusError ENOTCONN, with nothing written, unless
        both ends are Connected; XenbusError or XsError if the nodes cannot be written.
        """
        ends = (self.dev.state, self._backend_state())
        if self.phase is not Phase.RUNNING or ends != (XenbusState.Connected,) * 2:
            raise XenbusError(
                errno.ENOTCONN,
                f"cannot be reconfigured: frontend {state_name(ends[0])}, "
                f"backend {state_name(ends[1])}",
                path=self.nodename,
            )
        self.dev.publish(nodes)
        self.phase = Phase.RECONFIGURING
        self._on_reconfigured = on_done
        self.dev.switch_state(XenbusState.Reconfiguring)

    def resume(self, hv: Hypervisor | None = None) -> None:
        """Resume the device: the domain wakes up from a suspend that was not cancelled
        (xenbus_dev_resume).

        Its ports are gone, and its backend may be another one. So the driver disconnects, the other
        end is looked up anew, the own state is written again as Initialising, and the device
        connects when the backend is in InitWait. ``hv`` if the domain wakes up as another one, or
        in another machine: the driver, which must be a :class:`MovableDriver` (else TypeError), is
        moved instead of disconnected. An unload goes on. A suspend that was cancelled needs no
        call.
        """
        if hv is not None:
            self._move(hv)
        if self.phase is Phase.IDLE:
            return
        self._reconfigured(False)
        self._disconnect()
        state = self.dev.state
        if self.phase is not Phase.UNLOADING:
            self.phase, state = Phase.RESUMING, XenbusState.Initialising
        try:
            if self._watch is not None:
                self._watch.cancel()
            self.dev.find_otherend()
            self.dev.rewrite_state(state)
            self._watch = self.dev.watch_otherend("state", self._answer)
        except Exception as error:
            self._give_up(error)

    # -- what the backend does ---------------------------------------------------------------------

    def _answer(self) -> None:
        self.declined = None
        actions = self.rules.actions(self.phase, self._backend_state(), self.dev.state)
        for action in actions:
            _ACTIONS[action](self)

    def _backend_state(self) -> int:
        return self.dev.otherend_state(self.rules.unreadable)

    # -- actions -----------------------------------------------------------------------------------

    def _show_initialising(self) -> None:
        self.dev.switch_state(XenbusState.Initialising)

    def _show_closing(self) -> None:
        self.dev.switch_state(XenbusState.Closing)

    def _show_closed(self) -> None:
        self.dev.switch_state(XenbusState.Closed)

    def _show_connected(self) -> None:
        self.dev.switch_state(XenbusState.Connected)

    def _announce(self) -> None:
        if self._set_up and not self.announced and self.dev.state is XenbusState.Connected:
            self.announced = True
            self.driver.connected(self.dev)

    def _disconnect(self) -> None:
        self.announced = False
        if self._set_up:
            self._set_up = False
            self.driver.disconnect(self.dev)

    def _succeed(self) -> None:
        self._reconfigured(True)

    def _run(self) -> None:
        self._reconfigured(False)
        self.phase = Phase.RUNNING
        if self._watch is not None:  # else the watch's first event comes and answers
            self._answer()

    def _unplug(self) -> None:
        self.unplugged = True
        self._end()

    def _end(self) -> None:
        if self.phase is Phase.IDLE:
            return
        self.phase = Phase.IDLE
        self._watch = None
        self.dev.cancel_watches()
        self._disconnect()
        self._reconfigured(False)
        if self.on_unloaded is not None:
            self.on_unloaded(self)

    def _reconfigured(self, success: bool) -> None:
        done, self._on_reconfigured = self._on_reconfigured, None
        if done is not None:
            try:
                done(success)
            except Exception as error:
                raise_later(self.hv, error)

    def _give_up(self, error: Exception) -> None:
        self._fatal(error)
        self._end()

    def _fatal(self, error: Exception) -> None:
        fault = fault_of(self.hv, error)
        self.dev.fatal(fault.errno, str(fault))
        self._disconnect()

    def _move(self, hv: Hypervisor) -> None:
        if not isinstance(self.driver, MovableDriver):
            raise TypeError(f"{self.nodename}: {type(self.driver).__name__} cannot be moved")
        self.driver.moved(hv)
        self.hv = hv
        self.dev.move(hv)
        self._set_up = False
        self._watch = None

    # -- connecting --------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._steps = iter(self.rules.connect)
        self._go_on()

    def _go_on(self) -> None:
        try:
            for step in self._steps:
                if not _CONNECT[step.do](self, step):
                    return
        except Exception as error:
            self._steps = iter(())
            self._fatal(error)

    def _step_set_up(self, _step: ConnectStep) -> bool:
        self._set_up = True
        keys = self.driver.setup(self.dev)
        if isinstance(keys, XenbusError):
            self.declined = keys
            self._disconnect()
            return False
        self._keys = keys
        return True

    def _step_publish(self, _step: ConnectStep) -> bool:
        self.dev.publish(self._keys)
        return True

    def _step_post(self, _step: ConnectStep) -> bool:
        self.driver.ready(self.dev)
        return True

    def _step_show(self, step: ConnectStep) -> bool:
        self.dev.switch_state(step.state)
        return True

    def _step_later(self, _step: ConnectStep) -> bool:
        steps, state = self._steps, self.dev.state

        def go_on() -> None:
            if (self._steps, self.phase, self.dev.state) == (steps, Phase.RUNNING, state):
                self._go_on()

        self.hv.defer(go_on)
        return False

    def _step_look(self, _step: ConnectStep) -> bool:
        self._answer()
        return True


_ACTIONS: dict[FrontendAction, Callable[[Frontend[Any]], None]] = {
    FrontendAction.SHOW_INITIALISING: Frontend._show_initialising,
    FrontendAction.SHOW_CLOSING: Frontend._show_closing,
    FrontendAction.SHOW_CLOSED: Frontend._show_closed,
    FrontendAction.SHOW_CONNECTED: Frontend._show_connected,
    FrontendAction.CONNECT: Frontend._connect,
    FrontendAction.ANNOUNCE: Frontend._announce,
    FrontendAction.DISCONNECT: Frontend._disconnect,
    FrontendAction.RECONFIGURED: Frontend._succeed,
    FrontendAction.RUN: Frontend._run,
    FrontendAction.UNPLUG: Frontend._unplug,
    FrontendAction.END: Frontend._end,
}

_CONNECT: dict[ConnectDo, Callable[[Frontend[Any], ConnectStep], bool]] = {
    ConnectDo.SET_UP: Frontend._step_set_up,
    ConnectDo.PUBLISH: Frontend._step_publish,
    ConnectDo.POST: Frontend._step_post,
    ConnectDo.SHOW: Frontend._step_show,
    ConnectDo.LATER: Frontend._step_later,
    ConnectDo.LOOK: Frontend._step_look,
}
