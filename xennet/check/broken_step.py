"""The step of a driver that broke a rule, in the trace of a play (docs/conformance.md).

What a check knows is the place: a slot, a node, a grant reference, or no more than the ring. So the
step is the last one with which the driver touched that place before the fault was seen: it wrote
the response there that is wrong, or read there what it then did wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from xennet.abi.ring import ring_size
from xennet.abi.xen import PAGE_SIZE
from xennet.trace.ring_slots import RINGS
from xennet.trace.stream import Event

_ACCESSES = frozenset(("load", "store", "update"))
_WRITES = frozenset(("store", "update"))
#: What a driver does, of which the last is the step where no place is known.
_DOES = _ACCESSES | frozenset(("publish", "notify", "send", "hypercall", "xenstore", "packet"))
_CHANGES_NODES = frozenset(("WRITE", "MKDIR", "RM", "SET_PERMS"))


@frozen
class Place:
    """Where a rule was broken, as far as the check knows (xennet.check.runner.Result.evidence): the
    driver's domain, ``ring`` ("tx") and ``queue``, ``index`` of the slot, ``path`` of a node."""

    domid: int
    ring: str = ""
    queue: int = 0
    index: int | None = None
    path: str = ""

    @classmethod
    def of(cls, domid: int, evidence: Mapping[str, Any]) -> Place:
        """The place that the evidence of a result names."""
        return cls(
            domid,
            evidence.get("ring", ""),
            evidence.get("queue", 0),
            evidence.get("index"),
            evidence.get("path", ""),
        )


def broken_step(
    events: Sequence[Event], rule: str, place: Place, crashed: bool = False
) -> int | None:
    """The number of the event by which ``rule`` was broken at ``place``; ``events`` end where that
    was seen. Of a driver that has ``crashed`` it is the last use of the slot or grant, or else the
    last step of all. None if there are no events."""
    finders = next((found for name, found in _FINDERS if name.match(rule)), ())
    if crashed:
        finders = tuple(one for one in finders if one in (_slot, _grant))
    for finder in finders:
        if (n := finder(events, place)) is not None:
            return n
    own = _last(events, lambda e: e["dom"] == place.domid and e["kind"] in _DOES)
    return own if own is not None else (events[-1]["n"] if events else None)


def _last(events: Sequence[Event], fits: Callable[[Event], bool]) -> int | None:
    return next((int(event["n"]) for event in reversed(events) if fits(event)), None)


def _memories(events: Sequence[Event], place: Place) -> frozenset[int]:
    """The memories of the ring: those that are known to be the queue's, else the ring of that
    number."""
    rings: dict[int, int | None] = {}
    for event in events:
        if event["kind"] == "memory" and event["what"] == f"{place.ring} ring":
            rings[event["memory"]] = event.get("queue", rings.get(event["memory"]))
    named = {memory for memory, queue in rings.items() if queue == place.queue}
    return frozenset(named or list(rings)[place.queue : place.queue + 1])


def _slot(events: Sequence[Event], place: Place) -> int | None:
    """The driver's last store to the slot, or else its last load of it."""
    field, memories = _field_of(place), _memories(events, place)
    if field is None:
        return None

    def touches(event: Event) -> bool:
        own = event["dom"] == place.domid and event["kind"] in _ACCESSES
        return own and event["memory"] in memories and event.get("field") == field

    wrote = _last(events, lambda e: touches(e) and e["kind"] in _WRITES)
    return wrote if wrote is not None else _last(events, touches)


def _publication(events: Sequence[Event], place: Place) -> int | None:
    """The driver's last publication on the ring, with or without the notification behind it."""
    return _last(
        events,
        lambda e: (
            e["kind"] in ("publish", "notify")
            and e["dom"] == place.domid
            and e["ring"] == (place.ring or e["ring"])
        ),
    )


def _event(events: Sequence[Event], place: Place) -> int | None:
    """The driver's last use of an event channel."""
    return _last(
        events,
        lambda e: e["dom"] == place.domid and (e["kind"] in ("send", "upcall") or _of_events(e)),
    )


def _of_events(event: Event) -> bool:
    return event["kind"] == "hypercall" and str(event["op"]).startswith("EVTCHNOP")


def _grant(events: Sequence[Event], place: Place) -> int | None:
    """The last change of the entry that the slot names, or the copy or mapping that used it."""
    grefs = {
        event["meaning"]["gref"]
        for event in _of_slot(events, place)
        if "gref" in event.get("meaning", {})
    }
    fields = {f"entry {gref}" for gref in grefs}

    def uses(event: Event) -> bool:
        if event["kind"] in _WRITES:
            return event.get("structure", "").startswith("grant_") and event["field"] in fields
        ends = (event["source"], event["dest"]) if event["kind"] == "copy" else ()
        return any(end.get("gref") in grefs for end in ends)

    return _last(events, lambda e: uses(e) and e["dom"] == place.domid)


def _of_slot(events: Sequence[Event], place: Place) -> Iterator[Event]:
    field, memories = _field_of(place), _memories(events, place)
    for event in events:
        here = event["kind"] in _ACCESSES and event.get("field") == field
        if here and field is not None and event["memory"] in memories:
            yield event


def _field_of(place: Place) -> str | None:
    """What accesses to the slot have as their field; None if no slot is known."""
    kind = RINGS.get(f"{place.ring} ring")
    if kind is None or place.index is None:
        return None
    return f"slot {place.index % ring_size(PAGE_SIZE, kind.slot_size, kind.slot_size)}"


def _node(events: Sequence[Event], place: Place) -> int | None:
    """The driver's last change of the node, or else its last request about it."""
    about = [
        event
        for event in events
        if event["kind"] == "xenstore"
        and event["dom"] == place.domid
        and str(event["path"]).endswith(place.path or "/state")
    ]
    changed = _last(about, lambda e: e["op"] in _CHANGES_NODES)
    return changed if changed is not None else _last(about, lambda e: True)


_Finder = Callable[[Sequence[Event], Place], "int | None"]
#: Rules -> what to look for, the first that is found.
_FINDERS: tuple[tuple[re.Pattern[str], tuple[_Finder, ...]], ...] = tuple(
    (re.compile(name), finders)
    for name, finders in (
        (r"ring\..*(notify|event|final-check|prod|no-work)", (_publication, _event, _slot)),
        (r"event\.", (_event, _publication)),
        (r"grant\.", (_grant, _slot)),
        (r"xenbus\.|xs-wire\.|netif\.(node|queues|channel)", (_node, _slot)),
        (r"ring\.|netif\.", (_slot, _publication)),
    )
)
