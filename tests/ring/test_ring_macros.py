"""xennet.ring, macro by macro of xen/io/ring.h, each with numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from xennet.ring import (
    BackRing,
    FrontRing,
    RingOverflowError,
    SharedRing,
    memory_barrier,
    must_notify,
    overflows,
    rx_ring,
    tx_ring,
)

TOP = 0xFFFFFFFF


def page() -> tuple[memoryview, memoryview]:
    u8 = memoryview(bytearray(4096))
    return u8, u8.cast("I")


@pytest.fixture
def sring() -> SharedRing:
    ring = tx_ring(*page())
    ring.init()
    return ring


def test_one_page_holds_256_tx_slots_of_12_bytes_and_256_rx_slots_of_8():
    """__RING_SIZE"""
    assert (tx_ring(*page()).nr_ents, tx_ring(*page()).slot_size) == (256, 12)
    assert (rx_ring(*page()).nr_ents, rx_ring(*page()).slot_size) == (256, 8)


def test_init_asks_for_the_first_event_and_clears_the_rest_of_the_header():
    """SHARED_RING_INIT"""
    u8, u32 = page()
    u8[:64] = b"\xaa" * 64
    u8[64] = 0xAA
    tx_ring(u8, u32).init()
    assert list(u32[:4]) == [0, 1, 0, 1]
    assert bytes(u8[16:64]) == bytes(48)
    assert u8[64] == 0xAA  # slots are left alone


def test_front_init_makes_the_shared_page_new(sring):
    """FRONT_RING_INIT after SHARED_RING_INIT"""
    sring.req_prod = sring.rsp_prod = 77
    front = FrontRing.init(sring)
    assert (front.req_prod_pvt, front.rsp_cons, sring.req_prod, sring.rsp_prod) == (0, 0, 0, 0)


def test_front_attach_leaves_the_shared_page_alone(sring):
    """FRONT_RING_ATTACH"""
    sring.req_prod, sring.rsp_prod = 9, 5
    front = FrontRing.attach(sring, 5)
    assert (front.req_prod_pvt, front.rsp_cons, sring.req_prod, sring.rsp_prod) == (5, 5, 9, 5)


def test_back_init_starts_at_zero_whatever_the_page_says(sring):
    """BACK_RING_INIT"""
    sring.req_prod, sring.rsp_prod = 9, 5
    back = BackRing.init(sring)
    assert (back.rsp_prod_pvt, back.req_cons, back.unconsumed_requests) == (0, 0, 9)


def test_back_attach_finds_what_was_posted_before_it_came(sring):
    """BACK_RING_ATTACH"""
    sring.rsp_prod, sring.req_prod = TOP, 2
    back = BackRing.attach(sring)
    assert (back.rsp_prod_pvt, back.req_cons, back.unconsumed_requests) == (TOP, TOP, 3)


def test_back_attach_refuses_more_requests_than_the_ring_holds(sring):
    """BACK_RING_ATTACH with RING_REQUEST_PROD_OVERFLOW"""
    sring.rsp_prod, sring.req_prod = 10, 267
    with pytest.raises(RingOverflowError, match=r"tx ring: req_prod 267 .* 256 .* rsp_prod_pvt 10"):
        BackRing.attach(sring)


@pytest.mark.parametrize(
    ("prod", "cons", "free"), [(0, 0, 256), (5, 3, 254), (256, 0, 0), (1, TOP, 254)]
)
def test_free_requests_is_what_is_neither_produced_nor_still_unanswered(sring, prod, cons, free):
    """RING_FREE_REQUESTS, RING_FULL"""
    front = FrontRing.attach(sring, cons)
    front.req_prod_pvt = prod
    assert front.free_requests == free
    assert front.full is (free == 0)


@pytest.mark.parametrize(("rsp_prod", "cons", "left"), [(0, 0, 0), (4, 1, 3), (1, TOP, 2)])
def test_unconsumed_responses_is_the_distance_to_the_peers_index(sring, rsp_prod, cons, left):
    """RING_HAS_UNCONSUMED_RESPONSES"""
    sring.rsp_prod = rsp_prod
    assert FrontRing.attach(sring, cons).unconsumed_responses == left


@pytest.mark.parametrize(
    ("req_prod", "cons", "rsp", "left"),
    [
        (0, 0, 0, 0),
        (7, 3, 3, 4),
        (1000, 0, 0, 256),  # never more than the ring can hold ...
        (300, 100, 0, 156),  # ... less what is still unanswered
        (0, 1, 1, 256),  # an index that went backwards is a distance of 2^32 - 1
        (1, TOP, TOP, 2),
        (400, 256, 256, 144),
        (400, 3, 4, 257),  # responses ahead of requests: one more than a ring
    ],
)
def test_unconsumed_requests_is_bounded_by_the_room_for_responses(sring, req_prod, cons, rsp, left):
    """RING_HAS_UNCONSUMED_REQUESTS"""
    back = BackRing.init(sring)
    sring.req_prod, back.req_cons, back.rsp_prod_pvt = req_prod, cons, rsp
    assert back.unconsumed_requests == left


def test_unconsumed_requests_can_be_asked_for_a_tentative_index(sring):
    """RING_HAS_UNCONSUMED_REQUESTS_2 of the seed driver"""
    back = BackRing.init(sring)
    sring.req_prod = 5
    assert [back.unconsumed_requests_from(i) for i in (0, 4, 5)] == [5, 1, 0]
    assert back.req_cons == 0


def test_looking_at_a_request_a_whole_ring_past_the_responses_is_too_far(sring):
    """RING_REQUEST_CONS_OVERFLOW"""
    back = BackRing.init(sring)
    back.rsp_prod_pvt = TOP
    assert not back.request_cons_overflow(254)
    assert back.request_cons_overflow(255)


@pytest.mark.parametrize(
    ("prod", "bad"), [(100, False), (356, False), (357, True), (99, True), (TOP, True)]
)
def test_a_request_producer_more_than_a_ring_ahead_is_refused(sring, prod, bad):
    """RING_REQUEST_PROD_OVERFLOW"""
    back = BackRing.init(sring)
    back.rsp_prod_pvt = back.req_cons = 100
    sring.req_prod = prod
    assert overflows(prod, 100, 256) is bad
    if bad:
        with pytest.raises(RingOverflowError, match=f"req_prod {prod} .* rsp_prod_pvt 100"):
            back.request_prod()
    else:
        assert back.request_prod() == prod


@pytest.mark.parametrize(("prod", "bad"), [(255, False), (256, True), (TOP - 1, True)])
def test_a_response_producer_more_than_a_ring_ahead_is_refused(sring, prod, bad):
    """RING_RESPONSE_PROD_OVERFLOW"""
    front = FrontRing.attach(sring, TOP)
    sring.rsp_prod = prod
    if bad:
        with pytest.raises(RingOverflowError, match=f"rsp_prod {prod} .* rsp_cons {TOP}"):
            front.response_prod()
    else:
        assert front.response_prod() == prod


def test_pushing_requests_publishes_them_and_nothing_else(sring):
    """RING_PUSH_REQUESTS"""
    front = FrontRing.init(sring)
    front.req_prod_pvt = 3
    assert sring.req_prod == 0
    front.push_requests()
    assert list(sring.u32[:4]) == [3, 1, 0, 1]


def test_pushing_responses_publishes_them_and_nothing_else(sring):
    """RING_PUSH_RESPONSES"""
    back = BackRing.init(sring)
    back.rsp_prod_pvt = 3
    assert sring.rsp_prod == 0
    back.push_responses()
    assert list(sring.u32[:4]) == [0, 1, 3, 1]


@pytest.mark.parametrize(
    ("old", "new", "event", "notify"),
    [
        (0, 1, 1, True),  # the very next one was asked for
        (0, 3, 2, True),
        (0, 3, 3, True),
        (0, 3, 4, False),  # not reached yet
        (2, 3, 2, False),  # passed before
        (5, 5, 5, False),  # nothing produced, nothing said
        (TOP, 1, 0, True),  # across the wrap
        (TOP, 1, TOP, False),
    ],
)
def test_the_consumer_is_notified_when_its_event_index_is_passed(sring, old, new, event, notify):
    """RING_PUSH_REQUESTS_AND_CHECK_NOTIFY, RING_PUSH_RESPONSES_AND_CHECK_NOTIFY"""
    assert must_notify(old, new, event) is notify

    front = FrontRing.attach(sring, old)
    sring.req_prod, sring.req_event, front.req_prod_pvt = old, event, new
    assert front.push_requests_and_check_notify() is notify
    assert sring.req_prod == new

    back = BackRing.init(sring)
    sring.rsp_prod, sring.rsp_event, back.rsp_prod_pvt = old, event, new
    assert back.push_responses_and_check_notify() is notify
    assert sring.rsp_prod == new


def test_final_check_with_work_left_asks_for_no_event(sring):
    """RING_FINAL_CHECK_FOR_REQUESTS, RING_FINAL_CHECK_FOR_RESPONSES"""
    sring.req_prod = sring.rsp_prod = 4
    sring.req_event = sring.rsp_event = 99
    assert BackRing.init(sring).final_check_for_requests()
    assert FrontRing.attach(sring, 0).final_check_for_responses()
    assert (sring.req_event, sring.rsp_event) == (99, 99)


def test_final_check_without_work_asks_for_the_very_next_message(sring):
    """RING_FINAL_CHECK_FOR_REQUESTS, RING_FINAL_CHECK_FOR_RESPONSES"""
    sring.rsp_prod = sring.req_prod = TOP
    back, front = BackRing.attach(sring), FrontRing.attach(sring, TOP)
    assert not back.final_check_for_requests()
    assert not front.final_check_for_responses()
    assert (sring.req_event, sring.rsp_event) == (0, 0)


class RacingWords:
    """A page whose producers move when an event index is stored: the race to the last look."""

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def __getitem__(self, at):
        return self.words[at]

    def __setitem__(self, at, value):
        self.words[at] = value
        if at in (1, 3):
            self.words[at - 1] += 1


def test_final_check_sees_what_was_produced_while_it_asked():
    """RING_FINAL_CHECK_FOR_REQUESTS, RING_FINAL_CHECK_FOR_RESPONSES"""
    u8, u32 = page()
    ring = tx_ring(u8, RacingWords(u32))
    assert BackRing.init(ring).final_check_for_requests()
    assert FrontRing.attach(ring, 0).final_check_for_responses()


def test_slot_addresses_wrap_with_the_ring(sring):
    """RING_GET_REQUEST, RING_GET_RESPONSE"""
    assert [sring.slot_offset(i) for i in (0, 1, 255, 256, TOP)] == [64, 76, 3124, 64, 3124]


def test_a_copied_slot_does_not_change_with_the_ring(sring):
    """RING_COPY_REQUEST, RING_COPY_RESPONSE"""
    sring.write_slot(3, bytes(range(12)))
    copy = sring.copy_slot(3)
    sring.write_slot(259, b"\xff" * 12)
    assert copy == bytes(range(12))
    assert sring.copy_slot(3) == b"\xff" * 12


def test_a_response_covers_only_the_first_bytes_of_its_request(sring):
    """DEFINE_RING_TYPES: the union of request and response"""
    sring.write_slot(0, bytes(range(12)))
    sring.write_slot(0, b"\xee" * 4)
    assert sring.copy_slot(0) == b"\xee" * 4 + bytes(range(4, 12))


def test_a_slot_takes_no_more_than_its_size(sring):
    with pytest.raises(ValueError, match="13 bytes do not fit a 12-byte slot"):
        sring.write_slot(0, bytes(13))


@pytest.mark.parametrize("nr_ents", [0, 3, 255])
def test_the_number_of_slots_is_a_power_of_two(nr_ents):
    with pytest.raises(ValueError, match="not a power of two"):
        SharedRing(*page(), nr_ents=nr_ents, slot_size=8)


def test_slots_must_fit_the_page():
    with pytest.raises(ValueError, match="512 slots of 8 bytes exceed 4096 bytes"):
        SharedRing(*page(), nr_ents=512, slot_size=8)


def test_a_barrier_can_be_crossed_again_and_again():
    """xen_mb"""
    for _ in range(3):
        memory_barrier()
