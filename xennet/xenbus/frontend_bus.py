"""The frontend bus of a guest: a Frontend for every vif the toolstack gives it."""

from __future__ import annotations

from collections.abc import Callable

from xennet.interface import Hypervisor
from xennet.xenbus.bus import Bus
from xennet.xenbus.frontend import Frontend, FrontendDriver

#: Makes the driver for the device in a directory (``device/vif/<handle>``).
FrontendFactory = Callable[[str], FrontendDriver]


class FrontendBus:
    """Watches ``device`` in the domain of ``hv`` and runs a :class:`Frontend` for each vif.

    A device whose driver was unloaded (:meth:`Frontend.close`) stays on the bus; its
    :meth:`Frontend.start` binds the driver again.
    """

    def __init__(self, hv: Hypervisor, factory: FrontendFactory) -> None:
        self._hv = hv
        self._factory = factory
        self._bus: Bus[Frontend] = Bus(hv.store, "device", "vif", 1, self._make)

    @property
    def devices(self) -> dict[str, Frontend]:
        """Devices by nodename, with or without a running driver."""
        return self._bus.devices

    def start(self) -> None:
        """Find the devices that are there, then those that come (and go)."""
        self._bus.start()

    def stop(self) -> None:
        """Drop every device without telling its backend, as a guest that is killed."""
        self._bus.stop()

    def _make(self, nodename: str) -> Frontend:
        return Frontend(self._hv, nodename, self._factory(nodename))
