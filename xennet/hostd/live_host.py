"""A host that stays up, as its commands see it: domains, vifs and their ends, a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, evolve, field

from xennet.errors import LinkError
from xennet.host.buses import XENNET
from xennet.host.capacity import ONE_VIF, Capacity
from xennet.host.domains import BackendDomain, Guest, PluggedVif
from xennet.host.host import DOM0, Host, guest_mac
from xennet.hostd.ends import OpenEnd, open_end
from xennet.ifnet import ETHERMTU
from xennet.link.switch import Switch
from xennet.netback.policy import LINUX
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.pump import Clock
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.toolstack import Outcome, VifOperation
from xennet.toolstack.vif_nodes import DEFAULT_SCRIPT, VifConfig

#: The types of backends that xennet's netback serves on such a host.
BACKEND_TYPES = ("vif", "qnic")
#: ns between two times at which recordings are written out.
_FLUSH = 500_000_000

#: A domain with vifs at either end.
AnyDomain = Guest | BackendDomain


@define
class VifRequest:
    """A vif as a command asks for it.

    ``front`` and ``back`` name its ends (xennet.hostd.ends). ``device_model``: NONE where xennet's
    netback or a program without one serves the backend. ``mac`` None: one made of the domain's and
    the vif's number. ``mtu`` in bytes, None for the usual one.
    """

    guest: Guest
    handle: int
    front: str
    back: str
    backend: BackendDomain
    type: str = "vif"
    device_model: DeviceModel = DeviceModel.NONE
    mac: str | None = None
    mtu: int | None = None
    queues: int = 1


@define(eq=False)
class HostedVif:
    """A vif of the host, its two ends, and how it is being removed, if it is."""

    vif: PluggedVif
    front: OpenEnd
    back: OpenEnd
    queues: int
    removal: VifOperation | None = None

    @property
    def ends(self) -> tuple[OpenEnd, OpenEnd]:
        """Both ends."""
        return self.front, self.back

    @property
    def key(self) -> tuple[int, int]:
        """The domid and the handle."""
        return self.vif.paths.frontend_domid, self.vif.paths.handle


@define(eq=False)
class LiveHost:
    """A host of a ``capacity`` by the ``clock`` of its pump (None: virtual time); other processes
    can map the memory of a ``shared`` one. ``vifs`` by domid and handle; ``switch`` joins those
    whose backend's end is it.

    Devices that nobody attached here are left alone, and so are the ends that other programs serve.
    """

    capacity: Capacity = ONE_VIF
    clock: Clock | None = None
    shared: bool = False
    host: Host = field(init=False)
    switch: Switch = field(init=False)
    vifs: dict[tuple[int, int], HostedVif] = field(init=False, factory=dict)
    _dying: set[int] = field(init=False, factory=set)
    _leaving: set[HostedVif] = field(init=False, factory=set)
    _flushing: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.host = Host(
            self.capacity,
            backend_types=BACKEND_TYPES,
            clock=self.clock,
            serve_unknown=False,
            shared=self.shared,
        )
        self.switch = Switch(self.host.dom0.kernel)
        self.host.boot()

    # -- domains -----------------------------------------------------------------------------------

    @property
    def domains(self) -> Iterator[AnyDomain]:
        """All domains, domain 0 first."""
        yield from self.host.backend_domains.values()
        yield from self.host.guests.values()

    def create_guest(
        self, name: str = "", kind: str = "linux", grant_version: int = 1, *, drivers: bool = True
    ) -> Guest:
        """Create a guest with xennet's drivers and boot it; without ``drivers`` a program is its
        kernel. Raises OutOfFramesError."""
        guest = self.host.add_guest(
            name=name,
            kind=KINDS[kind],
            grant_version=grant_version,
            drivers=XENNET if drivers else None,
        )
        guest.boot()
        return guest

    def create_driver_domain(self, name: str = "") -> BackendDomain:
        """Create a domain for backends, with xennet's driver. Raises OutOfFramesError."""
        domain = self.host.add_driver_domain(name=name)
        domain.load()
        return domain

    def destroy(self, domain: AnyDomain) -> Callable[[], bool]:
        """Destroy a domain other than domain 0 (xl destroy). Returns a function that says whether
        it is gone."""
        domid = domain.domid
        if domid not in self._dying:
            self._dying.add(domid)
            domain.destroy()
        return lambda: domid not in self._dying

    # -- vifs --------------------------------------------------------------------------------------

    def free_handle(self, guest: Guest) -> int:
        """The lowest number that no vif of the guest has."""
        handle = 0
        while (guest.domid, handle) in self.vifs:
            handle += 1
        return handle

    def attach(self, request: VifRequest) -> HostedVif:
        """Attach a vif; its ``vif.operation`` says how the command goes.

        Raises LinkError for a handle in use or a name that cannot be, PortError for a port that
        cannot be opened; nothing has happened then.
        """
        guest, handle = request.guest, request.handle
        key, name = (guest.domid, handle), f"vif{guest.domid}.{handle}"
        if key in self.vifs:
            raise LinkError(f"{name} is attached already")
        opened: list[OpenEnd] = []
        open_before = [end for attached in self.vifs.values() for end in attached.ends]
        try:
            for spec in (request.front, request.back):
                others = (*open_before, *opened)
                end = open_end(spec, name, self.switch, others, request.mtu, request.queues)
                opened.append(end)
            front, back = opened
            vif = self._plug(request, front, back)
        except BaseException:
            for end in opened:
                end.close()
            raise
        attached = self.vifs[key] = HostedVif(vif, front, back, request.queues)
        self._flush_from_time_to_time()
        return attached

    def _plug(self, request: VifRequest, front: OpenEnd, back: OpenEnd) -> PluggedVif:
        config = VifConfig(
            request.mac or guest_mac(request.guest.domid, request.handle),
            type=request.type,
            # Device models say themselves that the interface is there.
            script=DEFAULT_SCRIPT if request.device_model is DeviceModel.NONE else None,
            mtu=request.mtu or ETHERMTU,
            # The hotplug script takes it from the backend's directory to the frontend's.
            options={} if request.mtu is None else {"mtu": str(request.mtu)},
        )
        return self.host.plug(
            request.guest,
            request.handle,
            front.endpoint,
            back.endpoint,
            config,
            backend_domid=request.backend.domid,
            front=NetfrontOptions(queues=request.queues, enforce_mtu=request.mtu is not None),
            back=evolve(LINUX.options, max_queues=request.queues),
            guest_served=front.served,
            host_served=back.served,
            device_model=request.device_model,
        )

    def detach(self, attached: HostedVif, force: bool = False) -> VifOperation:
        """Take a vif away (xl network-detach); a second time does nothing more, unless by
        ``force``."""
        removal = attached.removal
        if removal is None or (force and not removal.forced):
            removal = attached.removal = self.host.unplug(attached.vif, force=force)
            self._leaving.add(attached)
        return removal

    # -- between deliveries ------------------------------------------------------------------------

    def look(self) -> bool:
        """Let go of what has gone: vifs that are removed, domains that are destroyed. To be called
        from time to time, between deliveries. Returns whether a domain has gone."""
        for attached in list(self._leaving):
            removal = attached.removal
            if removal is not None and removal.outcome is not Outcome.PENDING:
                self._forget(attached)
        if not self._dying:
            return False
        gone = self._dying - {domain.domid for domain in self.domains}
        self._dying -= gone
        for attached in list(self.vifs.values()):
            if attached.key[0] in gone:
                self._forget(attached)
        return bool(gone)

    def _forget(self, attached: HostedVif) -> None:
        self.vifs.pop(attached.key, None)
        self._leaving.discard(attached)
        guest, handle = attached.vif.guest, attached.vif.paths.handle
        if guest.vifs.get(handle) is attached.vif:
            del guest.vifs[handle]
        for end in attached.ends:
            end.close()

    def _flush_from_time_to_time(self) -> None:
        def flush() -> None:
            self._flushing = False
            for attached in self.vifs.values():
                for end in attached.ends:
                    end.flush()
            self._flush_from_time_to_time()

        writing = any(end.writes for attached in self.vifs.values() for end in attached.ends)
        if writing and not self._flushing:
            self._flushing = True
            self.host.machine.run_loop.call_after(_FLUSH, DOM0, flush)

    # -- the end -----------------------------------------------------------------------------------

    def end_vifs(self) -> None:
        """Begin to take all vifs away: by force where another program serves an end."""
        for attached in self.vifs.values():
            self.detach(attached, force=not all(end.served for end in attached.ends))

    def end_domains(self) -> None:
        """Begin to destroy all domains but domain 0."""
        for domain in list(self.domains):
            if domain.domid != DOM0:
                self.destroy(domain)

    @property
    def ended(self) -> bool:
        """Whether there is neither a vif nor a domain but domain 0."""
        return not self.vifs and len(list(self.domains)) == 1

    def close(self) -> None:
        """Close all ports and switch the machine off, whatever state it is in."""
        for attached in list(self.vifs.values()):
            self._forget(attached)
        self.host.destroy()
