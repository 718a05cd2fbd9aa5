"""What the backend does with the guest-receive ring (xen/io/netif.h, "Guest receive")."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import RawFrontend

from xennet.abi.grant_table import GNTST_bad_gntref, GNTST_general_error
from xennet.abi.netif import (
    EXTRA_GSO,
    RX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED


def frame(size: int) -> bytes:
    return bytes((13 * i + i // 251) & 0xFF for i in range(size))


def send(front: RawFrontend, *frames: bytes) -> list[tuple[int, int, int, int]]:
    """(id, offset, flags, status) of each response to the frames."""
    front.stack.to_send += frames
    front.run()
    return [RX_RESPONSE.unpack_from(raw) for raw in front.rx_responses()]


def page(front: RawFrontend, slot: int, size: int) -> bytes:
    return bytes(front.rx_pages.u8[slot * 4096 : slot * 4096 + size])


def test_a_response_sits_in_the_slot_of_its_request_with_its_id() -> None:
    front = RawFrontend()
    for ident in (9, 8, 7):
        front.post_rx(ident=ident)
    front.push_rx()
    assert send(front, frame(60), frame(61), frame(62)) == [
        (9, 0, 0, 60),
        (8, 0, 0, 61),
        (7, 0, 0, 62),
    ]
    assert page(front, 1, 61) == frame(61)


def test_all_eight_bytes_of_a_response_are_written() -> None:
    # Leftovers of the request would be read as flags and status (XSA-216's lesson).
    front = RawFrontend()
    front.rx_ring.sring.write_slot(0, b"\x05\x00\xff\xff" + front.rx_grefs[0].to_bytes(4, "little"))
    front.rx_ring.req_prod_pvt += 1
    front.push_rx()
    assert send(front, frame(60)) == [(5, 0, 0, 60)]


def test_a_long_packet_fills_page_after_page_and_every_slot_but_the_last_has_more_data() -> None:
    front = RawFrontend(rx_buffers=8)
    more = NETRXF_more_data
    assert send(front, frame(9014)) == [(0, 0, more, 4096), (1, 0, more, 4096), (2, 0, 0, 822)]
    assert page(front, 0, 4096) + page(front, 1, 4096) + page(front, 2, 822) == frame(9014)


def test_a_gso_packet_has_its_extra_behind_the_first_slot_and_more_data_does_not_count_it() -> None:
    # The seed driver loses more_data on the second data slot here (field bug 17).
    front = RawFrontend(rx_buffers=8)
    front.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    front.stack.flags = [CSUM_BLANK]
    front.stack.to_send.append(frame(3 * 4096))
    front.run()
    raw = front.rx_responses()
    checks = NETRXF_csum_blank | NETRXF_data_validated
    first_flags = checks | NETRXF_extra_info | NETRXF_more_data
    assert RX_RESPONSE.unpack_from(raw[0]) == (0, 0, first_flags, 4096)
    assert EXTRA_GSO.unpack_from(raw[1]) == (XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, 1, 0, 0)
    assert RX_RESPONSE.unpack_from(raw[2]) == (2, 0, NETRXF_more_data, 4096)
    assert RX_RESPONSE.unpack_from(raw[3]) == (3, 0, 0, 4096)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, 0),
        (DATA_VALIDATED, NETRXF_data_validated),
        (CSUM_BLANK, NETRXF_csum_blank | NETRXF_data_validated),
        (CSUM_BLANK | DATA_VALIDATED, NETRXF_csum_blank | NETRXF_data_validated),
    ],
)
def test_a_blank_checksum_implies_validated_data(flags: int, expected: int) -> None:
    front = RawFrontend(rx_buffers=1)
    front.stack.flags = [flags]
    assert send(front, frame(60)) == [(0, 0, expected, 60)]


def test_a_packet_waits_whole_until_enough_buffers_are_posted() -> None:
    front = RawFrontend(rx_buffers=2)
    assert send(front, frame(9014)) == []
    assert front.rx_ring.sring.req_event == 3  # one request past those that were seen
    front.post_rx()
    assert front.push_rx()
    assert len(front.rx_responses()) == 3


def test_f1_an_impossible_req_prod_is_fatal() -> None:
    front = RawFrontend(rx_buffers=1)
    front.rx_ring.sring.req_prod = 257
    assert send(front, frame(60)) == []
    assert (front.fatal[0].rule, front.fatal[0].ring, front.fatal[0].raw) == ("F1", "rx", (257,))


def test_a_failed_copy_puts_the_gntst_code_into_the_status_of_its_slot() -> None:
    front = RawFrontend()
    front.post_rx(gref=1000)  # never granted
    front.post_rx(gref=50_000)  # outside the table
    front.post_rx()
    front.push_rx()
    answers = send(front, frame(60), frame(60), frame(60))
    assert [status for *_, status in answers] == [GNTST_general_error, GNTST_bad_gntref, 60]
    assert front.counters.rx.errors == 2


@pytest.mark.parametrize(
    ("grefs", "statuses"),
    [((None, 1000), (4096, GNTST_general_error)), ((1000, None), (GNTST_general_error, 904))],
)
def test_a_failed_slot_keeps_the_chain_of_its_packet(
    grefs: tuple[int | None, int | None], statuses: tuple[int, int]
) -> None:
    front = RawFrontend()
    for gref in grefs:
        front.post_rx(gref=gref)
    front.push_rx()
    sent = send(front, frame(5000))
    assert [flags for _, _, flags, _ in sent] == [NETRXF_more_data, 0]
    assert tuple(status for *_, status in sent) == statuses


def test_a_buffer_granted_read_only_is_not_written() -> None:
    front = RawFrontend()
    front.post_rx(gref=front.gref)
    front.push_rx()
    assert [status for *_, status in send(front, frame(60))] == [GNTST_general_error]
    assert bytes(front.page.u8) == front.data


def test_a_frontend_without_sg_gets_no_packet_of_several_slots() -> None:
    front = RawFrontend(rx_buffers=8, can_sg=False)
    assert [status for *_, status in send(front, frame(4097), frame(4096))] == [4096]
    assert front.counters.rx.errors == 1


def test_a_frontend_gets_only_the_gso_types_that_it_takes() -> None:
    front = RawFrontend(rx_buffers=8, gso_types=1 << 2)
    front.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    assert send(front, frame(3000)) == []
    assert front.counters.rx.errors == 1


def test_a_ring_that_held_posted_buffers_before_connect_is_not_wiped() -> None:
    # Field bug 6: attach, never init.
    front = RawFrontend(start=2**32 - 5, rx_buffers=16)
    assert front.rx_ring.sring.req_prod == 11
    assert len(send(front, *[frame(60)] * 16)) == 16
    assert front.rx_ring.sring.rsp_prod == 11


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(
        st.integers(14, 20000) | st.sampled_from([4096, 4097, 8192, 65535]), max_size=12
    ),
    start=st.sampled_from([0, 2**31 - 4, 2**32 - 4]) | st.integers(0, 2**32 - 1),
)
def test_any_packets_arrive_in_the_posted_pages(sizes: list[int], start: int) -> None:
    front = RawFrontend(start=start, rx_buffers=256)
    sent = [frame(size) for size in sizes]
    front.stack.to_send += sent
    front.run()
    got, current, slot = [], b"", start & 0xFF
    for raw in front.rx_responses():
        _, offset, flags, status = RX_RESPONSE.unpack_from(raw)
        assert offset == 0
        current += page(front, slot, status)
        slot = (slot + 1) & 0xFF
        if not flags & NETRXF_more_data:
            got.append(current)
            current = b""
    fits, used = [], 0
    for data in sent:
        used += -(-len(data) // 4096)
        if used > 256:
            break
        fits.append(data)
    assert got == fits
    assert current == b""
