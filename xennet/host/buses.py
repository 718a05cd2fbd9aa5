"""The buses of a domain: one on which xennet's drivers find their devices, one for foreign drivers.

A foreign driver is made when the directory of its device is found, as xennet's drivers are. From
then on it reads, watches and writes the store itself; the host calls nothing of it but its kick.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Generic, Literal, Protocol, TypeVar

from attrs import define, frozen

from xennet.errors import LinkError
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.vif.counters import VifCounters
from xennet.vif.end import VifEnd
from xennet.xenbus.bus import Bus
from xennet.xenbus.frontend import MovableDriver

#: The default for the drivers that a domain loads: xennet's.
XENNET: Literal["xennet"] = "xennet"

_C = TypeVar("_C", bound=VifCounters)
_C_co = TypeVar("_C_co", bound=VifCounters, covariant=True)


class OwnDevice(Protocol[_C_co]):
    """A device on a bus of xennet.xenbus with xennet's driver."""

    @property
    def driver(self) -> VifEnd[_C_co]: ...


class OwnBus(Protocol[_C_co]):
    """A bus of xennet.xenbus on which xennet's drivers are."""

    @property
    def devices(self) -> Mapping[str, OwnDevice[_C_co]]: ...
    def start(self) -> None: ...


@define(eq=False, repr=False)
class ForeignDevice(Generic[_C]):
    """A device directory; ``end`` is its driver, None as long as there is none."""

    make: Callable[[], VifEnd[_C] | None]
    end: VifEnd[_C] | None = None

    def start(self) -> None:
        """Do nothing: the driver starts by itself when it is made."""
        self.end = self.make()

    def remove(self) -> None:
        """Do nothing: the driver sees in the store that its directory has vanished."""


class ForeignBus(Generic[_C]):
    """Watches ``root`` in the domain of ``kernel``, and makes a driver with ``make(nodename)`` for
    each device of the ``types``, ``levels`` below (xennet.xenbus.bus)."""

    def __init__(
        self,
        kernel: GuestKernel,
        root: str,
        types: Collection[str],
        levels: int,
        make: Callable[[str], VifEnd[_C] | None],
    ) -> None:
        self._bus: Bus[ForeignDevice[_C]] = Bus(
            kernel.store, root, types, levels, lambda node: ForeignDevice(partial(make, node))
        )

    def __repr__(self) -> str:
        return f"<ForeignBus {len(self.devices)} devices>"

    @property
    def devices(self) -> dict[str, ForeignDevice[_C]]:
        """The devices, by nodename."""
        return self._bus.devices

    def start(self) -> None:
        """Find the devices that exist, and watch for those that come and go."""
        self._bus.start()

    def require_movable(self) -> None:
        """Raises LinkError, which names the driver, if a driver cannot go on in another domain."""
        for nodename, device in self.devices.items():
            if device.end is not None and not isinstance(device.end, MovableDriver):
                raise LinkError(f"{nodename}: {type(device.end).__name__} cannot be moved")

    def resume(self, kernel: GuestKernel) -> None:
        """Go on as the domain of ``kernel``: each driver is given the kernel (MovableDriver), and
        finds its device again by itself."""
        self._bus.move(kernel.store)
        for device in self.devices.values():
            if isinstance(device.end, MovableDriver):
                device.end.moved(kernel)


@frozen(eq=False)
class Buses(Generic[_C]):
    """Both buses of a domain, of which at most one is started."""

    own: OwnBus[_C]
    foreign: ForeignBus[_C]

    def start(self, drivers: object) -> None:
        """Load ``drivers``: XENNET, or a function that makes them. With None no bus looks for
        devices."""
        if drivers == XENNET:
            self.own.start()
        elif drivers is not None:
            self.foreign.start()

    def driver(self, nodename: str) -> VifEnd[_C] | None:
        """The driver of the device in a directory; None if there is none, or none that is known
        here."""
        if (device := self.own.devices.get(nodename)) is not None:
            return device.driver
        foreign = self.foreign.devices.get(nodename)
        return None if foreign is None else foreign.end

    @property
    def nodenames(self) -> list[str]:
        """The directories of all devices."""
        return [*self.own.devices, *self.foreign.devices]
