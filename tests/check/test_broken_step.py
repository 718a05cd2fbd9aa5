"""Which step of a trace is the one that broke a rule."""

from __future__ import annotations

from typing import Any

import pytest

from xennet.check.broken_step import Place, broken_step
from xennet.trace.stream import Event


def event(n: int, kind: str, dom: int = 0, **members: Any) -> Event:
    return {"n": n, "dom": dom, "kind": kind, **members}


def access(n: int, kind: str, field: str, dom: int = 0, **members: Any) -> Event:
    return event(n, kind, dom, memory=4, field=field, **members)


EVENTS = [
    event(1, "memory", what="tx ring", memory=3, queue=0),
    event(2, "memory", what="tx ring", memory=4, queue=1),
    access(3, "store", "slot 5", 1, structure="netif_tx_request", meaning={"gref": 8}),
    access(4, "load", "slot 5", structure="netif_tx_request", meaning={"gref": 8}),
    event(5, "update", memory=9, field="entry 8", structure="grant_entry_v1"),
    event(6, "copy", source={"gref": 7}, dest={"frame": 1}),
    access(7, "store", "slot 5", structure="netif_tx_response", meaning={"status": 0}),
    event(8, "publish", ring="tx"),
    event(9, "notify", ring="rx"),
    event(10, "xenstore", op="WRITE", path="backend/vif/1/0/state"),
    event(11, "xenstore", op="READ", path="backend/vif/1/0/state"),
    event(12, "send"),
    event(13, "store", 1, memory=3, field="slot 0"),
]


@pytest.mark.parametrize(
    ("rule", "place", "crashed", "step"),
    [
        ("netif.tx.status", Place(0, "tx", 1, 256 + 5), False, 7),  # the response that it wrote
        ("netif.tx.status", Place(0, "tx", 1, 5), True, 7),
        ("netif.tx.status", Place(1, "tx", 1, 5), False, 3),
        ("netif.tx.status", Place(0, "tx", 0, 5), False, 8),  # another queue: what it published
        ("netif.tx.status", Place(0), False, 9),  # no place: its last publication
        ("grant.within-page", Place(0, "tx", 1, 5), False, 5),
        ("grant.within-page", Place(0, "rx", 0, 1), False, 12),  # nothing is known: its last step
        ("grant.within-page", Place(0, "store", 0, 1), False, 12),  # no ring of slots
        ("ring.response-notify", Place(0, "tx", 1, 5), False, 8),
        ("ring.response-notify", Place(0, "tx", 1, 5), True, 7),  # it crashed: the slot
        ("event.storm", Place(0), False, 12),
        ("xenbus.end.own-directory", Place(0), True, 12),  # it crashed: its last step
        ("xenbus.end.own-directory", Place(0, path="/vif/1/0/state"), False, 10),
        ("no.such.rule", Place(1), False, 13),
        ("no.such.rule", Place(7), False, 13),  # it did nothing: the last event of all
    ],
)
def test_it_is_the_last_use_of_the_place(rule: str, place: Place, crashed: bool, step: int) -> None:
    assert broken_step(EVENTS, rule, place, crashed) == step


def test_of_nothing_there_is_none() -> None:
    assert broken_step([], "netif.tx.status", Place(0)) is None
