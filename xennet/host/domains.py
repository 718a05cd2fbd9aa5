"""The domains of a host: guests, those that run backends, and the vifs between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from attrs import define, evolve, field, frozen

from xennet.abi.sched import SHUTDOWN_crash
from xennet.abi.xenbus import XenbusState
from xennet.errors import LinkError
from xennet.frames import Endpoint, require_endpoint
from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import StoreClient
from xennet.netback.device import Vif
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.stage import TxStage
from xennet.netfront.device import Netfront
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.port.null import NullPort
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.toolstack import Toolstack, VifOperation
from xennet.toolstack.vif_nodes import AttachedVif, VifConfig
from xennet.xenbus.backend import Backend
from xennet.xenbus.backend_bus import BackendBus
from xennet.xenbus.backend_rules import BackendRules
from xennet.xenbus.frontend import Frontend
from xennet.xenbus.frontend_bus import FrontendBus
from xennet.xenbus.paths import VifPaths
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

    ``front`` and ``back`` are the drivers' options (None: the policy's own). ``netfront``,
    ``netback`` are the drivers of the newest devices that the buses found for it, None while none
    has been found. What is set here holds for the next device.
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
    netfront: Netfront | None = None
    netback: Vif | None = None
    operation: VifOperation = field(init=False)

    def __repr__(self) -> str:
        ends = ((self.netfront, self.guest.kind.name), (self.netback, self.policy.name))
        said = [name if end is not None else f"no {name} driver" for end, name in ends]
        state = "connected" if self.connected else "not connected"
        return f"<PluggedVif {self.name}: {said[0]} to {said[1]}, {state}>"

    @property
    def name(self) -> str:
        """What Linux calls the backend's interface: vif1.0."""
        return f"vif{self.paths.frontend_domid}.{self.paths.handle}"

    @property
    def store(self) -> StoreClient:
        """The store as the toolstack of the guest's host sees it."""
        return self.guest.host.toolstack.store

    @property
    def frontend(self) -> Frontend | None:
        """The frontend's device on its bus."""
        return self.guest.frontends.devices.get(self.paths.frontend_node)

    @property
    def backend(self) -> Backend | None:
        """The backend's device on its bus."""
        return self.owner.backends.devices.get(self.paths.backend_node)

    @property
    def connected(self) -> bool:
        """Whether both ends say that packets can flow: a driver of ours by its carrier, one that
        somebody brings along by its state in the store."""
        return all(
            driver.carrier if driver is not None else self.shows_connected(directory)
            for driver, directory in (
                (self.netfront, self.paths.frontend),
                (self.netback, self.paths.backend),
            )
        )

    def shows_connected(self, directory: str) -> bool:
        """Whether the end in ``directory`` shows Connected."""
        return read_state(self.store, directory) == XenbusState.Connected

    @property
    def errors(self) -> list[str]:
        """What either end did wrong, in the words of the other."""
        ends = (self.netback, self.netfront)
        return [str(end.error) for end in ends if end is not None and end.error is not None]

    def kick(self) -> None:
        """Tell both drivers that their endpoints may have frames or room."""
        self.kick_guest()
        self.kick_host()

    def kick_guest(self) -> None:
        """Tell netfront; a guest that does not run any more is not told."""
        if self.netfront is not None and self.guest.domain.running:
            self.netfront.kick()

    def kick_host(self) -> None:
        """Tell netback; a driver domain that does not run any more is not told."""
        if self.netback is not None and self.owner.domain.running:
            self.netback.kick()

    def moved(self, owner: BackendDomain, host_end: Endpoint | None) -> None:
        """The guest goes on in another domain, where ``owner`` is to serve this vif; ``host_end``
        None leaves the host's end as it is."""
        self.owner = owner
        self.paths = evolve(self.paths, frontend_domid=self.guest.domid, backend_domid=owner.domid)
        if host_end is not None:
            self.host_end = require_endpoint("host_end", host_end)
            self.host_end.listen(self.kick_host)
        self.find_netback()

    def find_netfront(self) -> None:
        """The driver that its frontend directory has already, None if there is none: one that has
        not seen an earlier device go before its directory was made again. A bus does not probe a
        device that it knows (Linux xenbus_dev_changed); the driver goes on at ``guest_end`` with
        its next connection, with the options that it has."""
        driver = self.frontend.driver if self.frontend is not None else None
        self.netfront = driver if isinstance(driver, Netfront) else None
        if self.netfront is not None:
            self.netfront.guest = self.guest_end

    def find_netback(self) -> None:
        """The same at the backend, with ``host_end``."""
        driver = self.backend.driver if self.backend is not None else None
        self.netback = driver if isinstance(driver, Vif) else None
        if self.netback is not None:
            self.netback.host = self.host_end

    def make_netfront(self) -> Netfront:
        """A driver for a new frontend device."""
        kind, kernel = self.guest.kind, self.guest.kernel
        self.netfront = Netfront(kernel, self.guest_end, kind, self.front)
        return self.netfront

    def make_netback(self) -> Vif:
        """A driver for a new backend device."""
        owner = self.owner
        self.netback = Vif(owner.kernel, self.host_end, self.policy, self.back, owner.stage)
        return self.netback


@define(eq=False)
class Guest:
    """A guest: its ``domain``, its ``kernel`` (connected to the store over its ring page), and the
    bus that finds its ``frontends``. ``vifs`` are its vifs by handle.

    Its drivers are loaded by :meth:`boot`.
    """

    host: HostServices
    domain: Domain
    config: DomainConfig
    kernel: GuestKernel
    kind: FrontendKind
    grant_version: int
    evtchn: str
    vifs: dict[int, PluggedVif] = field(factory=dict)
    frontends: FrontendBus = field(init=False)
    booted: bool = False

    def __attrs_post_init__(self) -> None:
        self.frontends = FrontendBus(self.kernel, self._make, self.kind.rules)

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
            self.frontends.start()

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

    def _frontend(self, handle: int) -> Frontend:
        try:
            return self.frontends.devices[f"device/vif/{handle}"]
        except KeyError:
            raise LinkError(f"domain {self.domid} has found no device/vif/{handle}") from None

    def _vif(self, nodename: str) -> PluggedVif | None:
        """The vif of a frontend directory; None for one that nobody has plugged in here."""
        _, _, handle = nodename.split("/")
        vif = self.vifs.get(int(handle)) if handle.isdecimal() else None
        return vif if vif is not None and vif.paths.frontend_node == nodename else None

    def _make(self, nodename: str) -> Netfront:
        vif = self._vif(nodename)
        if vif is None:
            return Netfront(self.kernel, NullPort(), self.kind)
        return vif.make_netfront()


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
    xennet's netback serves those of the ``types``."""

    host: HostServices
    domain: Domain
    kernel: GuestKernel
    types: Collection[str] = ("vif",)
    backends: BackendBus = field(init=False)
    stage: TxStage = field(init=False)
    loaded: bool = False

    def __attrs_post_init__(self) -> None:
        self.backends = self._bus()
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
            self.backends.start()

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

    def _bus(self) -> BackendBus:
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
