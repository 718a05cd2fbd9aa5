"""What features put on the rings and take from them: hashes, GSO prefixes, multicast, bouncing."""

from __future__ import annotations

import pytest
from ip_frames import VLAN, blanked, ipv4, ipv6, tcp
from vif_peers import RawBackend

from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_HASH,
    EXTRA_MCAST,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    TX_REQUEST,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
    NETTXF_extra_info,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, FrameBatch
from xennet.netfront.multicast import MulticastChange

V, B, M, E, P = (
    NETRXF_data_validated,
    NETRXF_csum_blank,
    NETRXF_more_data,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
)
BIG = ipv4(tcp(0xBEEF) + bytes(2000))


def gso(size: int = 1000, kind: int = 1) -> bytes:
    return EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, size, kind, 0, 0)


def hash_extra(kind: int, algorithm: int, value: bytes, *, more: bool = False) -> bytes:
    flags = XEN_NETIF_EXTRA_FLAG_MORE if more else 0
    return EXTRA_HASH.pack(XEN_NETIF_EXTRA_TYPE_HASH, flags, kind, algorithm, value)


class Hashes:
    """Collects the hash columns of every batch that a stack is given."""

    def __init__(self, back: RawBackend) -> None:
        self.seen: list[tuple[int, int]] = []
        push = back.stack.push

        def look(batch: FrameBatch) -> None:
            self.seen += zip(
                batch.hash_info[: batch.count], batch.hash_value[: batch.count], strict=True
            )
            push(batch)

        back.stack.push = look  # type: ignore[method-assign]


# -- hashes ----------------------------------------------------------------------------------------


def test_a_hash_travels_with_its_frame_and_no_other(engine: str) -> None:
    back = RawBackend()
    hashes = Hashes(back)
    back.rx(bytes(60), E)
    back.raw_rx(hash_extra(1, 1, bytes.fromhex("78563412")))
    back.rx(bytes(61))
    back.push_rx()
    back.rx(bytes(62))
    back.push_rx()
    assert hashes.seen[0] == (1 << 8 | 2, 0x12345678)
    assert [info for info, _ in hashes.seen] == [1 << 8 | 2, 0, 0]


@pytest.mark.parametrize(("kind", "algorithm"), [(4, 1), (255, 1), (0, 0)])
def test_a_hash_of_no_known_type_is_none(kind: int, algorithm: int) -> None:
    back = RawBackend()
    hashes = Hashes(back)
    back.rx(bytes(60), E)
    back.raw_rx(hash_extra(kind, algorithm, bytes(4)))
    back.push_rx()
    assert [info for info, _ in hashes.seen] == [0]


def test_hash_and_gso_extras_come_together() -> None:
    back = RawBackend()
    hashes = Hashes(back)
    back.rx(BIG, B | V | E)
    back.raw_rx(hash_extra(3, 1, bytes.fromhex("01000000"), more=True))
    back.raw_rx(gso())
    back.push_rx()
    assert hashes.seen == [(1 << 8 | 4, 1)]
    assert back.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1000, 1)]


def sending(back: RawBackend, info: int, value: int) -> None:
    """Every frame that the stack gives has this hash."""
    pull = back.stack.pull

    def hashed(batch: FrameBatch) -> int:
        first, pulled = batch.count, pull(batch)
        for i in range(first, batch.count):
            batch.hash_info[i], batch.hash_value[i] = info, value
        return pulled

    back.stack.pull = hashed  # type: ignore[method-assign]


def test_a_frame_to_be_sent_has_its_hash_in_an_extra_behind_that_of_gso(engine: str) -> None:
    back = RawBackend(hashes=True)
    sending(back, 1 << 8 | 2, 0x12345678)
    back.stack.gso = (1000, 1)
    back.stack.to_send = [bytes(5000)]
    back.run()
    first, gso_slot, hash_slot, last = back.requests()
    assert TX_REQUEST.unpack_from(first)[2] & NETTXF_extra_info
    assert EXTRA_GSO.unpack_from(gso_slot)[:4] == (1, XEN_NETIF_EXTRA_FLAG_MORE, 1000, 1)
    assert EXTRA_HASH.unpack_from(hash_slot) == (
        *(XEN_NETIF_EXTRA_TYPE_HASH, 0, 1, 1),
        (0x12345678).to_bytes(4, "little"),
    )
    for slot in (first, last):
        back.answer(TX_REQUEST.unpack_from(slot)[3])
    back.answer(0, NETIF_RSP_NULL)
    back.answer(0, NETIF_RSP_NULL)
    back.push_tx()
    assert not back.broken


def test_a_backend_that_knows_no_hashes_gets_none() -> None:
    back = RawBackend()
    sending(back, 1 << 8 | 2, 1)
    back.stack.to_send = [bytes(60)]
    back.run()
    assert len(back.requests()) == 1


# -- GSO as buggy and as old backends send it ------------------------------------------------------


@pytest.mark.parametrize("headers", [ipv4, ipv6], ids=["v4", "v6"])
def test_field_bug_2_gso_without_flags_is_counted_and_made_partial(engine: str, headers) -> None:  # type: ignore[no-untyped-def]
    frame = headers(tcp(0xBEEF) + bytes(2000))
    back = RawBackend()
    back.rx(frame, E)
    back.raw_rx(gso())
    back.rx(frame)
    back.push_rx()
    fixed, untouched = back.stack.received
    assert fixed == (blanked(frame) if headers is ipv4 else fixed)
    assert fixed != frame
    assert untouched == frame
    assert back.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1000, 1), (0, 0, 0)]
    assert (back.counters.unvalidated, back.counters.rx_gso_checksum_fixup) == (1, 1)


def test_field_bug_2_a_frontend_that_repairs_nothing_counts_only() -> None:
    back = RawBackend(checksum_setup=False)
    back.rx(BIG, E)
    back.raw_rx(gso())
    back.rx(BIG, V | E)
    back.raw_rx(gso())
    back.push_rx()
    assert back.stack.received == [BIG, BIG]
    assert back.stack.meta == [(0, 1000, 1), (DATA_VALIDATED, 1000, 1)]
    assert (back.counters.unvalidated, back.counters.rx_gso_checksum_fixup) == (1, 0)


def test_B21_gso_that_is_no_tcp_cannot_be_repaired_and_is_dropped() -> None:
    back = RawBackend()
    back.rx(bytes(2000), E)
    back.raw_rx(gso())
    back.rx(bytes(60))
    back.push_rx()
    assert back.stack.received == [bytes(60)]
    assert "no TCP or UDP header" in back.queue.last_drop


GOOD = [ipv4(tcp()), ipv4(tcp(), options=bytes(8)), ipv6(tcp())]
NO_HEADER = [bytes(60), ipv4(tcp(), 1), ipv4(tcp(), frag=0x2000), ipv4(tcp(), tags=VLAN)]


@pytest.mark.parametrize("frame", GOOD)
def test_a_packet_with_a_blank_checksum_and_its_header_arrives_as_it_is(
    engine: str, frame: bytes
) -> None:
    back = RawBackend()
    back.rx(frame, B | V)
    back.push_rx()
    assert back.stack.received == [frame]


@pytest.mark.parametrize("frame", NO_HEADER)
def test_a_packet_with_a_blank_checksum_for_which_there_is_no_header_is_dropped(
    engine: str, frame: bytes
) -> None:
    # Linux's checksum_setup: skb_checksum_setup looks at the Ethernet type, not behind a tag.
    back = RawBackend()
    back.rx(frame, B | V)
    back.rx(frame, V)
    back.push_rx()
    assert back.stack.received == [frame]
    assert back.counters.rx.errors == 1
    assert "blank checksum" in back.queue.last_drop


@pytest.mark.parametrize("frame", NO_HEADER)
def test_a_frontend_without_checksum_setup_leaves_that_to_its_stack(frame: bytes) -> None:
    back = RawBackend(checksum_setup=False)
    back.rx(frame, B | V)
    back.push_rx()
    assert back.stack.received == [frame]


@pytest.mark.parametrize(("types", "headers", "kind"), [(2, ipv4, 1), (6, ipv4, 1), (6, ipv6, 2)])
def test_a_gso_prefix_says_how_to_segment_what_is_behind_it(  # type: ignore[no-untyped-def]
    engine: str, types: int, headers, kind: int
) -> None:
    frame = headers(tcp() + bytes(5000))
    back = RawBackend(gso_prefix_types=types)
    back.rx(flags=P | M, offset=1000, status=3)
    back.rx(frame[:4096], B | V | M)
    back.rx(frame[4096:])
    back.rx(bytes(60))
    back.push_rx()
    assert back.stack.received == [frame, bytes(60)]
    assert back.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1000, kind), (0, 0, 0)]
    assert back.rx_ring.unconsumed_requests == 256


@pytest.mark.parametrize(
    ("asked", "flags", "size", "rule"),
    [(0, P | M, 1000, "B12"), (2, P, 1000, "B12"), (2, P | M, 0, "B13")],
)
def test_a_bad_gso_prefix_drops_the_packet_only(
    asked: int, flags: int, size: int, rule: str
) -> None:
    back = RawBackend(gso_prefix_types=asked)
    back.rx(flags=flags, offset=size, status=2)
    if flags & M:
        back.rx(BIG, B | V)
    back.rx(bytes(60))
    back.push_rx()
    assert back.stack.received == [bytes(60)]
    assert rule in back.queue.last_drop


def test_B10_a_gso_prefix_with_nothing_behind_it_drops_the_packet_only() -> None:
    back = RawBackend(gso_prefix_types=2)
    back.rx(flags=P | M, offset=1000, status=2)
    back.push_rx()
    assert "B10" in back.queue.last_drop
    back.rx(bytes(60))
    back.push_rx()
    assert back.stack.received == [bytes(60)]


def test_B5_holds_for_the_buffer_under_a_gso_prefix_too() -> None:
    back = RawBackend(gso_prefix_types=2)
    back.host.map_grant(1, back.buffer()[1])
    back.rx(flags=P | M, offset=1000, status=2)
    back.rx(BIG, B | V)
    back.push_rx()
    assert back.broken[0].rule == "B5"


# -- multicast -------------------------------------------------------------------------------------

GROUP = bytes.fromhex("01005e7ffa0b")
ADD, DEL = XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL


def ask(back: RawBackend, *changes: MulticastChange) -> None:
    """The guest's network stack changes its list, as Netfront.multicast_add hands it on."""
    for change in changes:
        back.queue.multicast.add(change)
    back.queue.kick()
    back.machine.run()


def test_a_multicast_change_is_a_dummy_request_whose_answer_is_kept(engine: str) -> None:
    back = RawBackend()
    changes = [MulticastChange(ADD, GROUP), MulticastChange(DEL, GROUP)]
    back.stack.to_send = [bytes(60)]
    ask(back, *changes)
    raw = back.requests()
    assert [EXTRA_MCAST.unpack_from(raw[i]) for i in (1, 3)] == [(ADD, 0, GROUP), (DEL, 0, GROUP)]
    dummies = [TX_REQUEST.unpack_from(raw[i]) for i in (0, 2)]
    assert [dummy[:3] for dummy in dummies] == [(0, 0, NETTXF_extra_info)] * 2
    for dummy, status in zip(dummies, (0, NETIF_RSP_ERROR), strict=True):
        back.answer(dummy[3], status)
        back.answer(0, NETIF_RSP_NULL)
    assert [change.status for change in changes] == [None, None]
    back.push_tx()
    assert [change.status for change in changes] == [0, NETIF_RSP_ERROR]
    assert not back.broken
    assert not back.queue.multicast.busy


def test_a_multicast_change_waits_for_room_on_the_ring() -> None:
    back = RawBackend()
    back.stack.to_send = [bytes(60)] * 255
    back.run()
    raw = back.requests()
    change = MulticastChange(ADD, GROUP)
    ask(back, change)
    assert back.requests() == []
    for slot in raw:
        back.answer(TX_REQUEST.unpack_from(slot)[3])
    back.push_tx()
    assert len(back.requests()) == 2
    assert not back.broken


def test_many_multicast_changes_lose_no_id() -> None:
    back = RawBackend()
    changes = [MulticastChange(ADD, GROUP) for _ in range(300)]
    ask(back, *changes)
    for _ in range(10):
        for raw in back.requests()[::2]:
            back.answer(TX_REQUEST.unpack_from(raw)[3])
            back.answer(0, NETIF_RSP_NULL)
        back.push_tx()
    assert {change.status for change in changes} == {0}
    assert not back.broken


# -- rule B17: a backend that is not trusted -------------------------------------------------------


def test_B17_a_bounced_page_has_nothing_but_zeros_behind_its_frame(engine: str) -> None:
    back = RawBackend(bounce=True)
    for size in (4096, 5000, 60, 1500, 9000, 14):
        back.stack.to_send = [b"\xee" * size] * 3
        back.run()
        left = 0
        for raw in back.requests():
            gref, _, _, ident, length = TX_REQUEST.unpack_from(raw)
            left = left or length
            here = min(left, 4096)
            left -= here
            mapping = back.host.map_grant(1, gref, readonly=True)
            assert bytes(mapping.page.u8) == b"\xee" * here + bytes(4096 - here)
            back.host.unmap_grant(mapping)
            back.answer(ident)
        back.push_tx()
    assert not back.broken


def test_B17_a_receive_buffer_is_wiped_before_it_is_granted_again(engine: str) -> None:
    back = RawBackend(bounce=True)
    for _ in range(3):
        back.rx(b"\xdd" * 4096, M)
        back.rx(b"\xdd" * 1000)
        back.rx(status=-1)
        back.push_rx()
    assert back.stack.received == [b"\xdd" * 5096] * 3
    for ahead in range(256):
        mapping = back.host.map_grant(1, back.buffer(ahead)[1])
        assert bytes(mapping.page.u8) == bytes(4096)
        back.host.unmap_grant(mapping)


def test_B17_a_trusted_backend_may_see_what_was_there_before() -> None:
    back = RawBackend()
    back.rx(b"\xdd" * 60)
    back.push_rx()
    gref = back.buffer(255)[1]
    mapping = back.host.map_grant(1, gref)
    assert bytes(mapping.page.u8[:60]) == b"\xdd" * 60
