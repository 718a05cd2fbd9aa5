"""The handle of a domain: its own memory and its hypercalls, nothing else.

A hypercall always acts for the domain of the handle; there is no parameter for a caller. Memory is
views of the domain's own frames and of pages that a grant mapped to it, and every view ends when
the right to it ends. (Python keeps no secrets: an underscore or ``memoryview.obj`` leads further.
Code that plays by the rules cannot come across another domain's memory.)
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from attrs import define

from xennet.abi.grant_table import GNTMAP_readonly, GNTST_bad_page, GNTST_okay
from xennet.abi.xen import DOMID_SELF
from xennet.evtchn import ChannelStatus, EventChannels, FifoBits
from xennet.gnttab.hypercalls import GrantTables
from xennet.hypervisor.domain_record import DomainInfo, DomainRecord, take_away
from xennet.hypervisor.event_pages import EventPages
from xennet.hypervisor.page_frames import FrameAllocator
from xennet.hypervisor.round_trip import RoundTrip
from xennet.hypervisor.store_ring import StoreRing
from xennet.interface import HypercallError, OutOfFramesError
from xennet.interface import PageRun as AnyPageRun
from xennet.memory import PageRun
from xennet.observe import Hypercall, Interest, Observers
from xennet.runloop import RunLoop

T = TypeVar("T")


@define(eq=False, repr=False)
class Services:
    """What a domain's handle passes its hypercalls on to."""

    frames: FrameAllocator
    grant_tables: GrantTables
    channels: EventChannels
    run_loop: RunLoop
    observers: Observers
    domain_info: Callable[[int], DomainInfo | None]
    shut_down: Callable[[int, int], None]
    page_arrived: Callable[[int, int], None]
    page_unmapped: Callable[[], None]
    poll: Callable[[int, int], bool]


class Domain:
    """One domain, created by Machine.create_domain.

    Event channel hypercalls raise HypercallError with a negative errno; grant table hypercalls
    return GNTST_ codes. Every hypercall raises HypercallError with -ESRCH if the domain does not
    run.
    """

    def __init__(self, services: Services, record: DomainRecord) -> None:
        self._services = services
        self._record = record
        #: The domain's number.
        self.domid = record.info.domid
        self._hypercalls = services.observers.interest(Hypercall)

    def __repr__(self) -> str:
        return f"<Domain {self.domid} {self.name!r}>"

    @property
    def name(self) -> str:
        """The domain's name, for people."""
        return self._record.info.name

    @property
    def vcpus(self) -> int:
        """Number of virtual CPUs, 1..32."""
        return self._record.info.vcpus

    @property
    def privileged(self) -> bool:
        """Whether this is the control domain (domain 0)."""
        return self.domid == 0

    @property
    def alive(self) -> bool:
        """Whether the domain has not been destroyed."""
        return not self._record.info.dying

    @property
    def running(self) -> bool:
        """Whether the domain's code may run: it is neither destroyed nor shut down."""
        return self._record.running

    @property
    def spurious(self) -> int:
        """Number of events that arrived at a port without a handler."""
        return self._record.spurious

    # Memory

    @property
    def shared_info(self) -> PageRun:
        """The shared-info page (xen/xen.h, struct shared_info)."""
        return self._record.shared_info

    @property
    def store_ring(self) -> StoreRing | None:
        """The ring page and the port for the store; None if the domain's builder made none."""
        return self._record.store_ring

    def alloc_pages(self, count: int) -> PageRun:
        """Allocate ``count`` consecutive zeroed pages. Raises OutOfFramesError if there is no such
        run."""
        first = self._issue("XENMEM_populate_physmap", self._services.frames.alloc, count)
        return self._add_run(first, count)

    def free_pages(self, pages: AnyPageRun) -> None:
        """Free a run that :meth:`alloc_pages` or :meth:`adopt` returned; its views end.

        A page that is still mapped by another domain is not reused before it is unmapped there.
        Raises ValueError if the domain does not hold this run.
        """
        run = self._record.runs.get(pages.first)
        if run is None or run is not pages:
            raise ValueError(
                f"domain {self.domid} holds no run of {pages.count} pages at {pages.first:#x}"
            )
        free = self._services.frames.free
        self._issue("XENMEM_decrease_reservation", free, run.first, run.count)
        del self._record.runs[run.first]
        take_away(run)

    def free_frame(self, frame: int) -> None:
        """Free one page, also of a longer run, or one that arrived by a transfer: what
        :meth:`free_pages` does with whole runs.

        The views of the whole run end; :meth:`adopt` returns new ones of the pages that are left.
        Raises ValueError if ``frame`` is no page that the domain can free.
        """
        record, op = self._record, "XENMEM_decrease_reservation"
        self._require_running(op)
        if not record.take_apart(frame):
            raise ValueError(f"domain {self.domid} cannot free frame {frame:#x}")
        self._issue(op, self._services.frames.free, frame, 1)
        record.received.remove(frame)

    @property
    def allocated(self) -> int:
        """Number of pages that the domain allocated or received: what it can free."""
        return self._record.allocated

    @property
    def lingering(self) -> int:
        """Number of pages that the domain gave up and that are still mapped: memory that nobody
        else gets."""
        return self._services.frames.nr_lingering(self.domid)

    def can_access(self, frame: int, *, write: bool = False) -> bool:
        """Whether the domain may read ``frame``, or ``write`` it too: it is its own, or mapped by a
        grant."""
        space = self._record.space
        return space.can_write(frame) if write else space.can_access(frame)

    def adopt(self, frame: int) -> PageRun:
        """Views of a page that arrived by GNTTABOP_transfer (its frame is in the grant entry).

        Also for a page that is left of a run from which another page was transferred away or freed.
        Raises ValueError if ``frame`` is no such page.
        """
        if frame not in self._record.received:
            raise ValueError(f"no page {frame:#x} waits to be adopted by domain {self.domid}")
        self._record.received.remove(frame)
        return self._add_run(frame, 1)

    def table_pages(self, first: int, count: int) -> PageRun:
        """Views of frames of the domain's own grant table, or of its status frames.

        :meth:`setup_table` and :meth:`get_status_frames` return their numbers. Raises ValueError
        for any other frame.
        """
        self._require_running("GNTTABOP_setup_table")
        table = self._services.grant_tables.table_frames(self.domid)
        if not set(range(first, first + count)) <= set(table):
            raise ValueError(
                f"frames {first:#x}..{first + count - 1:#x} are not all of the grant table of "
                f"domain {self.domid}"
            )
        pages = self._record.space.run(first, count)
        self._record.fixed.append(pages)
        return pages

    # Grant tables (xen/grant_table.h)

    def map_grant_ref(self, dom: int, ref: int, flags: int) -> tuple[int, int, PageRun | None]:
        """GNTTABOP_map_grant_ref. Returns (status, handle, views of the page; None if it was
        refused).

        With GNTMAP_readonly the views are read-only.
        """
        self._require_running("GNTTABOP_map_grant_ref")
        tables = self._services.grant_tables
        status, handle, frame = tables.map_grant_ref(self.domid, dom, ref, flags)
        if status != GNTST_okay:
            return status, handle, None
        page = self._record.space.run(frame, readonly=bool(flags & GNTMAP_readonly))
        self._record.mapped[handle] = page
        return status, handle, page

    def unmap_grant_ref(self, handle: int) -> int:
        """GNTTABOP_unmap_grant_ref. Returns the status. The views of the page end."""
        self._require_running("GNTTABOP_unmap_grant_ref")
        page = self._record.mapped.pop(handle, None)
        if page is not None:
            take_away(page)
        status = self._services.grant_tables.unmap_grant_ref(self.domid, handle)
        self._services.page_unmapped()
        return status

    def grant_copy(self, ops: memoryview, count: int) -> None:
        """GNTTABOP_copy: ``count`` struct gnttab_copy in ``ops`` (u32 words, 10 each).

        The status of each is written into its place there. Raises ValueError if ``ops`` is too
        short.
        """
        if not self._record.running:
            self._require_running("GNTTABOP_copy")
        self._services.grant_tables.copy(self.domid, ops, count)

    def grant_transfer(self, frame: int, dom: int, ref: int) -> int:
        """GNTTABOP_transfer: give one of the domain's pages away. Returns the status.

        GNTST_bad_page unless the page came from :meth:`alloc_pages` or by a transfer, or while it
        is mapped (also by the hypervisor, for the FIFO ABI). With any other status the page is
        gone. The views of its whole run end; :meth:`adopt` returns new ones of the pages that are
        left.
        """
        self._require_running("GNTTABOP_transfer")
        record = self._record
        if record.run_with(frame) is None and frame not in record.received:
            return GNTST_bad_page
        if self._services.channels.pages.mappings(frame):
            return GNTST_bad_page
        status = self._services.grant_tables.transfer(self.domid, frame, dom, ref)
        if status == GNTST_bad_page:
            return status
        record.take_apart(frame)
        record.received.remove(frame)
        if status == GNTST_okay:
            self._services.page_arrived(dom, frame)
        return status

    def setup_table(self, dom: int, nr_frames: int) -> tuple[int, Sequence[int]]:
        """GNTTABOP_setup_table: grow the table to ``nr_frames``. Returns (status, frame
        numbers)."""
        self._require_running("GNTTABOP_setup_table")
        return self._services.grant_tables.setup_table(self.domid, dom, nr_frames)

    def get_status_frames(self, dom: int, nr_frames: int) -> tuple[int, Sequence[int]]:
        """GNTTABOP_get_status_frames. Returns (status, frame numbers)."""
        self._require_running("GNTTABOP_get_status_frames")
        return self._services.grant_tables.get_status_frames(self.domid, dom, nr_frames)

    def query_size(self, dom: int) -> tuple[int, int, int]:
        """GNTTABOP_query_size. Returns (status, frames in use, most frames)."""
        self._require_running("GNTTABOP_query_size")
        return self._services.grant_tables.query_size(self.domid, dom)

    def set_version(self, version: int) -> int:
        """GNTTABOP_set_version. Returns 0 or a negative errno.

        Views of status frames, which version 1 does not have, show an unused page after going back
        to it.
        """
        self._require_running("GNTTABOP_set_version")
        return self._services.grant_tables.set_version(self.domid, version)

    def get_version(self, dom: int) -> int:
        """GNTTABOP_get_version. Returns 1, 2 or a negative errno."""
        self._require_running("GNTTABOP_get_version")
        return self._services.grant_tables.get_version(self.domid, dom)

    def swap_grant_ref(self, ref_a: int, ref_b: int) -> int:
        """GNTTABOP_swap_grant_ref. Returns the status."""
        self._require_running("GNTTABOP_swap_grant_ref")
        return self._services.grant_tables.swap_grant_ref(self.domid, ref_a, ref_b)

    # Event channels (xen/event_channel.h); the rules and errors are told in xennet.evtchn.channels

    def alloc_unbound(self, dom: int, remote_dom: int) -> int:
        """EVTCHNOP_alloc_unbound. Returns the port."""
        call = self._services.channels.alloc_unbound
        port = self._issue("EVTCHNOP_alloc_unbound", call, dom, remote_dom)
        return self._opened(port) if dom in (DOMID_SELF, self.domid) else port

    def bind_interdomain(self, remote_dom: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. Returns the local port."""
        call = self._services.channels.bind_interdomain
        return self._opened(self._issue("EVTCHNOP_bind_interdomain", call, remote_dom, remote_port))

    def bind_virq(self, virq: int, vcpu: int) -> int:
        """EVTCHNOP_bind_virq. Returns the port."""
        call = self._services.channels.bind_virq
        return self._opened(self._issue("EVTCHNOP_bind_virq", call, virq, vcpu))

    def bind_pirq(self, pirq: int, flags: int) -> int:
        """EVTCHNOP_bind_pirq: always refused, for there are no physical interrupts."""
        return self._issue("EVTCHNOP_bind_pirq", self._services.channels.bind_pirq, pirq, flags)

    def bind_ipi(self, vcpu: int) -> int:
        """EVTCHNOP_bind_ipi. Returns the port."""
        call = self._services.channels.bind_ipi
        return self._opened(self._issue("EVTCHNOP_bind_ipi", call, vcpu))

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        """EVTCHNOP_bind_vcpu."""
        self._issue("EVTCHNOP_bind_vcpu", self._services.channels.bind_vcpu, port, vcpu)

    def send(self, port: int) -> None:
        """EVTCHNOP_send."""
        send = self._services.channels.send
        if self._record.running and not self._hypercalls.any:
            send(self.domid, port)
        else:
            self._issue("EVTCHNOP_send", send, port)

    def status(self, dom: int, port: int) -> ChannelStatus:
        """EVTCHNOP_status."""
        return self._issue("EVTCHNOP_status", self._services.channels.status, dom, port)

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask."""
        self._issue("EVTCHNOP_unmask", self._services.channels.unmask, port)

    def close(self, port: int) -> None:
        """EVTCHNOP_close. The handler of the port is removed.

        The mask bit is set first, as Linux does, or a later user of the port could get an event at
        once; not where the domain's own code takes its upcalls.
        """
        self._issue("EVTCHNOP_close", self._services.channels.close, port)
        self._record.handlers.pop(port, None)
        if self._record.upcall is None:
            self.mask(port)

    def reset(self, dom: int) -> None:
        """EVTCHNOP_reset: close all ports of the domain and return it to the 2-level ABI."""
        self._issue("EVTCHNOP_reset", self._services.channels.reset, dom)
        self._record.handlers.clear()
        if self._record.upcall is None:
            self._services.channels.bits(self.domid).mask_all()

    def init_control(self, control_gfn: int, offset: int, vcpu: int) -> int:
        """EVTCHNOP_init_control. Returns link_bits."""
        call = self._services.channels.init_control
        return self._issue("EVTCHNOP_init_control", call, control_gfn, offset, vcpu)

    def expand_array(self, array_gfn: int) -> None:
        """EVTCHNOP_expand_array."""
        self._issue("EVTCHNOP_expand_array", self._services.channels.expand_array, array_gfn)

    def set_priority(self, port: int, priority: int) -> None:
        """EVTCHNOP_set_priority."""
        call = self._services.channels.set_priority
        self._issue("EVTCHNOP_set_priority", call, port, priority)

    # What the guest's kernel does with its own events and time

    @property
    def evtchn_abi(self) -> str:
        """The ABI by which the domain receives events: "2l" or "fifo"."""
        return self._services.channels.bits(self.domid).abi

    def use_fifo_events(self) -> None:
        """Change to the FIFO ABI, as a kernel does at boot or after a reset.

        Allocates a control block for each vCPU and event words for the ports that exist; more event
        words are allocated with later ports. The domain has these pages for life. All ports are
        masked afterwards. Raises OutOfFramesError if the machine is full, HypercallError if the ABI
        is in use already.
        """
        record = self._record
        if record.event_pages is None:
            record.event_pages = EventPages()
        record.event_pages.start(self, self.vcpus, self._event_page)
        channels = self._services.channels.open_channels(self.domid)
        self._reach(max((channel.port for channel in channels), default=0))

    def mask(self, port: int) -> None:
        """Mask ``port`` by a store into a page of the domain's own.

        Raises ValueError for a number that can have no mask bit.
        """
        self._require_running("mask")
        bits = self._services.channels.bits(self.domid)
        if not 0 <= port < bits.nr_ports:
            raise ValueError(f"port {port} has no mask bit (0..{bits.nr_ports - 1} have)")
        bits.mask(port)

    def poll(self, port: int) -> bool:
        """Take a pending event of ``port`` without an upcall: its handler does not run.

        A domain that waits for just this event does so (SCHEDOP_poll, which returns at once if the
        port is pending, masked or not). Returns False if no event is pending. -EINVAL if there is
        no such port.
        """
        self._require_running("SCHEDOP_poll")
        return self._services.poll(self.domid, port)

    def round_trip(self, port: int, remote: Domain, remote_port: int) -> RoundTrip:
        """Events that the domain sends by ``port`` to ``remote_port`` of ``remote``, and takes from
        there, in one step."""
        services = self._services
        return RoundTrip(
            self._record,
            port,
            remote._record,
            remote_port,
            services.channels,
            services.run_loop,
            self._hypercalls,
        )

    def set_handler(self, port: int, handler: Callable[[], None]) -> None:
        """Make ``handler`` what an upcall runs when ``port`` is pending. Ports begin masked
        (:meth:`unmask`)."""
        self._require_running("set_handler")
        self._reach(port)
        self._record.handlers[port] = handler

    @property
    def own_kernel(self) -> bool:
        """Whether the domain's kernel is code outside of this process (:meth:`take_upcalls`)."""
        return self._record.upcall is not None

    def take_upcalls(self, upcall: Callable[[], None]) -> None:
        """Leave the domain to a kernel of its own, outside of this process: it reads and clears the
        event bits, which are those of the 2-level ABI at first, and uses the store ring.
        ``upcall()`` is called for every event that arrives.

        Ports stay open, and all are masked. Raises ValueError if a kernel is at work already: one
        of its own, or here, where ports have handlers, but for that of the store.
        """
        record = self._record
        self._require_running("take_upcalls")
        ring = set() if record.store_ring is None else {record.store_ring.port}
        if record.upcall is not None or record.handlers.keys() - ring:
            raise ValueError(f"domain {self.domid} has a kernel")
        record.upcall = upcall
        record.handlers.clear()
        self._services.channels.use_two_level(self.domid)
        self._services.channels.bits(self.domid).mask_all()
        pages, record.event_pages = record.event_pages or (), None
        for page in pages:
            take_away(page)
            self._services.frames.free(self.domid, page.first, 1)

    def await_ports(self, ports: Collection[int]) -> bool:
        """SCHEDOP_poll as Xen begins it. Returns whether an event of any of ``ports`` is pending
        now, masked or not; if not, the next one makes an upcall even though it is masked.

        Another call forgets the ports of this one. -EINVAL if one of them is no port.
        """
        op = "SCHEDOP_poll"
        self._require_running(op)
        return self._services.channels.await_ports(self.domid, ports)

    @property
    def now(self) -> int:
        """Virtual time in ns since the machine was made."""
        return self._services.run_loop.now

    def call_after(
        self, delay: int, work: Callable[[], None], *, background: bool = False
    ) -> Callable[[], None]:
        """Run ``work()`` in ``delay`` ns of virtual time, as RunLoop.call_at. Returns a function
        that prevents it.

        Nothing runs if the domain stops before.
        """
        loop = self._services.run_loop
        timer = loop.call_after(delay, self.domid, work, background=background)

        def cancel() -> None:
            loop.cancel_timer(timer)

        return cancel

    def defer(self, work: Callable[[], None]) -> None:
        """Run ``work()`` later, as a delivery of the run loop."""
        if not self._record.running:
            self._require_running("defer")
        self._services.run_loop.defer(self.domid, work)

    def shutdown(self, reason: int) -> None:
        """SCHEDOP_shutdown: stop the domain at once; ``reason`` is SHUTDOWN_*."""
        self._issue("SCHEDOP_shutdown", self._services.shut_down, reason)

    # Control

    def domain_info(self, domid: int) -> DomainInfo:
        """XEN_DOMCTL_getdomaininfo. -EPERM if this is not domain 0, -ESRCH if there is no such
        domain."""
        op = "XEN_DOMCTL_getdomaininfo"
        self._require_running(op)
        if not self.privileged:
            raise HypercallError(op, -errno.EPERM, f"domain {self.domid} is not privileged")
        info = self._services.domain_info(domid)
        if info is None:
            raise HypercallError(op, -errno.ESRCH, f"there is no domain {domid}")
        return info

    def interest(self, kind: type) -> Interest:
        """The interest of observers in events of ``kind``."""
        return self._services.observers.interest(kind)

    def emit(self, event: object) -> None:
        """Show an event to the machine's observers."""
        self._services.observers.emit(event)

    def _add_run(self, first: int, count: int) -> PageRun:
        run = self._record.space.run(first, count)
        self._record.runs[first] = run
        return run

    def _event_page(self) -> PageRun:
        return self._record.space.run(self._services.frames.alloc(self.domid, 1))

    def _reach(self, port: int) -> None:
        """Provide an event word for ``port``, which may have been opened by another domain."""
        pages, bits = self._record.event_pages, self._services.channels.bits(self.domid)
        if pages is not None and bits.abi == FifoBits.abi and port < bits.nr_ports:
            pages.reach(self, port, self._event_page)

    def _opened(self, port: int) -> int:
        """Finish opening one of the domain's ports; if it gets no event word it is closed again."""
        try:
            self._reach(port)
        except OutOfFramesError:
            self.close(port)
            raise
        return port

    def _require_running(self, op: str) -> None:
        if not self._record.running:
            raise HypercallError(op, -errno.ESRCH, f"domain {self.domid} does not run any more")

    def _issue(self, op: str, call: Callable[..., T], *args: int) -> T:
        """Make a hypercall and show it to observers, also if it is refused.

        The grant table operations are shown by GrantTables.observer instead.
        """
        self._require_running(op)
        if not self._hypercalls.any:
            return call(self.domid, *args)
        observers = self._services.observers
        try:
            result = call(self.domid, *args)
        except HypercallError as refusal:
            observers.emit(Hypercall(self.domid, op, args, refusal.status))
            raise
        observers.emit(Hypercall(self.domid, op, args, result))
        return result
