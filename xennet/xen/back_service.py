"""netback as a process: the vifs of a real Xen, served from user space."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from attrs import evolve

from xennet.abi.xenbus import XenbusState
from xennet.interface import HypercallError
from xennet.netback.device import Vif
from xennet.netback.policy import BackendPolicy, VifOptions
from xennet.netback.stage import TxStage
from xennet.xen.errors import XenError
from xennet.xen.live_port import LivePort
from xennet.xen.vif_service import ServedVif, Service
from xennet.xenbus.backend import HOTPLUG_CONNECTED, Backend
from xennet.xenbus.backend_rules import BackendRules, Do, Task
from xennet.xenbus.bus import BusDevice
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.state import read_state, state_name

#: What answers for a script that nobody runs, and what is not needed then.
_STATUS = Task(
    Do.WRITE,
    "the port is plugged in: no script is needed",
    node="hotplug-status",
    value=HOTPLUG_CONNECTED.decode(),
)
_SCRIPT = "script"


def answering(rules: BackendRules) -> BackendRules:
    """The same life without a hotplug script: the backend writes hotplug-status itself."""
    probe = tuple(task for task in rules.probe if task.node not in (_SCRIPT, _STATUS.node))
    return evolve(rules, probe=(_STATUS, *probe), script_writes_status=False)


class BackService(Service):
    """Serves backend/vif of the own domain.

    ``spec`` is the host's port (xennet.xen.vif_ports). ``wanted``: the vifs to serve, (domid,
    handle); empty: all. ``script``: a hotplug script of the toolstack writes hotplug-status, else
    this does. ``keep``: at the end the vifs stay as they are, for the next backend to go on with.
    """

    root = "backend"
    levels = 2
    sysfs = "/sys/bus/xen-backend"

    def __init__(
        self,
        spec: str,
        policy: BackendPolicy,
        options: VifOptions,
        *,
        wanted: Collection[tuple[int, int]] = (),
        script: bool = False,
        keep: bool = False,
        mtu: int | None = None,
        store_path: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        queues = options.max_queues
        super().__init__(spec, mtu=mtu, queues=queues, store_path=store_path, say=say)
        self._policy, self._options = policy, options
        self._rules = policy.rules if script else answering(policy.rules)
        self._wanted, self._keep = wanted, keep
        self._stage = TxStage(self.hv)

    def require_no_kernel_driver(self) -> None:
        loaded = f"{self.sysfs}/drivers/vif"
        if os.path.exists(loaded):
            raise XenError(
                f"{loaded}: the kernel's own backend takes every vif that comes; "
                "rmmod xen-netback first"
            )

    def _open_devices(self) -> None:
        self.hv.gntdev.open()

    def _numbers(self, nodename: str) -> tuple[int, int] | None:
        _, _, domid, handle = nodename.split("/")
        if not (domid.isdecimal() and handle.isdecimal()):
            return None
        numbers = int(domid), int(handle)
        return numbers if numbers in self._wanted or not self._wanted else None

    def _device(self, nodename: str, vif: ServedVif, port: LivePort) -> BusDevice:
        driver = Vif(self.hv, port.edge, self._policy, self._options, self._stage)
        self._drive(vif, port, driver)
        return Backend(self.hv, nodename, driver, self._removed, self._rules)

    def _removed(self, backend: Backend[Vif]) -> None:
        self.bus.forget(backend.nodename)
        self._gone(backend.nodename)

    def _adopt(self, nodename: str) -> None:
        """Serve a vif that another backend has left: on its rings where it is Connected, as Linux's
        netback does when it is bound again."""
        if self._numbers(nodename) is None or self._of_the_kernel(nodename):
            return
        own = NodeDirectory(self.hv.store, nodename)
        if own.optional_unsigned("online", 1) == 0:
            # The toolstack waits for Closed, and nobody else will show it.
            XenbusDevice(self.hv, nodename, "frontend").switch_state(XenbusState.Closed)
            return
        if (why := self._taken(nodename)) is not None:
            state = state_name(read_state(self.hv.store, nodename))
            self.say(f"{nodename}: left alone in state {state}: {why}")
            return
        self.bus.adopt(nodename)

    def _taken(self, nodename: str) -> str | None:
        """Why a vif looks as if another backend served it: its event channel cannot be bound."""
        dev = XenbusDevice(self.hv, nodename, "frontend")
        try:
            dev.find_otherend()
        except XenbusError:
            return None  # there is no frontend: it has nothing to lose
        if dev.otherend_state() != XenbusState.Connected:
            return None
        keys = dev.otherend
        for directory in (keys, keys.sub("queue-0")):
            for name in ("event-channel", "event-channel-tx"):
                if (port := directory.optional_unsigned(name)) != 0:
                    try:
                        self.hv.close_port(self.hv.bind_interdomain(dev.otherend_id, port))
                    except HypercallError as refused:
                        return f"{directory.node(name)} = {port}: {refused}"
                    return None
        return None

    def _close_all(self, patience: float) -> None:
        for device in list(self.bus.devices.values()):
            if isinstance(device, Backend) and not self._keep:
                device.close()
