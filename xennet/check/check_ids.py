"""The id of a check that is one of several for a rule: made of the rule's."""

from __future__ import annotations

from xennet.check.check import Side

#: First words of a rule's id -> those of its checks, behind the side.
_TOPICS = {
    "netif.front": "",
    "ring.front": "ring",
    "grant.front": "grant",
    "event.front": "event",
    "xenbus.frontend": "life",
    "xenbus.backend": "life",
    "xenbus.end": "life",
    "xs-wire": "store",
}


def check_id(side: Side, rule: str, name: str = "") -> str:
    """The id of the check ``name`` of a rule: ("netfront", "ring.front.wrap", "tx") gives
    "netfront.ring.wrap-tx"."""
    first, rest = next(
        (first, rule.removeprefix(f"{first}.")) for first in _TOPICS if rule.startswith(f"{first}.")
    )
    words = [side.value, _TOPICS[first], f"{rest}-{name}" if name else rest]
    return ".".join(word for word in words if word)
