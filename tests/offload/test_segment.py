"""Segments judged by scapy: each a right packet of its own, together the payload that was."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offload_frames import (
    ETHER,
    frames,
    l4_of,
    memory,
    new_batch,
    rebuilt,
    recorded_packets,
    rows,
    tcp,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from xennet.engine.choice import current
from xennet.frames import ALL_GSO_TYPES, CSUM_BLANK, DATA_VALIDATED, FrameBatch
from xennet.offload import checksum, segment
from xennet.offload.headers import FOUND, NO_IP

V4 = ETHER / IP(src="192.0.2.1", dst="192.0.2.2")
V6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")
FIN, PSH, CWR = 0x01, 0x08, 0x80
BLANK = CSUM_BLANK | DATA_VALIDATED


def cut(
    frame: bytes,
    gso_size: int,
    gso_type: int,
    target: FrameBatch,
    res: Any = None,
    *,
    blank_types: int = 0,
    max_frame: int = 65535,
    flags: int = BLANK,
) -> tuple[int, Any]:
    """One call of the kernel into ``target``; the verdict and the result vector."""
    view = current().view
    res = array("q", bytes(8 * 4)) if res is None else res
    _, u8, u32, found, _ = memory(frame, 3)
    columns = (3, len(frame), flags, gso_size, gso_type, 0, 0)
    source = u8, u32, *(view(array("I", [value])) for value in columns)
    res[segment.R_COUNT], res[segment.R_USED] = target.count, target.used
    verdict = current().kernel(segment.segment)(
        blank_types,
        max_frame,
        target.max_frames,
        source,
        0,
        target.for_kernels(view),
        found,
        view(res),
    )
    target.count, target.used = res[segment.R_COUNT], res[segment.R_USED]
    return verdict, res


def gso_type_of(frame: bytes) -> int:
    return 1 if IP in Ether(frame) else 2


def pieces(frame: bytes, gso_size: int, **how: Any) -> list[bytes]:
    target = new_batch(1 << 18, 4096)
    verdict, res = cut(frame, gso_size, gso_type_of(frame), target, **how)
    assert verdict == FOUND
    assert res[segment.R_RESUME] == 0
    assert res[segment.R_SEGMENTS] == target.count
    return [row[0] for row in rows(target)]


@settings(max_examples=120, deadline=None)
@given(frames(l4=tcp(), most=500), st.integers(40, 600))
def test_segments_are_right_packets_that_carry_the_payload(frame: bytes, gso_size: int) -> None:
    whole = l4_of(frame)
    payload = bytes(whole.payload)
    segments = pieces(frame, gso_size)
    assert len(segments) == max(1, -(-len(payload) // gso_size))
    assert b"".join(bytes(l4_of(piece).payload) for piece in segments) == payload
    for i, piece in enumerate(segments):
        assert piece == rebuilt(piece)
        packet, part = Ether(piece), l4_of(piece)
        assert part.seq == (whole.seq + i * gso_size) % 2**32
        expected = int(whole.flags)
        if i:
            expected &= ~CWR
        if i + 1 < len(segments):
            expected &= ~(FIN | PSH)
        assert int(part.flags) == expected
        if IP in packet:
            assert packet[IP].id == (Ether(frame)[IP].id + i) % 65536
        header = len(frame) - len(payload)
        same = [k for k in range(header) if piece[k] != frame[k]]
        l3 = 14
        while frame[l3 - 2 : l3] in (b"\x81\x00", b"\x88\xa8"):
            l3 += 4
        l4 = header - whole.dataofs * 4
        changing = {l3 + k for k in (2, 3, 4, 5, 10, 11)}
        changing |= {l4 + k for k in (4, 5, 6, 7, 13, 16, 17)}
        assert set(same) <= changing


@settings(max_examples=60, deadline=None)
@given(frames(l4=tcp(), most=500), st.integers(40, 600))
def test_blank_segments_hold_their_own_pseudo_header_sum(frame: bytes, gso_size: int) -> None:
    blank = pieces(frame, gso_size, blank_types=ALL_GSO_TYPES)
    for left, right in zip(blank, pieces(frame, gso_size), strict=True):
        buffer, u8, u32, found, _ = memory(right)
        assert checksum.blank(u8, u32, 0, len(right), found) == FOUND
        assert left == bytes(buffer[: len(right)])


@pytest.mark.parametrize(("blank_types", "flags"), [(0, 2), (1 << 1, 3), (1 << 2, 2), (6, 3)])
def test_the_flags_of_segments_say_whether_they_are_blank(blank_types: int, flags: int) -> None:
    target = new_batch()
    frame = bytes(V4 / TCP() / bytes(100))
    cut(frame, 60, 1, target, blank_types=blank_types)
    assert [row[1:4] for row in rows(target)] == [(flags, 0, 0)] * 2


def test_segments_of_a_frame_that_was_not_blank_may_be() -> None:
    target = new_batch()
    cut(bytes(V4 / TCP() / bytes(100)), 60, 1, target, blank_types=ALL_GSO_TYPES, flags=0)
    assert [row[1] for row in rows(target)] == [BLANK, BLANK]


def test_a_target_is_filled_to_its_last_byte() -> None:
    target = new_batch(114)
    _, res = cut(bytes(V4 / TCP() / bytes(100)), 60, 1, target)
    assert target.used == 114
    assert res[segment.R_RESUME] == 114


def test_nothing_is_claimed_validated_that_was_not() -> None:
    target = new_batch()
    cut(bytes(V4 / TCP() / bytes(100)), 60, 1, target, flags=0)
    assert [row[1] for row in rows(target)] == [0, 0]


@pytest.mark.parametrize(
    ("frame", "gso_size", "gso_type", "how", "verdict"),
    [
        (ETHER / ARP(), 100, 1, {}, NO_IP),
        (V4 / UDP() / bytes(99), 50, 1, {}, segment.NO_TCP),
        (V4 / TCP(dataofs=4) / bytes(99), 50, 1, {}, segment.NO_TCP),
        (V4 / TCP() / bytes(99), 50, 2, {}, segment.WRONG_TYPE),
        (V4 / TCP() / bytes(99), 50, 0, {}, segment.WRONG_TYPE),
        (V6 / TCP() / bytes(99), 50, 1, {}, segment.WRONG_TYPE),
        (V6 / TCP() / bytes(99), 50, 255, {}, segment.WRONG_TYPE),
        (V4 / TCP() / bytes(99), 0, 1, {}, segment.NO_SIZE),
        (V4 / TCP() / bytes(99), 50, 1, {"max_frame": 103}, segment.LONG_SEGMENT),
        (V4 / TCP() / bytes(99), 50, 1, {"max_frame": 104}, FOUND),
        (V4 / TCP() / bytes(9), 50, 1, {"max_frame": 63}, FOUND),
    ],
)
def test_what_cannot_be_segmented_is_refused_with_a_reason(
    frame: Any, gso_size: int, gso_type: int, how: dict[str, int], verdict: int
) -> None:
    target = new_batch()
    result, _ = cut(bytes(frame), gso_size, gso_type, target, **how)
    assert result == verdict
    assert bool(target.count) == (verdict == FOUND)


@settings(max_examples=80, deadline=None)
@given(
    frames(l4=tcp(), most=300),
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5)), min_size=1, max_size=4),
)
def test_a_full_target_is_gone_on_from_in_the_next(
    frame: bytes, gso_size: int, rooms: list[tuple[int, int]]
) -> None:
    expected = pieces(frame, gso_size)
    res = array("q", bytes(8 * 4))
    got: list[bytes] = []
    for size, max_frames in (*rooms, (1 << 18, 4096)):
        target = new_batch(size, max_frames)
        verdict, _ = cut(frame, gso_size, gso_type_of(frame), target, res)
        assert verdict == FOUND
        assert target.used <= size
        got += [row[0] for row in rows(target)]
        if not target.count:
            assert size < len(expected[len(got)])
        if not res[segment.R_RESUME] and got:
            break
    assert got == expected


def test_segments_of_one_byte_take_no_more_memory_than_there_is(engine: str) -> None:
    frame = bytes(V4 / TCP(seq=2**32 - 10) / bytes(range(256)) / bytes(60000))
    target, res, total, seqs = new_batch(1 << 14), None, 0, []
    while not total or res[segment.R_RESUME]:
        target.clear()
        verdict, res = cut(frame, 1, 1, target, res)
        assert verdict == FOUND
        assert 0 < target.count <= 256
        total += target.count
        seqs.append(int.from_bytes(target.frame(0)[38:42], "big"))
        assert rebuilt(bytes(target.frame(0))) == bytes(target.frame(0))
    assert total == 60256
    assert seqs[:2] == [2**32 - 10, 246]


def test_recorded_gso_frames_become_right_packets() -> None:
    seen = 0
    for frame, gso_size, is_blank in recorded_packets("gso"):
        if gso_size:
            assert is_blank
            segments = pieces(frame, gso_size)
            assert len(segments) == -(-(len(frame) - 66) // gso_size)
            assert b"".join(piece[66:] for piece in segments) == frame[66:]
            assert all(piece == rebuilt(piece) for piece in segments)
            seen += 1
    assert seen > 10
