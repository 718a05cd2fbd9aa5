"""What the frontend puts on the guest-transmit ring, and rules B1..B7 on what comes back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import HOST, RawBackend

from xennet.abi.grant_table import GTF_permit_access, GTF_readonly
from xennet.abi.netif import (
    EXTRA_GSO,
    NETIF_RSP_DROPPED,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    TX_REQUEST,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.interface import HypercallError
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.queue import Queue
from xennet.netfront.rx_pass import rx_batch


def frame(size: int) -> bytes:
    return bytes((11 * i + i // 253) & 0xFF for i in range(size))


def send(back: RawBackend, *frames: bytes) -> list[bytes]:
    back.stack.to_send += frames
    back.run()
    return back.requests()


def payload(back: RawBackend, raw: bytes, size: int) -> bytes:
    """What the granted page of a request holds."""
    gref, offset, *_ = TX_REQUEST.unpack_from(raw)
    mapping = back.host.map_grant(1, gref, readonly=True)
    data = bytes(mapping.page.u8[offset : offset + size])
    back.host.unmap_grant(mapping)
    return data


def test_field_bug_1_the_first_request_has_the_size_of_the_packet_the_others_their_own() -> None:
    # Every page was a packet of its own.
    back = RawBackend()
    raw = send(back, frame(9014))
    fields = [TX_REQUEST.unpack_from(slot) for slot in raw]
    assert [(flags, size) for _, _, flags, _, size in fields] == [
        (NETTXF_more_data, 9014),
        (NETTXF_more_data, 4096),
        (0, 822),
    ]
    sizes = (4096, 4096, 822)
    data = b"".join(payload(back, slot, n) for slot, n in zip(raw, sizes, strict=True))
    assert data == frame(9014)


def test_ids_of_outstanding_requests_are_distinct_and_below_256() -> None:
    back = RawBackend()
    raw = send(back, *[frame(60)] * 256)
    idents = [TX_REQUEST.unpack_from(slot)[3] for slot in raw]
    assert sorted(idents) == list(range(256))


def test_a_page_is_granted_read_only_while_its_request_is_outstanding() -> None:
    back = RawBackend()
    (raw,) = send(back, frame(60))
    gref, _, _, ident, _ = TX_REQUEST.unpack_from(raw)
    words = back.guest.grants.words
    assert words[gref << 1] == GTF_permit_access | GTF_readonly | HOST << 16
    back.answer(ident)
    back.push_tx()
    assert words[gref << 1] == 0


def test_gso_goes_into_an_extra_behind_the_first_request() -> None:
    back = RawBackend()
    back.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    back.stack.flags = [CSUM_BLANK | DATA_VALIDATED]
    raw = send(back, frame(5000))
    checks = NETTXF_csum_blank | NETTXF_data_validated
    assert TX_REQUEST.unpack_from(raw[0])[2] == checks | NETTXF_extra_info | NETTXF_more_data
    assert EXTRA_GSO.unpack_from(raw[1]) == (XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, 1, 0, 0)
    assert TX_REQUEST.unpack_from(raw[2])[2] == 0


def test_the_longest_packet_takes_16_slots() -> None:
    back = RawBackend()
    assert len(send(back, frame(65535))) == 16


def test_field_bug_5_nothing_is_sent_before_the_backend_is_connected() -> None:
    back = RawBackend(start=False)
    assert send(back, frame(60)) == []


def test_a_packet_that_does_not_fit_the_ring_waits_for_responses() -> None:
    back = RawBackend()
    raw = send(back, *[frame(60)] * 250, frame(65535))
    assert len(raw) == 250
    for slot in raw:
        back.answer(TX_REQUEST.unpack_from(slot)[3])
    back.push_tx()
    assert len(back.requests()) == 16


def test_an_extra_info_needs_a_slot_of_the_ring_too() -> None:
    back = RawBackend()
    raw = send(back, *[frame(60)] * 255)
    assert len(raw) == 255
    back.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    assert send(back, frame(3000)) == []
    back.answer(TX_REQUEST.unpack_from(raw[0])[3])
    back.push_tx()
    assert len(back.requests()) == 2


@pytest.mark.parametrize("before", [254, 255])
def test_requests_extras_and_responses_go_on_in_the_first_slot_behind_the_last(before: int) -> None:
    back = RawBackend()
    for raw in send(back, *[frame(60)] * before):
        back.answer(TX_REQUEST.unpack_from(raw)[3])
    back.push_tx()
    back.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    slots = send(back, *[frame(3000)] * 2)
    assert [TX_REQUEST.unpack_from(raw)[2] for raw in slots[::2]] == [NETTXF_extra_info] * 2
    assert [EXTRA_GSO.unpack_from(raw)[0] for raw in slots[1::2]] == [XEN_NETIF_EXTRA_TYPE_GSO] * 2
    for raw in slots[::2]:
        back.answer(TX_REQUEST.unpack_from(raw)[3])
        back.answer(0, NETIF_RSP_NULL)
    back.push_tx()
    assert back.broken == []
    assert back.counters.tx.responses == before + 4


def test_one_pass_writes_the_last_slot_and_the_first() -> None:
    back = RawBackend()
    for raw in send(back, *[frame(60)] * 254):
        back.answer(TX_REQUEST.unpack_from(raw)[3])
    back.push_tx()
    slots = send(back, *[frame(60 + i) for i in range(5)])
    assert [TX_REQUEST.unpack_from(raw)[4] for raw in slots] == [60, 61, 62, 63, 64]


def test_a_backend_without_sg_gets_no_packet_of_several_slots() -> None:
    back = RawBackend(can_sg=False)
    assert len(send(back, frame(4097), frame(4096))) == 1
    assert back.counters.tx.errors == 1


def test_responses_are_matched_by_id_in_any_order() -> None:
    back = RawBackend()
    idents = [TX_REQUEST.unpack_from(raw)[3] for raw in send(back, *[frame(60)] * 5)]
    for ident in reversed(idents):
        back.answer(ident)
    back.push_tx()
    assert not back.broken
    assert back.counters.tx.responses == 5


def test_the_frontend_asks_for_an_event_at_the_next_response() -> None:
    back = RawBackend()
    (raw,) = send(back, frame(60))
    back.answer(TX_REQUEST.unpack_from(raw)[3])
    back.push_tx()
    assert back.tx_ring.sring.rsp_event == 2


def test_B1_rsp_prod_past_what_was_requested_breaks_the_device() -> None:
    back = RawBackend()
    send(back, frame(60))
    back.tx_ring.sring.rsp_prod = 2
    back.notify()
    assert (back.broken[0].rule, back.broken[0].ring, back.broken[0].word) == ("B1", "tx", 2)


@pytest.mark.parametrize("ident", [256, 0xFFFF])
def test_B3_an_id_that_is_no_id_breaks_the_device(ident: int) -> None:
    back = RawBackend()
    send(back, frame(60))
    back.answer(ident)
    back.push_tx()
    assert (back.broken[0].rule, back.broken[0].index) == ("B3", 0)


def test_B4_an_id_answered_twice_breaks_the_device() -> None:
    back = RawBackend()
    raw = send(back, frame(60), frame(60))
    ident = TX_REQUEST.unpack_from(raw[0])[3]
    back.answer(ident)
    back.answer(ident)
    back.push_tx()
    assert (back.broken[0].rule, back.broken[0].index) == ("B4", 1)


def test_B5_a_response_while_the_page_is_still_mapped_breaks_the_device_and_keeps_the_page() -> (
    None
):
    back = RawBackend()
    (raw,) = send(back, frame(60))
    gref, _, _, ident, _ = TX_REQUEST.unpack_from(raw)
    mapping = back.host.map_grant(1, gref, readonly=True)
    back.answer(ident)
    back.push_tx()
    assert back.broken[0].rule == "B5"
    for ring in back.peer.queues[0].mappings:
        back.host.unmap_grant(ring)
    (held,) = back.queue.disconnect()
    assert list(held.grefs) == [gref]
    assert not held.end()
    back.host.unmap_grant(mapping)
    assert held.end()


@pytest.mark.parametrize("status", [NETIF_RSP_ERROR, NETIF_RSP_DROPPED])
def test_B6_error_and_dropped_free_the_slot_like_okay(status: int) -> None:
    back = RawBackend()
    for _ in range(300):
        (raw,) = send(back, frame(60))
        back.answer(TX_REQUEST.unpack_from(raw)[3], status)
        back.push_tx()
    assert not back.broken
    assert back.counters.tx.errors == 300


def test_B7_a_null_response_without_an_extra_breaks_the_device() -> None:
    back = RawBackend()
    (raw,) = send(back, frame(60))
    back.answer(TX_REQUEST.unpack_from(raw)[3], NETIF_RSP_NULL)
    back.push_tx()
    assert back.broken[0].rule == "B7"


def test_a_null_response_for_an_extra_frees_nothing_but_its_slot() -> None:
    back = RawBackend()
    back.stack.gso = (1448, 1)
    for _ in range(200):
        raw = send(back, frame(60))
        back.answer(TX_REQUEST.unpack_from(raw[0])[3])
        back.answer(0, NETIF_RSP_NULL)
        back.push_tx()
    assert not back.broken
    assert back.counters.tx.packets == 200


def test_after_it_broke_the_device_does_nothing_more() -> None:
    back = RawBackend()
    send(back, frame(60))
    back.answer(999)
    back.push_tx()
    assert send(back, frame(60)) == []
    assert len(back.broken) == 1


def test_a_connect_that_runs_out_of_grant_references_leaves_nothing_behind() -> None:
    back = RawBackend()
    grants = back.guest.grants
    grants.claim(len(grants.free) - 300)
    frames = dict(back.machine.frames)
    with pytest.raises(HypercallError):
        Queue(
            back.guest, Negotiated(HOST), back.stack, back.counters, back.broken.append, rx_batch()
        )
    assert back.machine.frames == frames
    assert len(grants.free) == 300


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(14, 9000) | st.sampled_from([4096, 65535]), max_size=30), st.data())
def test_any_frames_are_carried_whatever_the_order_of_responses(
    sizes: list[int], data: st.DataObject
) -> None:
    back = RawBackend()
    back.stack.to_send += [frame(size) for size in sizes]
    outstanding: list[int] = []
    got: list[bytes] = []
    current, left = b"", 0
    for _ in range(100):
        back.run()
        raw = back.requests()
        for slot in raw:
            _, _, flags, ident, size = TX_REQUEST.unpack_from(slot)
            if not current:
                left = size
            chunk = min(left, 4096) if not current else size
            current += payload(back, slot, chunk)
            outstanding.append(ident)
            if not flags & NETTXF_more_data:
                got.append(current)
                current = b""
        if not outstanding:
            break
        count = data.draw(st.integers(1, len(outstanding)))
        for _ in range(count):
            back.answer(outstanding.pop(data.draw(st.integers(0, len(outstanding) - 1))))
        back.push_tx()
    assert [len(g) for g in got] == sizes
    assert got == [frame(size) for size in sizes]
    assert not back.broken
