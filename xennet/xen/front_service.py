"""netfront as a process: a vif of a real Xen, driven from user space in the guest."""

from __future__ import annotations

from collections.abc import Callable, Collection

from xennet.netfront.device import Netfront
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.xen.live_port import LivePort
from xennet.xen.vif_service import ServedVif, Service
from xennet.xenbus.bus import BusDevice
from xennet.xenbus.frontend import Frontend, Phase


class FrontService(Service):
    """Drives device/vif of the own domain.

    ``spec`` is the guest's port (xennet.xen.vif_ports). ``wanted``: handles of the vifs to drive;
    empty: all.
    """

    root = "device"
    levels = 1
    sysfs = "/sys/bus/xen"

    def __init__(
        self,
        spec: str,
        kind: FrontendKind,
        options: NetfrontOptions,
        *,
        wanted: Collection[int] = (),
        mtu: int | None = None,
        store_path: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        queues = options.queues
        super().__init__(spec, mtu=mtu, queues=queues, store_path=store_path, say=say)
        self._kind, self._options, self._wanted = kind, options, wanted

    def require_no_kernel_driver(self) -> None:
        """Do nothing: the kernel's frontend may have other vifs, and each is looked at."""

    def _open_devices(self) -> None:
        self.hv.grants.open()

    def _numbers(self, nodename: str) -> tuple[int, int] | None:
        _, _, handle = nodename.split("/")
        if not handle.isdecimal() or (self._wanted and int(handle) not in self._wanted):
            return None
        return self.hv.domid, int(handle)

    def _device(self, nodename: str, vif: ServedVif, port: LivePort) -> BusDevice:
        driver = Netfront(self.hv, port.edge, self._kind, self._options)
        self._drive(vif, port, driver)
        return Frontend(self.hv, nodename, driver, self._unloaded, self._kind.rules)

    def _unloaded(self, frontend: Frontend[Netfront]) -> None:
        self.bus.forget(frontend.nodename)
        self._gone(frontend.nodename)

    def _adopt(self, nodename: str) -> None:
        """Drive a vif that another frontend has left; the engine closes what is open and starts
        anew."""
        if self._numbers(nodename) is not None and not self._of_the_kernel(nodename):
            self.bus.adopt(nodename)

    def _close_all(self, patience: float) -> None:
        frontends = [one for one in self.bus.devices.values() if isinstance(one, Frontend)]
        for frontend in frontends:
            frontend.close()
        self.pump.hold(patience, lambda: all(one.phase is Phase.IDLE for one in frontends))
