"""The domains of a host: guests, those that run backends, and the vifs between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, Protocol, TypeAlias

from attrs import define, evolve, field, frozen

from xennet.abi.sched import SHUTDOWN_crash
from xennet.abi.xenbus import XenbusState
from xennet.errors import LinkError
from xennet.frames import Endpoint, Watch, attach, require_endpoint
from xennet.host.buses import XENNET, Buses, ForeignBus
from xennet.host.shared_rings import attached
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
    """What a domain, and whoever asks about its vifs, needs of the host that it is on."""

    @property
    def machine(self) -> Machine: ...
    @property
    def service(self) -> XenStoreService: ...
    @property
    def toolstack(self) -> Toolstack: ...
    @property
    def guests(self) -> Mapping[int, Guest]: ...

    def destroy_guest(self, domid: int) -> None: ...
    def forget_backend(self, domid: int) -> None: ...


@define(eq=False)
class PluggedVif:
    """One vif: where it lives, what is at its two ends, and the command that attached it last.

    ``front`` and ``back`` are the options of xennet's drivers (None: the policy's own).
    ``guest_driver``, ``host_driver`` are the drivers of the newest devices that the buses found for
    it: None while none has been found, and where nobody can be asked. What is set here holds for
    the next device.
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
    guest_driver: VifEnd[NetfrontCounters] | None = None
    host_driver: VifEnd[BackendCounters] | None = None
    operation: VifOperation = field(init=False)

    def __repr__(self) -> str:
        front = _said(self.guest_driver, self.guest.drivers, self.guest.kind.name)
        back = _said(self.host_driver, self.owner.drivers, self.policy.name)
        state = "connected" if self.connected else "not connected"
        return f"<PluggedVif {self.name}: {front} to {back}, {state}>"

    @property
    def name(self) -> str:
        """What Linux calls the backend's interface: vif1.0."""
        return self.paths.name

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
        """Its directories, as that toolstack sees them."""
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
        """Whether packets can flow, as far as can be known: xennet's drivers say it themselves. An
        end that is not xennet's shows Connected, has a carrier if it can be asked, and as a backend
        has attached all rings and channels of the frontend, as the hypervisor knows."""
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
        """What either end did wrong, in the words of the other."""
        ends = (self.host_driver, self.guest_driver)
        return [str(end.error) for end in ends if end is not None and end.error is not None]

    def kick(self) -> None:
        """Tell both drivers that their endpoints may have frames or room."""
        self.kick_guest()
        self.kick_host()

    def kick_guest(self) -> None:
        """Tell the guest's; a guest that does not run any more is not told."""
        if self.guest_driver is not None and self.guest.domain.running:
            self.guest_driver.kick()

    def kick_host(self) -> None:
        """Tell the backend's; a driver domain that does not run any more is not told."""
        if self.host_driver is not None and self.owner.domain.running:
            self.host_driver.kick()

    def attach_ends(self, watch: Watch) -> None:
        """Have both ends wake their drivers; ``watch`` watches the descriptors that they have."""
        attach(self.guest_end, self.kick_guest, watch)
        attach(self.host_end, self.kick_host, watch)

    def moved(self, owner: BackendDomain, host_end: Endpoint | None) -> None:
        """The guest goes on in another domain, where ``owner`` is to serve this vif; ``host_end``
        None leaves the host's end as it is."""
        self.owner = owner
        self.paths = evolve(self.paths, frontend_domid=self.guest.domid, backend_domid=owner.domid)
        if host_end is not None:
            self.host_end = require_endpoint("host_end", host_end)
        self.find_host_driver()

    def find_guest_driver(self) -> None:
        """The driver that its frontend directory has already, None if there is none: one that has
        not seen an earlier device go before its directory was made again. A bus does not probe a
        device that it knows (Linux xenbus_dev_changed); xennet's driver goes on at ``guest_end``
        with its next connection, with the options that it has."""
        self.guest_driver = self.guest.buses.driver(self.paths.frontend_node)
        if self.netfront is not None:
            self.netfront.guest = self.guest_end

    def find_host_driver(self) -> None:
        """The same at the backend, with ``host_end``."""
        self.host_driver = self.owner.buses.driver(self.paths.backend_node)
        if self.netback is not None:
            self.netback.host = self.host_end

    def make_netfront(self) -> Netfront:
        """xennet's driver for a new frontend device."""
        kind, kernel = self.guest.kind, self.guest.kernel
        self.guest_driver = front = Netfront(kernel, self.guest_end, kind, self.front)
        return front

    def make_netback(self) -> Vif:
        """xennet's driver for a new backend device."""
        owner = self.owner
        self.host_driver = back = Vif(
            owner.kernel, self.host_end, self.policy, self.back, owner.stage
        )
        return back


#: Makes a driver for the frontend of a vif, or for its backend, on the kernel of its domain.
MakeFrontend: TypeAlias = Callable[[PluggedVif, GuestKernel], VifEnd[NetfrontCounters]]
MakeBackend: TypeAlias = Callable[[PluggedVif, GuestKernel], VifEnd[BackendCounters]]
#: Whose drivers a domain loads: xennet's; those that a function makes; or None, those of somebody
#: who has the kernel of the domain and does everything there.
GuestDrivers: TypeAlias = MakeFrontend | Literal["xennet"] | None
HostDrivers: TypeAlias = MakeBackend | Literal["xennet"] | None


def _said(driver: object, drivers: GuestDrivers | HostDrivers, name: str) -> str:
    """Who drives an end, for a repr; ``name``: what xennet's driver is called."""
    if isinstance(drivers, str):
        return name if driver is not None else f"no {name} driver"
    return type(driver).__name__ if driver is not None else "no driver of xennet's"


@define(eq=False)
class Guest:
    """A guest: its ``domain``, its ``kernel`` (connected to the store over its ring page), and the
    bus that finds its ``frontends``. ``vifs`` are its vifs by handle.

    Its drivers are loaded by :meth:`boot`; whose they are say ``drivers``.
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
        """The domain's number."""
        return self.domain.domid

    def boot(self) -> None:
        """Load the frontend drivers: vifs are found and connected from now on. Once."""
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
        """The vif of a frontend directory; None for one that nobody has plugged in here."""
        _, _, handle = nodename.split("/")
        vif = self.vifs.get(int(handle)) if handle.isdecimal() else None
        return vif if vif is not None and vif.paths.frontend_node == nodename else None

    def _make_buses(self) -> None:
        self.frontends = FrontendBus(self.kernel, self._make, self.kind.rules)
        foreign = ForeignBus(self.kernel, "device", ("vif",), 1, self._make_foreign)
        self.buses = Buses(self.frontends, foreign)

    def _make(self, nodename: str) -> Netfront:
        vif = self._vif(nodename)
        if vif is None:
            return Netfront(self.kernel, NullPort(), self.kind)
        return vif.make_netfront()

    def _make_foreign(self, nodename: str) -> VifEnd[NetfrontCounters] | None:
        vif = self._vif(nodename)
        if vif is not None and callable(self.drivers):
            vif.guest_driver = self.drivers(vif, self.kernel)
            return vif.guest_driver
        return None


@frozen(eq=False)
class SavedGuest:
    """A suspended guest: ``image`` is its memory, drivers and all, ``domid`` the domain that it
    left, ``vifs`` what the toolstack there knew of its vifs."""

    image: Guest
    domid: int
    vifs: tuple[AttachedVif, ...]

    def __repr__(self) -> str:
        return f"<SavedGuest {self.image.config.name!r}: {len(self.vifs)} vifs, left {self.domid}>"


@define(eq=False)
class BackendDomain:
    """A domain that runs backends: domain 0 or a driver domain. ``backends`` is its bus, on which
    xennet's netback, or whose ``drivers`` these are, serves those of the ``types``."""

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
        """The domain's number."""
        return self.domain.domid

    def load(self) -> None:
        """Load the backend driver: vifs that the toolstack creates are found from now on."""
        if not self.loaded:
            self.loaded = True
            self.buses.start(self.drivers)

    def crash(self) -> None:
        """A driver domain stops at once with everything in place (SHUTDOWN_crash)."""
        self.host.machine.shutdown_domain(self.domid, SHUTDOWN_crash)

    def destroy(self) -> None:
        """``xl destroy`` of a driver domain: its nodes go, also those of its backends, and it."""
        host, domid = self.host, self.domid
        host.toolstack.destroy_domain(domid, lambda: host.forget_backend(domid))

    def kill(self) -> None:
        """A driver domain vanishes from the hypervisor."""
        self.host.machine.destroy_domain(self.domid)
        self.host.forget_backend(self.domid)

    def _bus(self) -> BackendBus[Vif]:
        return BackendBus(self.kernel, self._make, self._rules, self.types)

    def _vif(self, nodename: str) -> PluggedVif | None:
        """The vif of a backend directory; None for one that a guest or a vif has left behind, or
        that nobody has plugged in here."""
        _, _, domid, handle = nodename.split("/")
        guest = self.host.guests.get(int(domid)) if domid.isdecimal() else None
        vif = guest.vifs.get(int(handle)) if guest is not None and handle.isdecimal() else None
        if vif is None or vif.owner is not self or vif.paths.backend_node != nodename:
            return None
        return vif

    def _rules(self, nodename: str) -> BackendRules:
        vif = self._vif(nodename)
        return (LINUX if vif is None else vif.policy).rules

    def _make(self, nodename: str) -> Vif:
        vif = self._vif(nodename)
        if vif is None:
            return Vif(self.kernel, NullPort(), stage=self.stage)
        return vif.make_netback()

    def _make_foreign(self, nodename: str) -> VifEnd[BackendCounters] | None:
        vif = self._vif(nodename)
        if vif is not None and callable(self.drivers):
            vif.host_driver = self.drivers(vif, self.kernel)
            return vif.host_driver
        return None
