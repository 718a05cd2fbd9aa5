"""The backend bus of a driver domain: a Backend for every vif the toolstack creates."""

from __future__ import annotations

from collections.abc import Callable

from xennet.interface import Hypervisor
from xennet.xenbus.backend import Backend, BackendDriver
from xennet.xenbus.bus import Bus

#: Makes the driver for the device in a directory (``backend/vif/<frontend domid>/<handle>``).
BackendFactory = Callable[[str], BackendDriver]


class BackendBus:
    """Watches ``backend`` in the domain of ``hv`` and runs a :class:`Backend` for each vif."""

    def __init__(self, hv: Hypervisor, factory: BackendFactory) -> None:
        self._hv = hv
        self._factory = factory
        self._bus: Bus[Backend] = Bus(hv.store, "backend", "vif", 2, self._make)

    @property
    def devices(self) -> dict[str, Backend]:
        """Live devices by nodename."""
        return self._bus.devices

    def start(self) -> None:
        """Find the devices that are there, then those that come (and go)."""
        self._bus.start()

    def stop(self) -> None:
        """Unload the driver: every device is removed, its directory stays."""
        self._bus.stop()

    def _make(self, nodename: str) -> Backend:
        return Backend(self._hv, nodename, self._factory(nodename), self._removed)

    def _removed(self, backend: Backend) -> None:
        self._bus.forget(backend.nodename)
