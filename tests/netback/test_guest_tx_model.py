"""Random tx rings through the kernels and through a plain model: the same packets and responses."""

from __future__ import annotations

from itertools import cycle, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tx_model import expect
from vif_peers import RawFrontend

from xennet.abi.netif import EXTRA_GSO, TX_REQUEST

GOOD, MISSING, OUTSIDE = 0, 1, 2

starts = st.sampled_from([0, 2**31 - 5, 2**31, 2**32 - 5]) | st.integers(0, 2**32 - 1)
sizes = st.sampled_from([0, 13, 14, 20, 60, 4096, 65535]) | st.integers(0, 5000)
requests = st.tuples(
    st.sampled_from([GOOD] * 8 + [MISSING, OUTSIDE]),
    st.sampled_from([0, 0, 0, 1, 4000, 4095]) | st.integers(0, 4200),
    st.sampled_from([0, 0, 0, 4, 4, 4, 8, 12, 1, 3, 7]) | st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    sizes,
)
extras = st.tuples(
    st.sampled_from([1, 1, 1, 2, 3, 4, 5, 0, 6]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 536, 1448]),
    st.sampled_from([0, 1, 2, 3]),
)
slots = st.one_of(requests, requests, requests, extras, st.binary(min_size=12, max_size=12))


def raw(front: RawFrontend, slot: object) -> bytes:
    if isinstance(slot, bytes):
        return slot
    assert isinstance(slot, tuple)
    if len(slot) == 4:
        kind, flags, size, gso = slot
        return EXTRA_GSO.pack(kind, flags, size, gso, 0, 0) + bytes(4)
    where, offset, flags, ident, size = slot
    gref = {GOOD: front.gref, MISSING: 1500, OUTSIDE: 70_000}[where]
    return TX_REQUEST.pack(gref, offset, flags, ident, size)


@settings(max_examples=400, deadline=None)
@given(st.lists(slots, max_size=60), starts)
def test_random_slots_give_what_the_model_says(content: list[object], start: int) -> None:
    front = RawFrontend(start=start)
    ring = [raw(front, slot) for slot in content]
    for one in ring:
        front.slot(one)
    front.push()
    expected = expect(ring, len(ring))

    def readable(piece: tuple[int, int, int]) -> bool:
        return piece[0] == front.gref or piece[2] == 0

    statuses = list(expected.statuses)
    delivered = []
    for packet in expected.packets:
        for place, piece in zip(packet.slots, packet.pieces, strict=True):
            if not readable(piece):
                statuses[place] = (statuses[place][0], -1)
        if all(map(readable, packet.pieces)):
            delivered.append(packet)
    assert front.stack.received == [
        b"".join(front.data[offset : offset + size] for _, offset, size in packet.pieces)
        for packet in delivered
    ]
    assert front.stack.meta == [(packet.flags, *packet.gso) for packet in delivered]
    got = front.responses()
    assert [status for _, status in got] == [status for _, status in statuses]
    for (ident, _), (wanted, _) in zip(got, statuses, strict=True):
        assert wanted is None or ident == wanted
    assert [error.rule for error in front.fatal] == ([expected.rule] if expected.rule else [])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), starts, st.integers(0, 300))
def test_a_random_ring_page_gives_what_the_model_says(seed: int, start: int, ahead: int) -> None:
    front = RawFrontend(start=start)
    sring = front.tx_ring.sring
    sring.u8[:] = Random(seed).randbytes(4096)
    sring.req_prod = start + ahead
    before = bytes(sring.u8)
    ring = [sring.copy_slot(start + i) for i in range(256)]
    front.run()
    expected = expect(ring, ahead)
    assert [error.rule for error in front.fatal] == ([expected.rule] if expected.rule else [])
    if expected.rule == "F1":
        assert bytes(sring.u8) == before
    else:
        assert (front.queue.tx_ring.rsp_prod_pvt - start) % 2**32 == len(expected.statuses)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(slots, min_size=1, max_size=40),
    st.lists(st.integers(1, 8), min_size=1, max_size=20),
    starts,
)
def test_how_requests_are_pushed_does_not_matter_unless_a_packet_is_torn(
    content: list[object], pushes: list[int], start: int
) -> None:
    whole, split = RawFrontend(start=start), RawFrontend(start=start)
    ring = [raw(whole, slot) for slot in content]
    for one in ring:
        whole.slot(one)
    whole.push()
    if whole.fatal:
        return
    expected = expect(ring, len(ring))
    starts_of_packets = {0, len(ring), *(packet.slots[0] for packet in expected.packets)}
    sizes_of_pushes = cycle(pushes)
    left = next(sizes_of_pushes)
    for before, after in pairwise(sorted(starts_of_packets)):
        for one in ring[before:after]:
            split.slot(one)
        left -= 1
        if not left:
            split.push()
            left = next(sizes_of_pushes)
    split.push()
    assert split.stack.received == whole.stack.received
    assert split.responses() == whole.responses()
