"""What the frontend makes of rx responses: frames, and rules B1, B2, B5, B8..B14."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ip_frames import ipv6, tcp
from vif_peers import HOST, RawBackend

from xennet.abi.grant_table import GTF_permit_access
from xennet.abi.netif import (
    EXTRA_GSO,
    EXTRA_XDP,
    NETIF_RSP_ERROR,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_XDP,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED

M, E = NETRXF_more_data, NETRXF_extra_info


def frame(size: int, salt: int = 0) -> bytes:
    return bytes((17 * i + salt) & 0xFF for i in range(size))


def gso(size: int, kind: int, *, more: bool = False) -> bytes:
    flags = XEN_NETIF_EXTRA_FLAG_MORE if more else 0
    return EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, flags, size, kind, 0, 0)


def extra(kind: int, *, value: int = 0) -> bytes:
    return EXTRA_GSO.pack(kind, 0, value, 0, 0, 0)


def still_works(back: RawBackend) -> bool:
    """Whether a further frame arrives: the ring was not lost."""
    before = len(back.stack.received)
    back.rx(frame(77))
    back.push_rx()
    return back.stack.received[before:] == [frame(77)]


def test_256_buffers_are_posted_each_with_the_id_of_its_slot() -> None:
    back = RawBackend()
    assert back.rx_ring.unconsumed_requests == 256
    assert [back.buffer(i)[0] for i in range(256)] == list(range(256))
    grefs = [back.buffer(i)[1] for i in range(256)]
    entries = [tuple(back.guest.grants.words[gref << 1 : gref + 1 << 1]) for gref in grefs]
    assert {header for header, _ in entries} == {GTF_permit_access | HOST << 16}
    frames = [frame for _, frame in entries]
    assert frames == list(range(frames[0], frames[0] + 256))


def test_a_response_becomes_a_frame_and_its_buffer_is_posted_again() -> None:
    back = RawBackend()
    back.rx(frame(60))
    back.push_rx()
    assert back.stack.received == [frame(60)]
    assert back.rx_ring.unconsumed_requests == 256


def test_the_offset_of_a_response_is_honoured() -> None:
    back = RawBackend()
    back.rx(frame(60), offset=256)
    back.push_rx()
    assert back.stack.received == [frame(60)]


def test_a_chain_becomes_one_frame() -> None:
    back = RawBackend()
    back.rx(frame(4096, 1), M)
    back.rx(frame(4096, 2), M)
    back.rx(frame(10, 3))
    back.push_rx()
    assert back.stack.received == [frame(4096, 1) + frame(4096, 2) + frame(10, 3)]


def test_checksum_flags_and_gso_reach_the_stack() -> None:
    back = RawBackend()
    back.rx(ipv6(tcp() + bytes(2000)), NETRXF_csum_blank | NETRXF_data_validated | E)
    back.raw_rx(gso(1448, 2))
    back.rx(frame(60), NETRXF_data_validated)
    back.push_rx()
    assert back.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1448, 2), (DATA_VALIDATED, 0, 0)]


def test_B1_rsp_prod_past_what_was_posted_breaks_the_device() -> None:
    back = RawBackend()
    back.rx_ring.sring.rsp_prod = 257
    back.notify()
    assert (back.broken[0].rule, back.broken[0].ring, back.broken[0].word) == ("B1", "rx", 257)


def test_B1_B2_rsp_prod_behind_what_was_consumed_breaks_the_device() -> None:
    back = RawBackend()
    for _ in range(3):
        back.rx(frame(60))
    back.push_rx()
    back.rx_ring.sring.rsp_prod = 2
    back.notify()
    assert back.broken[0].rule == "B1"


def test_B2_rsp_prod_moving_backwards_before_it_was_consumed_breaks_the_device() -> None:
    back = RawBackend()
    back.stack.room = 1
    for _ in range(3):
        back.rx(frame(60))
    back.rx_ring.push_responses()
    back.queue.poll_rx()
    back.rx_ring.sring.rsp_prod = 2
    back.notify()
    assert back.broken[0].rule == "B2"


def test_B2_rsp_prod_moving_back_to_what_was_consumed_breaks_the_device() -> None:
    back = RawBackend()
    back.stack.room = 1
    for _ in range(3):
        back.rx(frame(60))
    back.rx_ring.push_responses()
    back.queue.poll_rx()
    back.rx_ring.sring.rsp_prod = 1
    back.queue.kick()
    back.machine.run()
    assert (back.broken[0].rule, back.broken[0].word) == ("B2", 1)


def test_B5_a_buffer_still_mapped_when_its_response_comes_breaks_the_device() -> None:
    back = RawBackend()
    back.host.map_grant(1, back.buffer()[1])
    back.rx_ring.sring.write_slot(0, bytes(8))
    back.rx_ring.rsp_prod_pvt += 1
    back.push_rx()
    assert back.broken[0].rule == "B5"


def test_B5_holds_for_the_buffer_under_an_extra_too() -> None:
    back = RawBackend()
    back.host.map_grant(1, back.buffer(1)[1])
    back.rx(frame(60), E)
    back.raw_rx(gso(1448, 1))
    back.push_rx()
    assert back.broken[0].rule == "B5"


@pytest.mark.parametrize("mapped", [1, 2, 3])
def test_B5_names_the_slot_whose_buffer_is_still_mapped(mapped: int) -> None:
    back = RawBackend()
    grefs = [back.buffer(ahead)[1] for ahead in range(4)]
    back.host.map_grant(1, grefs[mapped])
    back.rx(frame(60))
    back.rx(frame(60), E | M)
    back.raw_rx(extra(XEN_NETIF_EXTRA_TYPE_XDP))
    back.rx(frame(60))
    back.push_rx()
    (error,) = back.broken
    assert (error.rule, error.index, error.word) == ("B5", mapped, grefs[mapped])


def test_a_drop_keeps_its_evidence_in_a_pass_that_breaks_the_device() -> None:
    back = RawBackend()
    back.host.map_grant(1, back.buffer(1)[1])
    back.rx(status=-1)
    back.rx(status=60)
    back.push_rx()
    assert (back.broken[0].rule, back.broken[0].index) == ("B5", 1)
    assert (
        back.queue.last_drop
        == "rx ring, index 0: negative status [B8; raw words 00000000 ffff0000]"
    )


def test_B5_holds_for_the_slot_of_a_prefix_too() -> None:
    back = RawBackend(gso_prefix_types=2)
    gref = back.buffer()[1]
    back.host.map_grant(1, gref)
    back.rx(offset=1448, flags=NETRXF_gso_prefix | M, status=2)
    back.rx(frame(60))
    back.push_rx()
    assert (back.broken[0].rule, back.broken[0].index, back.broken[0].word) == ("B5", 0, gref)


@pytest.mark.parametrize("status", [NETIF_RSP_ERROR, -3, -10, -32768])
def test_B8_a_negative_status_drops_the_packet_only(status: int) -> None:
    back = RawBackend()
    back.rx(status=status)
    back.push_rx()
    assert back.stack.received == []
    assert "negative status [B8; " in back.queue.last_drop
    assert still_works(back)


@pytest.mark.parametrize(("offset", "status"), [(4096, 1), (1, 4096), (65535, 14), (0, 4097)])
def test_B8_a_range_beyond_the_page_drops_the_packet_only(offset: int, status: int) -> None:
    back = RawBackend()
    back.rx(offset=offset, status=status)
    back.push_rx()
    assert back.stack.received == []
    assert "B8" in back.queue.last_drop
    assert still_works(back)


def test_B8_in_the_middle_of_a_chain_drops_the_whole_chain() -> None:
    back = RawBackend()
    back.rx(frame(60), M)
    back.rx(status=-1, flags=M)
    back.rx(frame(60))
    back.push_rx()
    assert back.stack.received == []
    assert still_works(back)


def test_B9_the_id_of_a_response_is_never_read() -> None:
    back = RawBackend()
    _, gref = back.buffer()
    back.fill(gref, frame(60))
    back.raw_rx((60 << 48 | 0xBEEF).to_bytes(8, "little"))
    back.push_rx()
    assert back.stack.received == [frame(60)]


def test_B10_a_chain_past_rsp_prod_drops_the_packet_only() -> None:
    back = RawBackend()
    back.rx(frame(60), M)
    back.push_rx()
    assert back.stack.received == []
    assert "B10" in back.queue.last_drop
    assert still_works(back)


@pytest.mark.parametrize(
    ("first", "slots", "fits"),
    [(300, 18, True), (300, 19, False), (256, 19, True), (256, 20, False)],
)
def test_B11_18_slots_make_a_packet_and_one_more_after_a_short_first_one(
    first: int, slots: int, fits: bool
) -> None:
    back = RawBackend()
    back.rx(frame(first), M)
    for i in range(slots - 1):
        back.rx(frame(20), M if i < slots - 2 else 0)
    back.push_rx()
    assert len(back.stack.received) == (1 if fits else 0)
    assert fits or "B11" in back.queue.last_drop
    assert still_works(back)


def test_B12_extra_info_with_nothing_behind_it_drops_the_packet_only() -> None:
    back = RawBackend()
    back.rx(frame(60), E)
    back.push_rx()
    assert back.stack.received == []
    assert "B12" in back.queue.last_drop
    assert still_works(back)


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_B12_an_unknown_extra_type_drops_the_packet_only(kind: int) -> None:
    back = RawBackend()
    back.rx(frame(60), E)
    back.raw_rx(extra(kind))
    back.push_rx()
    assert back.stack.received == []
    assert "B12" in back.queue.last_drop
    assert still_works(back)


def test_an_extra_without_effect_is_skipped() -> None:
    back = RawBackend()
    back.rx(frame(60), E)
    back.raw_rx(extra(XEN_NETIF_EXTRA_TYPE_HASH))
    back.push_rx()
    assert back.stack.received == [frame(60)]


@pytest.mark.parametrize(("size", "kind"), [(0, 1), (1448, 0), (1448, 3)])
def test_B13_bad_gso_drops_the_packet_only(size: int, kind: int) -> None:
    back = RawBackend()
    back.rx(frame(60), E)
    back.raw_rx(gso(size, kind))
    back.push_rx()
    assert back.stack.received == []
    assert "B13" in back.queue.last_drop
    assert still_works(back)


def headroom(bytes_: int, *, more: bool = False) -> bytes:
    flags = XEN_NETIF_EXTRA_FLAG_MORE if more else 0
    return EXTRA_XDP.pack(XEN_NETIF_EXTRA_TYPE_XDP, flags, bytes_, 0, 0)


def test_B14_payload_begins_behind_the_xdp_headroom_that_status_counts() -> None:
    back = RawBackend()
    back.rx(bytes(256) + frame(60), E)
    back.raw_rx(headroom(256))
    back.rx(frame(61))
    back.push_rx()
    assert back.stack.received == [frame(60), frame(61)]


def test_B14_the_xdp_headroom_is_in_every_slot_of_a_packet() -> None:
    back = RawBackend()
    back.rx(bytes(256) + frame(3840, 1), M | E)
    back.raw_rx(headroom(256))
    back.rx(bytes(256) + frame(10, 2))
    back.push_rx()
    assert back.stack.received == [frame(3840, 1) + frame(10, 2)]


def test_B14_a_headroom_beyond_the_page_drops_the_packet_only() -> None:
    back = RawBackend()
    back.rx(status=60, flags=E)
    back.raw_rx(extra(XEN_NETIF_EXTRA_TYPE_XDP, value=4090))
    back.push_rx()
    assert back.stack.received == []
    assert "B14" in back.queue.last_drop
    assert still_works(back)


@pytest.mark.parametrize("size", [0, 13])
def test_B20_a_packet_shorter_than_an_ethernet_header_is_dropped(size: int) -> None:
    back = RawBackend()
    back.rx(frame(size))
    back.push_rx()
    assert back.stack.received == []
    assert still_works(back)


@pytest.mark.parametrize("slots", [16, 17])
def test_B20_a_packet_longer_than_65535_bytes_is_dropped(slots: int) -> None:
    back = RawBackend()
    for i in range(slots):
        back.rx(frame(4096), M if i < slots - 1 else 0)
    back.push_rx()
    assert back.stack.received == []
    assert still_works(back)


def test_a_stack_without_room_leaves_responses_on_the_ring() -> None:
    back = RawBackend()
    back.stack.room = 0
    back.rx(frame(60))
    back.push_rx()
    assert back.stack.received == []
    back.make_room()
    assert back.stack.received == [frame(60)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=256), st.integers(0, 400))
def test_random_responses_never_raise_and_never_lose_a_buffer(
    slots: list[bytes], ahead: int
) -> None:
    back = RawBackend()
    for raw in slots:
        back.raw_rx(raw)
    back.rx_ring.sring.rsp_prod = ahead if ahead <= len(slots) else len(slots)
    back.notify()
    if not back.broken:
        assert back.rx_ring.sring.req_prod - back.rx_ring.sring.rsp_prod == 256
    for mapping in back.peer.queues[0].mappings:
        back.host.unmap_grant(mapping)
    assert back.queue.disconnect() == []
    assert not back.guest.ports
