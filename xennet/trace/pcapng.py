"""A stream of events as a capture for Wireshark (docs/wireshark.md), of link type USER0.

Slots are taken as they lie in the ring when their index is published, which is when the other end
may look at them; grant entries when their flags are stored. Each record has its event's sentence,
once in it and once as the packet's comment.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field

from xennet.abi import netif, xs_wire
from xennet.abi.codec import derive
from xennet.abi.event_channel import evtchn_send
from xennet.abi.grant_table import (
    GRANT_ENTRY_V1,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
)
from xennet.abi.ring import (
    NETIF_CTRL_SLOT_SIZE,
    NETIF_RX_SLOT_SIZE,
    NETIF_TX_SLOT_SIZE,
    SRING_HEADER_SIZE,
    ring_size,
)
from xennet.trace import pcapng_blocks, records
from xennet.trace.records import Kind, Role
from xennet.trace.stream import Event

#: Bytes of the largest memory that is taken from a stream.
MOST_MEMORY = 1 << 26

#: Ring -> bytes of a slot, what a request is, what a response is.
_RINGS = {
    "tx ring": (NETIF_TX_SLOT_SIZE, Kind.TX_REQUEST, Kind.TX_RESPONSE),
    "rx ring": (NETIF_RX_SLOT_SIZE, Kind.RX_REQUEST, Kind.RX_RESPONSE),
    "ctrl ring": (NETIF_CTRL_SLOT_SIZE, Kind.CTRL_REQUEST, Kind.CTRL_RESPONSE),
}
#: Slots behind which extra infos can stand: where their flags are; bits of more data, extra info.
_CHAINED = {
    Kind.TX_REQUEST: (netif.TX_REQUEST, netif.NETTXF_more_data, netif.NETTXF_extra_info),
    Kind.RX_RESPONSE: (netif.RX_RESPONSE, netif.NETRXF_more_data, netif.NETRXF_extra_info),
}
_SEND = derive(evtchn_send)
_MESSAGE = derive(xs_wire.xsd_sockmsg)
#: Requests whose value is an argument; that of others is the answer.
_VALUE_IS_ASKED = frozenset(("WRITE", "SET_PERMS", "WATCH", "UNWATCH", "TRANSACTION_END"))
_XS_TYPES = {name.removeprefix("XS_"): number for number, name in xs_wire.XS_NAMES.items()}
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
        "check",
    ]
)


@define
class _Chain:
    """Where in a packet the next slot of a ring is."""

    inside: bool = False
    extras: bool = False

    def kind(self, usual: Kind, slot: bytes) -> tuple[Kind, Role]:
        """What ``slot`` is, the next one of the ring, and where in its packet it stands."""
        if usual not in _CHAINED:
            return usual, Role.NONE
        layout, more_data, extra_info = _CHAINED[usual]
        if self.extras:
            extra = records.STRUCTURES[Kind.EXTRA_INFO].codec({"u": "pad"})
            self.extras = bool(_value(extra, "flags", slot) & netif.XEN_NETIF_EXTRA_FLAG_MORE)
            return Kind.EXTRA_INFO, Role.NONE
        flags = _value(layout, "flags", slot)
        role = Role.LATER_SLOT if self.inside else Role.FIRST_SLOT
        self.extras = not self.inside and bool(flags & extra_info)
        self.inside = bool(flags & more_data)
        return usual, role


@define
class _Memory:
    what: str
    held: bytearray
    chains: dict[Kind, _Chain] = field(factory=dict)


def write_pcapng(_header: Event, events: Iterator[Event], out: Path) -> None:
    """Write what the events say as packets to ``out``. Raises ValueError with the number of an
    event whose members are not those of docs/trace.md; TraceError from ``events``; OSError."""
    memories: dict[int, _Memory] = {}
    with out.open("wb") as file:
        file.write(pcapng_blocks.section())
        file.write(pcapng_blocks.interface("xennet"))
        for event in events:
            try:
                for record, text in _records(event, memories):
                    file.write(pcapng_blocks.packet(event["t"], record, text))
            except (KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
                raise ValueError(
                    f"event {event['n']} is not as docs/trace.md says: {error!r}"
                ) from None


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
    elif kind in _TOLD:
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
    if what not in _RINGS and what != "grant table":
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
    if memory.what == "grant table" and "flags" in event.get("meaning", {}):
        index, size = at // GRANT_ENTRY_V1.size, GRANT_ENTRY_V1.size
        entry = bytes(memory.held[index * size : (index + 1) * size])
        yield _record(event, Kind.GRANT_ENTRY_V1, entry, index)


def _published(event: Event, memory: _Memory) -> Iterator[tuple[bytes, str]]:
    """The slots that an index makes visible, and the ring's header."""
    size, request, response = _RINGS[memory.what]
    usual = request if event["index"] == "req_prod" else response
    slots = ring_size(len(memory.held), size, size)
    count = event["new"] - event["old"] & 0xFFFF_FFFF
    chain = memory.chains.setdefault(usual, _Chain())
    if count > slots:  # the index was moved to where no slots are
        count = 0
        memory.chains[usual] = _Chain()
    for index in range(event["old"], event["old"] + count):
        at = SRING_HEADER_SIZE + index % slots * size
        slot = bytes(memory.held[at : at + size])
        kind, role = chain.kind(usual, slot)
        structure = records.STRUCTURES[kind]
        body = slot[: structure.codec(structure.otherwise).size]
        text = f"{structure.definition} at {event['ring']} index {index & 0xFFFF_FFFF}"
        yield _record(event, kind, body, index, text, role)
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
    """The request, and the answer if the event has one."""
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
        body = _message(xs_wire.XS_ERROR, event, _bytes(event["error"]) + b"\0")
        yield _record(event, Kind.XENSTORE, body, role=Role.FROM_STORE)
    elif op not in _VALUE_IS_ASKED and value:
        yield _record(event, Kind.XENSTORE, _message(kind, event, value), role=Role.FROM_STORE)


def _message(kind: int, event: Event, body: bytes) -> bytes:
    return _MESSAGE.pack(kind, event["n"] & 0xFFFF_FFFF, event["tx"], len(body)) + body


def _bytes(text: str) -> bytes:
    """The bytes of a stream's text, in which ``\\xNN`` is one."""
    return re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda found: bytes.fromhex(found[1].decode()),
        text.encode("ascii", "backslashreplace"),
    )


def _value(codec: Any, name: str, slot: bytes) -> int:
    at = codec.offsets[name]
    return int.from_bytes(slot[at : at + codec.sizes[name]], "little")
