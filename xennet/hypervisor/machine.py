"""The machine: memory, grant tables, event channels, the run loop, and the life of domains."""

from __future__ import annotations

import errno
from collections.abc import Callable

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
from xennet.hypervisor.page_frames import FrameLedger
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
from xennet.runloop import Delivery, RunLoop

#: Who hears of VIRQ_DOM_EXC (Xen's hardware domain).
CONTROL_DOMAIN = 0

#: Ports that another domain has to do with.
_SHARED_STATES = frozenset({EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain})


class Machine:
    """A machine without domains; the first one created is domain 0, the control domain.

    ``nr_frames`` page frames of 4096 bytes; ``shared`` puts them into a memfd; every grant table
    can have ``max_grant_frames`` frames. Its parts are ``memory``, ``grant_tables``, ``channels``,
    ``run_loop`` and ``observers``. They are the hypervisor's: what runs *in* a domain gets its
    :class:`Domain` only.
    """

    def __init__(
        self, nr_frames: int = 131072, *, shared: bool = False, max_grant_frames: int = 64
    ) -> None:
        self.memory = Memory(nr_frames, shared=shared)
        self.run_loop = RunLoop()
        self.observers = Observers()
        self.channels = EventChannels(
            self._upcall, self.observers, GuestPages(self._own_page, self._unmapped)
        )
        self._records: dict[int, DomainRecord] = {}
        self._domains: dict[int, Domain] = {}
        self._zombies: set[int] = set()
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
        self._frames = FrameLedger(self.memory, self._mappings)
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

    def __repr__(self) -> str:
        memory = self.memory
        return f"<Machine {len(self._domains)} domains, {memory.used} of {memory.nr_frames} frames>"

    def close(self) -> None:
        """Give the memory back. Nothing of the machine can be used afterwards."""
        for record in self._records.values():
            record.stop(dying=True)
            record.give_up_memory()
        self.memory.close()

    # Domains

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains that exist and were not destroyed, oldest first."""
        return tuple(self._domains.values())

    def domain(self, domid: int) -> Domain:
        """The handle of a domain. Raises KeyError when there is none."""
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
        """A new domain with ``vcpus`` (1..32) virtual CPUs and all its ports masked.

        ``evtchn_abi`` "2l" or "fifo" is what its kernel chooses to receive events by; for the
        latter it has a page for each vCPU and one for each 1024 ports, by default deliveries are in
        the order of its queues, and they honour priorities. ``domid`` None takes the next number
        that was never used (0 for the first domain).
        Raises ValueError for a domid that is taken (also by a destroyed domain of which others
        still map pages) or not in 0..0x7fef, OutOfFramesError when the machine is full.
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
            shared_info, *event_pages = self._born_pages(space, 1 + (vcpus + 1 if fifo else 0))
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
        """Call ``callback`` with every domain that exists and that will be created."""
        for domain in self.domains:
            callback(domain)
        self._on_create.append(callback)

    def build_store_ring(self, domid: int) -> StoreRing:
        """What the builder of ``domid`` does for the store: a page of the domain's own, granted to
        the control domain as reference GNTTAB_RESERVED_XENSTORE, and a port that waits for it.

        Once for a domain, later calls return the same. Raises KeyError when there is no such domain
        (or no control domain), OutOfFramesError when the machine is full.
        """
        record, control = self._records[self._domains[domid].domid], self._domains[CONTROL_DOMAIN]
        if record.store_ring is None:
            port = control.alloc_unbound(domid, CONTROL_DOMAIN)
            page = record.space.run(self.memory.alloc(domid))
            seed_grant(self.memory, self.grant_tables, domid, CONTROL_DOMAIN, page.first)
            record.store_ring = StoreRing(page, port)
        return record.store_ring

    def shutdown_domain(self, domid: int, reason: int) -> None:
        """A domain stops (SHUTDOWN_*, xen/sched.h) with everything in place; the control domain is
        told by VIRQ_DOM_EXC. What was about to be delivered to it is dropped.

        Raises HypercallError -ESRCH when there is no such domain; nothing happens if it stopped
        before.
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
        """Kill a domain: its ports are closed, its mappings and grants end, its memory is freed.

        Pages that others have mapped stay until they are unmapped; so long the domain is a zombie
        whose number is taken. The control domain is told by VIRQ_DOM_EXC, and again when a zombie
        is gone. Raises HypercallError -ESRCH when there is no such domain, -EINVAL for domain 0.
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
        self._bury_zombies()
        if self.observers.active:
            self.observers.emit(DomainDestroyed(domid, domid in self._zombies))
        self.channels.raise_virq(CONTROL_DOMAIN, VIRQ_DOM_EXC)

    def domain_info(self, domid: int) -> DomainInfo | None:
        """What is known of a domain, zombies included; None when there is none."""
        record = self._records.get(domid)
        return None if record is None else record.info

    def leaks(self) -> LeakReport:
        """What each domain, zombies included, holds beyond what it was born with."""
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

    def _born_pages(self, space: AddressSpace, count: int) -> list[PageRun]:
        """Pages that a domain has from the start; all or none."""
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
        """A page of a domain that it may offer to the hypervisor: any of its own, except those of
        its grant table, which the hypervisor takes back as it likes."""
        if not 0 <= gfn < self.memory.nr_frames or self.memory.owner[gfn] != domid:
            return None
        return None if gfn in self.grant_tables.table_frames(domid) else self.memory.run(gfn)

    def _mappings(self, frame: int) -> int:
        """How often a frame is mapped, by domains and by the hypervisor."""
        return self.grant_tables.frame_mappings(frame) + self.channels.pages.mappings(frame)

    def _unmapped(self, frame: int) -> None:
        """The last mapping of a frame by domains, or by the hypervisor, is gone."""
        if not self._mappings(frame):
            self._frames.unmapped(frame)

    def _bury_zombies(self) -> bool:
        """Forget destroyed domains that nobody maps pages of any more; True if there was one."""
        gone = [d for d in self._zombies if self._directory.state(d) == NONE]
        for domid in gone:
            self._zombies.remove(domid)
            del self._records[domid]
        return bool(gone)

    def _page_arrived(self, domid: int, frame: int) -> None:
        self._records[domid].received.add(frame)

    def _page_unmapped(self) -> None:
        if self._zombies and self._bury_zombies():
            self.channels.raise_virq(CONTROL_DOMAIN, VIRQ_DOM_EXC)

    def _leaks_of(self, record: DomainRecord) -> DomainLeaks:
        domid = record.info.domid
        tables = self.grant_tables
        channels = [] if record.info.dying else self.channels.open_channels(domid)
        born, handles, ports = record.store_ring, set[int | None](), set[int | None]()
        if born is not None:
            ports.add(born.port)
        if domid == CONTROL_DOMAIN:
            # What it uses a domain's store ring with belongs to that domain's life.
            rings = [r.store_ring for r in self._records.values() if r.store_ring is not None]
            handles.update(ring.server_handle for ring in rings)
            ports.update(ring.server_port for ring in rings)

        def is_born(grant: Grant) -> bool:
            ring_page = born is not None and grant.frame == born.gfn
            return ring_page and grant.gref == GNTTAB_RESERVED_XENSTORE

        return DomainLeaks(
            domid,
            record.info.name,
            granted=tuple(grant for grant in tables.granted(domid) if not is_born(grant)),
            mappings=tuple(m for m in tables.mappings(domid) if m.handle not in handles),
            pinned=tuple(grant for grant in tables.pinned(domid) if not is_born(grant)),
            ports=tuple(
                c.port for c in channels if c.state in _SHARED_STATES and c.port not in ports
            ),
            pages=sum(run.count for run in record.runs.values()) + len(record.received),
            lingering=tuple(self._frames.lingering(domid)),
            store_ring=None if born is None else StoreRingReport.of(born),
        )

    def _observe_grants(self, active: bool) -> None:
        self.grant_tables.observer = self._grant_operation if active else None

    def _grant_operation(
        self, domid: int, op: str, args: tuple[object, ...], result: object
    ) -> None:
        self.observers.emit(Hypercall(domid, op, args, result))

    # Upcalls

    def _poll(self, domid: int, port: int) -> bool:
        taken = self.channels.poll(domid, port)
        if taken:
            self.run_loop.cancel(Delivery("evtchn", domid, port))
        return taken

    def _upcall(self, domid: int, port: int) -> None:
        if self._records[domid].running:
            self.run_loop.post(Delivery("evtchn", domid, port), self._deliver)
            bits = self.channels.bits(domid)
            if bits.prioritised:
                self._overtake(domid, port, bits)

    def _overtake(self, domid: int, port: int, bits: PortBits) -> None:
        """Put the deliveries of a domain that its queues have behind ``port`` there, in their
        order. (A chooser can still take any of them first.)"""
        for delivery in self.run_loop.ready():
            kind, owner, other = delivery
            if kind == "evtchn" and owner == domid and bits.is_behind(other, port):
                self.run_loop.cancel(delivery)
                self.run_loop.post(delivery, self._deliver)

    def _deliver(self, delivery: Delivery) -> None:
        """What a guest's upcall does for one port: take its pending bit, run its handler.

        Nothing when the port was masked or closed, or its bit cleared, in the meantime.
        """
        _, domid, port = delivery
        if not self.channels.bits(domid).take(port):
            return
        record = self._records[domid]
        handler = record.handlers.get(port)
        if self.observers.wants(EventDelivered):
            self.observers.emit(EventDelivered(domid, port, handler is not None))
        if handler is None:
            record.spurious += 1
        else:
            handler()
