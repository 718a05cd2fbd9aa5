"""Bugs that other backends shipped (docs/hardening.md), and that this one does not have."""

from __future__ import annotations

from vif_peers import RawFrontend

from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_OKAY,
    TX_REQUEST,
    NETTXF_extra_info,
    NETTXF_more_data,
)


def test_field_bug_6_buffers_posted_before_the_backend_attached_are_used() -> None:
    front = RawFrontend(start=77, rx_buffers=3)
    front.stack.to_send.append(b"x" * 60)
    front.run()
    assert front.rx_ring.sring.req_prod == 80
    assert front.rx_ring.sring.rsp_prod == 78
    assert bytes(front.rx_pages.u8[77 * 4096 :][:60]) == b"x" * 60


def test_field_bug_14_a_tx_request_has_the_bytes_of_the_header() -> None:
    raw = TX_REQUEST.pack(0x11223344, 0x5566, 0x7788, 0x99AA, 0xBBCC)
    assert raw == bytes.fromhex("44332211 6655 8877 aa99 ccbb")


def test_field_bug_15_a_good_packet_behind_a_bad_one_is_taken_and_the_next_is_announced() -> None:
    front = RawFrontend()
    front.tx(4, ident=1)  # shorter than an Ethernet header
    front.tx(60, ident=2)
    front.push()
    assert sorted(front.responses()) == [(1, NETIF_RSP_ERROR), (2, NETIF_RSP_OKAY)]
    front.tx(60, ident=3)
    assert front.push()  # req_event lies right behind what was seen
    assert len(front.stack.received) == 2


def test_field_bug_16_sizes_that_do_not_add_up_are_answered_and_not_subtracted() -> None:
    front = RawFrontend()
    front.tx(100, NETTXF_more_data, ident=1)
    front.tx(200, ident=2)
    front.push()
    assert front.responses() == [(1, NETIF_RSP_ERROR), (2, NETIF_RSP_ERROR)]
    assert not front.fatal
    assert not front.stack.received


def test_field_bug_17_more_data_counts_data_slots_not_extras() -> None:
    front = RawFrontend(rx_buffers=8)
    front.stack.gso = (1448, 1)
    front.stack.flags.append(1)
    front.stack.to_send.append(bytes(3 * 4096))
    front.run()
    words = front.rx_ring.sring.u32
    flags = [words[16 + 2 * slot + 1] & 0xFFFF for slot in range(4)]
    assert flags[0] & NETTXF_extra_info
    assert [bool(flags[slot] & NETTXF_more_data) for slot in (0, 2, 3)] == [True, True, False]
    assert front.rx_ring.sring.rsp_prod == 4
