"""Copies of the hypervisor become copies of gntdev, and its statuses those of the hypervisor."""

from __future__ import annotations

from array import array

import pytest

from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.abi.xengnttab import GRANT_COPY_SEGMENT
from xennet.engine.choice import current
from xennet.xen.copy_segments import fail_all, put_segments, take_statuses

BASE = 0x7F12_3456_7000
FRAMES = 8
#: source frame or reference, its domain, its offset, the same of dest, length, flags
Op = tuple[int, int, int, int, int, int, int, int]
FROM_GUEST = (5, 3, 96, 7, DOMID_SELF, 64, 1500, GNTCOPY_source_gref)
TO_GUEST = (7, DOMID_SELF, 64, 5, 3, 96, 1500, GNTCOPY_dest_gref)


class Segments:
    """``ops`` as segments."""

    def __init__(self, *ops: Op) -> None:
        self.count = len(ops)
        self.octets = bytearray(GNTTAB_COPY.size * len(ops))
        for i, op in enumerate(ops):
            GNTTAB_COPY_BY_FLAGS[op[-1]].pack_into(self.octets, i * GNTTAB_COPY.size, *op, 99)
        self.ops = memoryview(self.octets).cast("I")
        self.words = array("I", bytes(GRANT_COPY_SEGMENT.size * len(ops)))
        self.arena = memoryview(bytearray(i * 37 & 0xFF for i in range(FRAMES * PAGE_SIZE)))
        args = self.view(self.ops), self.view(self.words), self.view(self.arena)
        current().kernel(put_segments)(self.count, *args, BASE, FRAMES)

    @staticmethod
    def view(buffer: memoryview | array[int]) -> object:
        return current().view(buffer)

    def __getitem__(self, i: int) -> tuple[int, ...]:
        """source and dest as numbers of 64 bits, length, flags."""
        at = i * GRANT_COPY_SEGMENT.size
        octets = memoryview(self.words).cast("B")[at : at + GRANT_COPY_SEGMENT.size]
        source, dest = octets[:16].cast("Q")
        found = GRANT_COPY_SEGMENT.read(octets)
        return source, dest, found.len, found.flags

    def status(self, i: int) -> int:
        return int(GNTTAB_COPY.read(self.octets, i * GNTTAB_COPY.size).status)

    def answer(self, *statuses: int) -> None:
        for i, status in enumerate(statuses):
            self.words[i * (GRANT_COPY_SEGMENT.size // 4) + 5] = status & 0xFFFF
        args = self.view(self.ops), self.view(self.words)
        current().kernel(take_statuses)(self.count, *args)


def foreign(ref: int, offset: int, domid: int) -> int:
    return ref | offset << 32 | domid << 48


def test_frames_of_one_s_own_are_pointers() -> None:
    segments = Segments(FROM_GUEST, TO_GUEST)
    own = BASE + 7 * PAGE_SIZE + 64
    assert segments[0] == (foreign(5, 96, 3), own, 1500, GNTCOPY_source_gref)
    assert segments[1] == (own, foreign(5, 96, 3), 1500, GNTCOPY_dest_gref)


def test_pages_of_two_domains() -> None:
    both = GNTCOPY_source_gref | GNTCOPY_dest_gref
    segments = Segments((5, 3, 96, 0xFFFF_FFFF, 0x7FEF, 4095, 1, both))
    assert segments[0] == (foreign(5, 96, 3), foreign(0xFFFF_FFFF, 4095, 0x7FEF), 1, both)


def test_statuses_are_taken_over() -> None:
    segments = Segments(FROM_GUEST, TO_GUEST, FROM_GUEST)
    segments.answer(GNTST_okay, GNTST_bad_gntref, GNTST_general_error)
    assert [segments.status(i) for i in range(3)] == [
        GNTST_okay,
        GNTST_bad_gntref,
        GNTST_general_error,
    ]


@pytest.mark.parametrize(
    ("op", "status"),
    [
        ((5, 3, 2597, 7, DOMID_SELF, 0, 1500, GNTCOPY_source_gref), GNTST_bad_copy_arg),
        ((5, 3, 0, 7, DOMID_SELF, 2597, 1500, GNTCOPY_source_gref), GNTST_bad_copy_arg),
        ((7, DOMID_SELF, 0, 5, 3, 2597, 1500, GNTCOPY_dest_gref), GNTST_bad_copy_arg),
        ((5, 3, 0, FRAMES, DOMID_SELF, 0, 1500, GNTCOPY_source_gref), GNTST_bad_page),
        ((1 << 32, DOMID_SELF, 0, 5, 3, 0, 1500, GNTCOPY_dest_gref), GNTST_bad_page),
        ((5, 3, 0, 1, 3, 0, 1500, GNTCOPY_source_gref), GNTST_permission_denied),
    ],
)
def test_what_would_make_the_whole_call_fail_is_refused_alone(op: Op, status: int) -> None:
    segments = Segments(op, FROM_GUEST)
    assert segments[0][2] == 0  # nothing is copied
    assert segments[0][3] != 0  # gntdev refuses a segment without a reference
    assert segments[1][2] == 1500
    segments.answer(GNTST_okay, GNTST_okay)
    assert [segments.status(0), segments.status(1)] == [status, GNTST_okay]


def test_copies_within_the_arena_are_made_at_once() -> None:
    segments = Segments((1, DOMID_SELF, 10, 2, DOMID_SELF, 4000, 96, 0))
    before = bytes(i * 37 & 0xFF for i in range(FRAMES * PAGE_SIZE))
    at = 2 * PAGE_SIZE + 4000
    assert segments.arena[at : at + 96] == before[PAGE_SIZE + 10 : PAGE_SIZE + 106]
    assert segments.arena[:at] == before[:at]
    assert segments[0][2:] == (0, GNTCOPY_source_gref)
    assert segments.status(0) == GNTST_okay


def test_a_call_that_fails_fails_every_copy_that_was_not_refused_before() -> None:
    refused = (5, 3, 0, FRAMES, DOMID_SELF, 0, 1, GNTCOPY_source_gref)
    segments = Segments(FROM_GUEST, refused)
    fail = current().kernel(fail_all)
    fail(2, segments.view(segments.ops), GNTST_general_error & 0xFFFF)
    assert [segments.status(0), segments.status(1)] == [GNTST_general_error, GNTST_bad_page]
