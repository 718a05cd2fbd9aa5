"""GNTTABOP_copy: what is moved, what is marked, what is refused."""

from __future__ import annotations

import struct

import pytest
from gnttab_world import COPY_SIZE, READ, READONLY_MAP, WRITE, Own, Ref, World, element

from xennet.abi.grant_table import (
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_writing,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.gnttab.copy import grant_copy
from xennet.gnttab.entry import GNTPIN_hstr_inc

PATTERN = bytes(range(256)) * 16


def read_gref(world: World, granter: int = 1, grantee: int = 0) -> int:
    """A read-only grant of the granter's page, which holds PATTERN."""
    world.fill(world.page[granter], PATTERN)
    return world.table[granter].grant_access(grantee, world.page[granter], readonly=True)


def write_gref(world: World, granter: int = 2, grantee: int = 0) -> int:
    return world.table[granter].grant_access(grantee, world.page[granter])


def assert_untouched(world: World, frame: int, byte: int) -> None:
    assert world.bytes_of(frame) == bytes([byte]) * PAGE_SIZE


def test_from_a_reference_to_an_own_frame(world: World) -> None:
    gref = read_gref(world)
    assert world.copy(0, element(Ref(1, gref, 3), Own(world.page[0], 1000), 60)) == ["okay"]
    page = world.bytes_of(world.page[0])
    assert page == b"\x01" * 1000 + PATTERN[3:63] + b"\x01" * 3036
    assert world.bytes_of(world.page[1]) == PATTERN


def test_from_an_own_frame_to_a_reference(world: World) -> None:
    gref = write_gref(world)
    world.fill(world.page[0], PATTERN)
    assert world.copy(0, element(Own(world.page[0], 3), Ref(2, gref, 1000), 60)) == ["okay"]
    assert world.bytes_of(world.page[2]) == b"\x21" * 1000 + PATTERN[3:63] + b"\x21" * 3036


def test_from_a_reference_to_a_reference(world: World) -> None:
    """As the header says: between two domains via a third party."""
    source, dest = read_gref(world), write_gref(world)
    assert world.copy(0, element(Ref(1, source, 1), Ref(2, dest, 2), 4000)) == ["okay"]
    assert world.bytes_of(world.page[2], 2, 4000) == PATTERN[1:4001]


def test_from_an_own_frame_to_an_own_frame(world: World) -> None:
    other = world.new_page(0)
    assert world.copy(0, element(Own(world.page[0]), Own(other), PAGE_SIZE)) == ["okay"]
    assert_untouched(world, other, 0x01)


def test_between_domains_with_different_table_versions() -> None:
    world = World((1, 1, 2))
    source, dest = read_gref(world), write_gref(world)
    assert world.copy(0, element(Ref(1, source), Ref(2, dest), 100)) == ["okay"]
    assert world.bytes_of(world.page[2], 0, 100) == PATTERN[:100]


def test_one_may_name_oneself_by_number_in_a_reference(world: World) -> None:
    gref = world.table[1].grant_access(1, world.page[1])
    other = world.new_page(1)
    for domid in (1, DOMID_SELF):
        world.fill(other, bytes(4))
        assert world.copy(1, element(Ref(domid, gref), Own(other), 4)) == ["okay"]
        assert world.bytes_of(other, 0, 4) == b"\x11" * 4


def test_a_frame_number_needs_domid_self_even_of_ones_own(world: World) -> None:
    frame, gref = world.page[0], read_gref(world)
    assert (
        world.copy(
            0,
            element(Own(frame, domid=0), Own(frame), 4),
            element(Ref(1, gref), Own(frame, domid=0), 4),
            element(Ref(1, gref), Own(frame, domid=1), 4),
        )
        == ["permission_denied"] * 3
    )
    assert_untouched(world, frame, 0x01)


def test_naming_a_domain_once_by_reference_opens_no_frames_of_it(world: World) -> None:
    """Every element is checked for itself, whatever the one before it named."""
    gref = read_gref(world)
    statuses = world.copy(
        0,
        element(Ref(1, gref), Own(world.page[0]), 4),
        element(Own(world.page[1], domid=1), Own(world.page[0]), 4),
    )
    assert statuses == ["okay", "permission_denied"]


def test_length_zero_succeeds_without_looking_at_references(world: World) -> None:
    nonsense = (Ref(9, 10**6, 9999), Own(10**6, 9999, domid=9), Ref(0xFFFF, 0xFFFF_FFFF, 0xFFFF))
    ops = [element(source, dest, 0) for source in nonsense for dest in nonsense]
    assert world.copy(0, *ops) == ["okay"] * len(ops)


@pytest.mark.parametrize("offset", [0, 1, 96, 4095])
def test_a_range_may_end_where_its_page_ends(world: World, offset: int) -> None:
    gref, frame = read_gref(world), world.page[0]
    fits = PAGE_SIZE - offset
    assert world.copy(
        0,
        element(Ref(1, gref, offset), Own(frame), fits),
        element(Ref(1, gref, offset), Own(frame), fits + 1),
        element(Ref(1, gref), Own(frame, offset), fits),
        element(Ref(1, gref), Own(frame, offset), fits + 1),
    ) == ["okay", "bad_copy_arg", "okay", "bad_copy_arg"]


@pytest.mark.parametrize(("offset", "length"), [(0, 4097), (4096, 1), (65535, 1), (65535, 65535)])
def test_no_range_leaves_its_page(world: World, offset: int, length: int) -> None:
    gref, frame = write_gref(world, 1), world.page[0]
    assert (
        world.copy(
            0,
            element(Ref(1, gref, offset), Own(frame), length),
            element(Own(frame, offset), Ref(1, gref), length),
            element(Own(frame), Ref(1, gref, offset), length),
            element(Own(frame, offset), Own(frame), length),
        )
        == ["bad_copy_arg"] * 4
    )
    assert_untouched(world, frame, 0x01)
    assert_untouched(world, world.page[1], 0x11)


@pytest.mark.parametrize(("source", "dest"), [(0, 10), (10, 0), (7, 7)])
def test_overlapping_ranges_of_one_page_move_as_if_through_a_buffer(
    world: World, source: int, dest: int
) -> None:
    gref = write_gref(world, 1)
    world.fill(world.page[1], PATTERN)
    expected = bytearray(PATTERN)
    expected[dest : dest + 100] = PATTERN[source : source + 100]
    assert world.copy(0, element(Ref(1, gref, source), Ref(1, gref, dest), 100)) == ["okay"]
    assert world.bytes_of(world.page[1]) == expected
    assert (world.marks(1, gref), world.pins(1)) == (0, {})


def test_a_readonly_reference_is_a_source_never_a_destination(world: World) -> None:
    gref = read_gref(world)
    assert world.copy(
        0,
        element(Own(world.page[0]), Ref(1, gref), 4),
        element(Ref(1, gref), Own(world.page[0]), 4),
    ) == ["general_error", "okay"]
    assert world.bytes_of(world.page[1]) == PATTERN


def test_references_granted_to_another_are_refused(world: World) -> None:
    gref = write_gref(world, 1, grantee=2)
    assert (
        world.copy(
            0,
            element(Ref(1, gref), Own(world.page[0]), 4),
            element(Own(world.page[0]), Ref(1, gref), 4),
        )
        == ["general_error"] * 2
    )
    assert_untouched(world, world.page[1], 0x11)


def test_references_outside_the_table_are_refused(world: World) -> None:
    for gref in (len(world.table[1]), 0x7FFF_FFFF, 0xFFFF_FFFF):
        assert (
            world.copy(
                0,
                element(Ref(1, gref), Own(world.page[0]), 4),
                element(Own(world.page[0]), Ref(1, gref), 4),
            )
            == ["bad_gntref"] * 2
        )


def test_pages_that_are_not_the_granters_are_refused(world: World) -> None:
    for frame in (world.page[2], world.page[0], 0, 512, 0xFFFF_FFFF):
        gref = world.table[1].grant_access(0, frame)
        assert (
            world.copy(
                0,
                element(Ref(1, gref), Own(world.page[0]), 4),
                element(Own(world.page[0]), Ref(1, gref), 4),
            )
            == ["bad_page"] * 2
        )
        assert (world.marks(1, gref), world.pins(1)) == (0, {})
    assert_untouched(world, world.page[2], 0x21)


def test_frames_that_are_not_ones_own_are_refused(world: World) -> None:
    gref = write_gref(world, 1)
    for frame in (world.page[2], 0, 512, 1 << 32 | world.page[0], (1 << 64) - 1):
        assert (
            world.copy(
                0,
                element(Ref(1, gref), Own(frame), 4),
                element(Own(frame), Ref(1, gref), 4),
            )
            == ["bad_page"] * 2
        )
    assert_untouched(world, world.page[1], 0x11)


def test_a_mapped_page_is_not_an_own_frame(world: World) -> None:
    """Owning counts, not reaching: Xen takes the page by its owner."""
    world.map(0, 1, write_gref(world, 1))
    assert world.copy(0, element(Own(world.page[1]), Own(world.page[0]), 4)) == ["bad_page"]


def test_version_2_frames_are_compared_in_full(v2: World) -> None:
    gref = v2.table[1].grant_access(0, v2.page[1] | 1 << 32)
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["bad_page"]


def test_offers_and_empty_entries_are_no_permission(world: World) -> None:
    offer = world.table[1].grant_transfer(0, world.page[1])
    for gref in (offer, offer + 1, 0):
        assert world.copy(0, element(Ref(1, gref), Own(world.page[0]), 4)) == ["general_error"]


def test_version_1_knows_no_sub_page_flag_in_a_copy() -> None:
    world = World()
    gref = read_gref(world)
    world.table[1].words[gref << 1] |= GTF_sub_page
    assert world.copy(0, element(Ref(1, gref, 5), Own(world.page[0]), 4)) == ["okay"]


def test_a_failing_element_moves_nothing_and_stops_nothing(world: World) -> None:
    gref, frame = read_gref(world), world.page[0]
    statuses = world.copy(
        0,
        element(Ref(1, gref), Own(frame), 8),
        element(Ref(1, gref + 1), Own(frame, 8), 8),
        element(Ref(1, gref), Own(frame, 16), 8),
    )
    assert statuses == ["okay", "general_error", "okay"]
    assert world.bytes_of(frame, 0, 24) == PATTERN[:8] + b"\x01" * 8 + PATTERN[:8]


def test_elements_run_in_order(world: World) -> None:
    gref, frame = write_gref(world, 1), world.page[0]
    statuses = world.copy(
        0,
        element(Ref(1, gref), Own(frame), 8),
        element(Own(frame), Ref(1, gref, 100), 8),
        element(Ref(1, gref, 100), Own(frame, 200), 8),
    )
    assert statuses == ["okay"] * 3
    assert world.bytes_of(frame, 200, 8) == b"\x11" * 8


def test_only_the_status_of_an_element_is_written(world: World) -> None:
    gref = read_gref(world)
    elements = [
        element(Ref(1, gref), Own(world.page[0]), 8),
        element(Ref(1, gref + 1), Own(world.page[0]), 8),
        element(Ref(1, gref), Own(world.page[0]), 0),
    ]
    table = bytearray(b"".join(elements) + b"\xaa" * COPY_SIZE)
    table[COPY_SIZE - 2 : COPY_SIZE] = b"\xbb\xbb"  # padding behind the status
    expected = bytearray(table)
    for i, status in enumerate((0, -1, 0)):
        at = i * COPY_SIZE + COPY_SIZE - 4
        expected[at : at + 2] = status.to_bytes(2, "little", signed=True)
    world.hypervisor.copy(0, memoryview(table).cast("I"), 3)
    assert table == expected


def test_undefined_flags_are_not_looked_at(world: World) -> None:
    gref = read_gref(world)
    op = element(Ref(1, gref), Own(world.page[0]), 8, extra_flags=0xFFFC)
    assert world.copy(0, op) == ["okay"]


def test_a_table_shorter_than_announced_is_refused(world: World) -> None:
    ops = memoryview(bytearray(COPY_SIZE)).cast("I")
    for count in (2, -1):
        with pytest.raises(ValueError, match=f"{count} copy elements"):
            world.hypervisor.copy(0, ops, count)


@pytest.mark.parametrize("alone", [0, 1], ids=["shared", "alone"])
@pytest.mark.parametrize("direction", ["read", "write"])
def test_the_granter_sees_the_marks_while_bytes_move(
    world: World, direction: str, alone: int
) -> None:
    """Set before the first byte moves, gone after the last."""
    table, seen = world.table[1], []
    gref = write_gref(world, 1)
    arena = world.memory.u8

    class SpyingBytes:
        def __getitem__(self, where: slice) -> memoryview:
            seen.append(world.marks(1, gref))
            return arena[where]

        def __setitem__(self, where: slice, data: memoryview) -> None:
            seen.append(world.marks(1, gref))
            arena[where] = data

    peer, own = Ref(1, gref), Own(world.page[0])
    ends = (peer, own) if direction == "read" else (own, peer)
    plain = bytearray(element(*ends, 8))
    slow = bytearray(element(*ends, 8, extra_flags=0x8000))
    for op in (plain, slow):
        failed = grant_copy(
            memoryview(op).cast("I"),
            1,
            0,
            world.hypervisor.directory.rows,
            world.memory.owner,
            SpyingBytes(),  # type: ignore[arg-type]
            world.memory.u16,
            world.memory.u32,
            alone,
        )
        assert failed == 0
        assert not table.in_use(gref)
    assert seen == [READ if direction == "read" else WRITE] * 4


@pytest.mark.parametrize("alone", [0, 1], ids=["shared", "alone"])
def test_a_copy_over_its_own_entry_leaves_what_it_wrote_without_marks(alone: int) -> None:
    """A domain may grant the page of its table; the marks that go are those of the new entry."""
    world = World((1, 1, 1))
    (table_frame,) = world.hypervisor.table_frames(1)
    gref = world.table[1].grant_access(0, table_frame)
    new = struct.pack("<HHI", 0xFFFF, 7, 0x1234)
    world.fill(world.page[0], new + bytes(PAGE_SIZE - 8))
    op = memoryview(bytearray(element(Own(world.page[0]), Ref(1, gref, 8 * gref), 8))).cast("I")
    *machine, _ = world.hypervisor.copy_args
    assert grant_copy(op, 1, 0, *machine, alone) == 0
    left = struct.pack("<HHI", 0xFFFF & ~(GTF_reading | GTF_writing), 7, 0x1234)
    assert world.bytes_of(table_frame, 8 * gref, 8) == left


def test_a_copy_leaves_the_marks_of_a_mapping(world: World) -> None:
    gref = write_gref(world, 1)
    handle = world.map(0, 1, gref, READONLY_MAP)
    ops = (
        element(Ref(1, gref), Own(world.page[0]), 8),
        element(Own(world.page[0]), Ref(1, gref), 8),
        element(Ref(1, gref), Ref(1, gref, 9), 8),
    )
    assert world.copy(0, *ops) == ["okay"] * 3
    assert (world.marks(1, gref), world.pins(1)) == (READ, {gref: GNTPIN_hstr_inc})
    world.hypervisor.unmap_grant_ref(0, handle)
    assert world.marks(1, gref) == 0


def test_a_copy_through_a_mapped_entry_uses_what_was_mapped(world: World) -> None:
    gref = read_gref(world)
    world.map(0, 1, gref, READONLY_MAP)
    table = world.table[1]
    table.words[(gref << table.shift) + table.shift] = world.new_page(1, 0x99)
    table.words[gref << table.shift] = 2 << 16 | GTF_permit_access
    assert world.copy(0, element(Ref(1, gref, 5), Own(world.page[0]), 8)) == ["okay"]
    assert world.bytes_of(world.page[0], 0, 8) == PATTERN[5:13]
    assert world.copy(2, element(Ref(1, gref), Own(world.page[2]), 8)) == ["general_error"]


def test_a_copy_writes_no_pinned_entry_that_became_readonly(world: World) -> None:
    gref = write_gref(world, 1)
    world.map(0, 1, gref, READONLY_MAP)
    world.table[1].words[gref << world.table[1].shift] |= GTF_readonly
    assert world.copy(0, element(Own(world.page[0]), Ref(1, gref), 8)) == ["general_error"]
    assert world.marks(1, gref) == READ


def test_a_copy_does_not_overflow_a_use_counter(world: World) -> None:
    gref = write_gref(world, 1)
    for _ in range(128):
        world.map(0, 1, gref, READONLY_MAP)
    assert world.copy(
        0,
        element(Ref(1, gref), Own(world.page[0]), 8),
        element(Own(world.page[0]), Ref(1, gref), 8),
    ) == ["general_error", "okay"]
    assert world.pins(1) == {gref: 128 * GNTPIN_hstr_inc}


def test_a_failed_claim_leaves_no_marks_on_either_side(world: World) -> None:
    source, dest = read_gref(world), write_gref(world)
    readonly = world.table[2].grant_access(0, world.page[2], readonly=True)
    world.copy(
        0,
        element(Ref(1, source), Ref(2, readonly), 4),
        element(Ref(1, source), Ref(2, dest, 4096), 4),
        element(Ref(1, source), Ref(2, 500), 4),
        element(Ref(1, source), Own(world.page[2]), 4),
    )
    assert [world.marks(1, source), world.marks(2, dest), world.marks(2, readonly)] == [0, 0, 0]
    assert (world.pins(1), world.pins(2)) == ({}, {})


def test_a_granted_table_page_can_be_overwritten_by_a_copy(world: World) -> None:
    """It is the guest's own page; the copy that does it still takes its own marks off."""
    table = world.table[1]
    (first,) = world.hypervisor.table_frames(1)[:1]
    gref = table.grant_access(0, first)
    world.fill(world.page[0], bytes(PAGE_SIZE))
    assert world.copy(0, element(Own(world.page[0]), Ref(1, gref), PAGE_SIZE)) == ["okay"]
    assert world.bytes_of(first) == bytes(PAGE_SIZE)
    assert (world.marks(1, gref), world.pins(1)) == (0, {})


def test_copies_and_their_bytes_are_counted(world: World) -> None:
    gref = read_gref(world)
    good = element(Ref(1, gref), Own(world.page[0]), 60)
    world.copy(0, good, element(Ref(1, 99), Own(world.page[0]), 7), good)
    world.copy(0, element(Own(world.page[0]), Own(world.page[0], 100), 11))
    statistics = world.hypervisor.statistics
    assert (statistics.copies, statistics.copied_bytes) == (3, 131)
    assert [world.hypervisor.copied_bytes(domid) for domid in (0, 1)] == [131, 0]


def test_the_byte_count_goes_on_beyond_32_bits(world: World) -> None:
    gref, rows = read_gref(world), world.hypervisor.directory.rows
    rows[6] = 0xFFFF_FFFF
    world.copy(0, element(Ref(1, gref), Own(world.page[0]), 60))
    assert world.hypervisor.copied_bytes(0) == 0xFFFF_FFFF + 60
    assert world.hypervisor.statistics.copied_bytes == 60
