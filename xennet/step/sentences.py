"""What happened in a step, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from xennet.trace.stream import Event

#: Kinds of events that are told; the others are accesses, and what repeats these.
TOLD = frozenset(
    ("publish", "notify", "packet", "copy", "send", "upcall", "xenstore", "state", "lost", "domain")
)

#: Requests to the store that change it or say what is waited for.
_REQUESTS = {
    "WRITE": '{who} writes {path} = "{value}"',
    "MKDIR": "{who} makes {path}",
    "RM": "{who} removes {path}",
    "WATCH": "{who} watches {path}",
    "UNWATCH": "{who} watches {path} no more",
}
_TRANSACTION_ENDS = {"committed": "is committed", "aborted": "is aborted"}


def sentences(events: Iterable[Event]) -> tuple[str, ...]:
    """The sentences about ``events`` (xennet.trace.stream), in their order; what is said again
    stands once, with the number of times."""
    said = Counter(map(_sentence, events))
    return tuple(text if times == 1 else f"{text} ({times} times)" for text, times in said.items())


def _sentence(event: Event) -> str:
    if event["kind"] == "xenstore":
        return "store: " + _request(event)
    rule = event.get("rule")
    return f"{event['text']} [{rule}]" if rule else str(event["text"])


def _request(event: Event) -> str:
    who, op, tx = event["who"], event["op"], event["tx"]
    if op == "TRANSACTION_END":
        ends = _TRANSACTION_ENDS.get(event["ended"], "is refused, nothing of it happens")
        text = f"transaction {tx} of {who} {ends}"
    elif op in _REQUESTS:
        text = _REQUESTS[op].format_map(event) + (f" in transaction {tx}" if tx else "")
    else:
        return f"another request of {who}"
    return text + (f": {event['error']}" if event["error"] else "")
