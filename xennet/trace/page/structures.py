"""What a page knows of the protocol, as data: structures of shared memory and the rules that steps
follow.

The structures are those of the dissector (xennet.trace.records), so all of it is from xennet.abi.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from xennet.abi import event_channel, xen, xenbus
from xennet.abi.codec import layout
from xennet.abi.ring import (
    NETIF_CTRL_RING_SIZE,
    NETIF_CTRL_SLOT_SIZE,
    NETIF_RX_RING_SIZE,
    NETIF_RX_SLOT_SIZE,
    NETIF_TX_RING_SIZE,
    NETIF_TX_SLOT_SIZE,
    SRING_HEADER_SIZE,
)
from xennet.trace import records
from xennet.trace.records import Kind, Structure

#: What a step is -> the rules that it follows, by their ids (xennet check explain ID).
STEP_RULES: Mapping[str, tuple[str, ...]] = {
    "sent req_prod": ("ring.front.notify-if-asked",),
    "avoided req_prod": ("ring.front.no-notify-unasked",),
    "sent rsp_prod": ("ring.response-notify",),
    "avoided rsp_prod": ("ring.response-hold-off",),
    "lost req_prod": ("ring.event-index", "ring.final-check"),
    "lost rsp_prod": ("ring.front.final-check",),
    "store req_event": ("ring.event-index", "ring.final-check"),
    "store rsp_event": ("ring.front.final-check",),
    "new req_event": ("ring.front.initialised",),
    "new rsp_event": ("ring.front.initialised",),
    "publish req_prod": ("ring.published-only",),
    "publish rsp_prod": ("ring.responses-published",),
    "load slot": ("ring.copy-once",),
    "copy": ("grant.copy-status",),
    "send": ("event.one-bit",),
    "upcall": ("event.check-again",),
}


def structures() -> dict[str, Any]:
    """Structures by name: {name, size, selector: [offset, size, mask] or null, variants: value of
    the selector, or -1 -> fields}. A field: {name, at, size, signed, text (it is bytes), bits:
    value -> name, values: value -> name, parts: name -> mask}."""
    found: dict[str, Any] = {
        kind.name: _structure(structure)
        for kind, structure in records.STRUCTURES.items()
        if kind is not Kind.XENSTORE
    }
    found["EVENT_WORD"] = _event_word()
    return found


def memories() -> dict[str, Any]:
    """What a shared memory is called -> how it is divided: {unit: bytes, first: offset of the
    first, count}, names of the structures that lie there, or of arrays of 64-bit words with their
    [offset, size]."""
    bits = layout(xen.shared_info)
    return {
        "tx ring": _ring(NETIF_TX_SLOT_SIZE, NETIF_TX_RING_SIZE, "TX", extra="request"),
        "rx ring": _ring(NETIF_RX_SLOT_SIZE, NETIF_RX_RING_SIZE, "RX", extra="response"),
        "ctrl ring": _ring(NETIF_CTRL_SLOT_SIZE, NETIF_CTRL_RING_SIZE, "CTRL", extra=""),
        "grant table": {
            "called": "entry",
            "versions": {"1": Kind.GRANT_ENTRY_V1.name, "2": Kind.GRANT_ENTRY_V2.name},
        },
        "event array": {"called": "port", "structure": "EVENT_WORD"},
        "shared info": {
            "called": "word",
            "arrays": {name: list(bits[name]) for name in ("evtchn_pending", "evtchn_mask")},
        },
    }


def states() -> dict[int, str]:
    """The names of the values of a node "state"."""
    return records.constants(xenbus, "XenbusState")


def rules(wanted: Iterable[str]) -> dict[str, dict[str, str]]:
    """Those rules of the book, by id, that are ``wanted`` or that a kind of step follows."""
    book = _rule_book()
    ids = {*wanted, *(one for ids in STEP_RULES.values() for one in ids)}
    return {one: book[one] for one in sorted(ids & book.keys())}


@cache
def _rule_book() -> Mapping[str, dict[str, str]]:
    """The files of rules, which xennet.check reads for itself, as what they say to people."""
    found = {}
    for file in files("xennet").joinpath("check/rules").iterdir():
        if file.name.endswith(".toml"):
            for rule in tomllib.loads(file.read_text("utf-8"))["rule"]:
                source = f"{rule['source']} of Xen {rule['release']}"
                found[rule["id"]] = {"text": rule["text"], "source": source}
    return found


def _structure(structure: Structure) -> dict[str, Any]:
    usual = structure.codec(structure.otherwise)
    selector = None
    if structure.selector:
        at, size = usual.offsets[structure.selector], usual.sizes[structure.selector]
        selector = [at, size, structure.mask]
    unions = structure.unions().items()
    return {
        "name": structure.definition,
        "size": usual.size,
        "selector": selector,
        "variants": {str(value): _fields(structure, union) for value, union in unions},
    }


def _fields(structure: Structure, union: Mapping[str, str]) -> list[dict[str, Any]]:
    codec, module = structure.codec(union), structure.module
    found = []
    for path, code in records.codes(codec).items():
        name = records.clean(path)
        field: dict[str, Any] = {"name": name, "at": codec.offsets[path], "size": codec.sizes[path]}
        if code.endswith("s"):
            field["text"] = True
        elif code.islower():
            field["signed"] = True
        if name in structure.bits:
            field["bits"] = records.bit_names(module, structure.bits[name])
        if name in structure.values:
            field["values"] = records.constants(module, structure.values[name])
        found.append(field)
    return found


def _event_word() -> dict[str, Any]:
    bits = ("PENDING", "MASKED", "LINKED", "BUSY")
    size = event_channel.event_word_t.sizeof()
    field = {
        "name": "event_word",
        "at": 0,
        "size": size,
        "bits": {1 << getattr(event_channel, f"EVTCHN_FIFO_{one}"): one.lower() for one in bits},
        "parts": {"link": event_channel.EVTCHN_FIFO_LINK_MASK},
    }
    return {"name": "event_word_t", "size": size, "selector": None, "variants": {"-1": [field]}}


def _ring(unit: int, count: int, name: str, *, extra: str) -> dict[str, Any]:
    """``extra``: which of a slot's two structures extra info may follow."""
    found = {"called": "slot", "first": SRING_HEADER_SIZE, "unit": unit, "count": count}
    both = {"request": f"{name}_REQUEST", "response": f"{name}_RESPONSE"}
    return {**found, **both, "extra": extra, "header": Kind.RING_HEADER.name}
