"""What the device has besides its open files: regions, switches, interfaces, parameters."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field

from xennet.netmap.address_space import AddressSpace, ClientMemory
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.region import Regions
from xennet.netmap.vale_switch import Switches


@define
class Parameters:
    """Parameters of the module that may be changed while it runs (sysctl dev.netmap.*).

    ``no_timestamp``: rings get their time only with NR_TIMESTAMP. ``bridge_batch``: 0 makes
    switches drop all. ``fwd``: NR_FORWARD of every ring. ``generic_ringsize``: slots of a generic
    adapter made later. ``cpus``: processors of the machine.
    """

    no_timestamp: bool = False
    bridge_batch: int = 1024
    fwd: bool = False
    generic_ringsize: int = 1024
    cpus: int = 2


@define(eq=False)
class State:
    """State of one device."""

    parameters: Parameters = field(factory=Parameters)
    regions: Regions = field(factory=Regions)
    switches: Switches = field(factory=Switches)
    interfaces: dict[str, NetInterface] = field(factory=dict)
    #: The time of day in microseconds, for time stamps of rings.
    now_us: Callable[[], int] = field(default=lambda: time.time_ns() // 1000)
    #: The memory of the client whose call is running.
    caller: AddressSpace = field(factory=ClientMemory)

    def add_interface(self, interface: NetInterface) -> NetInterface:
        """Make a system interface known under its name."""
        self.interfaces[interface.name] = interface
        return interface
