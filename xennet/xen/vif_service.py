"""What serves one side of the vifs of a real Xen: a run loop in real time, and a bus.

:class:`Service` is what backends (xennet.xen.back_service) and frontends
(xennet.xen.front_service) have in common.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from attrs import asdict, define, field

from xennet.abi.xenbus import XenbusState
from xennet.observe import StateChanged
from xennet.port import PortError
from xennet.pump import Pump, RealClock
from xennet.runloop import RunLoop
from xennet.vif.counters import VifCounters
from xennet.vif.end import VifEnd
from xennet.xen.errors import XenError
from xennet.xen.hypervisor import XenHypervisor
from xennet.xen.live_port import LivePort
from xennet.xen.vif_ports import VifPorts
from xennet.xenbus.bus import Bus, BusDevice
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import error_node
from xennet.xenbus.state import read_state, state_name
from xennet.xenstore.errors import XsError

#: ns between two looks at ports and drivers.
_TICK = 500_000_000
#: Faults of a vif that are kept.
_MOST_FAULTS = 20


class Driver(VifEnd[Any], Protocol):
    """A driver of xennet's, which has counters."""

    @property
    def counters(self) -> VifCounters: ...


@define(eq=False)
class ServedVif:
    """One vif over all its devices: ``name`` (vif1.0), the ``driver`` that it has, and what was
    seen of it. ``present``: its directory is there, and a driver serves it. ``faults`` are the last
    ones, ``earlier_faults`` counts those before: a peer makes as many as it likes."""

    name: str
    driver: Driver | None = None
    present: bool = True
    connections: int = 0
    faults: deque[str] = field(factory=lambda: deque(maxlen=_MOST_FAULTS))
    earlier_faults: int = 0
    port: dict[str, Any] = field(factory=dict)
    _past: dict[str, Any] = field(init=False, factory=dict)

    def drive(self, driver: Driver | None) -> None:
        """Have another driver, or none: of the one before only its counters are kept."""
        if self.driver is not None:
            _add(self._past, asdict(self.driver.counters))
        self.driver = driver

    def note(self, fault: str) -> bool:
        """Keep a fault. Returns whether it is a new one."""
        if fault in self.faults:
            return False
        self.earlier_faults += len(self.faults) == _MOST_FAULTS
        self.faults.append(fault)
        return True

    def report(self) -> dict[str, Any]:
        """What it did, for JSON. Counters are sums over its drivers."""
        counters: dict[str, Any] = {}
        _add(counters, self._past)
        if self.driver is not None:
            _add(counters, asdict(self.driver.counters))
        return {
            "name": self.name,
            "connections": self.connections,
            "faults": list(self.faults),
            "earlier_faults": self.earlier_faults,
            "counters": counters,
            "port": self.port,
        }


def _add(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            _add(into.setdefault(name, {}), value)
        else:
            into[name] = into.get(name, 0) + value


class LeftAlone:
    """A device that nobody serves here."""

    def start(self) -> None:
        """Do nothing."""

    def remove(self) -> None:
        """Do nothing."""


class Service(ABC):
    """Serves vifs on ``pump`` as the domain of ``hv``. ``say`` is called with a line of text when
    there is something to tell. ``vifs`` are all that were served so far, by nodename."""

    #: Root of the bus, levels of directories below its type, and where the kernel's own driver
    #: shows that it has a device.
    root: ClassVar[str]
    levels: ClassVar[int]
    sysfs: ClassVar[str]

    def __init__(
        self,
        spec: str,
        *,
        mtu: int | None,
        queues: int,
        store_path: str | None,
        say: Callable[[str], None],
    ) -> None:
        self.say = say
        self.pump = Pump(RunLoop(), RealClock())
        self.vifs: dict[str, ServedVif] = {}
        self._alone: set[str] = set()
        self.hv = XenHypervisor(self.pump, store_path)
        self.ports = VifPorts(spec, self.pump.watch, mtu, queues)
        self.bus: Bus[BusDevice] = Bus(self.hv.store, self.root, ("vif",), self.levels, self._make)
        self.hv.observers.subscribe(self._state_changed, StateChanged)

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find the vifs that are there, in any state, and watch for those that come and go. Raises
        PortError or XenError."""
        self.require_no_kernel_driver()
        self._open_devices()
        self.hv.events.open()
        self.ports.open_now()
        with suppress(XsError):
            for nodename in self._there(f"{self.root}/vif", self.levels):
                if read_state(self.hv.store, nodename) != XenbusState.Initialising:
                    self._adopt(nodename)
        self.bus.start()
        self._tick()

    def serve(self, over: Callable[[], bool]) -> None:
        """Serve until ``over()``. Raises PortError or XenError for a port, a device or a store that
        has failed."""
        self.pump.hold(None, over)

    @property
    def deserted(self) -> bool:
        """Whether there were vifs and all of them have gone."""
        return bool(self.vifs) and not any(vif.present for vif in self.vifs.values())

    def end(self, patience: float) -> None:
        """End all connections in order. Backends have ``patience`` seconds to do their part; a
        frontend has none in the end of a backend."""
        self._close_all(patience)
        with suppress(XsError):
            self.bus.stop()
        for vif in self.vifs.values():
            vif.present = False

    def close(self) -> str:
        """Close ports and devices. Returns what drivers have not given back, "" for nothing."""
        try:
            self.ports.close()
        finally:
            left = self.hv.left()
            self.hv.close()
            self.pump.close()
        return left

    # -- devices -----------------------------------------------------------------------------------

    @abstractmethod
    def _open_devices(self) -> None:
        """Open the devices that drivers will need. Raises XenError."""

    @abstractmethod
    def _numbers(self, nodename: str) -> tuple[int, int] | None:
        """The guest's domid and the handle of the vif in a directory; None if it is not to be
        served."""

    @abstractmethod
    def _device(self, nodename: str, vif: ServedVif, port: LivePort) -> BusDevice:
        """Make the device in a directory, and its driver."""

    @abstractmethod
    def _adopt(self, nodename: str) -> None:
        """Serve a device that is not new, or leave it alone."""

    @abstractmethod
    def _close_all(self, patience: float) -> None:
        """Close all devices."""

    def _make(self, nodename: str) -> BusDevice:
        numbers = self._numbers(nodename)
        if numbers is None or self._of_the_kernel(nodename):
            return LeftAlone()
        name = f"vif{numbers[0]}.{numbers[1]}"
        try:
            port = self.ports.take(nodename, *numbers)
        except PortError as error:
            self.say(f"{name}: left alone: {error}")
            return LeftAlone()
        if port is None:
            self.say(f"{name}: left alone: the port serves another vif")
            return LeftAlone()
        vif = self.vifs.setdefault(nodename, ServedVif(name))
        vif.present = True
        return self._device(nodename, vif, port)

    def _drive(self, vif: ServedVif, port: LivePort, driver: Driver) -> None:
        """Note that ``driver`` serves ``vif`` at ``port`` from now on."""
        vif.drive(driver)
        port.driver = driver

    def _gone(self, nodename: str) -> None:
        """Note that the device in a directory has ended."""
        vif = self.vifs[nodename]
        vif.present = False
        self._look_at(nodename, vif)
        vif.drive(None)
        self.ports.give_back(nodename)
        self.say(f"{vif.name}: gone")

    def _of_the_kernel(self, nodename: str) -> bool:
        """Whether the kernel's own driver has the device; that is told once."""
        _, kind, *numbers = nodename.split("/")
        path = f"{self.sysfs}/devices/{'-'.join((kind, *numbers))}/driver"
        if not os.path.exists(path):
            return False
        if nodename not in self._alone:
            self._alone.add(nodename)
            self.say(f"{nodename}: left alone: the kernel's own driver has it ({path})")
        return True

    @abstractmethod
    def require_no_kernel_driver(self) -> None:
        """Raise XenError if a driver of the kernel would take every new device."""

    def _there(self, path: str, levels: int) -> list[str]:
        names = [f"{path}/{name}" for name in NodeDirectory(self.hv.store, path).names()]
        return names if levels == 1 else [x for n in names for x in self._there(n, levels - 1)]

    # -- what is told ------------------------------------------------------------------------------

    def _state_changed(self, event: StateChanged) -> None:
        vif = self.vifs.get(event.path)
        if vif is None:
            return
        if event.new == XenbusState.Connected and event.old != XenbusState.Reconfigured:
            vif.connections += 1
        if event.new == XenbusState.Closing:
            self._look_at(event.path, vif)
        self.say(f"{vif.name}: {state_name(event.old)} -> {state_name(event.new)}")

    def _look_at(self, nodename: str, vif: ServedVif) -> None:
        """Note what went wrong with a vif, once: its error node, and how the peer broke the
        protocol; and what its port counts."""
        driver = vif.driver
        faults = [str(driver.error)] if driver is not None and driver.error is not None else []
        with suppress(XsError):
            if text := self.hv.store.read(error_node(nodename)):
                faults.append(text.decode("utf-8", "backslashreplace"))
        for fault in faults:
            if vif.note(fault):
                self.say(f"{vif.name}: {fault}")
        for port in self.ports:
            if driver is not None and port.driver is driver:
                vif.port = port.report()

    def _tick(self) -> None:
        for port in self.ports:
            port.flush()
        for nodename, vif in self.vifs.items():
            if vif.present and vif.driver is not None and vif.driver.error is not None:
                self._look_at(nodename, vif)
        self.hv.call_after(_TICK, self._tick)

    def report(self) -> dict[str, Any]:
        """What was served, for JSON."""
        for nodename, vif in self.vifs.items():
            with suppress(XenError):
                self._look_at(nodename, vif)
        return {
            "domid": self.hv.domid,
            "vifs": [vif.report() for vif in self.vifs.values()],
            "failed_copies": {"calls": self.hv.gntdev.failed, "errno": self.hv.gntdev.failure},
        }
