"""A machine with domain 0, a toolstack, a script and guests; drivers that only remember and write
what Linux 6.1 writes. Rings and channels do not exist here: their numbers are made up."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

from attrs import define, field

from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import HypercallError, Hypervisor
from xennet.observe import StoreOperation
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.hotplug import HotplugScript
from xennet.toolstack.toolstack import Toolstack, VifOperation
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.backend import Advertisement, Backend
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.device import DeviceWatch, StoreValue, XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend import Frontend
from xennet.xenbus.frontend_bus import FrontendBus
from xennet.xenbus.tables import LINUX_BACKEND, LINUX_FRONTEND, BackendRules, FrontendRules
from xennet.xenstore import Client, XsError
from xennet.xenstored.service import XenStoreService

MAC = "00:16:3e:00:00:01"


@define
class LinuxBackendDriver:
    """Features, keys and watches of Linux 6.1 xen-netback; ``fail`` names the call that raises."""

    split: bool = False
    max_queues: int = 1
    fail: str = ""
    calls: list[str] = field(factory=list)
    connected: bool = False
    watches: list[DeviceWatch] = field(factory=list)

    def probe(self, dev: XenbusDevice) -> Advertisement:
        self._call("probe")
        features = {
            "feature-sg": 1,
            "feature-gso-tcpv4": 1,
            "feature-gso-tcpv6": 1,
            "feature-ipv6-csum-offload": 1,
            "feature-rx-copy": 1,
            "feature-xdp-headroom": 1,
            "feature-rx-flip": 0,
            "feature-multicast-control": 1,
            "feature-dynamic-multicast-control": 1,
        }
        extras = {
            "feature-split-event-channels": int(self.split),
            "multi-queue-max-queues": self.max_queues,
            "feature-ctrl-ring": 1,
        }
        return Advertisement(tuple(features.items()), tuple(extras.items()))

    def connect(self, dev: XenbusDevice) -> None:
        assert not self.connected
        self.connected = True
        self.calls.append("connect")
        self.watches.append(dev.watch("rate", self._ignore))
        self.watches.append(dev.watch_otherend("request-multicast-control", self._ignore))
        dev.otherend.unsigned("tx-ring-ref")
        dev.otherend.unsigned("rx-ring-ref")
        self._fail("connect")

    def disconnect(self, dev: XenbusDevice) -> None:
        assert self.connected
        self.connected = False
        while self.watches:
            self.watches.pop().cancel()
        self._call("disconnect")

    def remove(self, dev: XenbusDevice) -> None:
        assert not self.connected
        self._call("remove")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self._fail(name)

    def _fail(self, name: str) -> None:
        if self.fail == name:
            raise HypercallError("GNTTABOP_map_grant_ref", -3, "injected")

    def _ignore(self) -> None:
        """rate and multicast control do not matter here."""


@define
class XnbBackendDriver(LinuxBackendDriver):
    """Features, keys and defects of FreeBSD's xnb; ``blind`` counts disconnects of nothing."""

    blind: int = 0

    def probe(self, dev: XenbusDevice) -> Advertisement:
        self._call("probe")
        features = ("feature-sg", 1), ("feature-gso-tcpv4", 1)
        return Advertisement((*features, ("feature-rx-copy", 1), ("feature-rx-flip", 0)))

    def connect(self, dev: XenbusDevice) -> None:
        assert not self.connected
        self.calls.append("connect")
        for key in ("tx-ring-ref", "rx-ring-ref", "event-channel"):
            dev.otherend.unsigned(key)
        self._fail("connect")
        self.connected = True

    def disconnect(self, dev: XenbusDevice) -> None:
        self.blind += not self.connected
        self.connected = False
        self._call("disconnect")


@define
class LinuxFrontendDriver:
    """Keys of Linux 6.1 xen-netfront, one queue."""

    fail: str = ""
    usable: bool = True
    calls: list[str] = field(factory=list)
    set_up: bool = False
    numbers: itertools.count[int] = field(factory=lambda: itertools.count(8))

    def setup(self, dev: XenbusDevice) -> list[tuple[str, StoreValue]] | XenbusError:
        assert not self.set_up
        self.set_up = True
        self._call("setup")
        if not self.usable:
            return XenbusError(errno.ENODEV, "of no use")
        split = dev.otherend.optional_unsigned("feature-split-event-channels")
        number = self.numbers.__next__
        dev.write("xdp-headroom", 0)
        channels = ("event-channel-tx", "event-channel-rx") if split else ("event-channel",)
        flags = (
            "request-rx-copy",
            "feature-rx-notify",
            "feature-sg",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
            "feature-ipv6-csum-offload",
        )
        return [
            ("multi-queue-num-queues", 1),
            ("tx-ring-ref", number()),
            ("rx-ring-ref", number()),
            *((channel, number()) for channel in channels),
            *((flag, 1) for flag in flags),
        ]

    def ready(self, dev: XenbusDevice) -> None:
        self._call("ready")

    def connected(self, dev: XenbusDevice) -> None:
        self._call("connected")

    def disconnect(self, dev: XenbusDevice) -> None:
        assert self.set_up
        self.set_up = False
        self._call("disconnect")

    def moved(self, hv: Hypervisor) -> None:
        self.set_up = False
        self._call("moved")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.fail == name:
            raise HypercallError("GNTTABOP_setup_table", -1, "injected")


@define
class Guest:
    """A running guest: its kernel, its store connection, its bus."""

    kernel: GuestKernel
    store: Client
    bus: FrontendBus


class World:
    """Everything between the toolstack and two drivers, with the store in the middle."""

    def __init__(
        self,
        *,
        split: bool = False,
        max_queues: int = 1,
        backend: BackendRules = LINUX_BACKEND,
        frontend: FrontendRules = LINUX_FRONTEND,
    ) -> None:
        self.backend_rules = backend
        self.frontend_rules = frontend
        self.machine = Machine(nr_frames=4096)
        dom0 = self.machine.create_domain(0, name="Domain-0")
        self.service = XenStoreService(self.machine)
        self.store = self.service.store
        self.loop = self.machine.run_loop
        self.operations: list[StoreOperation] = []
        self.dom0 = GuestKernel(dom0, self.service.connect(dom0, "dom0-kernel"))
        self.root = self.service.connect(dom0, "tester")
        self.script = HotplugScript(self.service.connect(dom0, "hotplug-script"), dom0.defer)
        self.xl = Toolstack(
            self.service.connect(dom0, "xl"),
            introduce=lambda domid: self.service.introduce(self.machine.domain(domid)),
            kill=self.machine.destroy_domain,
            script=self.script,
            after=lambda delay, call: self.loop.call_after(delay, 0, call),
        )
        self.xl.init_dom0()
        self.backend_drivers: list[LinuxBackendDriver] = []
        self.frontend_drivers: list[LinuxFrontendDriver] = []
        kind = LinuxBackendDriver if backend is LINUX_BACKEND else XnbBackendDriver
        self.make_backend_driver: Callable[[], LinuxBackendDriver] = lambda: kind(split, max_queues)
        self.make_frontend_driver: Callable[[], LinuxFrontendDriver] = LinuxFrontendDriver
        self.backends = BackendBus(self.dom0, self._new_backend_driver, backend)
        self.backends.start()
        self.guests: dict[int, Guest] = {}
        self.idle()

    # -- doing -------------------------------------------------------------------------------------

    def create_domain(self, domid: int = 1) -> None:
        """The toolstack's part of a new domain."""
        self.machine.create_domain(domid, name=f"g{domid}")
        self.xl.create_domain(DomainConfig(domid, f"g{domid}", f"0000-{domid}"))

    def boot(self, domid: int = 1) -> Guest:
        """The guest's kernel starts and looks for devices."""
        domain = self.machine.domain(domid)
        store = self.service.connect(domain, f"domU{domid}-kernel")
        kernel = GuestKernel(domain, store)
        bus = FrontendBus(kernel, self._new_frontend_driver, self.frontend_rules)
        guest = Guest(kernel, store, bus)
        guest.bus.start()
        self.guests[domid] = guest
        return guest

    def driver_domain(self, domid: int) -> BackendBus:
        """A domain that runs backends, of the same kind, and its bus."""
        self.create_domain(domid)
        domain = self.machine.domain(domid)
        store = self.service.connect(domain, f"dom{domid}-kernel")
        # What libxl does for a domain that is allowed to run backends.
        backend = f"/local/domain/{domid}/backend"
        self.root.mkdir(backend)
        self.root.set_perms(backend, [f"n{domid}"])
        bus = BackendBus(GuestKernel(domain, store), self._new_backend_driver, self.backend_rules)
        bus.start()
        return bus

    def restore(self, domid: int, guest: Guest) -> Guest:
        """The kernel of ``guest`` wakes up as domain ``domid`` of this machine."""
        domain = self.machine.domain(domid)
        store = self.service.connect(domain, f"domU{domid}-kernel")
        kernel = GuestKernel(domain, store)
        guest.bus.resume(kernel)
        self.guests[domid] = Guest(kernel, store, guest.bus)
        return self.guests[domid]

    def attach(self, domid: int = 1, handle: int = 0) -> VifOperation:
        return self.xl.attach_vif(domid, handle, VifConfig(MAC))

    def connected(self) -> Guest:
        """Domain 1 with vif 0, at rest in Connected at both ends."""
        self.create_domain()
        operation = self.attach()
        guest = self.boot()
        self.idle()
        assert operation.outcome.value == "done", operation
        assert self.states() == (4, 4)
        return guest

    def hostile(self) -> Guest:
        """As :meth:`connected`, but from here on nothing runs in the guest: tests play it."""
        guest = self.connected()
        guest.bus.stop()
        self.record()
        return guest

    def idle(self, choose: Callable[..., int] | None = None) -> None:
        self.loop.run_until_idle(choose, limit=20_000)

    def record(self) -> None:
        """Keep store operations in ``operations`` from now on."""
        self.machine.observers.subscribe(self._record, StoreOperation)

    # -- looking -----------------------------------------------------------------------------------

    def value(self, path: str) -> str | None:
        try:
            return self.root.read(path).decode()
        except XsError:
            return None

    def exists(self, path: str) -> bool:
        return self.value(path) is not None

    def states(self, domid: int = 1, handle: int = 0) -> tuple[int | None, int | None]:
        """(frontend state, backend state) in the store, None where there is none."""
        frontend = self.value(f"/local/domain/{domid}/device/vif/{handle}/state")
        backend = self.value(f"/local/domain/0/backend/vif/{domid}/{handle}/state")
        return (
            None if frontend is None else int(frontend),
            None if backend is None else int(backend),
        )

    def frontend(self, domid: int = 1, handle: int = 0) -> Frontend:
        return self.guests[domid].bus.devices[f"device/vif/{handle}"]

    def backend(self, domid: int = 1, handle: int = 0) -> Backend:
        return self.backends.devices[f"backend/vif/{domid}/{handle}"]

    def set_frontend_state(self, value: str) -> None:
        """What a hostile guest writes: the state node and no more."""
        self.guests[1].store.write("device/vif/0/state", value)
        self.idle()

    def walked(self, path: str) -> list[int]:
        """All values that were written to a device end's state since :meth:`record`."""
        return [
            int(op.value)
            for op in self.operations
            if op.op == "WRITE" and f"{path}/state".endswith(op.path)
        ]

    def _record(self, event: object) -> None:
        assert isinstance(event, StoreOperation)
        self.operations.append(event)

    def _new_backend_driver(self, _nodename: str) -> LinuxBackendDriver:
        driver = self.make_backend_driver()
        self.backend_drivers.append(driver)
        return driver

    def _new_frontend_driver(self, _nodename: str) -> LinuxFrontendDriver:
        driver = self.make_frontend_driver()
        self.frontend_drivers.append(driver)
        return driver
