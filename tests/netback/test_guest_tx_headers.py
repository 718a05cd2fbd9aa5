"""Packets from the guest whose headers matter: rules F15 to F17."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ip_frames import TCP, UDP, VLAN, blanked, ipv4, ipv6, pseudo_sum, tcp, udp
from vif_peers import RawFrontend

from xennet.abi.netif import (
    NETIF_RSP_OKAY,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.engine.choice import current
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, FrameBatch
from xennet.netback.guest_tx import (
    R_BAD_CSUM,
    R_BYTES,
    R_CSUM_FIXUP,
    R_ERRORS,
    R_PACKETS,
    RESULTS,
)
from xennet.netback.tx_checksum import judge_checksums
from xennet.offload.checksum_setup import set_up

OKAY = NETIF_RSP_OKAY
B, M, E = NETTXF_csum_blank, NETTXF_more_data, NETTXF_extra_info


def put(front: RawFrontend, frame: bytes) -> None:
    front.page.u8[: len(frame)] = frame


def send(front: RawFrontend, frame: bytes, flags: int = 0, *, gso: int = 0) -> None:
    """Queue ``frame`` in one slot, with a GSO extra if ``gso`` is a type."""
    put(front, frame)
    front.tx(len(frame), flags | (E if gso else 0))
    if gso:
        front.extra(size=536, gso=gso)


def take(front: RawFrontend) -> list[tuple[bytes, int]]:
    """One pass; the packets and their flags."""
    front.tx_ring.push_requests()
    front.queue.tx.run(256)
    batch = front.queue.tx.batch
    return [(bytes(frame), batch.flags[i]) for i, frame in enumerate(batch)]


@pytest.mark.parametrize("each", [5, 6, 40])
def test_f15_headers_split_over_19_slots_are_gathered(each: int) -> None:
    # 14 + 18 * 5 is less than the 128 bytes that Linux gathers (XSA-423, XSA-432).
    front = RawFrontend()
    frame = ipv4(tcp() + bytes(14 + 18 * each - 54))
    put(front, frame)
    front.tx(len(frame), M | B)
    for i in range(18):
        front.tx(each, M if i < 17 else 0, offset=14 + i * each)
    assert take(front) == [(frame, CSUM_BLANK)]
    assert front.statuses() == [OKAY] * 19


def test_f15_an_ethernet_header_and_18_slots_of_a_byte_are_a_packet() -> None:
    front = RawFrontend()
    front.tx(14 + 18, M)
    for i in range(18):
        front.tx(1, M if i < 17 else 0, offset=14 + i)
    assert take(front) == [(front.data[:32], 0)]


@pytest.mark.parametrize("flags", [0, NETTXF_data_validated])
def test_f16_gso_without_csum_blank_is_given_the_flag_and_the_pseudo_header_sum(
    flags: int,
) -> None:
    front = RawFrontend()
    frame = ipv4(tcp(0xBEEF) + bytes(1000))
    send(front, frame, flags, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    assert take(front) == [(blanked(frame), CSUM_BLANK | DATA_VALIDATED)]
    assert front.queue.tx.res[R_CSUM_FIXUP] == 1
    # The guest's own page is as it was.
    assert bytes(front.page.u8[: len(frame)]) == frame


def test_f16_holds_for_ipv6() -> None:
    front = RawFrontend()
    send(front, ipv6(tcp(0xBEEF) + bytes(500)), gso=XEN_NETIF_GSO_TYPE_TCPV6)
    addresses = ipv6(tcp())[22:54]
    fixed = ipv6(tcp(pseudo_sum(addresses, TCP, 520)) + bytes(500))
    assert take(front) == [(fixed, CSUM_BLANK | DATA_VALIDATED)]


def test_f16_gso_with_csum_blank_is_left_as_it_is() -> None:
    front = RawFrontend()
    frame = ipv4(tcp(0xBEEF) + bytes(1000))
    send(front, frame, B, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    assert take(front) == [(frame, CSUM_BLANK)]
    assert front.queue.tx.res[R_CSUM_FIXUP] == 0


def test_f16_gso_without_csum_blank_and_without_headers_is_counted_and_dropped() -> None:
    front = RawFrontend()
    send(front, bytes(600), gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.tx(60)
    assert take(front) == [(bytes(60), 0)]
    res = front.queue.tx.res
    assert (res[R_CSUM_FIXUP], res[R_BAD_CSUM], res[R_ERRORS]) == (1, 1, 0)


GOOD = {
    "tcp": ipv4(tcp()),
    "udp": ipv4(udp(), UDP),
    "options": ipv4(tcp(), options=bytes(40)),
    "padded": ipv4(udp(), UDP) + bytes(18),
    "do not fragment": ipv4(tcp(), frag=0x4000),
    "ipv6": ipv6(udp(), UDP),
    # Linux looks at neither.
    "wrong version": ipv4(tcp()).replace(b"\x45\x00", b"\x65\x00", 1),
    "total length beyond the end": ipv4(tcp() + bytes(9))[:-9],
}
BAD = {
    "no IP": bytes(60),
    "ARP": ipv4(tcp()).replace(b"\x08\x00", b"\x08\x06", 1),
    "ICMP": ipv4(tcp(), 1),
    "first fragment": ipv4(tcp(), frag=0x2000),
    "later fragment": ipv4(tcp(), frag=3),
    "cut in the TCP header": ipv4(tcp()[:19]),
    "cut in the IP header": ipv4(b"")[:33],
    "nothing but an Ethernet header": ipv4(b"")[:14],
    "ICMPv6": ipv6(tcp(), 58),
    # Linux looks at the Ethernet type only, and offloads nothing for VLAN devices.
    "tagged": ipv4(tcp(), tags=VLAN),
}


@pytest.mark.parametrize("name", GOOD)
def test_f17_csum_blank_on_tcp_or_udp_is_delivered(name: str) -> None:
    front = RawFrontend()
    send(front, GOOD[name], B)
    assert take(front) == [(GOOD[name], CSUM_BLANK)]
    assert front.queue.tx.res[R_BAD_CSUM] == 0


@pytest.mark.parametrize("name", BAD)
def test_f17_csum_blank_on_anything_else_is_answered_okay_and_dropped(name: str) -> None:
    front = RawFrontend()
    send(front, BAD[name], B)
    front.tx(20)
    assert take(front) == [(bytes(front.page.u8[:20]), 0)]
    assert front.statuses() == [OKAY, OKAY]
    res = front.queue.tx.res
    assert (res[R_BAD_CSUM], res[R_ERRORS], res[R_BYTES]) == (1, 0, 20)


@pytest.mark.parametrize("name", BAD)
def test_f17_does_not_concern_packets_without_csum_blank(name: str) -> None:
    front = RawFrontend()
    send(front, BAD[name], NETTXF_data_validated)
    assert take(front) == [(BAD[name], DATA_VALIDATED)]


def test_f17_a_packet_whose_copy_failed_is_not_judged() -> None:
    front = RawFrontend()
    put(front, bytes(60))
    front.tx(60, B, gref=1999)
    front.tx(60, B)
    assert take(front) == []
    res = front.queue.tx.res
    assert (res[R_ERRORS], res[R_BAD_CSUM], res[R_BYTES]) == (1, 1, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ipv4(tcp()), ipv4(udp()), ipv6(tcp())]),
            st.lists(st.tuples(st.integers(12, 23), st.integers(0, 255)), max_size=3),
            st.integers(0, 12),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_f17_the_quick_look_drops_and_keeps_what_the_search_does(
    packets: list[tuple[bytes, list[tuple[int, int]], int]],
) -> None:
    engine = current()
    batch = FrameBatch(memoryview(bytearray(512)), len(packets))
    kept = []
    for frame, changes, cut in packets:
        octets = bytearray(frame)
        for at, value in changes:
            octets[at] = value
        data = bytes(octets[: len(octets) - cut])
        batch.append(data, flags=CSUM_BLANK)
        u8 = memoryview(bytearray(data + bytes(-len(data) % 4)))
        found = engine.kernel(set_up)(engine.view(u8), engine.view(u8.cast("I")), 0, len(data), 0)
        kept += [data] if found else []
    res = array("q", bytes(8 * RESULTS))
    res[R_PACKETS], res[R_BYTES] = batch.count, batch.used
    slots = tuple(engine.view(array("I", bytes(4 * 8))) for _ in range(5))
    off = engine.view(array("q", (2, 0)))
    judge = engine.kernel(judge_checksums)
    batch.count = judge(off, slots, batch.for_kernels(engine.view), engine.view(res))
    assert [bytes(frame) for frame in batch] == kept
    assert res[R_BAD_CSUM] == len(packets) - len(kept)
    assert res[R_BYTES] == sum(map(len, kept))
