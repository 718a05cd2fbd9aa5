"""A recorded life told in order: chapters of items, each with its bytes cut into fields.

An item is a write of one structure (or a part of one), a change of a node of the store, or a thing
that writes nothing (a hypercall, a decision about an event). Which fields there are comes from
xennet.abi; what is said about them is in explanations.toml, by the field's name here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attrs import evolve, field, frozen

from illustrated.life import PAGE, Life
from xennet.abi import event_channel, grant_table, netif, xs_wire
from xennet.abi.codec import Codec
from xennet.abi.event_channel import EVTCHN_FIFO_LINK_MASK
from xennet.abi.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xennet.abi.xenbus import XenbusState
from xennet.ring import must_notify
from xennet.trace.event_text import printable
from xennet.trace.records import bit_names
from xennet.trace.ring_slots import RINGS
from xennet.trace.stream import Event

_HEADER = ("req_prod", "req_event", "rsp_prod", "rsp_event")
#: Ring -> bytes of a slot.
_SLOTS = {what: RINGS[what].slot_size for what in ("tx ring", "rx ring")}
_INTERFACE = {at: name for name, at in xs_wire.XENSTORE_DOMAIN_INTERFACE.offsets.items()}
_GTF = {
    grant_table.GTF_permit_access: "GTF_permit_access",
    grant_table.GTF_readonly: "GTF_readonly",
    grant_table.GTF_reading: "GTF_reading",
    grant_table.GTF_writing: "GTF_writing",
}
_TX_FLAGS, _RX_FLAGS = bit_names(netif, "NETTXF_"), bit_names(netif, "NETRXF_")
_EVENT_BITS = {
    1 << getattr(event_channel, f"EVTCHN_FIFO_{name}"): name
    for name in ("PENDING", "MASKED", "LINKED", "BUSY")
}
#: First byte of a member of shared_info that is written -> its key, and its name.
_INFO = {
    0: ("info.upcall", "vcpu_info[0].evtchn_upcall_pending"),
    8: ("info.selector", "vcpu_info[0].evtchn_pending_sel"),
    2048: ("info.pending", "evtchn_pending[0]"),
}


@frozen
class Span:
    """``raw``, consecutive bytes of an item, is the field ``key`` and means ``meaning``."""

    raw: bytes
    key: str
    meaning: str


@frozen
class Write:
    """``new`` was written over ``old``, from byte ``at`` of machine frame ``frame``, which is page
    number ``page`` of the memory ``what`` of domain ``owner``; in ``delivery``, a number, of domain
    ``dom``. ``n``: the event of the recording. ``unseen``: it was found changed."""

    n: int
    what: str
    owner: int
    page: int
    frame: int
    at: int
    old: bytes
    new: bytes
    delivery: int
    dom: int | None
    unseen: bool

    @property
    def bytes_at(self) -> range:
        """The bytes written, numbered through the whole machine."""
        return range(self.frame * PAGE + self.at, self.frame * PAGE + self.at + len(self.new))


@frozen
class Item:
    """One thing that happened. ``key`` is its kind, ``title`` says what it is; ``first`` is its
    first byte, numbered through the whole machine (None: it has none), ``spans`` are its bytes;
    ``dom``: in whose delivery; ``node``: (path, value) of the store that it changed."""

    key: str
    title: str
    spans: tuple[Span, ...] = ()
    first: int | None = None
    dom: int | None = None
    where: str = ""
    node: tuple[str, str] | None = None
    note: str = ""
    number: int = 0

    @property
    def bytes_at(self) -> range:
        """The bytes that the item explains."""
        if self.first is None:
            return range(0)
        return range(self.first, self.first + sum(len(span.raw) for span in self.spans))


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _flags(value: int, names: dict[int, str]) -> str:
    known = [name for bit, name in names.items() if value & bit]
    return f"{value:#x}" + (f": {' | '.join(known)}" if known else ": none")


def _cut(raw: bytes, codec: Codec, prefix: str, meanings: dict[str, str] | None = None) -> Any:
    """The fields of a structure, in the order of their bytes, gaps included."""
    meanings = meanings or {}
    spans: list[Span] = []
    at = 0
    for name, offset in sorted(codec.offsets.items(), key=lambda pair: pair[1]):
        size = codec.sizes[name]
        if offset < at or offset >= len(raw):
            continue
        part = raw[offset : offset + size]
        short = name.removeprefix("u.")
        spans.append(Span(part, f"{prefix}.{short}", meanings.get(short, str(_number(part)))))
        at = offset + size
    return tuple(spans)


def _tx(raw: bytes) -> tuple[str, tuple[Span, ...]]:
    if len(raw) == 4:
        status = int.from_bytes(raw[2:4], "little", signed=True)
        name = {0: "NETIF_RSP_OKAY", -1: "NETIF_RSP_ERROR"}.get(status, "?")
        return "response", _cut(raw, TX_RESPONSE, "tx.response", {"status": f"{status}: {name}"})
    flags = _flags(_number(raw[6:8]), _TX_FLAGS)
    return "request", _cut(raw, TX_REQUEST, "tx.request", {"flags": flags})


def _rx(raw: bytes, kind: str) -> tuple[Span, ...]:
    if kind == "request":
        return tuple(_cut(raw, RX_REQUEST, "rx.request"))
    if kind == "extra":
        meanings = {
            "type": "1: XEN_NETIF_EXTRA_TYPE_GSO",
            "flags": "0: no XEN_NETIF_EXTRA_FLAG_MORE",
            "gso.type": "1: XEN_NETIF_GSO_TYPE_TCPV4",
        }
        return tuple(_cut(raw, EXTRA_GSO, "rx.extra", meanings))
    flags, size = _number(raw[4:6]), _number(raw[6:8])
    meanings = {"flags": _flags(flags, _RX_FLAGS), "status": f"{size} bytes"}
    return tuple(_cut(raw, RX_RESPONSE, "rx.response", meanings))


def _frame(raw: bytes) -> tuple[Span, ...]:
    """The headers of a frame over IPv4."""
    cuts = [(6, "eth.destination"), (6, "eth.source"), (2, "eth.type")]
    cuts += [
        (1, "ip.version"),
        (1, "ip.service"),
        (2, "ip.length"),
        (2, "ip.id"),
        (2, "ip.fragment"),
    ]
    cuts += [(1, "ip.ttl"), (1, "ip.protocol"), (2, "ip.checksum"), (4, "ip.source")]
    cuts += [(4, "ip.destination")]
    if raw[23] == 17:
        cuts += [(2, "l4.ports"), (2, "l4.ports"), (2, "udp.length"), (2, "l4.checksum")]
    else:
        cuts += [(2, "l4.ports"), (2, "l4.ports"), (4, "tcp.sequence"), (4, "tcp.acknowledgement")]
        cuts += [(2, "tcp.flags"), (2, "tcp.window"), (2, "l4.checksum"), (2, "tcp.urgent")]
    spans = []
    at = 0
    for size, key in (*cuts, (len(raw) - sum(size for size, _ in cuts), "payload")):
        part = raw[at : at + size]
        meaning = str(int.from_bytes(part, "big"))
        if key == "payload":
            meaning = printable(part, b"\\")
        elif key in ("ip.source", "ip.destination"):
            meaning = ".".join(map(str, part))
        elif size == 6 or key in ("eth.type", "ip.checksum", "l4.checksum", "tcp.flags"):
            meaning = part.hex(":") if size == 6 else f"0x{part.hex()}"
        spans.append(Span(part, key, meaning))
        at += size
    return tuple(spans)


#: Of a write: key, title, spans, note of its item.
_Told = tuple[str, str, tuple[Span, ...], str]


def _cleaned(one: Write) -> _Told:
    if any(one.new):
        raise AssertionError(f"nobody knows who wrote event {one.n}")
    what = one.what if one.what != "page" else "staging page"
    title = f"{what} of domain {one.owner}: Xen cleans the page"
    return "page.zeroed", title, (Span(one.new, "page.zeroed", "all 0"),), ""


def _staging(one: Write, _old: bytes) -> _Told:
    title = "staging page of domain 0's driver"
    return "staging.buffers", title, _frame(one.new), "grant copy: Xen writes it"


def _buffer(one: Write, _old: bytes) -> _Told:
    title = f"{'transmit' if one.what[0] == 't' else 'receive'} buffer of domain 1"
    return one.what.replace(" ", "."), title, _frame(one.new), ""


def _grant_entry(one: Write, old: bytes) -> _Told:
    new = one.new
    entry, part = divmod(one.page * PAGE + one.at, 8)
    title = f"grant table of domain 1, entry {entry}"
    if part == 4:
        span = Span(new, "grant.frame", f"frame {_number(new):#x}")
        return "grant.frame", title, (span,), ""
    flags, before = _number(new[:2]), _number(old[:2])
    spans = [Span(new[:2], "grant.flags", _flags(flags, _GTF))]
    if new[2:]:
        spans.append(Span(new[2:], "grant.domid", f"domain {_number(new[2:])}"))
    busy = grant_table.GTF_reading | grant_table.GTF_writing
    if flags & busy & ~before:
        verb, by = "use", "Xen marks it in use"
    elif before & busy & ~flags:
        verb, by = "used", "Xen is done with it"
    elif flags:
        verb, by = "grant", "the guest grants"
    else:
        verb, by = "end", "the guest ends the grant"
    return f"grant.{verb}", f"{title}: {by}", tuple(spans), f"flags were {before:#x}"


def _event_word(one: Write, old: bytes) -> _Told:
    word, link = _number(one.new), _number(one.new) & EVTCHN_FIFO_LINK_MASK
    title = f"event word of port {one.at // 4} of domain {one.owner}"
    meaning = f"{_flags(word & sum(_EVENT_BITS), _EVENT_BITS)}, LINK {link}"
    return "fifo.word", title, (Span(one.new, "fifo.word", meaning),), f"was {_number(old):#x}"


def _control_block(one: Write, old: bytes) -> _Told:
    new, ready = one.new, one.at == 0
    key = "fifo.ready" if ready else "fifo.head"
    name = "ready" if ready else f"head[{(one.at - 8) // 4}]"
    meaning = f"{_number(new):#x}" if ready else f"port {_number(new)}"
    title = f"FIFO control block of domain {one.owner}, {name}"
    return key, title, (Span(new, key, meaning),), f"was {_number(old):#x}"


def _shared_info(one: Write, old: bytes) -> _Told:
    new = one.new
    key, name = _INFO.get(one.at, ("info.mask", "evtchn_mask[0]"))
    bits = [str(bit) for bit in range(8 * len(new)) if _number(new) >> bit & 1]
    meaning = f"bit {', '.join(bits)}" if bits else "no bit"
    if len(bits) > 8:
        meaning = "all but a few bits"
    title = f"shared info of domain {one.owner}, {name}"
    return key, title, (Span(new, key, meaning),), f"was {_number(old):#x}"


#: Memory -> the item of a write there. Rings, and that of the store, are told by who follows them.
_DECODED: dict[str, Callable[[Write, bytes], _Told]] = {
    "page": _staging,
    "tx buffers": _buffer,
    "rx buffers": _buffer,
    "grant table": _grant_entry,
    "event array": _event_word,
    "control block": _control_block,
    "shared info": _shared_info,
}


@frozen
class _Teller:
    """Makes items of what happened. ``image`` is shared memory as it has become, by frame;
    ``extra_next``: the next response on the rx ring is an extra info."""

    image: dict[int, bytearray] = field(factory=dict)
    extra_next: list[bool] = field(factory=lambda: [False])

    def page(self, frame: int) -> bytearray:
        return self.image.setdefault(frame, bytearray(PAGE))

    def item(self, one: Write | Event) -> Iterator[Item]:
        """The items of one thing that happened; consecutive stores into one slot are one write."""
        if isinstance(one, Write):
            yield from self._write(one)
        elif one["kind"] in _TOLD:
            yield from _TOLD[one["kind"]](one)

    def _write(self, one: Write) -> Iterator[Item]:
        page = self.page(one.frame)
        if one.what == "store ring":
            yield from self._store_ring(one, page)
            return
        old = bytes(page[one.at : one.at + len(one.new)])
        page[one.at : one.at + len(one.new)] = one.new
        where = f"frame {one.frame:#x}, byte {one.at}"
        key, title, spans, note = self._decode(one, old)
        yield Item(key, title, spans, one.frame * PAGE + one.at, one.dom, where, note=note)

    def _decode(self, one: Write, old: bytes) -> _Told:
        if one.unseen:
            return _cleaned(one)
        if one.what in _SLOTS:
            return self._ring(one, old)
        if one.what not in _DECODED:
            raise AssertionError(f"nobody knows what {one.what} is")
        return _DECODED[one.what](one, old)

    def _ring(self, one: Write, old: bytes) -> _Told:
        ring, at, new = one.what[:2], one.at, one.new
        if at == 0 and len(new) == 64:
            spans = [Span(new[4 * i : 4 * i + 4], f"ring.{f}", "0") for i, f in enumerate(_HEADER)]
            spans += [Span(new[16:20], "ring.pvt", "0"), Span(new[20:], "ring.pad", "all 0")]
            return "ring.init", f"{ring} ring: the whole header", tuple(spans), ""
        if at < 64:
            name = _HEADER[at // 4]
            value, before = _number(new), _number(old)
            note = f"was {before}"
            if name in ("req_prod", "rsp_prod") and value != before:
                event = _number(self.page(one.frame)[at + 4 : at + 8])
                passes = "passes" if must_notify(before, value, event) else "does not pass"
                name_of_event = _HEADER[at // 4 + 1]
                note += f"; {before} to {value} {passes} {name_of_event} = {event}: "
                note += "an event is due" if passes == "passes" else "no event"
            title = f"{ring} ring, {name}"
            return f"{ring}.{name}", title, (Span(new, f"ring.{name}", str(value)),), note
        slot = (at - 64) // _SLOTS[one.what]
        if ring == "tx":
            kind, spans = _tx(new)
        else:
            kind = "request" if one.dom == 1 else "response"
            if kind == "response" and self.extra_next[0]:
                kind = "extra"
            spans = _rx(new, kind)
            self.extra_next[0] = kind == "response" and bool(new[4] & 8)
        what = {"request": "a request", "response": "a response", "extra": "an extra info"}[kind]
        return f"{ring}.{kind}", f"{ring} ring, slot {slot}: {what}", spans, ""

    def _store_ring(self, one: Write, page: bytearray) -> Iterator[Item]:
        at, new = one.at, one.new
        if at < 2048:  # told when the index is published
            page[at : at + len(new)] = new
            return
        old = _number(page[at : at + 4])
        page[at : at + 4] = new
        name = _INTERFACE[at]
        base = one.frame * PAGE
        if name in ("req_prod", "rsp_prod"):
            ring = 0 if name == "req_prod" else 1024
            yield from _messages(page, base, ring, old, _number(new), one.dom)
        spans = (Span(new, f"store.{name}", str(_number(new))),)
        title = f"store ring of domain 1, {name}"
        where = f"frame {one.frame:#x}, byte {at}"
        yield Item(f"store.{name}", title, spans, base + at, one.dom, where, note=f"was {old}")


def _messages(
    page: bytearray, base: int, ring: int, start: int, end: int, dom: int | None
) -> Iterator[Item]:
    """The messages between two indices; one that goes around the end of the ring is two items."""
    side = "rsp" if ring else "req"
    data = bytes(page[ring + i % 1024] for i in range(start, end))
    at = 0
    while at < len(data):
        head = data[at : at + 16]
        size = _number(head[12:16])
        kind = xs_wire.XS_NAMES.get(_number(head[:4]), "?")
        payload = data[at + 16 : at + 16 + size]
        parts = [(head[:4], "type", kind), (head[4:8], "req_id", str(_number(head[4:8])))]
        parts += [(head[8:12], "tx_id", str(_number(head[8:12]))), (head[12:], "len", str(size))]
        if payload:
            parts.append((payload, "payload", printable(payload, b"\\")))
        spans = [Span(raw, f"msg.{name}", meaning) for raw, name, meaning in parts]
        first = (start + at) % 1024
        cut = 1024 - first  # bytes before the end of the ring
        who = "xenstored answers" if ring else "the guest asks"
        if kind == "XS_WATCH_EVENT":
            who = "xenstored tells a watch"
        title = f"store ring of domain 1: {who}, {kind}"
        for one, (low, piece) in enumerate(_split(spans, cut)):
            behind = " (the rest, at the ring's beginning)" if one else ""
            place = (first + low) % 1024
            where = f"{side}[{place}...]"
            yield Item(f"msg.{side}", title + behind, tuple(piece), base + ring + place, dom, where)
        at += 16 + size


def _split(spans: list[Span], cut: int) -> Iterator[tuple[int, list[Span]]]:
    low: list[Span] = []
    high: list[Span] = []
    at = 0
    for span in spans:
        room = min(max(cut - at, 0), len(span.raw))
        if room:
            low.append(evolve(span, raw=span.raw[:room]))
        if room < len(span.raw):
            high.append(evolve(span, raw=span.raw[room:]))
        at += len(span.raw)
    yield 0, low
    if high:
        yield cut, high


def _node(one: Event) -> Iterator[Item]:
    op, path, value = one["op"], one["path"], one["value"]
    if one["error"] or op not in _CHANGES:
        return
    if not path.startswith("/"):
        path = f"/local/domain/{one['dom']}/{path}"
    parent, _, name = path.rpartition("/")
    side = "backend" if "/backend/" in path else "frontend"
    if op == "WRITE":
        key, what = f"node.{side}.{name}", f"writes {name} = {value or '(empty)'}"
        if path.startswith("/libxl"):
            key = "node.libxl"
    else:
        key = f"node.{op}"
        if name.isdigit():
            name = f"{parent.rpartition('/')[2]}/{name}"
        what = f"{_CHANGES[op]} {name}"
    if op == "SET_PERMS":
        what += f": {value.replace(chr(92) + 'x00', ' ')}"
    yield Item(key, f"{one['who']} {what}", node=(path, value), where=path)


_CHANGES = {"WRITE": "", "MKDIR": "makes", "RM": "removes", "SET_PERMS": "sets the rights of"}
_CALLS = {
    "XENMEM_populate_physmap": "pages from frame {1:#x} on, {0[0]} in all",
    "EVTCHNOP_alloc_unbound": "allocates port {1} for domain {0[1]} to bind",
    "EVTCHNOP_bind_interdomain": "binds port {0[1]} of domain {0[0]}: its own end is port {1}",
    "EVTCHNOP_close": "closes port {0[0]}",
    "EVTCHNOP_unmask": "unmasks port {0[0]}",
    "GNTTABOP_map_grant_ref": "maps grant {0[1]} of domain {0[0]}: handle {1[1]}",
    "GNTTABOP_unmap_grant_ref": "unmaps handle {0[0]}",
    "XENMEM_decrease_reservation": "gives pages back from frame {0[0]:#x} on, {0[1]} in all",
}


def _hypercall(one: Event) -> Iterator[Item]:
    if one["op"] in _CALLS:
        done = _CALLS[one["op"]].format(one["args"], one["result"])
        yield Item(f"call.{one['op']}", f"domain {one['dom']}, {one['op']}: {done}", dom=one["dom"])


def _copy(one: Event) -> Iterator[Item]:
    ends = []
    for end in (one["source"], one["dest"]):
        what = f"grant {end['gref']} of domain {end['domid']}" if "gref" in end else "its own page"
        ends.append(f"byte {end['offset']} of {what}")
    said = f"{one['length']} bytes from {ends[0]} to {ends[1]}: {one['status_name']}"
    title = f"domain {one['dom']}, GNTTABOP_copy: {said}"
    yield Item("call.GNTTABOP_copy", title, dom=one["dom"])


def _upcall(one: Event) -> Iterator[Item]:
    what = f"domain {one['dom']} takes an event at port {one['port']}"
    yield Item("upcall", what, dom=one["dom"], note=f"its upcall found port {one['port']} pending")


def _state(one: Event) -> Iterator[Item]:
    old, new = (f"{XenbusState(one[end]).name} ({one[end]})" for end in ("old", "new"))
    yield Item("state", f"{one['path']}: {old} becomes {new}", dom=one["dom"])


def _notification(one: Event) -> Iterator[Item]:
    sent = "sends an event" if one["sent"] else "sends no event: it was not asked for"
    what = f"domain {one['dom']} has published on the {one['ring']} ring and {sent}"
    yield Item(f"notify.{'sent' if one['sent'] else 'avoided'}", what, dom=one["dom"])


_TOLD: dict[str, Callable[[Event], Iterator[Item]]] = {
    "xenstore": _node,
    "hypercall": _hypercall,
    "copy": _copy,
    "upcall": _upcall,
    "state": _state,
    "notify": _notification,
}


def writes(events: list[Event]) -> Iterator[Write | Event]:
    """The events, each access that writes as a :class:`Write`, or two where it goes beyond a
    page."""
    memories: dict[int, Event] = {}
    for event in events:
        if event["kind"] == "memory":
            memories[event["memory"]] = event
        if event["kind"] not in ("store", "update"):
            yield event
            continue
        memory, at = memories[event["memory"]], event["at"]
        old, new = bytes.fromhex(event["old"]), bytes.fromhex(event["bytes"])
        while new:
            page, inner = divmod(at, PAGE)
            size = min(PAGE - inner, len(new))
            yield Write(
                event["n"],
                memory["what"],
                memory["owner"],
                page,
                memory["frames"][page],
                inner,
                old[:size],
                new[:size],
                event["d"],
                event["dom"],
                event.get("by") == "unseen",
            )
            old, new, at = old[size:], new[size:], at + size


def _joined(happened: Iterable[Write | Event]) -> Iterator[Write | Event]:
    """What happened, with consecutive stores into one slot of a ring as one."""
    held: Write | None = None
    for one in happened:
        if not isinstance(one, Write) and one["kind"] not in _TOLD:
            continue
        if isinstance(one, Write) and held is not None and _continues(held, one):
            held = evolve(held, old=held.old + one.old, new=held.new + one.new)
            continue
        if held is not None:
            yield held
            held = None
        if isinstance(one, Write) and one.what in _SLOTS and one.at >= 64 and not one.unseen:
            held = one
        else:
            yield one
    if held is not None:
        yield held


def _continues(held: Write, one: Write) -> bool:
    size = _SLOTS[held.what]
    same = (held.frame, held.delivery) == (one.frame, one.delivery) and not one.unseen
    return same and one.at == held.at + len(held.new) and (one.at - 64) % size > 0


#: A chapter begins at the first item with this key.
_BEGINS = {
    "node.backend.feature-sg": "features",
    "grant.frame": "rings",
    "node.frontend.tx-ring-ref": "publish",
    "grant.use": "connect",
}


def chapters(life: Life) -> dict[str, list[Item]]:
    """The items by chapter, numbered from 1 through all of them."""
    told: dict[str, list[Item]] = {}
    teller = _Teller(_before(life.events))
    ends = [begin for begin, _ in life.chapters[1:]] + [len(life.events)]
    begin = life.chapters[0][0]
    # Memories are told before the first chapter.
    before = [event for event in life.events[:begin] if event["kind"] == "memory"]
    number = 0
    for (begin, name), end in zip(life.chapters, ends, strict=True):
        for one in _joined(writes(before + life.events[begin:end])):
            for item in teller.item(one):
                begins = _BEGINS.get(item.key)
                if begins is not None and begins not in told:
                    name = begins
                number += 1
                told.setdefault(name, []).append(evolve(item, number=number))
        before += [event for event in life.events[begin:end] if event["kind"] == "memory"]
    return told


def _before(events: list[Event]) -> dict[int, bytearray]:
    """Shared memory before the first write, as far as the writes tell: what each byte was when it
    was first written over."""
    pages: dict[int, bytearray] = {}
    seen: set[int] = set()
    for one in writes(events):
        if isinstance(one, Write):
            page = pages.setdefault(one.frame, bytearray(PAGE))
            for at, value in zip(one.bytes_at, one.old, strict=True):
                if at not in seen:
                    seen.add(at)
                    page[at % PAGE] = value
    return pages
