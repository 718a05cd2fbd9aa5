"""Checksums judged by RFC 1071, by scapy, by a receiver's rule and by what real stacks sent."""

from __future__ import annotations

from typing import Any

import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from offload_frames import ETHER, frames, l4_of, memory, rebuilt, recorded_packets, with_checksum
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet

from xennet.engine.choice import current
from xennet.offload import checksum
from xennet.offload.headers import (
    BAD_IP,
    FOUND,
    FRAGMENT,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_END,
    NO_IP,
    NO_L4,
    SHORT_L4,
    parse,
)


def plain_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    data += bytes(len(data) & 1)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def apply(kernel: Any, frame: bytes, at: int = 0) -> tuple[int, bytes]:
    """Verdict and frame after ``complete`` or ``blank``; nothing outside the frame may change."""
    buffer, u8, u32, found, _ = memory(frame, at)
    verdict = current().kernel(kernel)(u8, u32, at, len(frame), found)
    assert buffer[:at] == b"\xee" * at
    assert buffer[at + len(frame) :] == b"\xee" * 9
    return verdict, bytes(buffer[at : at + len(frame)])


def field_of(frame: bytes) -> int:
    """Where the checksum of a good frame is."""
    _, u8, _, found, places = memory(frame)
    assert parse(u8, 0, len(frame), found) == FOUND
    return places[H_CSUM_START] + places[H_CSUM_OFFSET]


def test_the_sum_of_rfc_1071(engine: str) -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    _, u8, u32, _, _ = memory(data)
    assert current().kernel(checksum.ones_sum)(u8, u32, 0, len(data)) == 0xDDF2


def test_the_largest_sum_does_not_overflow(engine: str) -> None:
    _, u8, u32, _, _ = memory(b"\xff" * 65535, 2)
    assert current().kernel(checksum.ones_sum)(u8, u32, 2, 2 + 65534) == 0xFFFF


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=70), st.integers(0, 8))
def test_the_sum_is_right_wherever_it_begins_and_ends(data: bytes, at: int) -> None:
    _, u8, u32, _, _ = memory(data, at)
    assert checksum.ones_sum(u8, u32, at, at + len(data)) == plain_sum(data)


@settings(max_examples=examples(200), deadline=None)
@given(frames(), st.integers(0, 65535), st.integers(0, 5))
def test_a_completed_checksum_is_the_one_scapy_computes(frame: bytes, held: int, at: int) -> None:
    broken = with_checksum(frame, field_of(frame), held)
    verdict, result = apply(checksum.complete, broken, at)
    assert verdict == FOUND
    assert result == rebuilt(frame)


@settings(max_examples=100, deadline=None)
@given(frames(), st.integers(0, 65535))
def test_a_blank_checksum_is_what_a_device_completes_by_summing(frame: bytes, held: int) -> None:
    """virtio: sum from csum_start to the end, the field included, and store the complement."""
    field = field_of(frame)
    verdict, result = apply(checksum.blank, with_checksum(frame, field, held), 3)
    assert verdict == FOUND
    start = field - (16 if l4_of(frame).name == "TCP" else 6)
    value = 0xFFFF - plain_sum(result[start:])
    if value == 0 and l4_of(frame).name == "UDP":
        value = 0xFFFF
    assert with_checksum(result, field, value) == rebuilt(frame)


def test_a_udp_checksum_of_zero_is_sent_as_ffff(engine: str) -> None:
    for base in (ETHER / IP(), ETHER / IPv6()):
        probe = rebuilt(bytes(base / UDP() / b"\0\0"))
        missing = int.from_bytes(probe[-4:-2], "big")
        frame = bytes(base / UDP(chksum=7) / missing.to_bytes(2, "big"))
        verdict, result = apply(checksum.complete, frame)
        assert verdict == FOUND
        assert result[-4:-2] == b"\xff\xff"
        assert result == rebuilt(frame)


def test_padding_is_neither_summed_nor_changed() -> None:
    packet = bytes(ETHER / IP() / UDP() / b"odd")
    verdict, result = apply(checksum.complete, with_checksum(packet, 40, 0) + b"\x55" * 15)
    assert verdict == FOUND
    assert result == packet + b"\x55" * 15


@pytest.mark.parametrize("kernel", [checksum.complete, checksum.blank])
@pytest.mark.parametrize(
    ("frame", "verdict"),
    [
        (ETHER / ARP(), NO_IP),
        (ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP() / UDP(), NO_IP),
        (ETHER / IP(len=60) / UDP(), BAD_IP),
        (ETHER / IP(flags="MF") / UDP(), FRAGMENT),
        (ETHER / IP() / ICMP(), NO_L4),
        (ETHER / IP(len=27) / UDP(), SHORT_L4),
    ],
)
def test_what_has_no_such_checksum_is_left_alone_with_a_reason(
    kernel: Any, frame: Packet, verdict: int
) -> None:
    assert apply(kernel, bytes(frame)) == (verdict, bytes(frame))


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=90), st.sampled_from([b"", b"\x08\x00\x45", b"\x86\xdd\x60"]))
def test_any_bytes_are_completed_or_left_alone(tail: bytes, kind: bytes) -> None:
    frame = bytes(12) + kind + tail
    verdict, result = apply(checksum.complete, frame)
    if verdict != FOUND:
        assert result == frame
    assert apply(checksum.complete, result) == (verdict, result)


@pytest.mark.parametrize("sample", ["beginning", "gso"])
def test_recorded_blank_checksums_are_what_blank_writes(sample: str) -> None:
    seen = 0
    for frame, _, is_blank in recorded_packets(sample):
        if is_blank:
            assert apply(checksum.blank, with_checksum(frame, field_of(frame), 0x1234)) == (
                FOUND,
                frame,
            )
            _, _, _, found, places = memory(frame)
            parse(memoryview(frame), 0, len(frame), found)
            assert places[H_END] == len(frame)
            seen += 1
    assert seen > 20


def wrong(frame: bytes, at: int = 0) -> int:
    buffer, u8, u32, found, _ = memory(frame, at)
    before = bytes(buffer)
    verdict = current().kernel(checksum.is_wrong)(u8, u32, at, len(frame), found)
    assert bytes(buffer) == before
    return verdict


@settings(max_examples=examples(200), deadline=None)
@given(frames(), st.integers(0, 65535), st.integers(0, 5))
def test_a_checksum_is_wrong_unless_it_is_the_one_scapy_computes(
    frame: bytes, held: int, at: int
) -> None:
    right = rebuilt(frame)
    assert not wrong(right, at)
    field = field_of(right)
    other = with_checksum(right, field, held)
    # 0 and 0xffff are the same in ones-complement; a UDP checksum of 0 is none.
    alike = {0, 0xFFFF} >= {held, int.from_bytes(right[field : field + 2])}
    no_sum = held == 0 and l4_of(right).name == "UDP"
    assert wrong(other, at) == (other != right and not alike and not no_sum)


@pytest.mark.parametrize(
    "frame",
    [
        ETHER / ARP(),
        ETHER / IP(flags="MF") / UDP(chksum=7) / b"part of a datagram",
        ETHER / IP() / UDP(chksum=0) / b"no sum",
        ETHER / IP(len=60) / UDP(chksum=7) / b"cut",
        ETHER / IP() / UDP(chksum=7, len=99) / b"cut",
        ETHER / IP() / UDP(chksum=7, len=3) / b"no length",
        ETHER / IP() / ICMP(chksum=7),
    ],
)
def test_what_has_no_checksum_that_can_be_judged_is_not_wrong(frame: Packet, engine: str) -> None:
    assert not wrong(bytes(frame))


def test_udp_sums_up_to_its_own_length(engine: str) -> None:
    # Bytes behind it belong to the IP packet only (RFC 9868).
    datagram = bytes(ETHER / IP() / UDP() / b"data")
    frame = bytearray(datagram + b"rest")
    frame[16:18] = (len(frame) - 14).to_bytes(2)
    assert not wrong(bytes(frame))
    frame[-5] ^= 1
    assert wrong(bytes(frame))
