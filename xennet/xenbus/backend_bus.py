"""The backend bus of a driver domain: a Backend for every vif the toolstack creates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from xennet.interface import Hypervisor
from xennet.xenbus.backend import Backend, BackendDriver
from xennet.xenbus.backend_rules import BackendRules
from xennet.xenbus.bus import Bus
from xennet.xenbus.tables import LINUX_BACKEND

_D = TypeVar("_D", bound=BackendDriver)
#: Makes the driver for the device in a directory (``backend/<type>/<frontend domid>/<handle>``);
#: None: the device is left alone.
BackendFactory = Callable[[str], _D | None]
#: Gives the rules of the device in a directory.
BackendRulesOf = Callable[[str], BackendRules]


class BackendBus(Generic[_D]):
    """Watches ``backend`` in the domain of ``hv`` and runs a :class:`Backend` for each vif.

    ``rules`` are those of every device, or a function from a nodename to its rules. ``types`` are
    the types of backends that the driver serves; devices of other types are left alone.
    """

    def __init__(
        self,
        hv: Hypervisor,
        factory: BackendFactory[_D],
        rules: BackendRules | BackendRulesOf = LINUX_BACKEND,
        types: Collection[str] = ("vif",),
    ) -> None:
        self._hv = hv
        self._factory = factory
        self._rules = rules
        self._bus: Bus[Backend[_D]] = Bus(hv.store, "backend", types, 2, self._make)

    def __repr__(self) -> str:
        return f"<BackendBus {len(self.devices)} devices>"

    @property
    def devices(self) -> dict[str, Backend[_D]]:
        """The live devices, by nodename."""
        return self._bus.devices

    def start(self) -> None:
        """Find the devices that exist, and watch for those that come and go."""
        self._bus.start()

    def stop(self) -> None:
        """Unload the driver: every device is removed, its directory stays."""
        self._bus.stop()

    def unload(self) -> None:
        """Unbind the driver from every device; states and directories stay as they are.

        Linux does not tell the frontend: the backend's state stays where it was. xnb shows Closing.
        """
        self._bus.unload()

    def load(self) -> None:
        """Bind the driver again, to known devices in any state and to those that came meanwhile.

        Each is probed anew: its features are written again, then InitWait.
        """
        self._bus.load()

    def _make(self, nodename: str) -> Backend[_D] | None:
        driver = self._factory(nodename)
        if driver is None:
            return None
        rules = self._rules if isinstance(self._rules, BackendRules) else self._rules(nodename)
        return Backend(self._hv, nodename, driver, self._removed, rules)

    def _removed(self, backend: Backend[_D]) -> None:
        self._bus.forget(backend.nodename)
