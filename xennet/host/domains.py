"""The domains of a host: guests, those that run backends, and the vifs between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Literal, Protocol, TypeAlias

from attrs import define, evolve, field, frozen

from xennet.abi.sched import SHUTDOWN_crash
from xennet.abi.xenbus import XenbusState
from xennet.errors import LinkError
from xennet.frames import Endpoint, Watch, attach, require_endpoint
from xennet.host.buses import XENNET, Buses, ForeignBus
from xennet.host.shared_rings import attached
from xennet.html_table import html_table
from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import StoreClient
from xennet.netback.device import Vif
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.stage import TxStage
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.device import Netfront
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.port.null import NullPort
from xennet.toolstack.device_model import RUNNING, DeviceModel, model_state
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.toolstack import Toolstack, VifOperation
from xennet.toolstack.vif_nodes import AttachedVif, VifConfig
from xennet.vif.counters import BackendCounters
from xennet.vif.end import VifEnd
from xennet.xenbus.backend import Backend
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.backend_rules import BackendRules
from xennet.xenbus.frontend import Frontend
from xennet.xenbus.frontend_bus import FrontendBus
from xennet.xenbus.paths import VifDirectories, VifPaths
from xennet.xenbus.state import read_state
from xennet.xenstored.service import XenStoreService


class HostServices(Protocol):
    """The parts of a host that its domains use, and code that asks about their vifs."""

    @property
    def machine(self) -> Machine: ...
    @property
    def service(self) -> XenStoreService: ...
    @property
    def toolstack(self) -> Toolstack: ...
    @property
    def guests(self) -> Mapping[int, Guest]: ...
    @property
    def serve_unknown(self) -> bool: ...

    def destroy_guest(self, domid: int) -> None: ...
    def forget_backend(self, domid: int) -> None: ...


@define(eq=False)
class PluggedVif:
    """One vif: its directories, the endpoints and drivers at its two ends, and the command that
    attached it last.

    ``front`` and ``back`` are the options of xennet's drivers (None: those usual for ``policy``).
    ``guest_served``, ``host_served``: whether the drivers that its domain loads serve that end; if
    not they leave it alone, for a program that the host does not know. ``device_model`` is the part
    that a device model has in the vif: if any, the frontend is started when it runs.
    ``guest_driver`` and ``host_driver`` are the drivers of the newest devices that the buses found
    for the vif: None before one is found, and for drivers that are not known here. A changed
    attribute takes effect with the next device.
    """

    guest: Guest
    owner: BackendDomain
    paths: VifPaths
    config: VifConfig
    guest_end: Endpoint
    host_end: Endpoint
    front: NetfrontOptions
    policy: BackendPolicy
    back: VifOptions | None
    guest_served: bool = True
    host_served: bool = True
    device_model: DeviceModel = DeviceModel.NONE
    guest_driver: VifEnd[NetfrontCounters] | None = None
    host_driver: VifEnd[BackendCounters] | None = None
    operation: VifOperation = field(init=False)

    def __repr__(self) -> str:
        front = _said(self.guest_driver, self.guest_drivers, self.guest.kind.name)
        back = _said(self.host_driver, self.host_drivers, self.policy.name)
        state = "connected" if self.connected else "not connected"
        return f"<PluggedVif {self.name}: {front} to {back}, {state}>"

    def _repr_html_(self) -> str:
        """A notebook's tables of the vif: its directories, drivers, and a shared ring each of
        xennet's netfront."""
        rows = (
            ("frontend", self.paths.frontend),
            ("backend", self.paths.backend),
            ("drivers", repr(self)),
        )
        queues = self.netfront.queues if self.netfront is not None else ()
        rings = (
            (number, ring.sring.name, *ring.sring.indices().values())
            for number, queue in enumerate(queues)
            for ring in (queue.tx_ring, queue.rx_ring)
        )
        head = ("queue", "ring", "req_prod", "req_event", "rsp_prod", "rsp_event")
        return html_table(self.name, (), rows) + html_table("", head, rings)

    @property
    def name(self) -> str:
        """The name of the backend's interface in Linux: vif1.0."""
        return self.paths.name

    @property
    def guest_drivers(self) -> GuestDrivers:
        """The drivers of the guest for this vif, None if they leave it alone."""
        return self.guest.drivers if self.guest_served else None

    @property
    def host_drivers(self) -> HostDrivers:
        """The drivers of the backend domain for this vif, None if they leave it alone."""
        return self.owner.drivers if self.host_served else None

    @property
    def awaits_model(self) -> bool:
        """Whether the frontend must not be started, because its device model does not run."""
        return (
            self.device_model is not DeviceModel.NONE
            and model_state(self.store, self.paths) != RUNNING
        )

    @property
    def netfront(self) -> Netfront | None:
        """The guest's driver if it is xennet's."""
        return self.guest_driver if isinstance(self.guest_driver, Netfront) else None

    @property
    def netback(self) -> Vif | None:
        """The backend domain's driver if it is xennet's."""
        return self.host_driver if isinstance(self.host_driver, Vif) else None

    @property
    def store(self) -> StoreClient:
        """The store as the toolstack of the guest's host sees it."""
        return self.guest.host.toolstack.store

    @property
    def seen(self) -> VifDirectories:
        """The directories of the vif, as that toolstack sees them."""
        return VifDirectories(self.paths, self.store)

    @property
    def frontend(self) -> Frontend[Netfront] | None:
        """The device of xennet's frontend on its bus."""
        return self.guest.frontends.devices.get(self.paths.frontend_node)

    @property
    def backend(self) -> Backend[Vif] | None:
        """The device of xennet's backend on its bus."""
        return self.owner.backends.devices.get(self.paths.backend_node)

    @property
    def connected(self) -> bool:
        """Whether packets can flow, as far as can be known. For xennet's drivers it is their
        carrier. A foreign end has to show Connected and to have a carrier, if it can be asked; a
        foreign backend has to have attached all rings and channels of the frontend, as the
        hypervisor knows."""
        for driver, own, directory in (
            (self.guest_driver, self.netfront, self.paths.frontend),
            (self.host_driver, self.netback, self.paths.backend),
        ):
            if driver is not None and not driver.carrier:
                return False
            if own is None and not self.shows_connected(directory):
                return False
        return self.netback is not None or attached(self.guest.host.machine, self.seen)

    def shows_connected(self, directory: str) -> bool:
        """Whether the end in ``directory`` shows Connected."""
        return read_state(self.store, directory) == XenbusState.Connected

    @property
    def errors(self) -> list[str]:
        """The protocol errors of either end, as the other end reports them."""
        ends = (self.host_driver, self.guest_driver)
        return [str(end.error) for end in ends if end is not None and end.error is not None]

    def kick(self) -> None:
        """Tell both drivers that their endpoints may have frames or room."""
        self.kick_guest()
        self.kick_host()

    def kick_guest(self) -> None:
        """Tell the guest's driver; a guest that does not run any more is not told."""
        if self.guest_driver is not None and self.guest.domain.running:
            self.guest_driver.kick()

    def kick_host(self) -> None:
        """Tell the backend's driver; a driver domain that does not run any more is not told."""
        if self.host_driver is not None and self.owner.domain.running:
            self.host_driver.kick()

    def attach_ends(self, watch: Watch) -> None:
        """Have both ends wake their drivers; ``watch`` watches the descriptors that they have."""
        attach(self.guest_end, self.kick_guest, watch)
        attach(self.host_end, self.kick_host, watch)

    def moved(self, owner: BackendDomain, host_end: Endpoint | None) -> None:
        """Note that the guest goes on in another domain, and that ``owner`` is to serve this vif
        there. ``host_end`` None leaves the host's end as it is."""
        self.owner = owner
        self.paths = evolve(self.paths, frontend_domid=self.guest.domid, backend_domid=owner.domid)
        if host_end is not None:
            self.host_end = require_endpoint("host_end", host_end)
        self.find_host_driver()

    def find_guest_driver(self) -> None:
        """Set ``guest_driver`` to the driver that the frontend's directory has already, None if
        there is none.

        There is one if the driver has not seen an earlier device go before its directory was made
        again: a bus does not probe a device that it knows (Linux xenbus_dev_changed). xennet's
        driver then goes on at ``guest_end`` with its next connection, with the options that it has.
        """
        self.guest_driver = self.guest.buses.driver(self.paths.frontend_node)
        if self.netfront is not None:
            self.netfront.guest = self.guest_end

    def find_host_driver(self) -> None:
        """Set ``host_driver`` in the same way, for the backend's directory and ``host_end``."""
        self.host_driver = self.owner.buses.driver(self.paths.backend_node)
        if self.netback is not None:
            self.netback.host = self.host_end

    def make_netfront(self) -> Netfront:
        """Make xennet's driver for a new frontend device, and return it."""
        kind, kernel = self.guest.kind, self.guest.kernel
        self.guest_driver = front = Netfront(kernel, self.guest_end, kind, self.front)
        return front

    def make_netback(self) -> Vif:
        """Make xennet's driver for a new backend device, and return it."""
        owner = self.owner
        self.host_driver = back = Vif(
            owner.kernel, self.host_end, self.policy, self.back, owner.stage
        )
        return back


#: Makes a driver for the frontend of a vif, or for its backend, on the kernel of its domain.
MakeFrontend: TypeAlias = Callable[[PluggedVif, GuestKernel], VifEnd[NetfrontCounters]]
MakeBackend: TypeAlias = Callable[[PluggedVif, GuestKernel], VifEnd[BackendCounters]]
#: The drivers that a domain loads: xennet's; those that a function makes; or None: the program that
#: has the kernel of the domain does everything itself.
GuestDrivers: TypeAlias = MakeFrontend | Literal["xennet"] | None
HostDrivers: TypeAlias = MakeBackend | Literal["xennet"] | None


def _said(driver: object, drivers: GuestDrivers | HostDrivers, name: str) -> str:
    """Names the driver of an end for a repr; ``name`` is what xennet's driver is called."""
    if isinstance(drivers, str):
        return name if driver is not None else f"no {name} driver"
    return type(driver).__name__ if driver is not None else "no driver of xennet's"


@define(eq=False)
class Guest:
    """A guest: its ``domain``, its ``kernel`` (connected to the store over its ring page), and the
    bus that finds its ``frontends``. ``vifs`` are its vifs by handle.

    :meth:`boot` loads its ``drivers``, xennet's or those of another program.
    """

    host: HostServices
    domain: Domain
    config: DomainConfig
    kernel: GuestKernel
    kind: FrontendKind
    grant_version: int
    evtchn: str
    drivers: GuestDrivers = XENNET
    vifs: dict[int, PluggedVif] = field(factory=dict)
    frontends: FrontendBus[Netfront] = field(init=False)
    buses: Buses[NetfrontCounters] = field(init=False)
    booted: bool = False

    def __attrs_post_init__(self) -> None:
        self._make_buses()

    def __repr__(self) -> str:
        state = "booted" if self.booted else "not booted"
        return f"<Guest {self.domid} {self.config.name!r}: {len(self.vifs)} vifs, {state}>"

    @property
    def domid(self) -> int:
        """The domid of the guest."""
        return self.domain.domid

    def boot(self) -> None:
        """Load the frontend drivers: vifs are found and connected from now on. Called once."""
        if not self.booted:
            self.booted = True
            self.buses.start(self.drivers)

    def resume(self, kernel: GuestKernel) -> None:
        """Go on as the domain of ``kernel``, with the drivers that are loaded."""
        self.kernel = kernel
        if not self.booted:
            self._make_buses()
        elif self.drivers == XENNET:
            self.frontends.resume(kernel)
        elif self.drivers is not None:
            self.buses.foreign.resume(kernel)

    def unload(self, handle: int = 0) -> None:
        """Unload the driver of one vif (``rmmod`` or unbind): it closes."""
        self._frontend(handle).close()

    def load(self, handle: int = 0) -> None:
        """Load the driver of one vif again after :meth:`unload`."""
        self._frontend(handle).start()

    def crash(self) -> None:
        """Stop at once with everything in place (SHUTDOWN_crash); nothing is cleaned up."""
        self.shut_down(SHUTDOWN_crash)

    def shut_down(self, reason: int) -> None:
        """Stop with everything in place; ``reason`` is a SHUTDOWN_* code (xen/sched.h)."""
        self.host.machine.shutdown_domain(self.domid, reason)

    def kill(self) -> None:
        """Vanish from the hypervisor without the toolstack knowing (XEN_DOMCTL_destroydomain)."""
        self.host.machine.destroy_domain(self.domid)

    def destroy(self) -> None:
        """``xl destroy``: the toolstack removes its devices by force, its nodes, the domain."""
        self.host.destroy_guest(self.domid)

    def _frontend(self, handle: int) -> Frontend[Netfront]:
        if self.drivers != XENNET:
            raise LinkError(f"the drivers of domain {self.domid} are not xennet's")
        try:
            return self.frontends.devices[f"device/vif/{handle}"]
        except KeyError:
            raise LinkError(f"domain {self.domid} has found no device/vif/{handle}") from None

    def _vif(self, nodename: str) -> PluggedVif | None:
        """The vif of a frontend directory; None for a directory that does not belong to a vif
        plugged in here."""
        _, _, handle = nodename.split("/")
        vif = self.vifs.get(int(handle)) if handle.isdecimal() else None
        return vif if vif is not None and vif.paths.frontend_node == nodename else None

    def _make_buses(self) -> None:
        self.frontends = FrontendBus(self.kernel, self._make, self.kind.rules)
        foreign = ForeignBus(self.kernel, "device", ("vif",), 1, self._make_foreign)
        self.buses = Buses(self.frontends, foreign)

    def model_runs(self, vif: PluggedVif) -> None:
        """Start the frontend of ``vif``, whose device model runs now."""
        self.kernel.defer(partial(self.frontends.look_at, vif.paths.frontend_node))

    def _make(self, nodename: str) -> Netfront | None:
        vif = self._vif(nodename)
        if vif is None:
            serve = self.host.serve_unknown
            return Netfront(self.kernel, NullPort(), self.kind) if serve else None
        return vif.make_netfront() if vif.guest_served and not vif.awaits_model else None

    def _make_foreign(self, nodename: str) -> VifEnd[NetfrontCounters] | None:
        vif = self._vif(nodename)
        if vif is not None and vif.guest_served and callable(self.drivers):
            vif.guest_driver = self.drivers(vif, self.kernel)
            return vif.guest_driver
        return None


@frozen(eq=False)
class SavedGuest:
    """A suspended guest: ``image`` is its memory with its drivers, ``domid`` the domain that it
    left, ``vifs`` its vifs as the toolstack there knew them."""

    image: Guest
    domid: int
    vifs: tuple[AttachedVif, ...]

    def __repr__(self) -> str:
        return f"<SavedGuest {self.image.config.name!r}: {len(self.vifs)} vifs, left {self.domid}>"


@define(eq=False)
class BackendDomain:
    """A domain that runs backends: domain 0 or a driver domain. ``backends`` is its bus, on
    which the ``drivers``, xennet's netback or those of another program, serve devices of the
    ``types``."""

    host: HostServices
    domain: Domain
    kernel: GuestKernel
    types: Collection[str] = ("vif",)
    drivers: HostDrivers = XENNET
    backends: BackendBus[Vif] = field(init=False)
    stage: TxStage = field(init=False)
    buses: Buses[BackendCounters] = field(init=False)
    loaded: bool = False

    def __attrs_post_init__(self) -> None:
        self.backends = self._bus()
        foreign = ForeignBus(self.kernel, "backend", self.types, 2, self._make_foreign)
        self.buses = Buses(self.backends, foreign)
        self.stage = TxStage(self.kernel)

    def __repr__(self) -> str:
        state = "loaded" if self.loaded else "not loaded"
        return f"<BackendDomain {self.domid}: {len(self.backends.devices)} backends, {state}>"

    @property
    def domid(self) -> int:
        """The domid of the domain."""
        return self.domain.domid

    def load(self) -> None:
        """Load the backend driver: vifs that the toolstack creates are found from now on."""
        if not self.loaded:
            self.loaded = True
            self.buses.start(self.drivers)

    def crash(self) -> None:
        """Stop a driver domain at once with everything in place (SHUTDOWN_crash)."""
        self.host.machine.shutdown_domain(self.domid, SHUTDOWN_crash)

    def destroy(self) -> None:
        """Destroy a driver domain (``xl destroy``): its nodes and those of its backends go, then
        the domain."""
        host, domid = self.host, self.domid
        host.toolstack.destroy_domain(domid, lambda: host.forget_backend(domid))

    def kill(self) -> None:
        """Remove a driver domain from the hypervisor without the toolstack knowing."""
        self.host.machine.destroy_domain(self.domid)
        self.host.forget_backend(self.domid)

    def _bus(self) -> BackendBus[Vif]:
        return BackendBus(self.kernel, self._make, self._rules, self.types)

    def _vif(self, nodename: str) -> PluggedVif | None:
        """The vif of a backend directory; None for a directory that a guest or a vif has left
        behind, or that does not belong to a vif plugged in here."""
        _, _, domid, handle = nodename.split("/")
        guest = self.host.guests.get(int(domid)) if domid.isdecimal() else None
        vif = guest.vifs.get(int(handle)) if guest is not None and handle.isdecimal() else None
        if vif is None or vif.owner is not self or vif.paths.backend_node != nodename:
            return None
        return vif

    def _rules(self, nodename: str) -> BackendRules:
        vif = self._vif(nodename)
        return (LINUX if vif is None else vif.policy).rules

    def _make(self, nodename: str) -> Vif | None:
        vif = self._vif(nodename)
        if vif is None:
            serve = self.host.serve_unknown
            return Vif(self.kernel, NullPort(), stage=self.stage) if serve else None
        return vif.make_netback() if vif.host_served else None

    def _make_foreign(self, nodename: str) -> VifEnd[BackendCounters] | None:
        vif = self._vif(nodename)
        if vif is not None and vif.host_served and callable(self.drivers):
            vif.host_driver = self.drivers(vif, self.kernel)
            return vif.host_driver
        return None
