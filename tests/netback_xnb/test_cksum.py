"""add_mbuf_cksum against scapy's checksums, and the sums it is made of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from xennet.netback.xnb import (
    BackendPanic,
    add_mbuf_cksum,
    chain_bytes,
    in_cksum_skip,
    in_pseudo,
    internet_sum,
)
from xennet.netback.xnb.mbuf import CSUM_IP_VALID
from xennet.testing.xnb_world import XnbWorld

WORLD = XnbWorld()
ETHER = Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02")
TRANSPORT_AT = {6: 14 + 20 + 16, 17: 14 + 20 + 6}

address = st.integers(1, 0xFFFFFFFE).map(lambda n: ".".join(map(str, n.to_bytes(4, "big"))))
port = st.integers(0, 65535)
transport = st.one_of(
    st.builds(
        lambda s, d, q, a: TCP(sport=s, dport=d, seq=q, ack=a, flags="A"),
        port,
        port,
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(lambda s, d: UDP(sport=s, dport=d), port, port),
)
payload = st.binary(max_size=3000)


def summed(frame: bytes, cuts: list[int], flags: int = CSUM_IP_VALID) -> bytes:
    """``frame`` after add_mbuf_cksum, its chain cut at ``cuts`` behind the headers."""
    edges = sorted({min(max(cut, 80), len(frame)) for cut in cuts} | {len(frame)})
    segments = [b - a for a, b in zip([0, *edges], edges, strict=False)]
    mbufc = WORLD.pool.build(frame, segments=segments, cluster=4096)
    mbufc.pkthdr.csum_flags = flags
    try:
        add_mbuf_cksum(mbufc)
        return chain_bytes(mbufc)
    finally:
        WORLD.pool.m_freem(mbufc)


@given(
    src=address,
    dst=address,
    layer=transport,
    data=payload,
    left=st.integers(0, 65535),
    cuts=st.lists(st.integers(80, 3100), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_tcp_and_udp_over_ipv4_get_the_checksums_that_scapy_computes(
    src, dst, layer, data, left, cuts
):
    whole = bytes(ETHER / IP(src=src, dst=dst) / layer / Raw(data))
    at = TRANSPORT_AT[whole[14 + 9]]
    blank = bytearray(whole)
    blank[14 + 10 : 14 + 12] = left.to_bytes(2, "big")
    blank[at : at + 2] = left.to_bytes(2, "big")
    expected = bytearray(whole)
    if whole[14 + 9] == 17 and whole[at : at + 2] == b"\xff\xff":
        expected[at : at + 2] = b"\0\0"  # 0 stays 0 in the seed, which means "no checksum"
    assert summed(bytes(blank), cuts) == expected


@given(src=address, data=payload)
@settings(max_examples=40, deadline=None)
def test_of_icmp_only_the_ip_header_is_summed(src, data):
    whole = bytes(ETHER / IP(src=src, dst="10.0.0.1") / ICMP(chksum=0x1234) / Raw(data))
    blank = whole[:24] + b"\xab\xcd" + whole[26:]
    assert summed(blank, []) == whole


@given(data=payload, layer=transport)
@settings(max_examples=30, deadline=None)
def test_ipv6_crosses_unchanged(data, layer):
    layer = layer.copy()
    layer.chksum = 0x1111
    frame = bytes(ETHER / IPv6(src="fe80::1", dst="fe80::2") / layer / Raw(data))
    assert summed(frame, []) == frame


def test_arp_crosses_unchanged():
    frame = bytes(ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
    assert summed(frame, []) == frame


def test_without_csum_ip_valid_nothing_is_touched():
    frame = bytes(ETHER / IP() / UDP(chksum=0x1111) / Raw(b"x" * 40))
    assert summed(frame, [], flags=0) == frame


def test_a_udp_sum_of_zero_stays_zero():
    """RFC 768 wants 0xffff; the seed's 0 reads as "no checksum"."""
    headers = ETHER / IP(src="10.0.0.1", dst="10.0.0.2")
    # Adding a packet's checksum to a field that was 0 makes the sum 0xffff, the checksum 0.
    sport = int.from_bytes(bytes(headers / UDP(sport=0, dport=9))[40:42], "big")
    zero = bytes(headers / UDP(sport=sport, dport=9))
    assert zero[40:42] == b"\xff\xff"
    assert summed(zero, [])[40:42] == b"\0\0"


def test_a_udp_fragment_gets_a_sum_over_the_fragment_alone():
    data = bytes(range(200))
    whole = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(data))
    cut = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF", proto=17) / whole[34:134])
    assert summed(cut, [])[40:42] != whole[40:42]


def test_rfc_1071_example():
    assert internet_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_an_odd_last_byte_counts_as_the_high_half():
    assert internet_sum(b"\x12") == 0x1200


def test_the_pseudo_header_is_addresses_protocol_and_length():
    assert in_pseudo(bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 17 + 8) == 0x1400 + 3 + 25


@given(
    data=st.binary(min_size=1, max_size=300),
    edges=st.lists(st.integers(0, 300), max_size=5),
    skip=st.integers(0, 320),
    length=st.integers(0, 400),
)
@settings(max_examples=150, deadline=None)
def test_in_cksum_skip_sums_a_chain_like_its_bytes(data, edges, skip, length):
    edges = sorted(min(edge, len(data)) for edge in edges) + [len(data)]
    segments = [b - a for a, b in zip([0, *edges], edges, strict=False)]
    mbufc = WORLD.pool.build(data, segments=segments)
    assert in_cksum_skip(mbufc, length, skip) == ~internet_sum(data[skip:length]) & 0xFFFF
    WORLD.pool.m_freem(mbufc)


def test_nothing_is_summed_when_the_end_lies_before_the_start():
    mbufc = WORLD.pool.build(b"\x55" * 60)
    assert in_cksum_skip(mbufc, 10, 34) == 0xFFFF


def test_a_header_outside_the_first_mbuf_is_the_end():
    frame = bytes(ETHER / IP() / UDP())
    mbufc = WORLD.pool.build(frame[:30] + bytes(12), segments=[30, 12], cluster=2048, lead=2018)
    mbufc.pkthdr.csum_flags = CSUM_IP_VALID
    with pytest.raises(BackendPanic, match="outside the first mbuf") as panic:
        add_mbuf_cksum(mbufc)
    assert panic.value.rule == "A17"
