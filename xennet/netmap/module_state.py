"""What the device has besides its open files: regions, switches, interfaces, parameters."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field

from xennet.netmap.address_space import AddressSpace, ClientMemory
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.region import Regions
from xennet.netmap.vale_switch import Switches
from xennet.pump import Pump
from xennet.runloop import RunLoop


@define
class Parameters:
    """Parameters of the module that may be changed while it runs (sysctl dev.netmap.*).

    ``no_timestamp``: rings get their time only with NR_TIMESTAMP. ``bridge_batch``: 0 makes
    switches drop all. ``fwd``: NR_FORWARD of every ring. ``admode``: which adapters interfaces get
    (:func:`xennet.netmap.admode.adapter_of`). ``generic_ringsize``: slots of a generic
    adapter made later, ``generic_mit_ns``: nanoseconds in which it tells a client once of frames
    that arrive. ``cpus``: processors of the machine.
    """

    no_timestamp: bool = False
    bridge_batch: int = 1024
    fwd: bool = False
    admode: int = 0
    generic_ringsize: int = 1024
    generic_mit_ns: int = 100_000
    cpus: int = 2


@define(eq=False)
class State:
    """State of one device. ``pump`` makes its kernel loops go on, as deliveries of domain
    ``domid``."""

    pump: Pump = field(factory=lambda: Pump(RunLoop()))
    domid: int = 0

    parameters: Parameters = field(factory=Parameters)
    regions: Regions = field(factory=Regions)
    switches: Switches = field(factory=Switches)
    interfaces: dict[str, NetInterface] = field(factory=dict)
    #: The time of day in microseconds, for time stamps of rings.
    now_us: Callable[[], int] = field(default=lambda: time.time_ns() // 1000)
    #: Has a function called after so many nanoseconds; None: clients are told of every frame.
    after: Callable[[int, Callable[[], None]], None] | None = None
    #: The memory of the client whose call is running.
    caller: AddressSpace = field(factory=ClientMemory)
    #: Number of kernel loops so far.
    loops: int = 0

    def run_on(self, pump: Pump) -> None:
        """Let kernel loops that start from now on, and mitigation, go by ``pump``."""
        self.pump = pump
        self.after = self._after

    def _after(self, ns: int, call: Callable[[], None]) -> None:
        self.pump.run_loop.call_after(ns, self.domid, call)

    def add_interface(self, interface: NetInterface) -> NetInterface:
        """Make a system interface known under its name."""
        self.interfaces[interface.name] = interface
        return interface
