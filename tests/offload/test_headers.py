"""Finding the layers of a frame: what counts, what does not, and that nothing can go wrong."""

from __future__ import annotations

from array import array

import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from offload_frames import ETHER, frames, tcp
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from xennet.flow.dissect import find_flow
from xennet.offload import headers
from xennet.offload.headers import (
    BAD_IP,
    FOUND,
    FRAGMENT,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_DESTINATION,
    H_END,
    H_HDR_LEN,
    H_L3,
    H_PROTOCOL,
    H_VERSION,
    NO_IP,
    NO_L4,
    PLACES,
    SHORT_L4,
    USUAL_ADDRESSES,
    USUAL_PORTS,
)

V4 = ETHER / IP(src="192.0.2.1", dst="192.0.2.2")
V6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")
TIMESTAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]


def parse(frame: bytes | Packet, at: int = 0) -> tuple[int, array[int]]:
    found = array("q", [-1] * PLACES)
    data = memoryview(bytes(at) + bytes(frame))
    return headers.parse(data, at, len(data) - at, found), found


def changed(frame: Packet, at: int, value: int) -> bytes:
    data = bytearray(bytes(frame))
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("frame", "start", "offset", "hdr_len"),
    [
        (V4 / TCP(), 34, 16, 54),
        (V4 / TCP(options=TIMESTAMPS), 34, 16, 66),
        (V4 / UDP(), 34, 6, 42),
        (V6 / TCP(), 54, 16, 74),
        (V6 / UDP(), 54, 6, 62),
        (ETHER / Dot1Q() / IP() / TCP(), 38, 16, 58),
        (ETHER / Dot1AD() / Dot1Q() / IPv6() / UDP(), 62, 6, 70),
        (ETHER / IP(options=[b"\1" * 8]) / TCP(), 42, 16, 62),
        (V6 / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]) / TCP(), 70, 16, 90),
    ],
)
def test_a_frame_is_described_as_virtio_net_hdr_does(
    frame: Packet, start: int, offset: int, hdr_len: int
) -> None:
    verdict, found = parse(frame / Raw(b"payload"), at=5)
    assert verdict == FOUND
    assert (found[H_CSUM_START], found[H_CSUM_OFFSET]) == (start, offset)
    assert found[H_HDR_LEN] == hdr_len
    assert found[H_END] == len(frame) + 7
    assert found[H_VERSION] == (4 if IP in frame else 6)
    assert found[H_PROTOCOL] == (6 if TCP in frame else 17)


@pytest.mark.parametrize(
    ("frame", "verdict"),
    [
        (b"", NO_IP),
        (bytes(13), NO_IP),
        (bytes(14), NO_IP),
        (ETHER / ARP(), NO_IP),
        (ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP() / TCP(), NO_IP),
        (bytes(ETHER / Dot1Q())[:17], NO_IP),
        (bytes(V4)[:33], BAD_IP),
        (bytes(V6)[:53], BAD_IP),
        (changed(V4 / TCP(), 14, 0x65), BAD_IP),
        (changed(V4 / TCP(), 14, 0x44), BAD_IP),
        (changed(V4 / TCP(), 14, 0x4F), BAD_IP),
        (changed(V4 / TCP(), 17, 41), BAD_IP),
        (changed(V6 / TCP(), 14, 0x45), BAD_IP),
        (changed(V6 / TCP(), 19, 21), BAD_IP),
        (ETHER / IP(flags="MF") / TCP(), FRAGMENT),
        (ETHER / IP(frag=3) / UDP(), FRAGMENT),
        (V6 / IPv6ExtHdrFragment(m=1) / TCP(), FRAGMENT),
        (V6 / IPv6ExtHdrFragment() / TCP(), FRAGMENT),
        (V4 / ICMP(), NO_L4),
        (ETHER / IPv6(nh=59), NO_L4),
        (changed(V4 / TCP(), 17, 39), SHORT_L4),
        (changed(V6 / UDP(), 19, 7), SHORT_L4),
    ],
)
def test_what_has_no_checksum_to_speak_of_is_told_apart(
    frame: bytes | Packet, verdict: int
) -> None:
    result, found = parse(frame)
    assert result == verdict
    assert (found[H_PROTOCOL], found[H_CSUM_START], found[H_HDR_LEN]) == (0, 0, 0)


@pytest.mark.parametrize("words", [0, 4, 6])
def test_an_impossible_tcp_data_offset_leaves_the_checksum_but_no_payload(words: int) -> None:
    verdict, found = parse(changed(V4 / TCP(), 46, words << 4))
    assert verdict == FOUND
    assert found[H_CSUM_START] == 34
    assert found[H_HDR_LEN] == 0


def test_padding_is_not_part_of_the_packet() -> None:
    verdict, found = parse(bytes(V4 / UDP() / b"x") + bytes(17))
    assert verdict == FOUND
    assert found[H_END] == 43


def test_an_extension_header_beyond_the_packet_is_refused() -> None:
    header = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))])
    assert parse(changed(V6 / header / TCP(), 55, 40))[0] == BAD_IP
    assert parse(changed(V6 / header, 19, 7))[0] == BAD_IP


def test_headers_of_more_than_256_bytes_are_refused() -> None:
    def chain(count: int) -> Packet:
        frame = V6
        for _ in range(count):
            frame = frame / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])
        return frame / TCP()

    assert parse(chain(27))[0] == FOUND
    assert parse(chain(28))[0] == BAD_IP


@pytest.mark.parametrize(
    ("route", "destination"),
    [
        (IPv6ExtHdrRouting(addresses=["fd00::3", "fd00::4"], segleft=2), 54 + 24),
        (IPv6ExtHdrRouting(addresses=["fd00::3", "fd00::4"], segleft=0), 38),
        (IPv6ExtHdrRouting(type=2, addresses=["fd00::3"], segleft=1), 54 + 8),
        (IPv6ExtHdrSegmentRouting(addresses=["fd00::3", "fd00::4"], segleft=1), 54 + 8),
        (IPv6ExtHdrRouting(type=9, addresses=["fd00::3"], segleft=1), 38),
        (IPv6ExtHdrRouting(addresses=[], segleft=1), 38),
    ],
)
def test_the_destination_is_the_end_of_the_route(route: Packet, destination: int) -> None:
    verdict, found = parse(V6 / route / TCP())
    assert verdict == FOUND
    assert found[H_DESTINATION] == destination


@settings(max_examples=150, deadline=None)
@given(frames(l4=tcp(), most=20), st.data())
def test_a_frame_that_is_cut_off_anywhere_is_no_packet(frame: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(frame) - 1))
    assert parse(frame)[0] == FOUND
    assert parse(frame[:length])[0] != FOUND


@settings(max_examples=examples(500), deadline=None)
@given(
    st.binary(max_size=100)
    | st.tuples(frames(most=20), st.integers(0, 200), st.integers(0, 255)).map(
        lambda drawn: drawn[0][: drawn[1]] + bytes([drawn[2]]) + drawn[0][drawn[1] + 1 :]
    )
)
def test_any_bytes_are_parsed_and_what_is_found_lies_within(frame: bytes) -> None:
    verdict, found = parse(frame)
    if verdict == FOUND:
        size = 20 if found[H_PROTOCOL] == 6 else 8
        assert 14 <= found[H_L3] < found[H_CSUM_START]
        assert found[H_CSUM_START] + size <= found[H_END] <= len(frame)
        assert found[H_HDR_LEN] <= found[H_END]
        assert found[H_DESTINATION] + 4 <= found[H_CSUM_START]
    else:
        assert found[H_CSUM_START] == 0
    # The quick look says the same, or nothing.
    if protocol := headers.usual_l4(memoryview(frame), 0, len(frame)):
        assert (verdict, found[H_PROTOCOL], found[H_CSUM_START]) == (FOUND, protocol, USUAL_PORTS)
        assert (found[H_VERSION], found[H_DESTINATION]) == (4, USUAL_ADDRESSES + 4)
        assert find_flow(memoryview(frame), 0, len(frame)) == (
            *(4, USUAL_ADDRESSES, USUAL_PORTS, protocol),
        )


@pytest.mark.parametrize("l4", [TCP(), UDP() / Raw(bytes(12))])
@pytest.mark.parametrize("padding", [0, 6])
def test_the_quick_look_knows_plain_packets(l4: Packet, padding: int) -> None:
    frame = bytes(V4 / l4) + bytes(padding)
    assert headers.usual_l4(memoryview(frame), 0, len(frame)) == IP(frame[14:]).proto


@pytest.mark.parametrize(
    "frame",
    [
        V4 / ICMP() / Raw(bytes(40)),
        V6 / TCP(),
        ETHER / Dot1Q() / IP() / TCP() / Raw(bytes(40)),
        ETHER / IP(options=[b"\1" * 4]) / TCP() / Raw(bytes(40)),
        V4 / UDP(),
        ETHER / IP(flags="MF") / TCP() / Raw(bytes(40)),
        ETHER / IP(frag=1) / TCP() / Raw(bytes(40)),
        ETHER / IP(len=61) / TCP(),
        ETHER / IP(len=39) / TCP() / Raw(bytes(40)),
        Ether(type=0x0801) / Raw(bytes(V4 / TCP())[14:]),
        Ether(type=0x1800) / Raw(bytes(V4 / TCP())[14:]),
    ],
)
def test_the_quick_look_leaves_everything_else_to_the_search(frame: Packet) -> None:
    assert headers.usual_l4(memoryview(bytes(frame)), 0, len(frame)) == 0
