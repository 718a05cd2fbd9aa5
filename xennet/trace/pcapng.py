"""A stream of events as a capture for Wireshark (docs/wireshark.md): frames as Ethernet on its
first interface, records of link type USER0 on its second.

Frames are shown once, as ``tcpdump -i vif1.0`` shows them in the backend's domain: what comes from
the guest is inbound, when the backend gives it away; what goes there is outbound, when the backend
takes it. Of a vif whose backend is not xennet's they are those of the frontend.

Slots are taken as they lie in the ring when their index is published, which is when the other end
may look at them; grant entries when their flags are stored. Each record has its event's sentence,
once in it and once as the packet's comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from xennet.abi import xs_wire
from xennet.abi.codec import derive
from xennet.abi.event_channel import evtchn_send
from xennet.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
)
from xennet.abi.ring import (
    SRING_HEADER_SIZE,
    ring_size,
)
from xennet.trace import pcapng_blocks, records, store_arguments
from xennet.trace.records import Kind, Role
from xennet.trace.ring_slots import RINGS, Chain
from xennet.trace.stream import MOST_MEMORY, Event

#: The interfaces of a capture: name, link type.
INTERFACES = (
    ("frames", pcapng_blocks.LINKTYPE_ETHERNET),
    ("xennet", pcapng_blocks.LINKTYPE_USER0),
)
_FRAMES, _RECORDS = range(2)

#: Structure of what was stored -> the kind of its record.
_GRANTS = {
    records.STRUCTURES[kind].definition: kind for kind in (Kind.GRANT_ENTRY_V1, Kind.GRANT_ENTRY_V2)
}
_SEND = derive(evtchn_send)
_MESSAGE = derive(xs_wire.xsd_sockmsg)
#: Requests whose value is an argument; that of others is the answer.
_VALUE_IS_ASKED = frozenset(("WRITE", "SET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_END"))
_XS_TYPES = {name.removeprefix("XS_"): number for number, name in xs_wire.XS_NAMES.items()}
#: The name of a delivery of a backend that is xennet's.
_NETBACK = re.compile(r"netback .*\b(vif\d+\.\d+)")
_TOLD = frozenset(
    [
        "notify",
        "upcall",
        "post",
        "begin",
        "end",
        "hypercall",
        "packet",
        "lost",
        "state",
        "domain",
        "program",
        "virq",
        "defect",
        "check",
    ]
)


@define
class _Memory:
    what: str
    held: bytearray
    chains: dict[Kind, Chain] = field(factory=dict)


def write_pcapng(_header: Event, events: Iterator[Event], out: Path) -> None:
    """Write what the events say as packets to ``out``. Raises ValueError for an access beyond its
    memory, TraceError from ``events``, OSError, and whatever comes of an event whose members are
    not those of docs/trace.md (xennet.trace.writers.write tells of it)."""
    memories: dict[int, _Memory] = {}
    backends: set[str] = set()
    with out.open("wb") as file:
        file.write(pcapng_blocks.section())
        for interface in INTERFACES:
            file.write(pcapng_blocks.interface(*interface))
        for event in events:
            for record, text in _records(event, memories):
                file.write(pcapng_blocks.packet(event["t"], record, text, on=_RECORDS))
            if event["kind"] == "post":
                backends.update(_NETBACK.findall(event["name"]))
            elif event["kind"] == "frame" and event["direction"] != "filtered":
                file.write(_frame(event, backends))


def _records(event: Event, memories: dict[int, _Memory]) -> Iterator[tuple[bytes, str]]:
    """The records of an event, with their sentences."""
    kind = event["kind"]
    if kind == "memory":
        _know(event, memories)
    elif kind in ("store", "update"):
        memory = memories.get(event["memory"])
        if memory is not None:
            yield from _stored(event, memory)
    elif kind == "publish":
        memory = memories.get(event["memory"])
        if memory is not None:
            yield from _published(event, memory)
    elif kind == "send":
        yield _record(event, Kind.EVENT_SEND, _SEND.pack(event["port"]))
    elif kind == "copy":
        yield _record(event, Kind.GRANT_COPY, _copy(event))
    elif kind == "xenstore":
        yield from _messages(event)
    elif kind in _TOLD or (kind == "frame" and event["direction"] == "filtered"):
        yield _record(event, Kind.TEXT)


def _record(
    event: Event, kind: Kind, body: bytes = b"", index: int = 0, text: str = "", role: int = 0
) -> tuple[bytes, str]:
    text = text or str(event.get("text", ""))
    made = records.encode(
        kind,
        body,
        domid=event.get("dom"),
        sequence=event["n"],
        cause=event.get("cause") or 0,
        delivery=event.get("d", 0),
        index=index,
        role=role,
        rule=str(event.get("rule") or ""),
        text=text,
    )
    return made, text


def _know(event: Event, memories: dict[int, _Memory]) -> None:
    """Keep the rings and grant tables."""
    what, size = event["what"], event["bytes"]
    if what not in RINGS and what != "grant table":
        return
    if not 0 < size <= MOST_MEMORY:
        raise ValueError(f"event {event['n']}: a memory of {size} bytes")
    held = bytearray(size)
    initial = bytes.fromhex(event.get("initial", ""))[:size]
    held[: len(initial)] = initial
    memories[event["memory"]] = _Memory(what, held)


def _stored(event: Event, memory: _Memory) -> Iterator[tuple[bytes, str]]:
    at, new = event["at"], bytes.fromhex(event["bytes"])
    if not 0 <= at <= len(memory.held) - len(new):
        raise ValueError(f"event {event['n']} is beyond its memory")
    memory.held[at : at + len(new)] = new
    kind = _GRANTS.get(event.get("structure", ""))
    if kind is not None and "flags" in event["meaning"]:
        size = records.STRUCTURES[kind].codec(records.STRUCTURES[kind].otherwise).size
        index = at // size
        entry = bytes(memory.held[index * size : (index + 1) * size])
        yield _record(event, kind, entry, index)


def _published(event: Event, memory: _Memory) -> Iterator[tuple[bytes, str]]:
    """The slots that an index makes visible, and the ring's header."""
    ring = RINGS[memory.what]
    size = ring.slot_size
    usual = ring.request if event["index"] == "req_prod" else ring.response
    slots = ring_size(len(memory.held), size, size)
    count = event["new"] - event["old"] & 0xFFFF_FFFF
    chain = memory.chains.get(usual, Chain())
    if count > slots:  # the index was moved to where no slots are
        count, chain = 0, Chain()
    for index in range(event["old"], event["old"] + count):
        at = SRING_HEADER_SIZE + index % slots * size
        slot = bytes(memory.held[at : at + size])
        kind, role = chain.kind(usual), chain.role(usual)
        chain = chain.behind(usual, slot)
        structure = records.STRUCTURES[kind]
        body = slot[: structure.codec(structure.otherwise).size]
        text = f"{structure.definition} at {event['ring']} index {index & 0xFFFF_FFFF}"
        yield _record(event, kind, body, index, text, role)
    memory.chains[usual] = chain
    yield _record(event, Kind.RING_HEADER, bytes(memory.held[:SRING_HEADER_SIZE]), event["new"])


def _copy(event: Event) -> bytes:
    structure = records.STRUCTURES[Kind.GRANT_COPY]
    flags, values = 0, {"len": event["length"], "status": event["status"]}
    for end, bit in (("source", GNTCOPY_source_gref), ("dest", GNTCOPY_dest_gref)):
        where = event[end]
        flags |= bit if "gref" in where else 0
        values[f"{end}.u.{'ref' if 'gref' in where else 'gmfn'}"] = where.get(
            "gref", where.get("frame")
        )
        values[f"{end}.domid"] = where["domid"]
        values[f"{end}.offset"] = where["offset"]
    codec = structure.codec(structure.variants[flags])
    values["flags"] = flags
    return codec.pack(*(values.get(name, 0) for name in codec.fields))


def _messages(event: Event) -> Iterator[tuple[bytes, str]]:
    """The request and its answer."""
    op, path, value = event["op"], _bytes(event["path"]), _bytes(event["value"])
    kind = _XS_TYPES.get(op)
    if kind is None:  # an event of a watch, or what has no message
        yield _record(event, Kind.TEXT)
        return
    asked = [path] if path or op == "WRITE" else []
    if op in _VALUE_IS_ASKED:
        asked.append(value)
    body = b"\0".join(asked) + (b"" if op == "WRITE" else b"\0")
    yield _record(event, Kind.XENSTORE, _message(kind, event, body), role=Role.TO_STORE)
    if event["error"]:
        answer = _message(xs_wire.XS_ERROR, event, _bytes(event["error"]) + b"\0")
    else:
        answer = _message(kind, event, _answer(kind, value))
    yield _record(event, Kind.XENSTORE, answer, role=Role.FROM_STORE)


def _answer(kind: int, value: bytes) -> bytes:
    """What the server says to a request that it grants."""
    (name, *_) = store_arguments.ARGUMENTS.get(kind, store_arguments.OTHERS).answered
    if name == "answer":
        return b"OK\0"
    return value if name.endswith("=") or not value else value + b"\0"


def _message(kind: int, event: Event, body: bytes) -> bytes:
    # A transaction has no number before its start is answered.
    tx = 0 if kind == xs_wire.XS_TRANSACTION_START else event["tx"]
    return _MESSAGE.pack(kind, event["n"] & 0xFFFF_FFFF, tx, len(body)) + body


def _bytes(text: str) -> bytes:
    """The bytes of a stream's text, in which ``\\xNN`` is one."""
    return re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda found: bytes.fromhex(found[1].decode()),
        text.encode("ascii", "backslashreplace"),
    )


def _frame(event: Event, backends: set[str]) -> bytes:
    """The packet of a frame that enters or leaves a vif; none if this is not the end at which
    frames are shown."""
    if event["end"] == "guest" and event["vif"] in backends:
        return b""
    from_guest = (event["end"] == "guest") == (event["direction"] == "in")
    way = pcapng_blocks.INBOUND if from_guest else pcapng_blocks.OUTBOUND
    data, text = bytes.fromhex(event["bytes"]), str(event.get("text", ""))
    return pcapng_blocks.packet(event["t"], data, text, on=_FRAMES, way=way)
