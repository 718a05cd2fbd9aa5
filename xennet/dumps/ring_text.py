"""A dumped ring as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from xennet.abi import netif
from xennet.dumps.ring_dump import EventField, RingKind, RingPage, Slot
from xennet.dumps.ring_judge import Judgement, Packet, judge

#: Version of the JSON layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-ring/1"


def _named(prefix: str) -> dict[int, str]:
    """The header's constants that begin with ``prefix``, without it, by value."""
    return {
        value: name.removeprefix(prefix)
        for name, value in vars(netif).items()
        if name.startswith(prefix) and isinstance(value, int) and "MAX" not in name
    }


_STATUS = _named("NETIF_RSP_")
#: Structure and field -> names of its bits.
_BITS: Mapping[tuple[str, str], Mapping[int, str]] = MappingProxyType(
    {
        ("netif_tx_request", "flags"): _named("NETTXF_"),
        ("netif_rx_response", "flags"): _named("NETRXF_"),
        ("netif_extra_info", "flags"): {netif.XEN_NETIF_EXTRA_FLAG_MORE: "more"},
    }
)
#: Structure and field -> names of its values.
_NAMES: Mapping[tuple[str, str], Mapping[int, str]] = MappingProxyType(
    {
        ("netif_tx_response", "status"): _STATUS,
        ("netif_rx_response", "status"): {k: v for k, v in _STATUS.items() if k < 0},
        ("netif_extra_info", "type"): _named("XEN_NETIF_EXTRA_TYPE_"),
        ("netif_extra_info", "u.gso.type"): _named("XEN_NETIF_GSO_TYPE_"),
        ("xen_netif_ctrl_request", "type"): _named("XEN_NETIF_CTRL_TYPE_"),
        ("xen_netif_ctrl_response", "type"): _named("XEN_NETIF_CTRL_TYPE_"),
        ("xen_netif_ctrl_response", "status"): _named("XEN_NETIF_CTRL_STATUS_"),
    }
)
#: Which end sets an event field, which one it wakes by it, and what the other end pushes.
_EVENTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "req_event": ("backend", "frontend", "request"),
        "rsp_event": ("frontend", "backend", "response"),
    }
)


def guess_kind(page: bytes) -> RingKind:
    """The kind of ring that ``page`` most looks like: slots do not reach behind the last one, and
    there is least wrong. A page that could be any, a new ring for example, is a transmit ring."""
    pages = [RingPage(page, kind) for kind in RingKind]
    fitting = [one for one in pages if one.tail() <= one.end()] or pages
    return min(fitting, key=lambda one: len(judge(one).problems)).kind


def ring_text(page: RingPage, judgement: Judgement, guessed: bool) -> Iterator[str]:
    """The lines that tell what ``page`` holds; ``guessed``: nobody said which ring it is."""
    ring = page.sring
    by = " (as it looks; --tx, --rx or --ctrl says it)" if guessed else ""
    yield f"{page.kind.value} ring of {page.nr_ents} slots{by}"
    yield f"  req_prod {ring.req_prod}, rsp_prod {ring.rsp_prod}: {_requests(page)}"
    for event in page.events():
        yield f"  {_event(event)}"
    for title, packets in (
        ("requests without a response", judgement.requests),
        ("responses that are still there", judgement.responses),
    ):
        if packets:
            yield ""
            yield title
            for packet in packets:
                yield from _packet(packet)
    yield ""
    if not judgement.problems:
        yield "nothing is wrong with it"
    for problem in judgement.problems:
        yield (
            f"wrong: {problem.text} [{problem.rule}]"
            if problem.index is None
            else (f"wrong at index {problem.index}: {problem.text} [{problem.rule}]")
        )


def ring_json(page: RingPage, judgement: Judgement) -> dict[str, Any]:
    """The same as a JSON object."""
    ring = page.sring
    return {
        "format": FORMAT,
        "ring": page.kind.value,
        "slots": page.nr_ents,
        "req_prod": ring.req_prod,
        "req_event": ring.req_event,
        "rsp_prod": ring.rsp_prod,
        "rsp_event": ring.rsp_event,
        "notifies_after": {event.name: event.ahead for event in page.events()},
        "requests": [_packet_json(packet) for packet in judgement.requests],
        "responses": [_packet_json(packet) for packet in judgement.responses],
        "problems": [
            {"rule": one.rule, "index": one.index, "text": one.text} for one in judgement.problems
        ],
    }


def _requests(page: RingPage) -> str:
    count = page.unanswered
    return f"{count} request{'' if count == 1 else 's'} without a response"


def _event(event: EventField) -> str:
    asks, notifies, what = _EVENTS[event.name]
    if not event.ahead:
        return (
            f"{event.name} {event.value}: passed; the {notifies} does not notify before the {asks} "
            "asks again"
        )
    when = f"the next {what}" if event.ahead == 1 else f"{event.ahead} more {what}s"
    return f"{event.name} {event.value}: the {asks} wants an event, at {when}"


def _packet(packet: Packet) -> Iterator[str]:
    if packet.size or packet.fate:
        size = f"{packet.size} bytes" if packet.size else ""
        slots = f"{len(packet.slots)} slot{'' if len(packet.slots) == 1 else 's'}"
        yield "  " + ", ".join(filter(None, (slots, size, packet.fate)))
    indent = "    " if packet.size or packet.fate else "  "
    for slot in packet.slots:
        shown = "  ".join(f"{name} {value}" for name, value in _values(slot))
        what = "extra info  " if slot.structure == "netif_extra_info" else ""
        yield f"{indent}{slot.index:>10} slot {slot.number:<3}  {what}{shown}  ({slot.words})"


def _values(slot: Slot) -> Iterator[tuple[str, int | str]]:
    for name, value in slot.values.items():
        if "pad" not in name:
            yield name.removeprefix("u."), _value(slot, name, value)


def _value(slot: Slot, name: str, value: int | str) -> int | str:
    key = slot.structure, name
    if key in _BITS and isinstance(value, int):
        bits = _BITS[key]
        known = [text for bit, text in bits.items() if value & bit]
        rest = value & ~sum(bits)
        return "|".join([*known, *([f"{rest:#x}"] if rest else [])]) or 0
    if key in _NAMES and isinstance(value, int):
        return _NAMES[key].get(value, value)
    return value


def _packet_json(packet: Packet) -> dict[str, Any]:
    return {
        "bytes": packet.size,
        "fate": packet.fate,
        "slots": [
            {
                "index": slot.index,
                "slot": slot.number,
                "structure": slot.structure,
                **slot.values,
                "raw": slot.raw.hex(),
            }
            for slot in packet.slots
        ],
    }
