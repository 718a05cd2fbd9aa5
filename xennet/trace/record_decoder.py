"""What Wireshark shows of a record, in Python: the same names, the same values."""

from __future__ import annotations

from collections.abc import Iterator

from xennet.abi.codec import Codec
from xennet.trace import record_rules, records, store_arguments
from xennet.trace.event_text import printable
from xennet.trace.records import HEADER, STRUCTURES, VERSION, Kind, Role, Structure

#: Present, with an empty value, where Wireshark has an expert item of that name.
CUT, UNKNOWN = "xennet.expert.cut", "xennet.expert.unknown"

_KINDS = {kind.value: kind for kind in Kind}
#: Name in filters -> values in the order of the record: numbers, texts, bytes in hexadecimal.
Fields = dict[str, list[int | str]]


def decode(record: bytes) -> Fields:
    """The fields of a record that lie in it whole, however it was cut."""
    found: Fields = {}
    for name, value in _record(record):
        found.setdefault(name, []).append(value)
    return found


def _record(record: bytes) -> Iterator[tuple[str, int | str]]:
    yield from _leaves(HEADER, "xennet.", record)
    if len(record) < HEADER.size:
        yield CUT, ""
        return
    head = dict(zip(HEADER.fields, HEADER.unpack_from(record), strict=True))
    if head["version"] != VERSION:
        yield UNKNOWN, ""
        return
    at = HEADER.size
    for name in ("rule", "text"):
        said = record[at : at + head[f"{name}_length"]]
        if said:
            yield f"xennet.{name}", printable(said, kept=b"\\")
        at += head[f"{name}_length"]
    kind = _KINDS.get(head["kind"])
    body = record[at:]
    whole = at <= len(record)
    if kind is None:
        yield UNKNOWN, ""
    elif kind in STRUCTURES:
        shown = list(_structure(STRUCTURES[kind], head["role"], body))
        whole = (CUT, "") not in shown and whole
        yield from (one for one in shown if one[0] != CUT)
        for one in record_rules.broken(kind, record, body):
            yield "xennet.broken", one.rule
    if not whole:
        yield CUT, ""


def _structure(structure: Structure, role: int, body: bytes) -> Iterator[tuple[str, int | str]]:
    if body:
        yield f"xennet.{structure.filter}", ""
    union = structure.otherwise
    codec = structure.codec(union)
    if structure.selector:
        at, size = codec.offsets[structure.selector], codec.sizes[structure.selector]
        if at + size > len(body):
            yield CUT, ""
            return
        chosen = int.from_bytes(body[at : at + size], "little") & structure.mask
        codec = structure.codec(structure.variants.get(chosen, union))
    prefix = f"xennet.{structure.filter}."
    for name, value in _leaves(codec, prefix, body):
        yield name, value
        bits = structure.bits.get(name.removeprefix(prefix))
        if bits is not None:
            for bit, bit_name in records.bit_names(structure.module, bits).items():
                yield f"{name}.{bit_name}", int(bool(int(value) & bit))
    if len(body) < codec.size:
        yield CUT, ""
    if structure.payload:
        yield from _payload(structure, codec, role, body)


def _payload(
    structure: Structure, codec: Codec, role: int, body: bytes
) -> Iterator[tuple[str, int | str]]:
    prefix = f"xennet.{structure.filter}."
    at = codec.offsets[structure.payload]
    length = int.from_bytes(body[at : at + codec.sizes[structure.payload]], "little")
    payload = body[codec.size : codec.size + length]
    if len(payload) < length:
        yield CUT, ""
    if not payload:
        return
    yield f"{prefix}payload", payload.hex()
    for part in payload.split(b"\0"):
        if part:
            yield f"{prefix}string", printable(part)
    if role in (Role.TO_STORE, Role.FROM_STORE):
        kind = int.from_bytes(body[:4], "little")
        for name, part in store_arguments.parts(kind, role == Role.TO_STORE, payload):
            yield f"{prefix}{name}", printable(part)


def _leaves(codec: Codec, prefix: str, body: bytes) -> Iterator[tuple[str, int | str]]:
    codes = records.codes(codec)
    for path in codec.fields:
        at, size, code = codec.offsets[path], codec.sizes[path], codes[path]
        raw = body[at : at + size]
        if len(raw) == size:
            name = f"{prefix}{records.clean(path)}"
            number = int.from_bytes(raw, "little", signed=code.islower())
            yield name, raw.hex() if code.endswith("s") else number
