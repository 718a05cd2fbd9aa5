"""ring2pkt: which requests make a packet."""

from __future__ import annotations

import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.netif import EXTRA_GSO, TX_REQUEST
from xennet.netback.xnb import Extra, Pkt, ring2pkt
from xennet.ring import BackRing, tx_ring
from xennet.testing.xnb_world import C, E, M, V, XnbWorld, extra

TOP = 0xFFFFFFFF


def parse(world: XnbWorld, start: int | None = None) -> tuple[Pkt, int]:
    pkt = Pkt()
    consumed = ring2pkt(pkt, world.txb, world.txb.req_cons if start is None else start)
    return pkt, consumed


def test_an_empty_ring_has_no_packet(world):
    pkt, consumed = parse(world)
    assert (consumed, pkt.list_len, pkt.is_valid) == (0, 0, True)


def test_requests_written_but_not_published_are_no_packet(world):
    world.put([60])
    assert parse(world)[1] == 0


def test_one_request_is_a_packet(world):
    world.put_and_push([1000])
    pkt, consumed = parse(world)
    assert consumed == 1
    assert pkt == Pkt(car=0, cdr=1, size=1000, car_size=1000, flags=0, list_len=1)


def test_the_size_of_the_first_of_two_requests_is_the_whole_packets(world):
    world.put_and_push([700, M], [200])
    pkt, consumed = parse(world)
    assert consumed == 2
    assert pkt == Pkt(car=0, cdr=1, size=700, car_size=500, flags=0, list_len=2)


def test_three_requests(world):
    world.put_and_push([900, M], [200, M], [300])
    pkt, consumed = parse(world)
    assert consumed == 3
    assert pkt == Pkt(car=0, cdr=1, size=900, car_size=400, flags=0, list_len=3)


def test_flags_are_those_of_the_first_request_without_more_data(world):
    world.put_and_push([700, M | C | V], [200])
    assert parse(world)[0].flags == C | V


def test_extra_info_is_read_and_not_counted_as_data(world):
    world.put_and_push([60, E], extra(size=1448, gso=1, pad=9, features=0x1234))
    pkt, consumed = parse(world)
    assert consumed == 2
    assert (pkt.list_len, pkt.car, pkt.cdr, pkt.flags) == (1, 0, 2, E)
    assert pkt.extra == Extra(1, 0, 1448, 1, 9, 0x1234)


def test_extra_info_lies_between_the_first_and_the_second_data_slot(world):
    world.put_and_push([3000, E | M], extra(), [1000, M], [500])
    pkt, consumed = parse(world)
    assert consumed == 4
    assert (pkt.list_len, pkt.car, pkt.cdr, pkt.car_size) == (3, 0, 2, 1500)


def test_extra_info_of_a_former_packet_is_forgotten(world):
    world.put_and_push([60, E], extra(), [60])
    pkt = Pkt()
    assert ring2pkt(pkt, world.txb, 0) == 2
    assert ring2pkt(pkt, world.txb, 2) == 1
    assert pkt.extra == Extra()


def test_an_unknown_extra_type_puts_the_packet_in_error_but_consumes_it(world):
    world.put_and_push([60, E], extra(type=0xFF), [60])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid, pkt.extra.type) == (2, False, 0xFF)


def test_a_packet_whose_end_is_not_there_yet_consumes_nothing(world):
    world.put_and_push([900, M], [200, M])
    pkt, consumed = parse(world)
    assert (consumed, pkt.is_valid) == (0, False)


def test_the_same_packet_is_whole_once_its_end_is_published(world):
    world.put_and_push([900, M], [200, M])
    world.put_and_push([300])
    assert parse(world)[1] == 3


def test_only_one_of_two_packets_is_read(world):
    world.put_and_push([60], [70])
    assert parse(world)[1] == 1
    assert parse(world, 1)[0].size == 70


@pytest.mark.parametrize("start", [254, 255, TOP - 1, TOP])
def test_a_packet_may_wrap_around_ring_and_index(world, start):
    world.start_at(start)
    world.put_and_push([900, M | E], extra(), [200, M], [300])
    pkt, consumed = parse(world)
    assert consumed == 4
    assert (pkt.car, pkt.cdr) == (start, (start + 2) & TOP)
    assert (pkt.list_len, pkt.car_size) == (3, 400)


def test_neither_ring_nor_indices_are_changed(world):
    world.put_and_push([900, M | E], extra(), [200])
    before = bytes(world.tx_page.u8), list(world.txb.pvt)
    parse(world)
    assert (bytes(world.tx_page.u8), list(world.txb.pvt)) == before


def test_garbage_is_reported_to_the_console_with_both_slots(world):
    world.put_and_push([60, E], extra(type=9))
    ring2pkt(Pkt(), world.txb, 0, world.console.append)
    assert "unknown type 9 at index 1, packet at 0" in world.console[0]
    assert len(world.console) == 1 + 2 * 6
    assert "xnb(xnb_dump_txreq): netif_tx_request.size = 60" in world.console


# Against a model that knows lists instead of rings


def model(slots: list[bytes]) -> tuple[int, dict[str, int] | None]:
    """(consumed, facts) of the first packet in ``slots``, all of which are published."""
    requests = [TX_REQUEST.read(raw) for raw in slots]
    if not requests:
        return 0, None
    has_extra = bool(requests[0].flags & E) and len(slots) > 1
    data = [requests[0]]
    rest = requests[2 if has_extra else 1 :]
    while data[-1].flags & M:
        if not rest:
            return 0, None
        data.append(rest.pop(0))
    info = EXTRA_GSO.read(slots[1]) if has_extra else None
    bad = info is not None and (info.type != 1 or info.flags & 1)
    return len(slots) - len(rest), {
        "size": data[0].size,
        "car_size": (data[0].size - sum(r.size for r in data[1:])) % 65536,
        "list_len": len(data),
        "cdr_ahead": 2 if has_extra else 1,
        "flags": data[0].flags & ~M,
        "error": int(bad),
    }


any_slot = st.one_of(
    st.binary(min_size=12, max_size=12),
    st.builds(
        TX_REQUEST.pack,
        st.integers(8, 20),
        st.integers(0, 4096),
        st.sampled_from([0, M, M, E, E | M, C | V, V | M]),
        st.integers(0, 255),
        st.sampled_from([0, 1, 60, 1514, 4096, 40000, 65535]),
    ),
    st.builds(lambda t, f: extra(type=t, flags=f) + bytes(4), st.integers(0, 5), st.integers(0, 1)),
)


@given(
    slots=st.lists(any_slot, max_size=40),
    start=st.one_of(st.integers(0, TOP), st.integers(TOP - 20, TOP)),
)
@settings(max_examples=examples(300), deadline=None)
def test_packets_agree_with_a_model_of_lists(slots, start):
    u8 = memoryview(bytearray(4096))
    sring = tx_ring(u8, u8.cast("I"))
    for i, raw in enumerate(slots):
        sring.write_slot(start + i, raw)
    sring.rsp_prod = start
    sring.req_prod = start + len(slots)
    ring = BackRing.attach(sring)
    pkt = Pkt()
    at = 0
    while True:
        consumed = ring2pkt(pkt, ring, start + at)
        expected, facts = model(slots[at:])
        assert consumed == expected <= len(slots) - at
        if facts is None:
            break
        assert pkt.car == (start + at) & TOP
        assert (pkt.cdr - pkt.car) & TOP == facts.pop("cdr_ahead")
        assert {name: int(getattr(pkt, name)) for name in facts} == facts
        at += consumed


@given(page=st.binary(min_size=200, max_size=4096), cons=st.integers(0, TOP))
@settings(max_examples=150, deadline=None)
def test_whatever_the_page_holds_no_more_is_consumed_than_there_is(page, cons):
    u8 = memoryview(bytearray(4096))
    u8[: len(page)] = page
    ring = BackRing.init(tx_ring(u8, u8.cast("I")))
    ring.req_cons = ring.rsp_prod_pvt = cons
    pkt = Pkt()
    consumed = ring2pkt(pkt, ring, cons)
    assert consumed <= min(256, ring.unconsumed_requests)
    if consumed:
        extras = (pkt.cdr - pkt.car - 1) & TOP
        assert (pkt.car, extras in (0, 1), pkt.list_len + extras) == (cons, True, consumed)
