"""Hardening rules F1..F14 at the backend's guest-transmit ring, one test or more for each.

F15..F17 and the rest of F11 are in test_guest_tx_headers.py and test_guest_tx_extras.py.
"""

from __future__ import annotations

import pytest
from ip_frames import ipv4, tcp
from vif_peers import RawFrontend

from xennet.abi.netif import (
    EXTRA_HASH,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED

OKAY, ERROR, NULL = NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_NULL
M, E = NETTXF_more_data, NETTXF_extra_info


def chain(front: RawFrontend, additional: int, *, each: int = 10, first: int = 40) -> None:
    """A packet of one first slot of ``first`` bytes and ``additional`` slots of ``each``."""
    front.tx(first + additional * each, M if additional else 0)
    for i in range(additional):
        front.tx(each, M if i < additional - 1 else 0, ident=i + 1)


def test_a_packet_in_one_slot_is_delivered_and_answered_okay() -> None:
    front = RawFrontend()
    front.tx(60, ident=17, offset=100)
    front.push()
    assert front.stack.received == [front.data[100:160]]
    assert front.responses() == [(17, OKAY)]


def test_a_chain_is_put_together_in_slot_order() -> None:
    front = RawFrontend()
    front.tx(60, M, ident=1, offset=0)
    front.tx(20, M, ident=2, offset=1000)
    front.tx(15, 0, ident=3, offset=2000)
    front.push()
    assert front.stack.received == [
        front.data[0:25] + front.data[1000:1020] + front.data[2000:2015]
    ]
    assert front.responses() == [(1, OKAY), (2, OKAY), (3, OKAY)]


def test_responses_go_on_in_the_first_slot_behind_the_last() -> None:
    front = RawFrontend(start=254)
    for ident in (10, 11, 12, 13):
        front.tx(60, ident=ident)
    front.push()
    assert front.responses() == [(ident, OKAY) for ident in (10, 11, 12, 13)]


def test_a_copy_never_leaves_the_page_it_goes_to() -> None:
    # Packets lie end to end in the backend's pages: the second one begins inside a page.
    front = RawFrontend()
    front.tx(60)
    front.tx(4096)
    front.push()
    assert front.statuses() == [OKAY, OKAY]
    assert front.stack.received == [front.data[:60], front.data]


def test_a_response_keeps_the_bytes_of_its_request_behind_it() -> None:
    front = RawFrontend()
    front.tx(60, ident=5, offset=32)
    before = front.tx_ring.sring.copy_slot(0)
    front.push()
    assert front.tx_ring.sring.copy_slot(0)[4:] == before[4:]


def test_checksum_flags_and_gso_reach_the_host() -> None:
    front = RawFrontend()
    frame = ipv4(tcp())
    front.page.u8[: len(frame)] = frame
    front.tx(len(frame), NETTXF_csum_blank | NETTXF_data_validated | E)
    front.extra(size=1448, gso=2)
    front.push()
    assert front.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1448, 2)]
    assert front.statuses() == [OKAY, NULL]


@pytest.mark.parametrize("start", [0, 200, 2**31 - 3, 2**32 - 2])
def test_f1_req_prod_further_than_the_ring_is_fatal(start: int) -> None:
    front = RawFrontend(start=start)
    front.tx_ring.sring.req_prod = start + 257
    front.notify()
    assert front.fatal[0].rule == "F1"
    assert front.fatal[0].raw == ((start + 257) & 0xFFFFFFFF,)
    assert front.responses() == []


def test_f1_req_prod_moving_backwards_is_fatal() -> None:
    front = RawFrontend(start=10)
    front.tx_ring.sring.req_prod = 9
    front.notify()
    assert front.fatal[0].rule == "F1"


def test_f1_a_full_ring_is_fine() -> None:
    front = RawFrontend(start=2**32 - 100)
    for i in range(256):
        front.tx(60, ident=i)
    front.push()
    assert not front.fatal
    assert len(front.stack.received) == 256
    assert [ident for ident, _ in front.responses()] == list(range(256))


def test_f2_more_data_on_the_last_request_is_fatal() -> None:
    front = RawFrontend()
    front.tx(60)
    front.tx(60, M)
    front.push()
    assert (front.fatal[0].rule, front.fatal[0].index) == ("F2", 1)


def test_fatal_packets_get_no_response_and_earlier_ones_do() -> None:
    front = RawFrontend()
    front.tx(60, ident=8)
    front.tx(60, M)
    front.push()
    assert front.responses() == [(8, OKAY)]
    assert len(front.stack.received) == 1


def test_after_a_fatal_packet_the_ring_is_not_looked_at_again() -> None:
    front = RawFrontend()
    front.tx(60, M)
    front.push()
    front.tx(60)
    front.push()
    assert len(front.fatal) == 1
    assert front.stack.received == []


@pytest.mark.parametrize("additional", [0, 1, 17, 18])
def test_f3_up_to_18_additional_slots_are_delivered(additional: int) -> None:
    front = RawFrontend()
    chain(front, additional)
    front.push()
    assert [len(frame) for frame in front.stack.received] == [40 + additional * 10]
    assert front.statuses() == [OKAY] * (additional + 1)


@pytest.mark.parametrize("additional", [19, 20])
def test_f3_19_or_20_additional_slots_are_answered_error_and_consumed(additional: int) -> None:
    front = RawFrontend()
    chain(front, additional)
    front.tx(60)
    front.push()
    assert front.statuses() == [ERROR] * (additional + 1) + [OKAY]
    assert len(front.stack.received) == 1
    assert not front.fatal


def test_f3_21_additional_slots_are_fatal_and_nothing_is_answered() -> None:
    front = RawFrontend()
    chain(front, 21)
    front.push()
    assert (front.fatal[0].rule, front.fatal[0].index) == ("F3", 21)
    assert front.responses() == []


def test_f3_the_missing_slot_is_noticed_before_the_number_of_slots() -> None:
    front = RawFrontend()
    chain(front, 21)
    front.tx_ring.req_prod_pvt -= 1
    front.push()
    assert front.fatal[0].rule == "F2"


def test_f4_later_slots_larger_than_the_packet_are_answered_error() -> None:
    front = RawFrontend()
    front.tx(100, M, ident=1)
    front.tx(200, 0, ident=2)
    front.tx(60, 0, ident=3)
    front.push()
    assert front.responses() == [(1, ERROR), (2, ERROR), (3, OKAY)]
    assert front.stack.received == [front.data[:60]]


def test_f4_a_packet_of_64_KiB_that_wraps_its_size_is_answered_error() -> None:
    front = RawFrontend()
    front.tx((17 * 4096 + 60) & 0xFFFF, M)
    for i in range(17):
        front.tx(4096, M if i < 16 else 0, ident=i + 1)
    front.push()
    assert front.statuses() == [ERROR] * 18
    assert not front.fatal


@pytest.mark.parametrize(("offset", "size"), [(4000, 200), (4095, 2), (0, 4097), (65535, 14)])
def test_f5_a_first_slot_beyond_its_page_is_fatal(offset: int, size: int) -> None:
    front = RawFrontend()
    front.tx(max(size, 14), offset=offset)
    front.push()
    assert (front.fatal[0].rule, front.fatal[0].index) == ("F5", 0)
    assert front.fatal[0].raw[0] == front.gref


@pytest.mark.parametrize(("offset", "size"), [(4000, 200), (4000, 97), (4095, 2), (65535, 1)])
def test_f5_a_later_slot_beyond_its_page_is_fatal(offset: int, size: int) -> None:
    front = RawFrontend()
    front.tx(300, M)
    front.tx(size, 0, offset=offset)
    front.push()
    assert (front.fatal[0].rule, front.fatal[0].index) == ("F5", 1)


def test_f5_a_slot_that_ends_with_its_page_is_fine() -> None:
    front = RawFrontend()
    front.tx(96, offset=4000)
    front.push()
    assert front.stack.received == [front.data[4000:]]


@pytest.mark.parametrize("size", [0, 1, 13])
def test_f6_a_first_slot_shorter_than_an_ethernet_header_is_answered_error(size: int) -> None:
    front = RawFrontend()
    front.tx(size)
    front.tx(14)
    front.push()
    assert front.statuses() == [ERROR, OKAY]
    assert front.stack.received == [front.data[:14]]


def test_f6_counts_the_first_slot_only() -> None:
    front = RawFrontend()
    front.tx(100, M)
    front.tx(87)
    front.push()
    assert front.statuses() == [ERROR, ERROR]


def test_f7_later_slots_of_size_zero_are_answered_okay() -> None:
    front = RawFrontend()
    front.tx(60, M)
    front.tx(0, M, gref=99999)
    front.tx(0, 0, gref=99999)
    front.push()
    assert front.statuses() == [OKAY] * 3
    assert front.stack.received == [front.data[:60]]


def test_f8_extra_info_without_a_slot_behind_it_is_fatal() -> None:
    front = RawFrontend()
    front.tx(60, E)
    front.push()
    assert (front.fatal[0].rule, front.fatal[0].index) == ("F8", 1)


def test_f8_an_extra_that_promises_another_one_is_fatal() -> None:
    front = RawFrontend()
    front.tx(60, E)
    front.extra(size=1448, gso=1, flags=XEN_NETIF_EXTRA_FLAG_MORE)
    front.push()
    assert front.fatal[0].rule == "F8"


@pytest.mark.parametrize("kind", [0, 6, 0xFF])
def test_f9_unknown_extra_types_are_fatal(kind: int) -> None:
    front = RawFrontend()
    front.tx(60, E)
    front.extra(kind)
    front.push()
    assert front.fatal[0].rule == "F9"
    assert front.fatal[0].raw[0] & 0xFF == kind


@pytest.mark.parametrize("kind", [XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_TYPE_XDP])
def test_f9_known_extra_types_without_effect_are_answered_null(kind: int) -> None:
    front = RawFrontend()
    front.tx(60, E)
    front.extra(kind)
    front.push()
    assert front.statuses() == [OKAY, NULL]
    assert len(front.stack.received) == 1


@pytest.mark.parametrize(("size", "gso"), [(0, 1), (1448, 0), (1448, 3), (1448, 9)])
def test_f10_gso_of_size_zero_or_unknown_type_is_fatal(size: int, gso: int) -> None:
    front = RawFrontend()
    front.tx(60, E)
    front.extra(size=size, gso=gso)
    front.push()
    assert front.fatal[0].rule == "F10"
    assert front.fatal[0].raw == (size, gso)


def test_f10_is_judged_after_the_slots() -> None:
    front = RawFrontend()
    front.tx(10, E)
    front.extra(size=0, gso=1)
    front.push()
    assert front.statuses() == [ERROR, NULL]  # F6 comes first
    assert not front.fatal


@pytest.mark.parametrize("kind", [XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL])
def test_f11_multicast_extras_are_answered_at_once_and_more_data_is_not_looked_at(
    kind: int,
) -> None:
    front = RawFrontend()
    front.tx(60, E | M, ident=1)
    front.extra(kind)
    front.tx(70, 0, ident=2)
    front.push()
    assert front.responses()[::2] == [(1, OKAY), (2, OKAY)]
    assert front.stack.received == [front.data[:70]]
    assert front.counters.tx.errors == 0


def test_f12_the_last_of_two_extras_of_a_type_counts_and_both_get_null() -> None:
    front = RawFrontend()
    frame = ipv4(tcp())
    front.page.u8[: len(frame)] = frame
    front.tx(len(frame), E | NETTXF_csum_blank)
    front.extra(size=1000, gso=1, flags=XEN_NETIF_EXTRA_FLAG_MORE)
    front.extra(size=1400, gso=2)
    front.push()
    assert front.stack.meta == [(CSUM_BLANK, 1400, 2)]
    assert front.statuses() == [OKAY, NULL, NULL]


def test_f13_a_failed_copy_is_an_error_for_its_slot_alone_and_the_packet_is_dropped() -> None:
    front = RawFrontend()
    front.tx(90, M, ident=1)
    front.tx(20, M, ident=2, gref=1999)
    front.tx(20, 0, ident=3)
    front.tx(60, 0, ident=4)
    front.push()
    assert front.responses() == [(1, OKAY), (2, ERROR), (3, OKAY), (4, OKAY)]
    assert front.stack.received == [front.data[:60]]
    assert front.counters.tx.errors == 1
    assert not front.fatal


#: Packets as (additional slots, bytes of each, bytes of the first): a plain one, one across a page
#: of the backend's, one with empty slots, one that is refused, and two more.
MIXED = ((0, 0, 60), (2, 1800, 1000), (2, 0, 70), (1, 20, 10), (1, 500, 300), (0, 0, 80))


@pytest.mark.parametrize("failing", range(6))
def test_f13_of_many_packets_the_one_whose_last_slot_is_not_copied_is_dropped(failing: int) -> None:
    front = RawFrontend()
    delivered, answers = [], []
    for number, (additional, each, first) in enumerate(MIXED):
        wrong = front.gref if number != failing else 1999
        copied = ERROR if number == failing and each + first * (not additional) else OKAY
        extra = E if number % 2 else 0
        front.tx(
            first + additional * each,
            (M if additional else 0) | extra,
            gref=front.gref if additional else wrong,
        )
        if extra:
            front.slot(EXTRA_HASH.pack(XEN_NETIF_EXTRA_TYPE_HASH, 0, 0, 1, bytes(4)) + bytes(4))
        for i in range(additional):
            last = i == additional - 1
            front.tx(each, 0 if last else M, offset=2000, gref=wrong if last else front.gref)
        if first < 14:
            answers += [ERROR, NULL, ERROR]
            continue
        answers += [OKAY if additional else copied] + [NULL] * bool(extra)
        answers += [OKAY] * (additional - 1) + [copied] * bool(additional)
        if copied == OKAY:
            delivered.append(front.data[:first] + front.data[2000 : 2000 + each] * additional)
    front.push()
    assert front.statuses() == answers
    assert front.stack.received == delivered
    assert front.counters.tx.errors == len(MIXED) - len(delivered)


def test_f13_a_revoked_grant_is_an_error() -> None:
    front = RawFrontend()
    assert front.guest.grants.end_access(front.gref)
    front.tx(60)
    front.push()
    assert front.statuses() == [ERROR]


def test_f14_a_slot_rewritten_after_it_was_read_changes_nothing() -> None:
    front = RawFrontend()
    front.tx(60, ident=7)
    original = front.host.grant_copy

    def rewrite_then_copy(ops: memoryview, count: int) -> None:
        front.tx_ring.sring.write_slot(0, b"\xff" * 12)
        original(ops, count)

    front.host.grant_copy = rewrite_then_copy  # type: ignore[method-assign]
    front.push()
    assert front.stack.received == [front.data[:60]]
    assert front.responses() == [(7, OKAY)]


def test_the_backend_asks_for_an_event_at_the_next_request_before_it_sleeps() -> None:
    front = RawFrontend()
    front.tx(60)
    front.push()
    assert front.tx_ring.sring.req_event == 2
    front.tx(60)
    assert front.push()


def test_no_event_is_lost_when_a_bad_packet_and_a_good_one_are_pushed_together() -> None:
    # The seed driver stops asking for events here (field bug 15).
    front = RawFrontend()
    front.tx(13)
    front.tx(60)
    front.push()
    assert front.statuses() == [ERROR, OKAY]
    front.tx(60)
    assert front.push()
    assert front.statuses() == [OKAY]


def test_responses_are_announced_only_if_the_frontend_asked() -> None:
    front = RawFrontend()
    front.tx_ring.sring.rsp_event = 100
    front.tx(60)
    front.push()
    assert front.events == 0
    front.tx_ring.sring.rsp_event = front.tx_ring.sring.rsp_prod + 1
    front.tx(60)
    front.push()
    assert front.events == 1


def test_a_host_without_room_leaves_requests_on_the_ring() -> None:
    front = RawFrontend()
    front.stack.room = 0
    front.tx(60)
    front.push()
    assert front.responses() == []
    front.make_room()
    assert front.statuses() == [OKAY]


def test_a_pass_takes_no_more_packets_than_the_host_has_room_for() -> None:
    front = RawFrontend()
    front.stack.room = 3
    for i in range(10):
        front.tx(60, ident=i)
    front.tx_ring.push_requests()
    front.queue.poll_tx()
    assert len(front.responses()) == 3


def test_every_slot_of_a_pass_can_be_a_full_page() -> None:
    front = RawFrontend()
    for _ in range(16):
        front.tx(15 * 4096, M)
        for i in range(14):
            front.tx(4096, M if i < 13 else 0)
    front.push()
    assert front.stack.received == [front.data * 15] * 16
