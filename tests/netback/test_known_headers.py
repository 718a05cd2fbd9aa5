"""What is remembered of headers is what the kernel says of each frame."""

from __future__ import annotations

from array import array
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from ip_frames import TCP, UDP, ipv4, ipv6, tcp, udp

from xennet.frames import CSUM_BLANK, DATA_VALIDATED, FrameBatch
from xennet.netback import known_headers
from xennet.netback.guest_tx import (
    CSUM_FIXUP,
    R_BYTES,
    R_FLAGS_SEEN,
    R_PACKETS,
    RESULTS,
)
from xennet.netback.known_headers import KnownHeaders
from xennet.netback.tx_checksum import judge_checksums

BLANK = CSUM_BLANK | DATA_VALIDATED
TCP4, UDP4, TCP6 = ipv4(tcp()), ipv4(udp() + bytes(12), UDP), ipv6(tcp())
SEEDS = [TCP4, UDP4, TCP6, ipv4(tcp(), TCP, options=bytes(8)), TCP4 + bytes(6), bytes(60)]

#: (frame, its flags).
Packets = list[tuple[bytes, int]]


class Both:
    """Headers as they are remembered, and the kernel for comparison, in plain Python."""

    def __init__(self) -> None:
        self.known = KnownHeaders()

    def judge(self, packets: Packets) -> list[bytes]:
        """The frames that both keep."""
        ends = [self._judge(packets, way) for way in (self.known.judge, judge_checksums)]
        assert ends[0] == ends[1]
        return ends[0][0]

    def _judge(self, packets: Packets, way: object) -> tuple[list[bytes], list[int], array[int]]:
        batch = FrameBatch(memoryview(bytearray(b"\x06" * 1024)), 16)
        for frame, flags in packets:
            batch.append(frame, flags=flags)
        res = array("q", bytes(8 * RESULTS))
        res[R_PACKETS], res[R_BYTES] = batch.count, batch.used
        for _, flags in packets:
            res[R_FLAGS_SEEN] |= flags
        slots = tuple(array("I", bytes(4 * 16)) for _ in range(5))
        frames = batch.for_kernels(lambda view: view)
        batch.count = way(array("q", (2, 0)), slots, frames, res)  # type: ignore[operator]
        return [bytes(frame) for frame in batch], batch.flags[: batch.count].tolist(), res


some_packets = st.lists(
    st.tuples(
        st.sampled_from(SEEDS),
        st.lists(st.tuples(st.integers(12, 23), st.sampled_from([0, 6, 17, 0x45])), max_size=1),
        st.sampled_from([0, 0, 0, 1, 12, 20]),
        st.sampled_from([BLANK, BLANK, BLANK, CSUM_BLANK, DATA_VALIDATED, BLANK | CSUM_FIXUP]),
    ),
    max_size=5,
)


@given(st.lists(some_packets, max_size=5), st.integers(1, 4))
def test_headers_are_remembered_as_the_kernel_judges_them(
    passes: list[list[tuple[bytes, list[tuple[int, int]], int, int]]], most: int
) -> None:
    both = Both()
    with patch.object(known_headers, "MOST", most):
        for drawn in passes:
            packets = []
            for seed, changes, cut, flags in drawn:
                frame = bytearray(seed)
                for at, value in changes:
                    frame[at] = value
                packets.append((bytes(frame[: len(frame) - cut]), flags))
            both.judge(packets)
            both.judge(packets)  # as they are remembered


def test_a_good_header_is_not_looked_for_again() -> None:
    both = Both()
    for packets in [(TCP4, BLANK), (UDP4, BLANK)], [(TCP4, BLANK)] * 3:
        assert both.judge(packets) == [frame for frame, _ in packets]
    with patch.object(known_headers, "judge_checksums", side_effect=AssertionError):
        both.judge([(TCP4, BLANK), (UDP4, BLANK)])


def test_a_short_frame_is_not_good_by_what_is_known_of_longer_ones() -> None:
    both = Both()
    both.judge([(TCP4, BLANK)])
    assert both.judge([(TCP4, BLANK), (TCP4[:53], BLANK)]) == [TCP4]


def test_a_sum_is_put_into_a_frame_whose_header_is_known() -> None:
    both = Both()
    assert both.judge([(TCP4, BLANK)]) == [TCP4]
    assert both.judge([(TCP4, BLANK | CSUM_FIXUP)]) != [TCP4]


def test_a_header_with_options_is_looked_for_in_each_frame() -> None:
    both = Both()
    long = ipv4(tcp(), TCP, options=bytes(16))
    assert both.judge([(long, BLANK)]) == [long]
    assert both.judge([(long, BLANK), (long[:60], BLANK)]) == [long]


def test_a_header_is_not_good_because_a_frame_needs_no_checksum() -> None:
    both = Both()
    icmp = ipv4(tcp(), 1)
    assert both.judge([(icmp, DATA_VALIDATED), (TCP4, BLANK)]) == [icmp, TCP4]
    assert both.judge([(icmp, BLANK), (TCP4, BLANK)]) == [TCP4]


def test_one_bad_header_is_found_behind_good_ones_of_the_same_length() -> None:
    both = Both()
    icmp = ipv4(tcp(), 1)
    assert len(icmp) == len(TCP4)
    both.judge([(TCP4, BLANK)] * 3)
    assert both.judge([(TCP4, BLANK), (TCP4, BLANK), (icmp, BLANK)]) == [TCP4] * 2


def test_no_more_headers_are_kept_than_the_bound() -> None:
    both = Both()
    with patch.object(known_headers, "MOST", 10):
        for service in range(0, 60, 6):
            frames = [bytearray(TCP4) for _ in range(6)]
            for i, frame in enumerate(frames):
                frame[15] = service + i
            both.judge([(bytes(frame), BLANK) for frame in frames])
            assert 0 < len(both.known._good) <= 10
