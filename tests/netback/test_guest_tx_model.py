"""Random tx rings through the kernels and through a plain model: the same packets and responses."""

from __future__ import annotations

from itertools import cycle, pairwise
from random import Random

from how_many import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ip_frames import TCP, UDP, VLAN, ipv4, tcp, udp
from tx_model import Expected, Packet, expect
from vif_peers import RawFrontend

from xennet.abi.netif import EXTRA_GSO, EXTRA_HASH, EXTRA_MCAST, TX_REQUEST
from xennet.netback.guest_tx import R_LIMITED, UNLIMITED
from xennet.netback.vif_config import C_MCAST, C_MCAST_COUNT

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
macs = st.sampled_from([b"\x01\0\x5e\0\0\x01", b"\x33\x33\0\0\0\x02", b"\xff" * 6])
other_extras = st.one_of(
    st.builds(
        lambda kind, more, mac: EXTRA_MCAST.pack(kind, more, mac) + bytes(4),
        st.sampled_from([2, 2, 3]),
        st.sampled_from([0, 0, 1]),
        macs,
    ),
    st.builds(
        lambda more, kind, algorithm, value: (
            EXTRA_HASH.pack(4, more, kind, algorithm, value) + bytes(4)
        ),
        st.sampled_from([0, 0, 1]),
        st.integers(0, 5),
        st.sampled_from([0, 1, 255]),
        st.binary(min_size=4, max_size=4),
    ),
)
slots = st.one_of(
    requests,
    requests,
    requests,
    extras,
    other_extras,
    st.binary(min_size=12, max_size=12),
)


#: Frames that requests of the right offset and size catch whole.
FRAMES = {
    0: ipv4(tcp() + b"abcdef", TCP),
    4000: ipv4(udp(size=20) + bytes(12), UDP, tags=VLAN, options=bytes(4)),
}


def frontend(start: int) -> RawFrontend:
    """A frontend whose page has two frames with real headers in it."""
    front = RawFrontend(start=start)
    for offset, frame in FRAMES.items():
        front.page.u8[offset : offset + len(frame)] = frame
    front.data = bytes(front.page.u8)
    return front


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


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(slots, max_size=60), starts)
@example(content=[(GOOD, 0, 1, 0, 54)], start=0)  # the total length goes beyond the end
@example(content=[(GOOD, 0, 1, 0, 80)], start=0)  # ... and ends before it
@example(content=[(GOOD, 0, 8, 0, 80), (1, 0, 536, 1)], start=0)  # the sum is over all of it
@example(content=[(GOOD, 0, 1, 0, 53)], start=0)
@example(content=[(GOOD, 4000, 1, 0, 62)], start=0)  # tagged
def test_random_slots_give_what_the_model_says(content: list[object], start: int) -> None:
    front = frontend(start)
    ring = [raw(front, slot) for slot in content]
    for one in ring:
        front.slot(one)
    front.push()
    expected = expect(ring, len(ring))
    statuses, delivered = outcome(front, expected)
    assert front.stack.received == [data for _, data, _ in delivered]
    assert front.stack.meta == [(flags, *packet.gso) for packet, _, flags in delivered]
    got = front.responses()
    assert [status for _, status in got] == [status for _, status in statuses]
    for (ident, _), (wanted, _) in zip(got, statuses, strict=True):
        assert wanted is None or ident == wanted
    assert [error.rule for error in front.fatal] == ([expected.rule] if expected.rule else [])
    assert listed(front) == expected.mcast


def outcome(
    front: RawFrontend, expected: Expected
) -> tuple[list[tuple[int | None, int]], list[tuple[Packet, bytes, int]]]:
    """The responses, and the packets that arrive (with bytes and flags), once copies are made."""

    def readable(piece: tuple[int, int, int]) -> bool:
        return piece[0] == front.gref or piece[2] == 0

    statuses = list(expected.statuses)
    delivered = []
    for packet in expected.packets:
        for place, piece in zip(packet.slots, packet.pieces, strict=True):
            if not readable(piece):
                statuses[place] = (statuses[place][0], -1)
        if all(map(readable, packet.pieces)):
            pieces = (front.data[offset : offset + size] for _, offset, size in packet.pieces)
            came = packet.delivered(b"".join(pieces))
            if came is not None:
                delivered.append((packet, *came))
    return statuses, delivered


def listed(front: RawFrontend) -> list[bytes]:
    """The multicast list of the frontend's vif."""
    config = front.queue.tx.config
    count = config[C_MCAST_COUNT]
    return [mac.to_bytes(6, "big") for mac in config[C_MCAST : C_MCAST + count]]


@settings(max_examples=examples(400), deadline=None)
@given(
    st.lists(slots, max_size=40),
    st.integers(0, 20000) | st.just(UNLIMITED),
    st.lists(macs, max_size=64),
    st.booleans(),
)
def test_a_pass_with_credit_hashes_and_a_list_gives_what_the_model_says(
    content: list[object], credit: int, mcast: list[bytes], full: bool
) -> None:
    front = frontend(0)
    tx = front.queue.tx
    mcast = (mcast + [bytes(6)] * 64)[:64] if full else mcast
    for i, mac in enumerate(mcast):
        tx.config[C_MCAST + i] = int.from_bytes(mac, "big")
    tx.config[C_MCAST_COUNT] = len(mcast)
    ring = [raw(front, slot) for slot in content]
    # A first pass with a hash on every packet: nothing of it may be left in the second.
    for _ in range(20):
        front.tx(60, 8)
        front.slot(EXTRA_HASH.pack(4, 0, 1, 1, b"\xff" * 4) + bytes(4))
    front.tx_ring.push_requests()
    tx.run(256)
    tx.credit = credit
    for one in ring:
        front.slot(one)
    front.tx_ring.push_requests()
    tx.run(256)
    expected = expect(ring, len(ring), credit=credit, mcast=tuple(mcast))
    _, delivered = outcome(front, expected)
    batch = tx.batch
    assert [bytes(frame) for frame in batch] == [data for _, data, _ in delivered]
    hashes = [(info, batch.hash_value[i] if info else 0) for i, info in enumerate(batch.hash_info)]
    assert hashes[: batch.count] == [packet.hash for packet, _, _ in delivered]
    assert (tx.credit, tx.res[R_LIMITED]) == (expected.credit, expected.limited)
    assert listed(front) == expected.mcast
    assert batch.used == sum(len(data) for _, data, _ in delivered)


@settings(max_examples=examples(240), deadline=None)
@given(st.integers(0, 2**32 - 1), starts, st.integers(0, 300))
def test_a_random_ring_page_gives_what_the_model_says(seed: int, start: int, ahead: int) -> None:
    front = RawFrontend(start=start)
    sring = front.tx_ring.sring
    sring.u8[:] = Random(seed).randbytes(4096)
    sring.req_prod = start + ahead
    before = bytes(sring.u8)
    ring = [sring.copy_slot(start + i) for i in range(256)]
    front.notify()
    expected = expect(ring, ahead)
    assert [error.rule for error in front.fatal] == ([expected.rule] if expected.rule else [])
    if expected.rule == "F1":
        assert bytes(sring.u8) == before
    else:
        assert (front.queue.tx_ring.rsp_prod_pvt - start) % 2**32 == len(expected.statuses)


@settings(max_examples=examples(240), deadline=None)
@given(
    st.lists(slots, min_size=1, max_size=40),
    st.lists(st.integers(1, 8), min_size=1, max_size=20),
    starts,
)
def test_how_requests_are_pushed_does_not_matter_unless_a_packet_is_torn(
    content: list[object], pushes: list[int], start: int
) -> None:
    whole, split = frontend(start), frontend(start)
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
