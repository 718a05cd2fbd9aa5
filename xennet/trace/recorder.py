"""The recorder: every step of a machine as an event, in the order of causes (docs/trace.md).

    with recording() as recorder:            # plain kernels over memory that tells of each access
        machine = ...
    recorder.sink(events.append)
    recorder.attach(machine)

Nothing is kept but a copy of each shared memory, by which changes are found that were made past the
views. A machine that was not made inside :func:`recording` knows nothing of all this.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, cast

import attrs

from xennet.abi.grant_table import GNTST_NAMES, GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import (
    COPY_STRIDE,
    REQ_EVENT,
    REQ_PROD,
    RSP_EVENT,
    RSP_PROD,
    COPY_S_flags,
    COPY_S_offset,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.address import address_of
from xennet.engine.choice import F, using
from xennet.engine.kernel import LOG_HEADER, LOG_RECORD
from xennet.engine.watched import LOAD, STORE, UPDATE, Kind, Teller, WatchedView
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.gnttab.directory import ROW_VERSION, ROW_WORDS
from xennet.hypervisor import Machine
from xennet.observe import (
    DomainCreated,
    EventSent,
    FramePassed,
    Hypercall,
    Notification,
    StoreOperation,
)
from xennet.runloop import Call, Delivery
from xennet.trace import meanings
from xennet.trace.event_text import cleaned, name_of, plain, printable
from xennet.trace.machine_events import TOLD
from xennet.trace.meanings import Meaning
from xennet.trace.ring_slots import RINGS, RingSlots
from xennet.trace.stream import Event
from xennet.trace.told_views import LogView, PrivateView
from xennet.vif.ring_events import RECORDS, EventsLost, RingEvent, take

Sink = Callable[[Event], object]


class NotMadeWithinError(ValueError):
    """A machine cannot be recorded with its memory: it was made with another engine."""


#: Bytes of a load that are told; of a store all are.
MOST_LOADED = 64
#: From here on numbers of bytes are of memories outside of the arena.
_OUTSIDE = 1 << 60
_EVENT_MEMORY = frozenset(("shared info", "event array", "control block"))
_INDICES = {
    4 * REQ_PROD: ("req_prod", 4 * REQ_EVENT),
    4 * RSP_PROD: ("rsp_prod", 4 * RSP_EVENT),
    4 * REQ_EVENT: ("req_event", None),
    4 * RSP_EVENT: ("rsp_event", None),
}
#: Views that one end of a ring makes of it: bytes and words (xennet.ring.SharedRing).
VIEWS_OF_A_RING = 2
#: Member of an event -> the bit of a frame's flags that it tells of.
_FRAME_FLAGS = {"csum_blank": CSUM_BLANK, "data_validated": DATA_VALIDATED}
_LOG_LENGTH = LOG_HEADER + LOG_RECORD * RECORDS


@attrs.define(eq=False)
class _Memory:
    """A shared memory: ``first`` byte's number, and what it held at the last look."""

    ident: int
    what: str
    owner: int | None
    first: int
    held: bytearray
    whose: str = ""
    #: Of a ring: what its slots are. Of an event array: the how manyth of its domain it is. Of a
    #: control block: the byte of the page at which it begins.
    slots: RingSlots | None = None
    number: int = 0
    base: int = 0
    writers: dict[int, int] = attrs.field(factory=dict)


class _FarEnd:
    """Who is told of accesses of the end of a ring that attached to it second."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def watched(self) -> bool:
        return self._recorder.watched

    def tell(self, memory: str, at: int, kind: Kind, value: bytes, old: bytes) -> None:
        self._recorder._far = True
        try:
            self._recorder.tell(memory, at, kind, value, old)
        finally:
            self._recorder._far = False


class Recorder:
    """An engine whose views tell of each access, and the observer of a machine made with it."""

    name = "recorder"

    def __init__(self, store_rings: bool = False) -> None:
        self._store_rings = store_rings
        self._sinks: list[Sink] = []
        self._machine: Machine | None = None
        self._undo: Callable[[], None] = lambda: None
        self._arena = (0, 0)
        self._raw: memoryview | None = None
        self._next_outside = _OUTSIDE
        #: (name, vif or queue, first byte, raw view) of what was shared before there was a machine.
        self._early: list[tuple[str, str, int, memoryview]] = []
        self._by_page: dict[int, _Memory] = {}
        self._memories = 0
        self._n = 0
        #: (delivery, number, n of its begin) of the deliveries that are being made.
        self._stack: list[tuple[Delivery, int, int]] = []
        self._deliveries = 0
        self._posts: dict[Delivery, int] = {}
        self._held: list[Event] | None = None
        self._held_for = ""
        self._published: dict[tuple[int | None, str], Event] = {}
        self._in_place: deque[RingEvent | EventsLost] = deque(maxlen=4 * RECORDS)
        self._last_packet: int | None = None
        #: The last GNTTABOP_copy of each delivery that is being made.
        self._last_copy: dict[int, int] = {}
        self._notified: int | None = None
        self._last: _Memory | None = None
        #: Event arrays of a domain that are known.
        self._arrays: Counter[int | None] = Counter()
        #: First byte of a ring -> how many views of it there are; whether it is the far end's view
        #: by which an access was made.
        self._ring_views: Counter[int] = Counter()
        self._far = False

    # -- the engine --------------------------------------------------------------------------------

    def kernel(self, function: F) -> F:
        """The kernel itself, as a plain function; around the grant copy its hypercall is told."""
        name = getattr(function, "__module__", ""), getattr(function, "__name__", "")
        if name != ("xennet.gnttab.copy", "grant_copy"):
            return function

        @wraps(function)
        def copy(ops: Any, count: int, caller: int, *args: Any) -> Any:
            if not self.watched:
                return function(ops, count, caller, *args)
            self._flush()
            self._held, self._held_for = [], "copy"
            failed = function(ops, count, caller, *args)
            self._copied(ops, count, caller, failed)
            return failed

        return cast(F, copy)

    def view(self, buffer: memoryview | array[int]) -> Any:
        """``buffer`` itself; a log of packets in a form that tells of each record."""
        if isinstance(buffer, array) and buffer.typecode == "q" and len(buffer) == _LOG_LENGTH:
            return LogView(buffer, self._noted)
        return buffer

    def each(self, items: Sequence[Any]) -> Any:
        """``items`` as a tuple."""
        return tuple(items)

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        """A view of ``indices`` that tells of each move."""
        if not isinstance(ring, WatchedView):
            return indices
        return cast("array[int]", PrivateView(indices, partial(self._moved, names, ring.at)))

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        """A view of ``memory`` that tells of each access; the same one if it is called again."""
        if isinstance(memory, WatchedView):
            return cast(memoryview, memory)
        if what == "store ring" and not self._store_rings:
            return memory
        address, (base, size) = address_of(memory), self._arena
        if what == "arena" and not size:
            base, size = self._arena = address, memory.nbytes
        if base <= address < base + size:
            first = address - base
        else:
            first = self._next_outside
            self._next_outside += -(-memory.nbytes // PAGE_SIZE) * PAGE_SIZE
        if what != "arena":
            if self._machine is None:
                self._early.append((what, whose, first, memory))
            else:
                self._know(what, whose, first, memory)
        teller: Teller = self
        if what in RINGS:
            self._ring_views[first] += 1
            if self._ring_views[first] > VIEWS_OF_A_RING:
                teller = _FarEnd(self)
        return cast(memoryview, WatchedView(memory, what, teller, first))

    @property
    def watched(self) -> bool:
        """Whether a machine is being recorded now."""
        return self._machine is not None

    def tell(self, memory: str, at: int, kind: Kind, value: bytes, old: bytes) -> None:
        """Record one access; called by views."""
        if not value:
            return
        known = self._by_page.get(at // PAGE_SIZE)
        if known is None:
            known = self._found(at, old)
            if known is None:
                return
        self._access(known, memory, at - known.first, kind, value, old)

    # -- a recording -------------------------------------------------------------------------------

    def sink(self, sink: Sink) -> None:
        """Call ``sink(event)`` with each event. Raises ValueError while a machine is recorded: the
        memories that it begins with would be missing."""
        if self._machine is not None:
            raise ValueError("a machine is recorded already: sinks come before attach()")
        self._sinks.append(sink)

    def attach(self, machine: Machine) -> None:
        """Record ``machine``, which was made with this engine, from now on. Raises ValueError for
        another one, or while one is recorded."""
        base, size = self._arena
        if self._machine is not None or not size or address_of(machine.memory.u8) != base:
            raise NotMadeWithinError(
                "this machine was not made within recording(), or is one too many"
            )
        self._raw = machine.memory.u8
        self.observe(machine)
        for early in self._early:
            self._know(*early)
        self._early.clear()

    def observe(self, machine: Machine) -> None:
        """Record deliveries and typed events of ``machine``, whatever engine it was made with, but
        no access to memory, from now on. Raises ValueError while it or another is recorded."""
        loop = machine.run_loop
        if self._machine is not None or loop.watcher is not None:
            raise ValueError("there is a recording already")
        self._machine = machine
        for domain in machine.domains:
            self._observe(DomainCreated(domain.domid, domain.name))
        end = machine.observers.subscribe(self._observe)
        loop.watcher = self

        def undo() -> None:
            end()
            loop.watcher = None

        self._undo = undo

    def check(self, rule: str, verdict: str, why: str, now: int, cause: int | None) -> None:
        """Tell that ``rule`` was broken at ``now`` (ns): the ``verdict``, ``why``, and the number
        of the last event before it was seen."""
        self._flush()
        members: Event = {"t": now, "verdict": verdict} | ({"rule": rule} if rule else {})
        text = printable(f"{verdict}: {why}".encode("utf-8", "surrogatepass"))
        self._emit("check", text, cause=cause, **members)

    def detach(self) -> None:
        """End the recording; sinks get what is still held back."""
        self._flush()
        self._undo()
        self._undo = lambda: None
        self._machine = self._raw = None

    def settle(self) -> None:
        """Tell of all changes that were made past the views up to now."""
        self._flush()
        for memory in {one.ident: one for one in self._by_page.values()}.values():
            if memory.first < _OUTSIDE and self._raw is not None:
                now = self._raw[memory.first : memory.first + len(memory.held)].tobytes()
                self._compare(memory, 0, now)

    # -- memories ----------------------------------------------------------------------------------

    def _know(self, what: str, whose: str, first: int, view: memoryview) -> None:
        page, pages = first // PAGE_SIZE, -(-(first % PAGE_SIZE + view.nbytes) // PAGE_SIZE)
        known = self._by_page.get(page)
        start, size = page * PAGE_SIZE, pages * PAGE_SIZE
        inside = first < _OUTSIDE
        machine = self._machine
        assert machine is not None
        owner = machine.memory.owner[page] if inside else None
        # Pages that were one vif's can be another's now.
        same = (
            known is not None
            and (known.what, known.owner) == (what, owner)
            and (not whose or known.whose in ("", whose))
        )
        told = known is not None and same and known.whose == (whose or known.whose)
        if told and known is not None and known.first + len(known.held) >= start + size:
            return
        if inside and self._raw is not None and what != "page":
            now = self._raw[start : start + size].tobytes()
        else:
            now = view.tobytes().ljust(size, b"\0")
        if known is not None and same and known.first == start:
            known.held[:] = now
            known.whose = known.whose or whose
        else:
            if what == "grant table" and view.itemsize == 2:
                what = "grant status"
            self._memories += 1
            known = _Memory(self._memories, what, owner, start, bytearray(now), whose)
            known.base = first % PAGE_SIZE
            if what in RINGS:
                known.slots = RingSlots(RINGS[what], known.held)
            elif what == "event array":
                known.number = self._arrays[owner]
                self._arrays[owner] += 1
        for one in range(page, page + pages):
            self._by_page[one] = known
        frames = list(range(page, page + pages)) if inside else []
        of = "" if owner is None else f" of domain {owner}"
        of += f" for {known.whose}" if known.whose else ""
        members: Event = {"memory": known.ident, "what": known.what, "owner": owner}
        members |= {"frames": frames, "bytes": size}
        vif, _, queue = known.whose.partition(" q")
        members |= {"vif": vif} if vif else {}
        members |= {"queue": int(queue)} if queue else {}
        if any(now):
            members["initial"] = now.hex()
        self._emit("memory", f"{known.what}{of} is shared: {size} bytes", **members)

    def _found(self, at: int, old: bytes) -> _Memory | None:
        """The memory of a page that the hypervisor reaches and that nobody has named; byte ``at``
        and those behind it were ``old`` before that."""
        machine, page = self._machine, at // PAGE_SIZE
        assert machine is not None
        assert self._raw is not None
        if at >= _OUTSIDE or machine.memory.owner[page] not in self._domids():
            return None  # the hypervisor's own
        before = bytearray(self._raw[page * PAGE_SIZE : (page + 1) * PAGE_SIZE])
        before[at % PAGE_SIZE : at % PAGE_SIZE + len(old)] = old
        self._know("page", "", page * PAGE_SIZE, memoryview(before[:PAGE_SIZE]))
        return self._by_page[page]

    def _domids(self) -> set[int]:
        assert self._machine is not None
        return {domain.domid for domain in self._machine.domains}

    def _access(
        self, memory: _Memory, view: str, at: int, kind: Kind, value: bytes, old: bytes
    ) -> None:
        if at + len(value) > len(memory.held):
            return
        self._compare(memory, at, old)
        size = len(value)
        members: Event = {"memory": memory.ident, "at": at, "size": size}
        if kind is LOAD:
            members["bytes"] = value[:MOST_LOADED].hex()
            if size > MOST_LOADED:
                members["cut"] = True
        else:
            members |= {"bytes": value.hex(), "old": old.hex()}
            memory.held[at : at + size] = value
        if view == "arena":
            members["by"] = "hypervisor"
        meaning = self._meaning(memory, at, size, kind, old)
        if field := meaning.field:
            members["field"] = field
        if meaning.structure:
            members |= {"structure": meaning.structure, "meaning": dict(meaning.values)}
        if memory.what in _EVENT_MEMORY:
            if kind is UPDATE and self._held is None and _sets(old, value):
                self._held, self._held_for = [], "send"
        elif self._held_for in ("send", "store"):
            self._flush()
        where = field or f"bytes {at}..{at + size - 1}"
        n = self._emit(kind, f"{kind} of {where}, {memory.what}", **members)
        if kind is not LOAD and memory.slots is not None and at < SRING_HEADER_SIZE:
            memory.slots.published()
        if kind is STORE and memory.what in RINGS and size == 4:
            self._publish(memory, at, old, value, n)

    def _compare(self, memory: _Memory, at: int, now: bytes) -> None:
        """Tell of a change that was made past the views."""
        old = bytes(memory.held[at : at + len(now)])
        if old == now:
            return
        first = next(i for i, (a, b) in enumerate(zip(old, now, strict=True)) if a != b)
        last = next(i for i in range(len(now) - 1, -1, -1) if old[i] != now[i]) + 1
        memory.held[at + first : at + last] = now[first:last]
        if memory.slots is not None:
            memory.slots.published()
        self._emit(
            "store",
            f"bytes {at + first}..{at + last - 1} of {memory.what} have changed",
            memory=memory.ident,
            at=at + first,
            size=last - first,
            bytes=now[first:last].hex(),
            old=old[first:last].hex(),
            by="unseen",
        )

    def _meaning(self, memory: _Memory, at: int, size: int, kind: Kind, old: bytes) -> Meaning:
        """What an access is of, decoded as memory is behind it."""
        what, held = memory.what, memory.held
        if memory.slots is not None:
            return self._meaning_in_ring(memory, memory.slots, at, size, kind)
        if what == "grant table":
            machine = self._machine
            assert machine is not None
            rows, row = machine.grant_tables.directory.rows, (memory.owner or 0) * ROW_WORDS
            return meanings.grant_entry(rows[row + ROW_VERSION], held, at, size)
        if what == "grant status":
            return meanings.grant_status(held, at, size)
        if what == "event array":
            return meanings.event_word(memory.number, held, at)
        if what == "control block":
            return meanings.control_block(memory.base, held, at, size)
        if what == "shared info":
            return meanings.shared_info_page(held, old, at, size)
        return meanings.NOTHING

    def _meaning_in_ring(
        self, memory: _Memory, slots: RingSlots, at: int, size: int, kind: Kind
    ) -> Meaning:
        if at < SRING_HEADER_SIZE:
            return meanings.ring_header(memory.held, at, min(size, SRING_HEADER_SIZE - at))
        width = slots.ring.slot_size
        slot, inner = divmod(at - SRING_HEADER_SIZE, width)
        if slot >= slots.count or inner + size > width:
            return meanings.NOTHING
        if self._stack:
            by_frontend = self._stack[-1][0].domid == memory.owner
        else:  # who attached to the ring first is the frontend
            by_frontend = not self._far
        does = slots.loaded if kind is LOAD else slots.stored
        found = does(slot, by_frontend)
        return meanings.slot_of_ring(found, slot, width, memory.held, at, size)

    def _publish(self, memory: _Memory, at: int, old: bytes, value: bytes, n: int) -> None:
        name, event_at = _INDICES.get(at, ("", None))
        if event_at is None or old == value:
            return
        before, new = int.from_bytes(old, "little"), int.from_bytes(value, "little")
        event = int.from_bytes(memory.held[event_at : event_at + 4], "little")
        notify = (new - event) & 0xFFFFFFFF < (new - before) & 0xFFFFFFFF
        ring = memory.what.removesuffix(" ring")
        members: Event = {"memory": memory.ident, "ring": ring, "index": name}
        members |= {"old": before, "new": new, "event": event}
        members |= {"event_set_by": memory.writers.get(event_at), "notify": notify}
        does = "asks for an event" if notify else "needs no event"
        text = f"{ring} {name} goes from {before} to {new}; the event index {event} {does}"
        number = self._emit("publish", text, cause=n, **members)
        dom = self._stack[-1][0].domid if self._stack else None
        self._published[dom, ring] = {**members, "n": number}

    def _moved(self, names: tuple[str, ...], ring: int, at: int, old: int, new: int) -> None:
        """A driver has moved the private index ``names[at]`` of the ring whose first byte's number
        is ``ring``."""
        memory = self._by_page.get(ring // PAGE_SIZE)
        if not self.watched or memory is None:
            return
        name = names[at]
        text = f"{name} of the {memory.what} goes from {old} to {new}, for its own end alone"
        self._emit("private", text, memory=memory.ident, index=name, old=old, new=new)

    # -- packets and copies ------------------------------------------------------------------------

    def _noted(self, record: Sequence[int]) -> None:
        if not self.watched:
            return
        log = array("q", (LOG_HEADER + LOG_RECORD, 0, *record))
        domid = self._stack[-1][0].domid if self._stack else 0
        for event in take(domid, log):
            self._in_place.append(event)
            self._packet(event)

    def _packet(self, event: RingEvent | EventsLost) -> None:
        if isinstance(event, EventsLost):
            self._emit(
                "lost", f"{event.count} ring events are lost", dom=event.domid, count=event.count
            )
            return
        values = dict(event.values)
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        members: Event = {"ring": event.ring, "what": event.what, "index": event.index}
        members |= {"values": values, "why": event.why}
        if event.rule:
            members["rule"] = event.rule
        text = f"{event.what} at {event.ring} index {event.index}: {told}"
        self._last_packet = self._emit("packet", text, dom=event.domid, **members)

    def _copied(self, ops: Any, count: int, caller: int, failed: int) -> None:
        held, self._held, self._held_for = self._held or [], None, ""
        call = self._emit(
            "hypercall",
            f"GNTTABOP_copy of {count} elements, {failed} failed",
            dom=caller,
            cause=self._last_packet,
            op="GNTTABOP_copy",
            args=[count],
            result=failed,
        )
        for op in range(0, count * COPY_STRIDE, COPY_STRIDE):
            words = ops[op : op + COPY_STRIDE]
            flags = words[COPY_W_len] >> COPY_S_flags
            length, status = words[COPY_W_len] & 0xFFFF, words[COPY_W_status] & 0xFFFF
            status -= (status & 0x8000) << 1
            name = GNTST_NAMES.get(status, str(status))
            ends: Event = {}
            for end, gref, word, domid in (
                ("source", GNTCOPY_source_gref, COPY_W_source, COPY_W_source_domid),
                ("dest", GNTCOPY_dest_gref, COPY_W_dest, COPY_W_dest_domid),
            ):
                kind = "gref" if flags & gref else "frame"
                where = {kind: words[word], "offset": words[domid] >> COPY_S_offset}
                ends[end] = {"domid": words[domid] & 0xFFFF, **where}
            self._emit(
                "copy",
                f"{length} bytes are copied: {name}",
                dom=caller,
                cause=call,
                **ends,
                length=length,
                status=status,
                status_name=name,
            )
        for event in held:
            self._out({**event, "cause": call})
        self._last_copy[self._stack[-1][1] if self._stack else 0] = call

    # -- the run loop ------------------------------------------------------------------------------

    def posted(self, delivery: Delivery, call: Call) -> None:
        """A delivery has become ready."""
        if delivery.kind == "xenstore" and self._held is None:
            self._held, self._held_for = [], "store"
        elif delivery.kind == "evtchn" and self._held is None and self._raw is None:
            self._held, self._held_for = [], "send"
        elif self._held_for == "send" and delivery.kind != "evtchn":
            self._flush()
        name = name_of(delivery, call)
        self._emit("post", f"{name} is ready", delivery=str(delivery), name=name, _post=delivery)

    def begins(self, delivery: Delivery, call: Call, ready: Sequence[Delivery], at: int) -> None:
        """A delivery is being made."""
        self._flush()
        name = name_of(delivery, call)
        self._deliveries += 1
        cause = self._posts.pop(delivery, None)
        self._stack.append((delivery, self._deliveries, 0))
        n = self._emit(
            "begin",
            f"{name} begins",
            cause=cause,
            delivery=str(delivery),
            name=name,
            ready=[str(one) for one in ready],
            choice=at,
        )
        self._stack[-1] = (delivery, self._stack[-1][1], n)
        self._last_packet = None

    def ends(self, delivery: Delivery) -> None:
        """A delivery was made."""
        self._flush()
        self._emit("end", f"{delivery} ends", delivery=str(delivery))
        self._last_copy.pop(self._stack.pop()[1], None)

    # -- the observers' events ---------------------------------------------------------------------

    def _observe(self, event: Any) -> None:
        if (way := _WAYS.get(type(event))) is not None:
            way(self, cleaned(event))
        elif (tell := TOLD.get(type(event))) is not None:
            kind, text, members = tell(cleaned(event))
            self._emit(kind, text, dom=event.domid, **members)

    def _ring_event(self, event: RingEvent | EventsLost) -> None:
        if self._in_place and self._in_place[0] == event:
            self._in_place.popleft()
        else:
            self._packet(event)

    def _notification(self, event: Notification) -> None:
        self._flush()
        last = self._published.get((event.domid, event.ring))
        if last is None:
            last = self._published.get((None, event.ring), {})
        members: Event = {"ring": event.ring, "sent": event.sent}
        members |= {key: last.get(key) for key in ("old", "new", "event", "event_set_by")}
        text = f"{event.ring}: the notification is {'sent' if event.sent else 'avoided'}"
        if last:
            passed = "was passed" if event.sent else "was not passed"
            text += f", the event index {last.get('event')} {passed}"
        n = self._emit("notify", text, dom=event.domid, cause=last.get("n"), **members)
        self._notified = n if event.sent else None

    def _sent(self, event: EventSent) -> None:
        held: list[Event] = []
        if self._held_for == "send":
            held, self._held, self._held_for = self._held or [], None, ""
        members = attrs.asdict(event)
        text = f"event through port {event.port} to domain {event.remote_domid}"
        text += "" if event.delivered else ", which has no effect of its own"
        domid = members.pop("domid")
        if self._notified is not None:
            members["cause"], self._notified = self._notified, None
        n = self._emit("send", text, dom=domid, **members)
        for one in held:
            self._out({**one, "cause": n})

    def _hypercall(self, event: Hypercall) -> None:
        if event.op == "EVTCHNOP_reset":
            self._arrays.clear()  # a domain gives its arrays anew
        if event.op == "GNTTABOP_copy" and self._raw is not None:
            return  # told by the kernel
        args, result = plain(event.args), plain(event.result)
        text = f"{event.op}: {result}"
        self._emit("hypercall", text, dom=event.domid, op=event.op, args=args, result=result)

    def _store(self, event: StoreOperation) -> None:
        held: list[Event] = []
        if self._held_for == "store":
            held, self._held, self._held_for = self._held or [], None, ""
        value = printable(event.value)
        error = f": {event.error}" if event.error else ""
        ends: Event = {}
        if event.op == "TRANSACTION_END":
            did = "committed" if event.value == b"T" else "aborted"
            ends = {"ended": event.error or did}
            error = f" {event.tx_id}: {ends['ended']}"
        n = self._emit(
            "xenstore",
            f"{event.who}: {event.op} {event.path}{error}",
            dom=event.domid,
            who=event.who,
            op=event.op,
            path=event.path,
            value=value,
            tx=event.tx_id,
            error=event.error,
            **ends,
        )
        for one in held:
            self._out({**one, "cause": n})

    def _frame(self, event: FramePassed) -> None:
        size = len(event.data)
        does = "enters" if event.direction == "in" else "leaves"
        members: Event = {"end": event.end, "direction": event.direction}
        members |= {"vif": event.vif, "queue": event.queue, "size": size}
        members["bytes"] = event.data.hex()
        members |= {name: True for name, bit in _FRAME_FLAGS.items() if event.flags & bit}
        if event.gso_size:
            members |= {"gso_size": event.gso_size, "gso_type": event.gso_type}
        if event.direction == "out":
            copy = self._last_copy.get(self._stack[-1][1] if self._stack else 0)
            members |= {"cause": copy} if copy else {}
        text = f"a frame of {size} bytes {does} {event.vif} q{event.queue} at the {event.end}"
        self._emit("frame", text, dom=event.domid, **members)

    # -- out ---------------------------------------------------------------------------------------

    def _emit(self, kind: str, text: str, **members: Any) -> int:
        """Send an event out, or hold it back behind its cause. Returns its number, 0 if held."""
        if self._held_for in ("send", "store") and kind not in ("load", "store", "update", "post"):
            self._flush()
        machine, top = self._machine, self._stack[-1] if self._stack else None
        event: Event = {
            "t": 0 if machine is None else machine.run_loop.now,
            "d": 0 if top is None else top[1],
            "dom": None if top is None else top[0].domid,
            "kind": kind,
            "cause": None if top is None else top[2] or None,
            "text": text,
        }
        event |= members
        if self._held is None:
            return self._out(event)
        self._held.append(event)
        return 0

    def _flush(self) -> None:
        held, self._held, self._held_for = self._held, None, ""
        for event in held or ():
            self._out(event)

    def _out(self, event: Event) -> int:
        self._n = n = self._n + 1
        post = event.pop("_post", None)
        if post is not None:
            self._posts[post] = n
        if event["kind"] in ("store", "update"):
            known = self._of(event["memory"])
            if known is not None and event["at"] < SRING_HEADER_SIZE:
                known.writers[event["at"]] = n
        event = {"n": n, **event}
        for sink in self._sinks:
            sink(event)
        return n

    def _of(self, ident: int) -> _Memory | None:
        if self._last is None or self._last.ident != ident:
            found = (one for one in self._by_page.values() if one.ident == ident)
            self._last = next(found, None)
        return self._last


def _sets(old: bytes, new: bytes) -> bool:
    return any(b & ~a for a, b in zip(old, new, strict=True))


_WAYS: dict[type, Callable[[Recorder, Any], None]] = {
    RingEvent: Recorder._ring_event,
    EventsLost: Recorder._ring_event,
    Notification: Recorder._notification,
    EventSent: Recorder._sent,
    Hypercall: Recorder._hypercall,
    StoreOperation: Recorder._store,
    FramePassed: Recorder._frame,
}


@contextmanager
def recording(store_rings: bool = False) -> Iterator[Recorder]:
    """Within the block machines are made of plain kernels over memory that tells of each access;
    the recorder that is yielded can record one of them.

    What passes through a domain's ring to the store is told as requests; with ``store_rings`` so
    are the accesses to its page.
    """
    recorder = Recorder(store_rings)
    with using(recorder):
        yield recorder
