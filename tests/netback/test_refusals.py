"""What observers are told of packets that the backend refuses while the ring goes on."""

from __future__ import annotations

import pytest
from ip_frames import ipv4, tcp
from vif_peers import RawFrontend

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    NETTXF_csum_blank,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.vif.ring_events import RingEvent

M, E = NETTXF_more_data, NETTXF_extra_info
#: A reference that the guest has not granted, and one that its table does not have.
UNGRANTED, BEYOND = 1999, 5000
BAD_REFERENCES = pytest.mark.parametrize(
    ("gref", "status"), [(UNGRANTED, "GNTST_general_error"), (BEYOND, "GNTST_bad_gntref")]
)


@pytest.fixture
def front(engine: str) -> RawFrontend:
    """A guest driven by hand, in front of a backend that is observed."""
    front = RawFrontend(start=2**32 - 1)
    front.host.interest(RingEvent).any = True
    return front


def refused(front: RawFrontend) -> list[tuple[str, str, int]]:
    """(rule, ring, index) of everything that was refused, in order."""
    events = [event for event in front.host.events if isinstance(event, RingEvent)]
    assert all(bool(event.rule) == bool(event.why) for event in events)
    return [(event.rule, event.ring, event.index) for event in events if event.rule]


def last(front: RawFrontend) -> RingEvent:
    (event,) = [e for e in front.host.events if isinstance(e, RingEvent) and e.rule]
    return event


def test_a_good_packet_is_refused_by_no_rule(front: RawFrontend) -> None:
    front.tx(60)
    front.push()
    assert [event.what for event in front.host.events if isinstance(event, RingEvent)] == [
        "packet from the guest"
    ]
    assert refused(front) == []


def test_F3_is_named_for_19_additional_slots(front: RawFrontend) -> None:
    front.tx(60 + 19 * 10, M)
    for i in range(19):
        front.tx(10, M if i < 18 else 0)
    front.push()
    assert refused(front) == [("F3", "tx", 2**32 - 1)]
    assert dict(last(front).values) == {"slots": 20, "bytes": 250}


def test_F4_is_named_for_sizes_that_do_not_add_up(front: RawFrontend) -> None:
    front.tx(60)
    front.tx(60, M)
    front.tx(61)
    front.push()
    assert refused(front) == [("F4", "tx", 0)]


def test_F4_that_comes_before_F3_is_the_one_that_is_named(front: RawFrontend) -> None:
    front.tx(60, M)
    for i in range(19):
        front.tx(100, M if i < 18 else 0)
    front.push()
    assert refused(front) == [("F4", "tx", 2**32 - 1)]


@pytest.mark.parametrize("chained", [False, True])
def test_F6_is_named_for_a_short_first_slot(front: RawFrontend, chained: bool) -> None:
    front.tx(20 if chained else 10, M if chained else 0)
    if chained:
        front.tx(10)
    front.push()
    assert refused(front) == [("F6", "tx", 2**32 - 1)]
    assert last(front).what == "packet answered ERROR"


def test_F11_is_named_for_an_address_too_many(front: RawFrontend) -> None:
    for i in range(65):
        front.tx(0, E)
        front.extra(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, size=1, gso=i)
    front.push()
    assert refused(front) == [("F11", "tx", 127)]


@BAD_REFERENCES
def test_F13_names_slot_reference_and_the_status_of_the_copy(
    front: RawFrontend, gref: int, status: str
) -> None:
    front.tx(60, M)
    front.tx(20, 0, gref=gref)
    front.push()
    assert refused(front) == [("F13", "tx", 0)]
    assert last(front).what == "grant copy failed"
    assert dict(last(front).values) == {"status": status, "gref": gref}


@BAD_REFERENCES
def test_F13_holds_on_the_receive_ring_too(front: RawFrontend, gref: int, status: str) -> None:
    front.post_rx(gref=gref)
    front.push_rx()
    front.stack.to_send.append(bytes(60))
    front.run()
    assert refused(front) == [("F13", "rx", 2**32 - 1)]
    assert dict(last(front).values) == {"status": status, "gref": gref}


def test_F17_names_the_packet_though_others_before_it_are_dropped(front: RawFrontend) -> None:
    good = ipv4(tcp())
    front.page.u8[: len(good)] = good
    front.page.u8[2048:2148] = bytes(100)
    front.tx(60, 0, gref=UNGRANTED)
    front.tx(len(good), NETTXF_csum_blank)
    front.tx(60, M | NETTXF_csum_blank, offset=2048)
    front.tx(20, 0, offset=2048)
    front.push()
    assert refused(front) == [("F13", "tx", 2**32 - 1), ("F17", "tx", 1)]
    assert front.counters.bad_csum == 1
    events = [e for e in front.host.events if isinstance(e, RingEvent) and e.rule == "F17"]
    assert [dict(event.values) for event in events] == [{"bytes": 60}]


def test_F18_is_named_for_packets_that_expire(front: RawFrontend) -> None:
    front.stack.to_send += [bytes(60)] * 3
    front.run()
    front.machine.advance(10_000_000_000)
    front.machine.run()
    assert refused(front) == [("F18", "rx", 2**32 - 1)]
    assert dict(last(front).values) == {"packets": 3}
