"""Events of a trace as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xennet.trace.stream import Event


def line(event: Event) -> str:
    """An event: number, ns of virtual time, domain, kind, number of the cause, sentence, and what
    the sentence does not say, in brackets."""
    cause, dom = event.get("cause"), event.get("dom")
    where = "" if dom is None else f"dom{dom}"
    because = "" if cause is None else f"<-{cause}"
    kind, text = event["kind"], event.get("text", "")
    detail = _DETAILS.get(kind, _nothing)(event)
    rule = f" [{event['rule']}]" if event.get("rule") else ""
    head = f"{event['n']:>6} {event.get('t', 0)!s:>10} {where:<6} {kind:<9} {because:<8} "
    return head + str(text) + (f" [{detail}]" if detail else "") + rule


def reasons(events: Iterable[Event], n: int) -> Iterator[Event]:
    """The events that led to event ``n``, oldest first, and ``n`` itself: causes, and of an index
    that was compared with an event index who set that. Raises ValueError if there is no such
    event."""
    by_number: dict[int, Event] = {}
    for event in events:
        by_number[event["n"]] = event
        if event["n"] >= n:
            break
    if n not in by_number:
        raise ValueError(f"there is no event {n}")
    wanted, found = [n], set()
    while wanted:
        number = wanted.pop()
        if number in by_number and number not in found:
            found.add(number)
            event = by_number[number]
            for member in ("cause", "event_set_by"):
                if isinstance(event.get(member), int):
                    wanted.append(event[member])
    return (by_number[number] for number in sorted(found))


def _nothing(event: Event) -> str:
    return ""


def _comparison(event: Event) -> str:
    if event.get("event") is None:
        return ""
    by = event.get("event_set_by")
    who = "as it was when the ring was made" if by is None else f"set by {by}"
    return f"{event.get('old')} to {event.get('new')}; event index {event['event']}, {who}"


def _access(event: Event) -> str:
    meaning = event.get("meaning")
    if not isinstance(meaning, dict) or not meaning:
        return ""
    return ", ".join(f"{name} {_value(value)}" for name, value in meaning.items())


def _value(value: Any) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _request(event: Event) -> str:
    told = [f'"{event["value"]}"'] if event.get("value") else []
    told += [f"transaction {event['tx']}"] if event.get("tx") else []
    return ", ".join(told)


_DETAILS: dict[str, Callable[[Event], str]] = {
    "publish": _comparison,
    "notify": _comparison,
    "load": _access,
    "store": _access,
    "update": _access,
    "xenstore": _request,
}
