"""What a service keeps of a vif, however often its peer connects."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from attrs import define, field

from xennet.xen.vif_service import ServedVif


@define
class Ring:
    packets: int = 0


@define
class Counters:
    tx: Ring = field(factory=Ring)
    kicks: int = 1


class CountingDriver:
    def __init__(self, packets: int) -> None:
        self.counters = Counters(Ring(packets))


def driver(packets: int) -> Any:
    return CountingDriver(packets)


def test_of_drivers_that_are_gone_only_their_counters_are_kept() -> None:
    vif = ServedVif("vif1.0")
    first = driver(5)
    gone = weakref.ref(first)
    vif.drive(first)
    del first
    vif.drive(driver(7))
    gc.collect()
    assert gone() is None
    for _ in range(2):
        assert vif.report()["counters"] == {"tx": {"packets": 12}, "kicks": 2}
    vif.drive(None)
    assert vif.report()["counters"] == {"tx": {"packets": 12}, "kicks": 2}


def test_a_peer_that_breaks_the_protocol_in_many_ways_is_told_of_in_a_few_words() -> None:
    vif = ServedVif("vif1.0")
    assert vif.note("slot 0")
    assert not vif.note("slot 0")
    assert vif.report()["earlier_faults"] == 0
    for number in range(1, 1000):
        assert vif.note(f"slot {number}")
    report = vif.report()
    assert report["faults"] == [f"slot {number}" for number in range(980, 1000)]
    assert report["earlier_faults"] == 980
