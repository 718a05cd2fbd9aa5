"""The frontend bus of a guest: a Frontend for every vif of the guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from xennet.interface import Hypervisor
from xennet.xenbus.bus import Bus
from xennet.xenbus.frontend import Frontend, FrontendDriver
from xennet.xenbus.frontend_rules import LINUX_FRONTEND, FrontendRules
from xennet.xenbus.nodes import NodeDirectory

_D = TypeVar("_D", bound=FrontendDriver)
#: nodename (``device/vif/<handle>``) -> the driver of that device; None: it is left alone.
FrontendFactory = Callable[[str], _D | None]


class FrontendBus(Generic[_D]):
    """Watches ``device`` in the domain of ``hv`` and runs a :class:`Frontend` for each vif.

    A device whose driver was unloaded (:meth:`Frontend.close`) stays on the bus; its
    :meth:`Frontend.start` binds the driver again.
    """

    def __init__(
        self,
        hv: Hypervisor,
        factory: FrontendFactory[_D],
        rules: FrontendRules = LINUX_FRONTEND,
    ) -> None:
        self._hv = hv
        self._factory = factory
        self._rules = rules
        self._bus: Bus[Frontend[_D]] = Bus(hv.store, "device", ("vif",), 1, self._make)

    def __repr__(self) -> str:
        return f"<FrontendBus {len(self.devices)} devices>"

    @property
    def devices(self) -> dict[str, Frontend[_D]]:
        """Devices by nodename, with or without a running driver."""
        return self._bus.devices

    def start(self) -> None:
        """Find the devices that exist, then those that come and go."""
        self._bus.start()

    def look_at(self, nodename: str) -> None:
        """Look at the directory of a device that the factory has left alone once more."""
        self._bus.look_at(nodename)

    def stop(self) -> None:
        """Drop every device without a word to its backend, as in a guest that is killed."""
        self._bus.stop()

    def resume(self, hv: Hypervisor | None = None) -> None:
        """Resume every device: the guest wakes up from a suspend that was not cancelled.

        ``hv`` if it wakes up as another domain, or in another machine; the watches in the old store
        are forgotten. A device whose directory was not made again is removed.
        """
        if hv is not None:
            self._hv = hv
            self._bus.move(hv.store)
        for nodename, frontend in list(self.devices.items()):
            frontend.resume(hv)
            if not NodeDirectory(self._hv.store, nodename).exists():
                self._bus.forget(nodename)
                frontend.remove()

    def _make(self, nodename: str) -> Frontend[_D] | None:
        driver = self._factory(nodename)
        return None if driver is None else Frontend(self._hv, nodename, driver, rules=self._rules)
