"""The machine: memory, grant tables, event channels, the run loop, and the life of its domains."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, KeysView
from contextlib import contextmanager
from functools import partial

from xennet.abi.event_channel import EVTCHNSTAT_interdomain, EVTCHNSTAT_unbound
from xennet.abi.grant_table import GNTTAB_RESERVED_XENSTORE
from xennet.abi.xen import DOMID_FIRST_RESERVED, VIRQ_DOM_EXC, XEN_LEGACY_MAX_VCPUS
from xennet.evtchn import EventChannels, FifoBits, GuestPages, PortBits, TwoLevelBits
from xennet.gnttab.directory import NONE, DomainDirectory
from xennet.gnttab.hypercalls import Grant, GrantTables
from xennet.hypervisor.domain import Domain, Services
from xennet.hypervisor.domain_record import DomainInfo, DomainRecord
from xennet.hypervisor.event_pages import EventPages
from xennet.hypervisor.leaks import DomainLeaks, LeakReport
from xennet.hypervisor.page_frames import FrameAllocator
from xennet.hypervisor.store_ring import StoreRing, StoreRingReport, seed_grant
from xennet.interface import HypercallError, OutOfFramesError
from xennet.memory import AddressSpace, Memory, PageRun
from xennet.observe import (
    DomainCreated,
    DomainDestroyed,
    DomainShutdown,
    EventDelivered,
    Hypercall,
    Observers,
)
from xennet.runloop import Call, Delivery, RunLoop, new_delivery

#: The domain that gets VIRQ_DOM_EXC (Xen's hardware domain).
CONTROL_DOMAIN = 0

#: States of a port that concern another domain.
_SHARED_STATES = frozenset({EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain})


_told_of_made: list[Callable[[Machine], object]] = []


@contextmanager
def told_of_machines(tell: Callable[[Machine], object]) -> Iterator[None]:
    """Within the block ``tell(machine)`` is called with each machine right after it was made: who
    records one wants its first steps."""
    _told_of_made.append(tell)
    try:
        yield
    finally:
        _told_of_made.remove(tell)


class Machine:
    """A machine without domains. The first domain that is created is domain 0, the control domain.

    It has ``nr_frames`` page frames of 4096 bytes, with ``shared`` in a memfd; a grant table has at
    most ``max_grant_frames`` frames. Its parts are ``memory``, ``grant_tables``, ``channels``,
    ``run_loop`` and ``observers``. They belong to the hypervisor: what runs *in* a domain gets its
    :class:`Domain` only.
    """

    def __init__(
        self, nr_frames: int = 131072, *, shared: bool = False, max_grant_frames: int = 64
    ) -> None:
        self.memory = Memory(nr_frames, shared=shared)
        self.run_loop = RunLoop()
        self.observers = Observers(self.run_loop.keep)
        self.channels = EventChannels(
            self._upcall, self.observers, GuestPages(self._own_page, self._unmapped)
        )
        self._records: dict[int, DomainRecord] = {}
        self._domains: dict[int, Domain] = {}
        self._zombies: set[int] = set()
        self._shown: dict[int, int] = {}
        self._on_create: list[Callable[[Domain], None]] = []
        self._next_domid = 0
        self._directory = DomainDirectory()
        self.grant_tables = GrantTables(
            self.memory,
            self._directory,
            max_grant_frames,
            spaces=lambda domid: self._records[domid].space,
            released=self._unmapped,
        )
        self._frames = FrameAllocator(self.memory, self._mappings, self._mapped)
        self._services = Services(
            self._frames,
            self.grant_tables,
            self.channels,
            self.run_loop,
            self.observers,
            self.domain_info,
            self.shutdown_domain,
            self._page_arrived,
            self._page_unmapped,
            self._poll,
        )
        self.observers.on_toggle(Hypercall, self._observe_grants)
        self._events = self.observers.interest(EventDelivered)
        for tell in tuple(_told_of_made):
            tell(self)

    def __repr__(self) -> str:
        memory = self.memory
        return f"<Machine {len(self._domains)} domains, {memory.used} of {memory.nr_frames} frames>"

    def close(self) -> None:
        """Give the memory back. No part of the machine can be used afterwards."""
        for record in self._records.values():
            record.stop(dying=True)
            record.give_up_memory()
        self.memory.close()

    # Domains

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains that exist, oldest first, without destroyed ones."""
        return tuple(self._domains.values())

    def domain(self, domid: int) -> Domain:
        """The handle of a domain. Raises KeyError if there is none."""
        return self._domains[domid]

    def create_domain(
        self,
        domid: int | None = None,
        *,
        name: str = "",
        vcpus: int = 1,
        grant_version: int = 1,
        evtchn_abi: str = TwoLevelBits.abi,
    ) -> Domain:
        """Create a domain with ``vcpus`` (1..32) virtual CPUs; all its ports are masked.

        ``evtchn_abi``, "2l" or "fifo", is the ABI by which its kernel receives events. With "fifo"
        it gets a page for each vCPU and one for each 1024 ports, and its upcalls are delivered in
        the order of its queues, which honour priorities, unless a caller chooses otherwise.
        ``domid`` None takes the next number that was never used (0 for the first domain). Raises
        ValueError for a domid that is taken (also by a destroyed domain whose pages others still
        map) or that is not in 0..0x7fef; OutOfFramesError if the machine is full.
        """
        domid = self._unused_domid() if domid is None else domid
        if not 1 <= vcpus <= XEN_LEGACY_MAX_VCPUS:
            raise ValueError(f"a domain has 1..{XEN_LEGACY_MAX_VCPUS} vCPUs, not {vcpus}")
        if evtchn_abi not in (TwoLevelBits.abi, FifoBits.abi):
            raise ValueError(f'an event channel ABI is "2l" or "fifo", not {evtchn_abi!r}')
        fifo = evtchn_abi == FifoBits.abi
        space = AddressSpace(self.memory, domid)
        self.grant_tables.create(domid, grant_version)
        try:
            shared_info, *event_pages = self._initial_pages(space, 1 + (vcpus + 1 if fifo else 0))
        except BaseException:
            self.grant_tables.destroy(domid)
            raise
        self._next_domid = max(self._next_domid, domid + 1)
        info = DomainInfo(domid, name or f"dom{domid}", vcpus)
        record = DomainRecord(info, space, shared_info)
        bits = TwoLevelBits(self.memory.run(shared_info.first), vcpus)
        bits.mask_all()
        self.channels.add_domain(domid, bits, vcpus, privileged=domid == CONTROL_DOMAIN)
        self._records[domid] = record
        domain = self._domains[domid] = Domain(self._services, record)
        if fifo:
            *control, first = event_pages
            record.event_pages = EventPages(control, [first])
            domain.use_fifo_events()
        for callback in self._on_create:
            callback(domain)
        if self.observers.active:
            self.observers.emit(DomainCreated(domid, info.name))
        return domain

    def on_create(self, callback: Callable[[Domain], None]) -> None:
        """Call ``callback(domain)`` for every domain that exists, and for each that will be
        created."""
        for domain in self.domains:
            callback(domain)
        self._on_create.append(callback)

    def build_store_ring(self, domid: int) -> StoreRing:
        """Make a domain's store ring, as its builder does.

        That is a page of the domain's own, granted to the control domain as reference
        GNTTAB_RESERVED_XENSTORE, and a port to which the control domain can bind. It is made once;
        later calls return the same. Raises KeyError if there is no such domain (or no control
        domain), OutOfFramesError if the machine is full.
        """
        record, control = self._records[self._domains[domid].domid], self._domains[CONTROL_DOMAIN]
        if record.store_ring is None:
            port = control.alloc_unbound(domid, CONTROL_DOMAIN)
            page = record.space.run(self.memory.alloc(domid))
            seed_grant(self.memory, self.grant_tables, domid, CONTROL_DOMAIN, page.first)
            record.store_ring = StoreRing(page, port)
        return record.store_ring

    def shutdown_domain(self, domid: int, reason: int) -> None:
        """Stop a domain (SHUTDOWN_*, xen/sched.h) and leave everything of it in place.

        The control domain gets VIRQ_DOM_EXC. Deliveries to the domain are dropped. Raises
        HypercallError -ESRCH if there is no such domain; does nothing if it has stopped already.
        """
        record = self._live("SCHEDOP_shutdown", domid)
        if record.info.shutdown is not None:
            return
        record.stop(shutdown=reason)
        self.run_loop.forget(domid)
        if self.observers.active:
            self.observers.emit(DomainShutdown(domid, reason))
        self.channels.raise_virq(CONTROL_DOMAIN, VIRQ_DOM_EXC)

    def destroy_domain(self, domid: int) -> None:
        """Destroy a domain: its ports are closed, its mappings and grants end, its memory is freed.

        Pages that others have mapped stay until they are unmapped; until then the domain is a
        zombie whose number is taken. The control domain gets VIRQ_DOM_EXC, and again when a zombie
        is gone. Raises HypercallError -ESRCH if there is no such domain, -EINVAL for domain 0.
        """
        op = "XEN_DOMCTL_destroydomain"
        record = self._live(op, domid)
        if domid == CONTROL_DOMAIN:
            raise HypercallError(op, -errno.EINVAL, "the control domain cannot be destroyed")
        record.stop(dying=True)
        self.run_loop.forget(domid)
        self.channels.remove_domain(domid)
        del self._domains[domid]
        self.grant_tables.destroy(domid)
        for first, count in record.give_up_memory():
            self._frames.free(domid, first, count)
        self._zombies.add(domid)
        self._forget_zombies()
        if self.observers.active:
            self.observers.emit(DomainDestroyed(domid, domid in self._zombies))
        self.channels.raise_virq(CONTROL_DOMAIN, VIRQ_DOM_EXC)

    def domain_info(self, domid: int) -> DomainInfo | None:
        """What is known of a domain or zombie; None if there is none."""
        record = self._records.get(domid)
        return None if record is None else record.info

    # Frames that other processes have mapped

    def show_frames(self, frames: Iterable[int]) -> None:
        """Count a mapping of each frame (negative: none) by another process. A frame that is given
        up gets no other owner before :meth:`hide_frames`."""
        for frame in frames:
            if frame >= 0:
                self._shown[frame] = self._shown.get(frame, 0) + 1

    def hide_frames(self, frames: Iterable[int]) -> None:
        """Uncount mappings that :meth:`show_frames` counted."""
        for frame in frames:
            if frame >= 0:
                self._shown[frame] -= 1
                if not self._shown[frame]:
                    del self._shown[frame]
                    self._unmapped(frame)

    def leaks(self) -> LeakReport:
        """What each domain and zombie holds beyond what it was created with."""
        return LeakReport(tuple(map(self._leaks_of, self._records.values())))

    def _live(self, op: str, domid: int) -> DomainRecord:
        if domid not in self._domains:
            raise HypercallError(op, -errno.ESRCH, f"there is no domain {domid}")
        return self._records[domid]

    def _unused_domid(self) -> int:
        if self._next_domid < DOMID_FIRST_RESERVED:
            return self._next_domid
        unused = (d for d in range(1, DOMID_FIRST_RESERVED) if d not in self._records)
        domid = next(unused, None)
        if domid is None:
            raise ValueError("all domain ids are taken")
        return domid

    def _initial_pages(self, space: AddressSpace, count: int) -> list[PageRun]:
        """Allocate the pages that a domain has for life: all or none."""
        frames: list[int] = []
        try:
            while len(frames) < count:
                frames.append(self.memory.alloc(space.domid))
        except OutOfFramesError:
            for frame in frames:
                self.memory.free(space.domid, frame)
            raise
        return [space.run(frame) for frame in frames]

    def _own_page(self, domid: int, gfn: int) -> PageRun | None:
        """A page that a domain may offer to the hypervisor; None if it may not.

        It may be any page of its own, except those of its grant table, which the hypervisor can
        take back.
        """
        if not 0 <= gfn < self.memory.nr_frames or self.memory.owner[gfn] != domid:
            return None
        return None if gfn in self.grant_tables.table_frames(domid) else self.memory.run(gfn)

    def _mappings(self, frame: int) -> int:
        """Number of mappings of a frame, by domains, by the hypervisor and by processes."""
        return (
            self.grant_tables.frame_mappings(frame)
            + self.channels.pages.mappings(frame)
            + self._shown.get(frame, 0)
        )

    def _mapped(self, frames: range) -> bool:
        """Whether any of ``frames`` is mapped, as :meth:`_mappings` says."""
        return (
            _meet(self.grant_tables.mapped_frames, frames)
            or _meet(self.channels.pages.mapped_frames, frames)
            or _meet(self._shown.keys(), frames)
        )

    def _unmapped(self, frame: int) -> None:
        """Free a frame that was given up, if no domain and not the hypervisor has it mapped any
        more."""
        if not self._mappings(frame):
            self._frames.unmapped(frame)

    def _forget_zombies(self) -> bool:
        """Forget the zombies whose pages nobody maps any more. Returns True if there was one."""
        gone = [d for d in self._zombies if self._directory.state(d) == NONE]
        for domid in gone:
            self._zombies.remove(domid)
            del self._records[domid]
        return bool(gone)

    def _page_arrived(self, domid: int, frame: int) -> None:
        self._records[domid].received.add(frame)

    def _page_unmapped(self) -> None:
        if self._zombies and self._forget_zombies():
            self.channels.raise_virq(CONTROL_DOMAIN, VIRQ_DOM_EXC)

    def _leaks_of(self, record: DomainRecord) -> DomainLeaks:
        domid = record.info.domid
        tables = self.grant_tables
        channels = [] if record.info.dying else self.channels.open_channels(domid)
        ring, handles, ports = record.store_ring, set[int | None](), set[int | None]()
        if ring is not None:
            ports.add(ring.port)
        if domid == CONTROL_DOMAIN:
            # Its port and mapping of a domain's store ring last as long as that domain.
            rings = [r.store_ring for r in self._records.values() if r.store_ring is not None]
            handles.update(ring.server_handle for ring in rings)
            ports.update(ring.server_port for ring in rings)

        def is_of_store_ring(grant: Grant) -> bool:
            ring_page = ring is not None and grant.frame == ring.gfn
            return ring_page and grant.gref == GNTTAB_RESERVED_XENSTORE

        return DomainLeaks(
            domid,
            record.info.name,
            granted=tuple(grant for grant in tables.granted(domid) if not is_of_store_ring(grant)),
            mappings=tuple(m for m in tables.mappings(domid) if m.handle not in handles),
            pinned=tuple(grant for grant in tables.pinned(domid) if not is_of_store_ring(grant)),
            ports=tuple(
                c.port for c in channels if c.state in _SHARED_STATES and c.port not in ports
            ),
            pages=record.allocated,
            lingering=tuple(self._frames.lingering(domid)),
            store_ring=None if ring is None else StoreRingReport.of(ring),
        )

    def _observe_grants(self, active: bool) -> None:
        self.grant_tables.observer = self._grant_operation if active else None

    def _grant_operation(
        self, domid: int, op: str, args: tuple[object, ...], result: object
    ) -> None:
        self.observers.emit(Hypercall(domid, op, args, result))

    # Upcalls

    def upcall(self, domid: int, port: int) -> tuple[Delivery, Call]:
        """The delivery of an event of ``port``, and what is called to make it."""
        delivery = new_delivery(("evtchn", domid, port))
        return delivery, partial(self._deliver, delivery)

    def handles(self, domid: int, port: int, handler: Callable[[], None]) -> bool:
        """Whether an event of ``port`` is handled by ``handler()``, now."""
        record = self._records[domid]
        known = record.handlers.get(port)
        return record.running and record.upcall is None and known == handler

    def _poll(self, domid: int, port: int) -> bool:
        taken = self.channels.poll(domid, port)
        if taken:
            self.run_loop.cancel(Delivery("evtchn", domid, port))
        return taken

    def _upcall(self, domid: int, port: int) -> None:
        if self._records[domid].running:
            self.run_loop.post(new_delivery(("evtchn", domid, port)), self._deliver)
            bits = self.channels.tables[domid].bits
            if bits.prioritised:
                self._overtake(domid, port, bits)

    def _overtake(self, domid: int, port: int, bits: PortBits) -> None:
        """Move the deliveries of ports that the domain's queues have behind ``port`` behind its
        delivery.

        They keep their order. (A chooser can still take any of them first.)
        """
        for delivery in self.run_loop.ready():
            kind, owner, other = delivery
            if kind == "evtchn" and owner == domid and bits.is_behind(other, port):
                self.run_loop.cancel(delivery)
                self.run_loop.post(delivery, self._deliver)

    def _deliver(self, delivery: Delivery) -> None:
        """Make one upcall: take the pending bit of the port and run its handler.

        Nothing happens if the port was masked or closed, or its bit cleared, since the delivery was
        posted. A domain whose own code takes upcalls is only told, as by an interrupt.
        """
        _, domid, port = delivery
        record = self._records[domid]
        if record.upcall is not None:
            if self._events.any:
                self.observers.emit(EventDelivered(domid, port, True))
            record.upcall()
            return
        if not self.channels.tables[domid].bits.take(port):
            return
        handler = record.handlers.get(port)
        if self._events.any:
            self.observers.emit(EventDelivered(domid, port, handler is not None))
        if handler is None:
            record.spurious += 1
        else:
            handler()


def _meet(some: KeysView[int], frames: range) -> bool:
    """Whether any of ``some`` is one of ``frames``; it takes time by the shorter of the two."""
    if len(some) < len(frames):
        return any(map(frames.__contains__, some))
    return not some.isdisjoint(frames)
