"""What bytes of shared memory mean: names of fields and their values, all from xennet.abi.

The fields that an access touches are decoded as they are in memory behind it, so that half of a
64-bit field tells the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from attrs import frozen

from xennet.abi import grant_table
from xennet.abi.codec import Codec, derive, layout
from xennet.abi.event_channel import (
    EVTCHN_FIFO_BUSY,
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_PENDING,
    EVTCHN_FIFO_WORDS_PER_PAGE,
    evtchn_fifo_control_block,
)
from xennet.abi.grant_table import GRANT_ENTRY_V1, GRANT_ENTRY_V2_FULL, grant_status_t
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.xen import VCPU_INFO, shared_info
from xennet.trace.records import STRUCTURES, Kind, Structure, bit_names, clean, codes, constants

_STRUCTURES = {one.definition: one for one in STRUCTURES.values()}
_SHARED_INFO = layout(shared_info)
_PORTS_PER_WORD = 64
#: Arrays of shared_info whose bits are ports.
_PORT_BITS = ("evtchn_pending", "evtchn_mask")
_CONTROL_BLOCK = derive(evtchn_fifo_control_block)
#: Bits of an event word (xen 4.17 event_channel.h).
_EVENT_BITS = {
    "pending": EVTCHN_FIFO_PENDING,
    "masked": EVTCHN_FIFO_MASKED,
    "linked": EVTCHN_FIFO_LINKED,
    "busy": EVTCHN_FIFO_BUSY,
}
_GRANT_BITS = bit_names(grant_table, "GTF_")
#: What the path of a field of a grant entry begins with where a version has several layouts.
_LAYOUTS = re.compile(r"(full_page|sub_page|transitive)\.(hdr\.)?")


@frozen
class Meaning:
    """Of an access: the name of the ``field``, the ``structure`` that it is in, by its name in the
    header, and the ``values`` of what it touches."""

    field: str = ""
    structure: str = ""
    values: Mapping[str, Any] = {}


NOTHING = Meaning()


@frozen
class _Field:
    name: str
    at: int
    end: int
    code: str
    bits: Mapping[int, str] | None
    values: Mapping[int, str] | None


def ring_header(held: bytes | bytearray, at: int, size: int) -> Meaning:
    """Bytes of a ring's header: one index, or several members."""
    found = _decoded(STRUCTURES[Kind.RING_HEADER], held, 0, at, size)
    field = next(iter(found)) if len(found) == 1 else "header"
    return Meaning(field, STRUCTURES[Kind.RING_HEADER].definition, found)


def slot_of_ring(
    kind: Kind, number: int, slot_size: int, held: bytes | bytearray, at: int, size: int
) -> Meaning:
    """Bytes of slot ``number``, which is of the ``kind``; at most one slot's."""
    structure = STRUCTURES[kind]
    start = SRING_HEADER_SIZE + number * slot_size
    values = _decoded(structure, held, start, at, size)
    return Meaning(f"slot {number}", structure.definition, values)


def grant_entry(version: int, held: bytes | bytearray, at: int, size: int) -> Meaning:
    """Bytes of an entry of a grant table."""
    kind, layout_of = (
        (Kind.GRANT_ENTRY_V1, GRANT_ENTRY_V1)
        if version == 1
        else (Kind.GRANT_ENTRY_V2, GRANT_ENTRY_V2_FULL)
    )
    entry = at // layout_of.size
    structure = STRUCTURES[kind]
    found = _decoded(structure, held, entry * layout_of.size, at, size)
    values = {_LAYOUTS.sub("", name): value for name, value in found.items()}
    if "flags" in values:
        kind_of = values["flags"] & grant_table.GTF_type_mask
        values["type_name"] = constants(grant_table, "GTF_")[kind_of]
    return Meaning(f"entry {entry}", structure.definition, values)


def grant_status(held: bytes | bytearray, at: int, size: int) -> Meaning:
    """The status word of an entry of version 2: whether Xen reads or writes its page."""
    width = grant_status_t.sizeof()
    entry = at // width
    flags = int.from_bytes(held[entry * width : (entry + 1) * width], "little")
    values = {"flags": flags, "flags_set": _set(_GRANT_BITS, flags)}
    return Meaning(f"entry {entry}", grant_status_t.name or "", values)


def event_word(page: int, held: bytes | bytearray, at: int) -> Meaning:
    """An event word of array page number ``page`` of a domain (from 0)."""
    word = int.from_bytes(held[at & ~3 : (at & ~3) + 4], "little")
    values = {name: word >> bit & 1 for name, bit in _EVENT_BITS.items()}
    values["link"] = word & EVTCHN_FIFO_LINK_MASK
    return Meaning(f"port {page * EVTCHN_FIFO_WORDS_PER_PAGE + at // 4}", "event_word_t", values)


def control_block(base: int, held: bytes | bytearray, at: int, size: int) -> Meaning:
    """Bytes of a control block, which begins at byte ``base`` of its page."""
    found = {
        name: int.from_bytes(held[base + first : base + first + width], "little")
        for name, (first, width) in _block_fields().items()
        if base + first < at + size and at < base + first + width
    }
    field = next(iter(found)) if len(found) == 1 else ""
    return Meaning(field, evtchn_fifo_control_block.name, found)


def shared_info_page(held: bytes | bytearray, old: bytes, at: int, size: int) -> Meaning:
    """Bytes of a shared info page, which were ``old`` before: a word of event bits, a member of a
    vCPU's information, another member."""
    name, (first, width) = min(
        ((n, where) for n, where in _SHARED_INFO.items() if where[0] <= at < sum(where)),
        key=lambda one: one[1][1],
        default=("", (0, 0)),
    )
    structure = shared_info.name or ""
    if name in _PORT_BITS and size == 8:
        word = (at - first) // 8
        before = int.from_bytes(old, "little")
        now = int.from_bytes(held[at : at + 8], "little")
        base = word * _PORTS_PER_WORD
        values = {"ports": _ports(now, base)}
        if now != before:
            values |= {"set": _ports(now & ~before, base), "cleared": _ports(before & ~now, base)}
        return Meaning(f"{name}[{word}]", structure, values)
    if name == "vcpu_info":
        number, inner = divmod(at - first, VCPU_INFO.size)
        start = first + number * VCPU_INFO.size
        found = {
            one.name: int.from_bytes(held[start + one.at : start + one.end], "little")
            for one in _fields_of(VCPU_INFO)
            if one.at < inner + size and inner < one.end
        }
        field = f"vcpu_info[{number}]" + (f".{next(iter(found))}" if len(found) == 1 else "")
        return Meaning(field, VCPU_INFO.name, found)
    if name and at + size <= first + width <= 8 + first:
        return Meaning(
            name, structure, {name: int.from_bytes(held[first : first + width], "little")}
        )
    return Meaning(name, structure)


def _ports(word: int, base: int) -> str:
    """The ports of the bits that are set: "3, 5..7"."""
    told, bit = [], 0
    while word >> bit:
        first = bit + (word >> bit & -(word >> bit)).bit_length() - 1
        bit = first
        while word >> bit & 1:
            bit += 1
        last = base + bit - 1
        told.append(str(last) if last == base + first else f"{base + first}..{last}")
    return ", ".join(told)


def _set(bits: Mapping[int, str], value: int) -> list[str]:
    return [name for bit, name in bits.items() if value & bit]


def _decoded(
    structure: Structure, held: bytes | bytearray, start: int, at: int, size: int
) -> dict[str, Any]:
    """The fields of ``structure`` at byte ``start`` that bytes ``at`` .. ``at + size - 1`` touch.
    Bits that are set are told as ``<field>_set``, constants as ``<field>_name``."""
    values: dict[str, Any] = {}
    for one in _layout(structure.definition, _variant(structure, held, start)):
        if not (start + one.at < at + size and at < start + one.end):
            continue
        raw = bytes(held[start + one.at : start + one.end])
        if one.code.endswith("s"):
            values[one.name] = raw.hex()
            continue
        number = int.from_bytes(raw, "little", signed=one.code.islower())
        values[one.name] = number
        if one.bits:
            values[f"{one.name}_set"] = _set(one.bits, number)
        if one.values is not None:
            values[f"{one.name}_name"] = one.values.get(number, "unknown")
    return values


def _variant(structure: Structure, held: bytes | bytearray, start: int) -> int:
    """The value of the selector that chooses the layout, -1: any other."""
    if not structure.selector:
        return -1
    codec = _codec(structure.definition, -1)
    at = start + codec.offsets[structure.selector]
    size = codec.sizes[structure.selector]
    value = int.from_bytes(held[at : at + size], "little") & structure.mask
    return value if value in structure.variants else -1


@cache
def _codec(definition: str, variant: int) -> Codec:
    structure = _STRUCTURES[definition]
    return structure.codec(structure.unions()[variant])


@cache
def _layout(definition: str, variant: int) -> tuple[_Field, ...]:
    """The fields of a structure as ``variant`` has them."""
    structure, codec = _STRUCTURES[definition], _codec(definition, variant)
    found = []
    for path, code in codes(codec).items():
        name, at = clean(path), codec.offsets[path]
        bits, values = structure.bits.get(name), structure.values.get(name)
        found.append(
            _Field(
                name,
                at,
                at + codec.sizes[path],
                code,
                None if bits is None else bit_names(structure.module, bits),
                None if values is None else constants(structure.module, values),
            )
        )
    return tuple(found)


@cache
def _fields_of(codec: Codec) -> tuple[_Field, ...]:
    return tuple(
        _Field(clean(name), at, at + codec.sizes[name], "I", None, None)
        for name, at in codec.offsets.items()
    )


@cache
def _block_fields() -> Mapping[str, tuple[int, int]]:
    named: dict[str, tuple[int, int]] = {}
    for path, at in _CONTROL_BLOCK.offsets.items():
        head, _, number = path.partition(".")
        named[f"{head}[{number}]" if number else head] = at, _CONTROL_BLOCK.sizes[path]
    return named
