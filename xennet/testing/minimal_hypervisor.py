"""A second implementation of xennet.interface.Hypervisor, as small and as plain as it can be.

It shares nothing with xennet's own machine but the abi constants and the interface: pages live in
a dict, a grant copy is a few ifs, the store is a dict, events are a queue. A driver that runs on
both depends on the interface alone. Grant table version 1, no quotas, no permissions, no timers.

    machine = MinimalMachine()
    back, front = machine.domain(0), machine.domain(1)
    ...
    machine.run()       # deliver events and watches, run deferred work, until nothing is left
"""

from __future__ import annotations

import errno
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field

from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTTAB_NR_RESERVED_ENTRIES,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_no_space,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_type_mask,
    GTF_writing,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.interface import HypercallError
from xennet.xenstore.errors import XsError

GRANT_ENTRIES = 2048
GNTTABOP_map = "GNTTABOP_map_grant_ref"


@define(eq=False)
class Pages:
    """Consecutive frames (interface.PageRun) over one buffer."""

    first: int
    count: int
    buffer: bytearray = field(repr=False)
    u8: memoryview = field(init=False, repr=False)
    u16: memoryview = field(init=False, repr=False)
    u32: memoryview = field(init=False, repr=False)
    u64: memoryview = field(init=False, repr=False)
    offset: int = 0

    def __attrs_post_init__(self) -> None:
        self.u8 = memoryview(self.buffer)[self.offset : self.offset + self.count * PAGE_SIZE]
        self.u16 = self.u8.cast("H")
        self.u32 = self.u8.cast("I")
        self.u64 = self.u8.cast("Q")

    def revoke(self) -> None:
        """Release all views: who still uses one gets a ValueError."""
        for view in (self.u16, self.u32, self.u64, self.u8):
            view.release()


@define(eq=False)
class Frame:
    """One page of the machine: whose, and where its bytes are."""

    owner: int
    pages: Pages

    def bytes_of(self, number: int) -> memoryview:
        """The bytes of the page with this frame ``number``."""
        at = (number - self.pages.first) * PAGE_SIZE
        return self.pages.u8[at : at + PAGE_SIZE]


@define(eq=False)
class Mapping:
    """A mapped grant (interface.GrantMapping)."""

    domid: int
    gref: int
    page: Pages
    readonly: bool
    live: bool = True


@define(eq=False)
class Channel:
    """One end of an event channel; ``remote_port`` None while nobody is bound to it."""

    remote_domid: int
    remote_port: int | None = None
    handler: Callable[[], None] | None = None
    pending: bool = False
    posted: bool = False
    masked: bool = False


@define(eq=False)
class Watch:
    domid: int
    path: str
    given: str
    token: str
    callback: Callable[[str, str], None]


class MinimalMachine:
    """All domains, their frames, the store and the queue of what is to be delivered."""

    def __init__(self) -> None:
        self.domains: dict[int, MinimalHypervisor] = {}
        self.frames: dict[int, Frame] = {}
        self.queue: deque[Callable[[], None]] = deque()
        self.nodes: dict[str, bytes] = {"/": b""}
        self.watches: list[Watch] = []
        self.next_frame = 0x1000
        self.now = 0
        self.timers: list[tuple[int, list[Callable[[], None]]]] = []

    def advance(self, ns: int) -> None:
        """Let time pass; timers that have run out join the queue, in order."""
        self.now += ns
        due = sorted((t for t in self.timers if t[0] <= self.now), key=lambda t: t[0])
        self.timers = [t for t in self.timers if t[0] > self.now]
        for _, calls in due:
            self.queue.extend(calls)

    def domain(self, domid: int) -> MinimalHypervisor:
        """The domain ``domid``, made when it is first asked for."""
        if domid not in self.domains:
            self.domains[domid] = MinimalHypervisor(self, domid)
        return self.domains[domid]

    def run(self, limit: int = 100_000) -> int:
        """Deliver until nothing is left; returns how many there were, at most ``limit``."""
        done = 0
        while self.queue:
            if done == limit:
                raise RuntimeError(f"still busy after {limit} deliveries")
            self.queue.popleft()()
            done += 1
        return done

    def held(self) -> list[str]:
        """What domains hold, one line for each thing; empty if nothing: frames, mappings, ports,
        claimed grant references."""
        lines = [f"domain {frame.owner} has frame {n:#x}" for n, frame in self.frames.items()]
        for domid, hv in self.domains.items():
            lines += [f"domain {domid} maps gref {one.gref}" for one in hv.mappings]
            lines += [f"domain {domid} has port {port}" for port in hv.ports]
            claimed = len(hv.grants.pins) - GNTTAB_NR_RESERVED_ENTRIES - len(hv.grants.free)
            lines += [f"domain {domid} has claimed {claimed} references"] if claimed else []
        return lines

    def alloc(self, owner: int, count: int) -> Pages:
        """``count`` consecutive zeroed pages for the domain ``owner``."""
        pages = Pages(self.next_frame, count, bytearray(count * PAGE_SIZE))
        self.next_frame += count + 1  # a hole: runs never touch each other
        for number in range(pages.first, pages.first + count):
            self.frames[number] = Frame(owner, pages)
        return pages


class MinimalGrants:
    """A domain's own grant table, version 1 (interface.GuestGrants)."""

    shift = 1
    status_shift = 2

    def __init__(self, machine: MinimalMachine, domid: int) -> None:
        table = bytearray(GRANT_ENTRIES * 8)
        self.words = memoryview(table).cast("I")
        self.status = memoryview(table).cast("H")
        self.pins = [0] * GRANT_ENTRIES
        self.free = list(range(GRANT_ENTRIES - 1, GNTTAB_NR_RESERVED_ENTRIES - 1, -1))

    def claim(self, count: int) -> list[int]:
        """Take ``count`` free references. Raises HypercallError if there are not so many."""
        if count > len(self.free):
            raise HypercallError("gnttab_alloc_grant_references", GNTST_no_space, "table full")
        return [self.free.pop() for _ in range(count)]

    def release(self, grefs: Sequence[int]) -> None:
        """Give references back. Raises ValueError for one that is granted or free."""
        for gref in grefs:
            if self.status[gref << self.status_shift] & GTF_type_mask or gref in self.free:
                raise ValueError(f"gref {gref} is still granted, or was never claimed")
        self.free.extend(grefs)

    def grant_access(self, domid: int, frame: int, readonly: bool = False) -> int:
        """Grant a frame to ``domid``. Returns the reference."""
        (gref,) = self.claim(1)
        self.words[(gref << self.shift) + self.shift] = frame
        flags = GTF_permit_access | (GTF_readonly if readonly else 0)
        self.words[gref << self.shift] = domid << 16 | flags
        return gref

    def end_access(self, gref: int) -> bool:
        """End a grant and give its reference back. Returns False while it is in use."""
        at = gref << self.status_shift
        if self.status[at] & (GTF_reading | GTF_writing):
            return False
        self.status[at] = 0
        self.release([gref])
        return True

    def end_all(self, grefs: Sequence[int]) -> list[int]:
        """End several. Returns those that are in use."""
        return [gref for gref in grefs if not self.end_access(gref)]


class MinimalStore:
    """A connection to the store (interface.StoreClient); paths as xenstored resolves them."""

    def __init__(self, machine: MinimalMachine, domid: int) -> None:
        self.machine = machine
        self.domid = domid
        self._held: list[str] | None = None  # paths changed inside a transaction

    def read(self, path: str) -> bytes:
        """The value of a node. Raises XsError if there is none."""
        return self.machine.nodes[self._existing(path)]

    def write(self, path: str, value: bytes | str | int) -> None:
        """Set a node, and make its parents; numbers are written in decimal."""
        raw = value if isinstance(value, bytes) else str(value).encode()
        full = self._full(path)
        self._make_parents(full)
        self.machine.nodes[full] = raw
        self._changed(full)

    def rm(self, path: str) -> None:
        """Remove a node and all below it. Raises XsError if it has no parent either."""
        full = self._full(path)
        if full not in self.machine.nodes:
            self._existing(full.rpartition("/")[0] or "/")
            return
        for node in [n for n in self.machine.nodes if n == full or n.startswith(full + "/")]:
            del self.machine.nodes[node]
        self._changed(full)

    def mkdir(self, path: str) -> None:
        """Make an empty node, and its parents, if it is not there."""
        full = self._full(path)
        if full not in self.machine.nodes:
            self._make_parents(full)
            self.machine.nodes[full] = b""
            self._changed(full)

    def directory(self, path: str) -> list[str]:
        """The names right below a node. Raises XsError if there is no such node."""
        inside = self._existing(path).rstrip("/") + "/"
        below = [node[len(inside) :] for node in self.machine.nodes if node.startswith(inside)]
        return [name for name in below if name and "/" not in name]

    def set_perms(self, path: str, perms: Sequence[str]) -> None:
        """Do nothing. Raises XsError if there is no such node."""
        self._existing(path)  # who may do what is not modelled

    def transact(self, body: Callable[[Any], Any]) -> Any:
        """All of ``body`` or, if it raises, nothing; watches fire afterwards."""
        before = dict(self.machine.nodes)
        self._held = []
        try:
            result = body(self)
        except BaseException:
            self.machine.nodes = before
            self._held = None
            raise
        held, self._held = self._held, None
        for path in held:
            self._changed(path)
        return result

    def watch(self, path: str, token: str, callback: Callable[[str, str], None]) -> None:
        """Call ``callback(path, token)`` once now, and whenever something changes there."""
        watch = Watch(self.domid, self._full(path), path, token, callback)
        self.machine.watches.append(watch)
        self._post(watch, watch.path)

    def unwatch(self, path: str, token: str) -> None:
        """End a watch. Raises XsError if there is none."""
        for watch in self.machine.watches:
            if (watch.domid, watch.given, watch.token) == (self.domid, path, token):
                self.machine.watches.remove(watch)
                return
        raise XsError("ENOENT", path)

    def _full(self, path: str) -> str:
        return path if path.startswith("/") else f"/local/domain/{self.domid}/{path}"

    def _existing(self, path: str) -> str:
        full = self._full(path)
        if full not in self.machine.nodes:
            raise XsError("ENOENT", path)
        return full

    def _make_parents(self, full: str) -> None:
        parts = full.split("/")
        for depth in range(2, len(parts)):
            self.machine.nodes.setdefault("/".join(parts[:depth]), b"")

    def _changed(self, full: str) -> None:
        if self._held is not None:
            self._held.append(full)
            return
        for watch in list(self.machine.watches):
            below = full == watch.path or full.startswith(watch.path.rstrip("/") + "/")
            parent_went = full not in self.machine.nodes and watch.path.startswith(full + "/")
            if below:
                self._post(watch, full)
            elif parent_went:
                self._post(watch, watch.path)

    def _post(self, watch: Watch, full: str) -> None:
        relative = not watch.given.startswith("/")
        home = f"/local/domain/{watch.domid}/"
        shown = full[len(home) :] if relative and full.startswith(home) else full

        def deliver() -> None:
            if watch in self.machine.watches:
                watch.callback(shown, watch.token)

        self.machine.queue.append(deliver)


class MinimalInterest:
    """Nobody's, until a test says otherwise."""

    any = False


class MinimalHypervisor:
    """One domain's view (interface.Hypervisor)."""

    def __init__(self, machine: MinimalMachine, domid: int) -> None:
        self.machine = machine
        self.domid = domid
        self.grants = MinimalGrants(machine, domid)
        self.store = MinimalStore(machine, domid)
        self.events: list[object] = []
        self.ports: dict[int, Channel] = {}
        self.mappings: list[Mapping] = []
        self.interests: defaultdict[type, MinimalInterest] = defaultdict(MinimalInterest)

    def interest(self, kind: type) -> MinimalInterest:
        """The interest of observers in events of ``kind``; a test may set it."""
        return self.interests[kind]

    # Memory

    def alloc_pages(self, count: int) -> Pages:
        """Allocate ``count`` consecutive zeroed pages."""
        return self.machine.alloc(self.domid, count)

    def free_pages(self, pages: Any) -> None:
        """Free pages. Raises ValueError if they are not all the domain's own."""
        for number in range(pages.first, pages.first + pages.count):
            frame = self.machine.frames.get(number)
            if frame is None or frame.owner != self.domid:
                raise ValueError(f"frame {number:#x} is not one of domain {self.domid}'s")
        for number in range(pages.first, pages.first + pages.count):
            del self.machine.frames[number]

    # Grants

    def map_grant(self, domid: int, gref: int, readonly: bool = False) -> Mapping:
        """GNTTABOP_map_grant_ref of one page. Raises HypercallError on refusal."""
        granter = self.machine.domains.get(domid)
        if granter is None:
            raise HypercallError(GNTTABOP_map, GNTST_bad_domain, f"no domain {domid}")
        status, number = self._claim(granter, gref, write=not readonly)
        if status != GNTST_okay:
            raise HypercallError(GNTTABOP_map, status, f"domain {domid} gref {gref}")
        pages = self.machine.frames[number].pages
        page = Pages(number, 1, pages.buffer, offset=(number - pages.first) * PAGE_SIZE)
        granter.grants.pins[gref] += 1
        granter.grants.status[gref << 2] |= GTF_reading | (0 if readonly else GTF_writing)
        mapping = Mapping(domid, gref, page, readonly)
        self.mappings.append(mapping)
        return mapping

    def unmap_grant(self, mapping: Any) -> None:
        """GNTTABOP_unmap_grant_ref. Raises HypercallError if it is not mapped."""
        if not mapping.live or mapping not in self.mappings:
            raise HypercallError("GNTTABOP_unmap_grant_ref", GNTST_bad_handle, f"{mapping!r}")
        mapping.live = False
        self.mappings.remove(mapping)
        mapping.page.revoke()
        grants = self.machine.domains[mapping.domid].grants
        grants.pins[mapping.gref] -= 1
        if not grants.pins[mapping.gref]:
            grants.status[mapping.gref << 2] &= ~(GTF_reading | GTF_writing)

    def grant_copy(self, ops: memoryview, count: int) -> None:
        """GNTTABOP_copy of ``count`` struct gnttab_copy; each gets its own status."""
        raw = ops.cast("B")
        for i in range(count):
            at = i * GNTTAB_COPY.size
            status = self._copy(raw[at : at + GNTTAB_COPY.size])
            place = at + GNTTAB_COPY.offsets["status"]
            raw[place : place + 2] = status.to_bytes(2, "little", signed=True)

    def _copy(self, raw: memoryview) -> int:
        flags = GNTTAB_COPY.read(raw).flags & (GNTCOPY_source_gref | GNTCOPY_dest_gref)
        op = GNTTAB_COPY_BY_FLAGS[flags].unpack_from(raw)
        s_where, s_domid, s_offset, d_where, d_domid, d_offset, length, *_ = op
        if length == 0:
            return GNTST_okay
        by_gref = (flags & GNTCOPY_source_gref, flags & GNTCOPY_dest_gref)
        domids = (s_domid, d_domid)
        found = []
        for named, domid in zip(by_gref, domids, strict=True):
            if not named and domid != DOMID_SELF:
                return GNTST_permission_denied
            domain = self if domid == DOMID_SELF else self.machine.domains.get(domid)
            if domain is None:
                return GNTST_bad_domain
            found.append(domain)
        numbers = []
        for side, where in enumerate((s_where, d_where)):
            if by_gref[side]:
                status, number = self._claim(found[side], where, write=side == 1)
                if status != GNTST_okay:
                    return status
            else:
                frame = self.machine.frames.get(where)
                if frame is None or frame.owner != self.domid:
                    return GNTST_bad_page
                number = where
            numbers.append(number)
        if s_offset + length > PAGE_SIZE or d_offset + length > PAGE_SIZE:
            return GNTST_bad_copy_arg
        source, dest = (self.machine.frames[number].bytes_of(number) for number in numbers)
        dest[d_offset : d_offset + length] = source[s_offset : s_offset + length]
        return GNTST_okay

    def _claim(self, granter: MinimalHypervisor, gref: int, *, write: bool) -> tuple[int, int]:
        """Status and frame number of ``gref``, for this domain to read or write."""
        if gref >= GRANT_ENTRIES:
            return GNTST_bad_gntref, 0
        head = granter.grants.words[gref << 1]
        if head & GTF_type_mask != GTF_permit_access or head >> 16 != self.domid:
            return GNTST_general_error, 0
        if write and head & GTF_readonly:
            return GNTST_general_error, 0
        number = granter.grants.words[(gref << 1) + 1]
        frame = self.machine.frames.get(number)
        if frame is None or frame.owner != granter.domid:
            return GNTST_bad_page, 0
        return GNTST_okay, number

    # Event channels

    def alloc_unbound(self, remote_domid: int) -> int:
        """EVTCHNOP_alloc_unbound for oneself. Returns the local port."""
        port = next(p for p in range(1, 4096) if p not in self.ports)
        self.ports[port] = Channel(remote_domid)
        return port

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """EVTCHNOP_bind_interdomain. Returns the local port. Raises HypercallError."""
        op = "EVTCHNOP_bind_interdomain"
        remote = self.machine.domains.get(remote_domid)
        if remote is None:
            raise HypercallError(op, -errno.ESRCH, f"no domain {remote_domid}")
        theirs = remote.ports.get(remote_port)
        if theirs is None or theirs.remote_port is not None or theirs.remote_domid != self.domid:
            raise HypercallError(op, -errno.EINVAL, f"domain {remote_domid} port {remote_port}")
        port = self.alloc_unbound(remote_domid)
        self.ports[port].remote_port = remote_port
        self.ports[port].pending = True  # an event may have been sent before there was a port
        theirs.remote_port = port
        return port

    def on_event(self, port: int, handler: Callable[[], None]) -> None:
        """Run ``handler`` when an event arrives at ``port``; this unmasks the port."""
        channel = self._port(port, "on_event")
        channel.handler = handler
        channel.masked = False
        self._post_event(channel)

    def mask(self, port: int) -> None:
        """Hold events of ``port`` back; an event that comes is remembered."""
        self._port(port, "mask").masked = True

    def unmask(self, port: int) -> None:
        """EVTCHNOP_unmask: an event that was held back arrives now."""
        channel = self._port(port, "EVTCHNOP_unmask")
        channel.masked = False
        self._post_event(channel)

    def notify(self, port: int) -> None:
        """EVTCHNOP_send; it goes nowhere if the other end is not bound."""
        channel = self._port(port, "EVTCHNOP_send")
        if channel.remote_port is None:
            return
        remote = self.machine.domains[channel.remote_domid]
        theirs = remote.ports[channel.remote_port]
        theirs.pending = True
        remote._post_event(theirs)

    def close_port(self, port: int) -> None:
        """EVTCHNOP_close: the other end becomes unbound."""
        channel = self._port(port, "EVTCHNOP_close")
        del self.ports[port]
        channel.handler = None
        if channel.remote_port is not None:
            theirs = self.machine.domains[channel.remote_domid].ports[channel.remote_port]
            theirs.remote_domid, theirs.remote_port = self.domid, None

    def _port(self, port: int, op: str) -> Channel:
        if port not in self.ports:
            raise HypercallError(op, -errno.EINVAL, f"domain {self.domid} has no port {port}")
        return self.ports[port]

    def _post_event(self, channel: Channel) -> None:
        """Queue the delivery, once, if there is an event and somebody to hear it."""
        if not channel.pending or channel.posted or channel.masked or channel.handler is None:
            return
        channel.posted = True

        def deliver() -> None:
            channel.posted = False
            if channel.masked:
                return
            channel.pending = False
            if channel.handler is not None:
                channel.handler()

        self.machine.queue.append(deliver)

    # The rest

    def defer(self, work: Callable[[], None]) -> None:
        """Run ``work`` when the machine runs, after what is queued already."""
        self.machine.queue.append(work)

    @property
    def now(self) -> int:
        """The time in ns."""
        return self.machine.now

    def call_after(
        self, delay: int, work: Callable[[], None], *, background: bool = False
    ) -> Callable[[], None]:
        """Run ``work`` ``delay`` ns from now. Returns a function that prevents it."""
        calls = [work]
        self.machine.timers.append((self.machine.now + delay, calls))
        return calls.clear

    def emit(self, event: object) -> None:
        """Add ``event`` to ``events``."""
        self.events.append(event)
