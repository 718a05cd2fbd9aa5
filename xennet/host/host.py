"""A Xen host: one machine, domain 0 with store and toolstack, guests, and vifs between them.

A :class:`Host` is what ``xl`` manages on one host. It is built empty; guests are added, vifs are
plugged in and out, drivers are loaded, unloaded, crashed and replaced, either end first. Nothing
runs by itself: :meth:`Host.settle` (or the run loop, step by step) makes things happen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial

from xennet.abi.sched import SHUTDOWN_suspend
from xennet.errors import LinkError
from xennet.frames import Endpoint, require_endpoint
from xennet.host import evidence
from xennet.host.buses import XENNET
from xennet.host.capacity import ONE_VIF, Capacity
from xennet.host.domains import (
    BackendDomain,
    Guest,
    GuestDrivers,
    HostDrivers,
    PluggedVif,
    SavedGuest,
)
from xennet.hypervisor import Domain, LeakReport, Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import HypercallError
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netfront.kinds import LINUX as LINUX_GUEST
from xennet.netfront.kinds import FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.pump import Clock, Pump
from xennet.toolstack import relocation
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.domain_nodes import DomainConfig
from xennet.toolstack.hotplug import HotplugScript
from xennet.toolstack.nodelist import remove_with_empty_parents
from xennet.toolstack.toolstack import INIT_TIMEOUT, Outcome, Toolstack, VifOperation
from xennet.toolstack.vif_nodes import AttachedVif, VifConfig
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenstore import Quota, Store
from xennet.xenstore.path import domain_path
from xennet.xenstored.service import XenStoreService

DOM0 = 0


def guest_mac(domid: int, handle: int = 0) -> str:
    """The MAC address of vif ``handle`` of guest ``domid``: 00:16:3e (Xen's), then the two
    numbers."""
    return f"00:16:3e:{handle & 0xFF:02x}:{domid >> 8 & 0xFF:02x}:{domid & 0xFF:02x}"


class Host:
    """One Xen host. ``machine``; ``service``, the store; ``toolstack`` with its hotplug ``script``
    and its time limits; ``backend_domains`` by domid (domain 0's exists from the start, not
    loaded); ``guests`` by domid; ``pump`` makes the deliveries.

    ``backend_evtchn`` is the ABI by which domains with backends receive events: "fifo", or "2l",
    with which a domain has 4095 ports at most. ``backend_types`` are the types of backends that
    their drivers serve: "vif" as Linux's, "qnic" as QEMU's. ``drivers`` are those that domain 0
    loads, as for :meth:`add_driver_domain`. ``quota`` limits domains other than domain 0 in the
    store (None: xenstored's defaults). With ``store_deliveries`` each request of a guest to the
    store is a delivery of its own, and other domains go on before it is answered, as the run loop's
    ``meanwhile`` picks. ``clock`` is the pump's (None: virtual time). ``serve_unknown``: whether
    xennet's drivers serve devices that other programs made in the store and that nobody plugged in
    here, with nothing behind them; if not they leave them alone. The memory of a ``shared`` machine
    can be mapped by other processes.
    """

    def __init__(
        self,
        capacity: Capacity = ONE_VIF,
        *,
        backend_evtchn: str = LINUX.evtchn,
        backend_types: Collection[str] = ("vif",),
        drivers: HostDrivers = XENNET,
        quota: Quota | None = None,
        store_deliveries: bool = False,
        clock: Clock | None = None,
        serve_unknown: bool = True,
        shared: bool = False,
    ) -> None:
        self.serve_unknown = serve_unknown
        self._backend_evtchn, self._backend_types = backend_evtchn, backend_types
        self.machine = Machine(
            capacity.nr_frames, shared=shared, max_grant_frames=capacity.max_grant_frames
        )
        self.pump = Pump(self.machine.run_loop, clock)
        dom0 = self.machine.create_domain(DOM0, name="Domain-0", evtchn_abi=backend_evtchn)
        self.service = XenStoreService(self.machine, Store(quota), deliveries=store_deliveries)
        self.script = HotplugScript(self.service.connect(dom0, "hotplug"), dom0.defer)
        self.store = self.service.connect(dom0, "toolstack")
        self.toolstack = Toolstack(
            self.store,
            introduce=self._introduce,
            kill=self._kill,
            script=self.script,
            after=self._after,
        )
        self.guests: dict[int, Guest] = {}
        self._next_domid = DOM0 + 1
        kernel = GuestKernel(dom0, self.service.connect(dom0, "dom0"))
        self.backend_domains = {DOM0: BackendDomain(self, dom0, kernel, backend_types, drivers)}
        self.toolstack.init_dom0()

    def __repr__(self) -> str:
        return f"<Host {len(self.guests)} guests, {len(self.vifs)} vifs>"

    @property
    def dom0(self) -> BackendDomain:
        """Domain 0 as a backend domain."""
        return self.backend_domains[DOM0]

    @property
    def vifs(self) -> list[PluggedVif]:
        """All vifs of all guests."""
        return [vif for guest in self.guests.values() for vif in guest.vifs.values()]

    # -- domains -----------------------------------------------------------------------------------

    def add_guest(
        self,
        domid: int | None = None,
        *,
        name: str = "",
        kind: FrontendKind = LINUX_GUEST,
        grant_version: int = 1,
        evtchn_abi: str | None = None,
        drivers: GuestDrivers = XENNET,
    ) -> Guest:
        """Create a guest, as ``xl create`` does, and return it; its drivers are not loaded yet.

        ``domid`` None takes the next number. ``kind`` is the frontend that xennet's driver is like.
        ``evtchn_abi`` is the ABI by which it receives events, None for what is usual for ``kind``.
        ``drivers`` are the drivers it loads: xennet's by default; a function ``make(vif, kernel)``,
        which makes one for each frontend that is found (xennet.vif.end.VifEnd); or None if the
        program that has ``guest.kernel`` does everything itself. Raises OutOfFramesError when the
        machine is full.
        """
        evtchn_abi = evtchn_abi or kind.evtchn
        made = self._create(domid, name, grant_version, evtchn_abi)
        guest = Guest(self, *made, kind, grant_version, evtchn_abi, drivers)
        self.guests[guest.domid] = guest
        return guest

    def add_driver_domain(
        self, domid: int | None = None, *, name: str = "", drivers: HostDrivers = XENNET
    ) -> BackendDomain:
        """Create a domain for backends and return it; its ``drivers``, as for :meth:`add_guest`,
        are not loaded yet."""
        domain, _, kernel = self._create(domid, name, 1, self._backend_evtchn)
        owner = BackendDomain(self, domain, kernel, self._backend_types, drivers)
        self.backend_domains[domain.domid] = owner
        return owner

    def forget(self, domid: int) -> None:
        """Note that domain ``domid`` is no guest any more."""
        self.guests.pop(domid, None)

    def forget_backend(self, domid: int) -> None:
        """Note that domain ``domid`` has no backends any more."""
        self.backend_domains.pop(domid, None)

    def boot(self) -> None:
        """Load the drivers of all domains, backends first."""
        for owner in list(self.backend_domains.values()):
            owner.load()
        for guest in list(self.guests.values()):
            guest.boot()

    # -- vifs --------------------------------------------------------------------------------------

    def plug(
        self,
        guest: Guest,
        handle: int,
        guest_end: Endpoint,
        host_end: Endpoint,
        config: VifConfig | None = None,
        *,
        backend_domid: int = DOM0,
        front: NetfrontOptions = DEFAULTS,
        policy: BackendPolicy = LINUX,
        back: VifOptions | None = None,
        guest_served: bool = True,
        host_served: bool = True,
        device_model: DeviceModel = DeviceModel.NONE,
    ) -> PluggedVif:
        """Have the toolstack attach a vif (xl network-attach), and return it; its ``operation``
        says how the command goes.

        ``guest_end`` is the guest's network stack, ``host_end`` its counterpart in the backend
        domain; both get a listener that kicks their driver (Endpoint.listen). ``config`` None: a
        vif with the address :func:`guest_mac`. ``front`` are the options set by the guest's
        administrator, ``back`` those set by the host's (None: what is usual for ``policy``, the
        backend's implementation). A driver that has not seen an earlier vif of this handle go
        stays, with the options that it has, and goes on at the new end with its next connection.
        An end that is not ``guest_served`` or not ``host_served`` the drivers of its domain leave
        alone: another program serves it, and for the backend there is no time limit. So it is where
        ``device_model`` says that a device model has the backend; the frontend is then started when
        that runs.

        Raises LinkError for a handle in use, a domain that is gone and one that has no backends,
        TypeError for an end that is no frame endpoint, and what an end raises that gets its
        listener; nothing has happened then.
        """
        guest_end = require_endpoint("guest_end", guest_end)
        host_end = require_endpoint("host_end", host_end)
        owner = self._backend_for(guest, backend_domid)
        config = VifConfig(guest_mac(guest.domid, handle)) if config is None else config
        paths = AttachedVif(handle, config, backend_domid).paths(guest.domid)
        if NodeDirectory(self.store, paths.libxl).exists():
            raise LinkError(
                f"handle {handle} of domain {guest.domid} is in use: {paths.libxl} exists"
            )
        vif = PluggedVif(
            guest,
            owner,
            paths,
            config,
            guest_end,
            host_end,
            front,
            policy,
            back,
            guest_served,
            host_served and device_model is DeviceModel.NONE,
            device_model,
        )
        before = guest.vifs.get(handle)
        vif.attach_ends(self.pump.watch)
        guest.vifs[handle] = vif
        try:
            vif.operation = self._attach(vif)
        except BaseException:
            del guest.vifs[handle]
            if before is not None:
                guest.vifs[handle] = before
            raise
        vif.find_guest_driver()
        vif.find_host_driver()
        return vif

    def _backend_for(self, guest: Guest, domid: int) -> BackendDomain:
        """Domain ``domid``, to have backends of ``guest``. Raises LinkError if it has none, or the
        guest is gone."""
        owner = self.backend_domains.get(domid)
        if owner is None:
            raise LinkError(f"domain {domid} is no backend domain of this host")
        if not guest.domain.alive:
            raise LinkError(f"domain {guest.domid} is gone")
        return owner

    def _attach(self, vif: PluggedVif) -> VifOperation:
        toolstack, paths = self.toolstack, vif.paths
        domid, handle, backend_domid = paths.frontend_domid, paths.handle, paths.backend_domid
        if vif.device_model is DeviceModel.PLUGS:
            return toolstack.expect_vif(
                domid,
                handle,
                vif.config,
                backend_domid=backend_domid,
                on_done=lambda operation: vif.guest.model_runs(vif),
            )
        limit = INIT_TIMEOUT if vif.host_served else None
        attached = AttachedVif(handle, vif.config, backend_domid)
        operation = toolstack.plug(attached, domid, limit_ns=limit)
        if vif.device_model is DeviceModel.SERVES:
            toolstack.await_model(paths, lambda problem: vif.guest.model_runs(vif))
        return operation

    def unplug(self, vif: PluggedVif, *, force: bool = False) -> VifOperation:
        """Have the toolstack take a vif away (xl network-detach)."""
        return self.toolstack.detach_vif(vif.paths.frontend_domid, vif.paths.handle, force=force)

    def remove_unknown_devices(self, plugged: Iterable[PluggedVif] | None = None) -> None:
        """Remove the directories of all devices but those of the vifs that are ``plugged`` in
        (None: all that ever were). Other programs in the store made them; their drivers let go when
        that is delivered."""
        vifs = self.vifs if plugged is None else plugged
        known = {path for vif in vifs for path in (vif.paths.frontend, vif.paths.backend)}
        fronts = [(guest.domid, guest.buses.nodenames) for guest in self.guests.values()]
        backs = [(one.domid, one.buses.nodenames) for one in self.backend_domains.values()]
        for domid, nodenames in (*fronts, *backs):
            for path in {f"{domain_path(domid)}/{nodename}" for nodename in nodenames} - known:
                self.store.transact(partial(remove_with_empty_parents, path=path))

    def replace_backend(self, vif: PluggedVif, owner: BackendDomain) -> VifOperation:
        """Give a vif another backend domain. Its frontend follows when it resumes or starts anew
        (xennet.toolstack.relocation.replace_backend).

        Raises LinkError for a guest that is gone and a domain that has no backends; nothing has
        happened then.
        """
        owner = self._backend_for(vif.guest, owner.domid)
        operation = relocation.replace_backend(
            self.toolstack, vif.paths.frontend_domid, vif.paths.handle, owner.domid
        )
        if operation.outcome is not Outcome.FAILED:
            vif.operation = operation
            vif.moved(owner, None)
        return operation

    # -- guests that move --------------------------------------------------------------------------

    def save(self, guest: Guest) -> SavedGuest:
        """Suspend a guest and take it out of its domain (``xl save``, the sending end of ``xl
        migrate``).

        The domain stays, stopped, with all that its vifs share with backends, until
        :meth:`destroy_guest`; ``guests`` does not have the guest any more.
        """
        domid = guest.domid
        guest.shut_down(SHUTDOWN_suspend)
        self.forget(domid)
        return SavedGuest(guest, domid, self.toolstack.vifs(domid))

    def restore(
        self,
        saved: SavedGuest,
        *,
        domid: int | None = None,
        host_ends: Mapping[int, Endpoint] | None = None,
    ) -> list[VifOperation]:
        """Resume a saved guest in a new domain of this host, which need not be the old one's (``xl
        restore``, the receiving end of ``xl migrate``). Possible once, as there is one image.

        ``host_ends`` are the host's ends of its vifs, by handle, where they are not those of the
        old host. The old domain may be gone (restore) or go afterwards (migration).

        Raises LinkError when this host lacks a backend domain of its vifs, or a driver of the guest
        that is not xennet's cannot be moved (xennet.xenbus.frontend.MovableDriver), and TypeError
        for an end that is no frame endpoint; nothing has happened then.
        """
        saved.image.buses.foreign.require_movable()
        missing = sorted({vif.backend_domid for vif in saved.vifs} - set(self.backend_domains))
        if missing:
            raise LinkError(f"{saved.image.config.name} needs backend domain {missing[0]}")
        guest = saved.image
        ends = {
            handle: require_endpoint("host_ends", end) for handle, end in (host_ends or {}).items()
        }
        domain, config = self._build(domid, guest.config.name, guest.grant_version, guest.evtchn)
        guest.host, guest.domain, guest.config = self, domain, config
        self.guests[domain.domid] = guest
        for vif in saved.vifs:
            guest.vifs[vif.handle].moved(
                self.backend_domains[vif.backend_domid], ends.get(vif.handle)
            )
            guest.vifs[vif.handle].attach_ends(self.pump.watch)
        operations = relocation.restore_domain(self.toolstack, config, saved.vifs)
        for operation in operations:
            guest.vifs[operation.paths.handle].operation = operation
        guest.resume(GuestKernel(domain, self.service.connect(domain, config.name)))
        return operations

    def destroy_guest(self, domid: int) -> None:
        """Destroy a domain (``xl destroy``): the toolstack removes its devices by force, its nodes,
        and the domain; also a domain that a saved guest has left."""
        self.toolstack.destroy_domain(domid, lambda: self.forget(domid))

    # -- for messages ------------------------------------------------------------------------------

    def states(self, vif: PluggedVif) -> str:
        """The state and the error node of each end, in one line."""
        return evidence.states(vif)

    def require_connected(self, vif: PluggedVif) -> None:
        """Raises LinkError, with the evidence, unless ``vif`` was attached and is connected."""
        evidence.require_connected(vif)

    def require(self, vif: PluggedVif, operation: VifOperation) -> None:
        """Raises LinkError, with the evidence, unless the command ``operation`` about ``vif`` is
        done."""
        evidence.require(vif, operation)

    # -- time --------------------------------------------------------------------------------------

    def settle(self, waiting: Callable[[], int | None] | None = None) -> None:
        """Make deliveries until nothing is ready.

        ``waiting()`` returns None when no frames are on their way, else the number of frames that
        have arrived so far. While some are, time goes on, until nothing can happen any more or a
        minute has passed in which no frame arrived (Pump.run).
        """
        self.pump.run(waiting)

    def _after(self, delay: int, call: Callable[[], None]) -> None:
        self.machine.run_loop.call_after(delay, DOM0, call)

    # -- the end -----------------------------------------------------------------------------------

    def leaks(self) -> LeakReport:
        """The things that any domain still holds."""
        return self.machine.leaks()

    def destroy(self) -> None:
        """Switch the machine off, whatever state it is in."""
        self.pump.close()
        self.machine.close()

    # -- building a domain -------------------------------------------------------------------------

    def _build(
        self, domid: int | None, name: str, grant_version: int, evtchn_abi: str
    ) -> tuple[Domain, DomainConfig]:
        domid = self._next_domid if domid is None else domid
        name = name or f"domU{domid}"
        domain = self.machine.create_domain(
            domid, name=name, grant_version=grant_version, evtchn_abi=evtchn_abi
        )
        self._next_domid = max(self._next_domid, domid + 1)
        try:
            ring = self.machine.build_store_ring(domid)
        except Exception:
            self.machine.destroy_domain(domid)
            raise
        uuid = f"00000000-0000-4000-8000-{domid:012x}"
        config = DomainConfig(domid, name, uuid, store_gfn=ring.gfn, store_port=ring.port)
        return domain, config

    def _create(
        self, domid: int | None, name: str, grant_version: int, evtchn_abi: str
    ) -> tuple[Domain, DomainConfig, GuestKernel]:
        domain, config = self._build(domid, name, grant_version, evtchn_abi)
        try:
            self.toolstack.create_domain(config)
            return domain, config, GuestKernel(domain, self.service.connect(domain, config.name))
        except Exception:
            self.toolstack.destroy_domain(domain.domid)
            raise

    def _introduce(self, domid: int) -> None:
        ring = self.machine.build_store_ring(domid)
        self.store.introduce(domid, ring.gfn, ring.port)

    def _kill(self, domid: int) -> None:
        with suppress(HypercallError):  # It may have died before.
            self.machine.destroy_domain(domid)
