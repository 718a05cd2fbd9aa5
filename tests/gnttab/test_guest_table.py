"""The granting side: claiming references, introducing entries and taking them back."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from gnttab_world import READ, READONLY_MAP, WRITE, World
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.grant_table import (
    GRANT_ENTRY_V1,
    GRANT_ENTRY_V2_FULL,
    GRANT_ENTRY_V2_SUB,
    GRANT_ENTRY_V2_TRANSITIVE,
    GNTST_no_space,
    GTF_permit_access,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
)
from xennet.gnttab.table import GrantTable
from xennet.interface import GuestGrants, HypercallError

ENTRY = {1: GRANT_ENTRY_V1, 2: GRANT_ENTRY_V2_FULL}


def entry_bytes(table: GrantTable, gref: int) -> bytes:
    size = ENTRY[table.version].size
    return bytes(table.words.cast("B")[gref * size : (gref + 1) * size])


def last_field(table: GrantTable, gref: int) -> tuple[int, ...]:
    """(flags, domid, frame)."""
    fields = ENTRY[table.version].unpack_from(entry_bytes(table, gref))
    return fields[0], fields[1], fields[-1]


def test_is_what_drivers_expect(world: World) -> None:
    grants: GuestGrants = world.table[1]
    gref = grants.grant_access(2, 77)
    entry = gref << grants.shift
    assert grants.words[entry] == 2 << 16 | GTF_permit_access
    assert grants.words[entry + grants.shift] == 77
    world.map_status(0, 1, gref)
    assert grants.status[gref << grants.status_shift] & WRITE == 0


def test_a_grant_is_an_entry_with_type_grantee_and_frame(world: World) -> None:
    table = world.table[1]
    gref = table.grant_access(2, 0x1234)
    assert last_field(table, gref) == (GTF_permit_access, 2, 0x1234)


def test_a_readonly_grant_says_so(world: World) -> None:
    table = world.table[1]
    gref = table.grant_access(2, 0x1234, readonly=True)
    assert last_field(table, gref) == (GTF_permit_access | GTF_readonly, 2, 0x1234)


def test_version_2_frame_numbers_have_64_bits(v2: World) -> None:
    gref = v2.table[1].grant_access(2, 0x1_2345_6789)
    assert last_field(v2.table[1], gref) == (GTF_permit_access, 2, 0x1_2345_6789)


def test_version_1_frame_numbers_have_32_bits() -> None:
    table = World().table[1]
    with pytest.raises(ValueError, match="0x100000000"):
        table.grant_access(2, 1 << 32)
    assert table.held == 0


def test_a_sub_page_grant_names_its_bytes(v2: World) -> None:
    gref = v2.table[1].grant_sub_page(2, 99, 100, 60, readonly=True)
    fields = GRANT_ENTRY_V2_SUB.unpack_from(entry_bytes(v2.table[1], gref))
    assert fields == (GTF_permit_access | GTF_sub_page | GTF_readonly, 2, 100, 60, 99)


def test_a_transitive_grant_names_the_reference_behind_it(v2: World) -> None:
    gref = v2.table[1].grant_transitive(2, 0, 0x4321)
    fields = GRANT_ENTRY_V2_TRANSITIVE.unpack_from(entry_bytes(v2.table[1], gref))
    assert fields == (GTF_transitive, 2, 0, 0, 0x4321)


def test_an_entry_is_complete_before_its_flags_appear(world: World) -> None:
    table, stores = world.table[1], []

    class Spy:
        def __setitem__(self, word: int, value: int) -> None:
            stores.append(word)

    table._words = Spy()  # type: ignore[assignment]
    gref = table.grant_access(2, 5)
    assert stores[-1] == gref << table.shift
    assert sorted(stores) == list(range(stores[-1], stores[-1] + (1 << table.shift)))


def test_an_entry_keeps_nothing_of_the_one_before(v2: World) -> None:
    table = v2.table[1]
    assert table.end_access(table.grant_sub_page(2, 0x1_0000_0005, 100, 60))
    gref = table.grant_access(2, 5)
    assert GRANT_ENTRY_V2_SUB.unpack_from(entry_bytes(table, gref))[2:] == (0, 0, 5)


@pytest.mark.parametrize("kind", ["grant_sub_page", "grant_transitive"])
def test_version_1_has_no_sub_page_and_no_transitive_grants(kind: str) -> None:
    table = World().table[1]
    with pytest.raises(ValueError, match="version 2"):
        getattr(table, kind)(2, 0, 0, 0)
    assert table.held == 0


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (-1, 5), (4095, 2), (0, 4097)])
def test_a_sub_page_grant_lies_inside_a_page(v2: World, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="part of one page"):
        v2.table[1].grant_sub_page(2, 5, offset, length)


def test_reserved_references_are_never_handed_out(world: World) -> None:
    table = world.table[1]
    grefs = table.claim(len(table) - 8)
    assert sorted(grefs) == list(range(8, len(table)))
    assert len(table) == (512 if table.version == 1 else 256)


def test_references_are_reused_last_in_first_out(world: World) -> None:
    table = world.table[1]
    first, second, third = (table.grant_access(2, 5) for _ in range(3))
    table.end_access(first)
    table.end_access(third)
    assert [table.grant_access(2, 5) for _ in range(2)] == [third, first]
    assert second not in (first, third)


def test_an_exhausted_table_refuses_and_keeps_what_it_has(world: World) -> None:
    table = world.table[1]
    table.claim(len(table) - 8 - 3)
    with pytest.raises(HypercallError) as refusal:
        table.claim(4)
    assert refusal.value.status == GNTST_no_space
    assert len(table.claim(3)) == 3


def test_an_exhausted_table_grows_when_it_can(world: World) -> None:
    table = world.guest_table(1, grow=lambda frames: world.views(1, frames))
    one_frame = len(table)
    table.claim(one_frame - 8)
    gref = table.grant_access(2, world.page[1])
    assert gref == one_frame
    assert len(table) == 2 * one_frame
    assert world.map(2, 1, gref) == 0


def test_a_table_that_did_not_grow_enough_says_so(world: World) -> None:
    table = world.guest_table(1, grow=lambda frames: world.views(1, 2))
    with pytest.raises(HypercallError, match="wanted"):
        table.claim(2 * len(table))


def test_a_grant_that_is_not_used_ends(world: World) -> None:
    table = world.table[1]
    gref = table.grant_access(2, world.page[1])
    assert table.end_access(gref)
    assert table.words[gref << table.shift] == 0
    assert world.map_status(2, 1, gref) == "general_error"


@pytest.mark.parametrize("flags", [READONLY_MAP, READONLY_MAP & ~4])
def test_access_does_not_end_and_nothing_changes_while_it_is_mapped(
    world: World, flags: int
) -> None:
    table = world.table[1]
    gref = table.grant_access(2, world.page[1])
    handle = world.map(2, 1, gref, flags)
    before = entry_bytes(table, gref)
    assert not table.end_access(gref)
    assert (entry_bytes(table, gref), table.held) == (before, 1)
    world.hypervisor.unmap_grant_ref(2, handle)
    assert table.end_access(gref)


def test_ending_many_is_ending_one_after_the_other(world: World) -> None:
    one, many = world.table[1], world.table[2]
    for table, domid in ((one, 1), (many, 2)):
        grefs = [table.grant_access(0, world.new_page(domid)) for _ in range(4)]
        grefs += table.claim(2)  # not introduced
        world.map(0, domid, grefs[1])
    kept = [gref for gref in grefs if not one.end_access(gref)]
    assert list(many.end_all(grefs)) == kept == [grefs[1]]
    assert [entry_bytes(one, gref)[:2] for gref in grefs] == [
        entry_bytes(many, gref)[:2] for gref in grefs
    ]
    assert (one.held, one.made) == (many.held, many.made)
    assert one.claim(6) == many.claim(6)
    held = many.held
    with pytest.raises(ValueError, match="not claimed"):
        many.end_all([grefs[1], grefs[2], 500, grefs[3]])
    assert many.held == held - 1


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("case", ["all ended", "one in use", "one not claimed", "one twice"])
def test_many_in_a_row_end_as_if_one_after_the_other(world: World, step: int, case: str) -> None:
    outcomes = []
    for domid in (1, 2):
        table = world.table[domid]
        grefs = array(
            "I", [table.grant_access(0, world.new_page(domid)) for _ in range(20)][::step]
        )
        if case == "one in use":
            world.map(0, domid, grefs[7])
        elif case == "one not claimed":
            table.end_access(grefs[7])
        elif case == "one twice":
            grefs[7] = grefs[6]
        kept: list[int] = []
        refusal = ""
        try:
            if domid == 1:
                kept = list(table.end_all(grefs))
            else:
                kept = [gref for gref in grefs if not table.end_access(gref)]
        except ValueError as error:
            refusal = str(error)
        entries = [last_field(table, gref)[:2] for gref in range(8, 30)]
        again = list(table.claim(table.made - table.held))
        outcomes.append((kept, refusal, entries, table.held, again))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("step", [1, -1])
def test_many_in_a_row_beyond_the_end_of_the_table_are_not_claimed(world: World, step: int) -> None:
    table = world.table[1]
    end = len(table)
    last = list(table.claim(end - table.made - 8))[-5:]
    grefs = array("I", range(last[0], end + 5)[::step])
    with pytest.raises(
        ValueError, match=f"reference {end if step > 0 else end + 4} is not claimed"
    ):
        table.end_all(grefs)
    assert table.held == table.made - (5 if step > 0 else 0)


def test_many_with_references_that_no_table_has_are_not_claimed(world: World) -> None:
    table = world.table[1]
    grefs = array("I", [2**32 - 4, *table.claim(8), 2**32 - 1])
    with pytest.raises(ValueError, match=f"reference {2**32 - 4} is not claimed"):
        table.end_all(grefs)
    assert table.held == 8


@pytest.mark.parametrize("first", [-3, 2**32 - 4])
def test_many_in_a_row_that_are_no_32_bit_numbers_are_not_claimed(world: World, first: int) -> None:
    table = world.table[1]
    table.claim(8)
    with pytest.raises(ValueError, match=f"reference {first} is not claimed"):
        table.end_all(list(range(first, first + 12)))
    assert table.held == 8


def test_frames_of_entries_stay_when_many_accesses_end(world: World) -> None:
    table = world.table[1]
    grefs = array("I", [table.grant_access(2, 100 + i) for i in range(20)])
    assert not table.end_all(grefs)
    assert [last_field(table, gref) for gref in grefs] == [(0, 0, 100 + i) for i in range(20)]


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("kind", [list, tuple, bytes, partial(array, "I"), partial(array, "L")])
def test_ended_references_may_be_any_sequence(
    world: World, kind: Callable[[list[int]], Sequence[int]], count: int
) -> None:
    table = world.table[1]
    grefs = [table.grant_access(2, 5) for _ in range(count)]
    assert not table.end_all(kind(grefs))
    assert (table.held, list(table.claim(count))) == (0, grefs[::-1])


def test_counters_tell_references_held_from_references_made(world: World) -> None:
    table = world.table[1]
    grefs = table.claim(5)
    table.release(grefs[:2])
    table.end_access(table.grant_access(2, 5))
    assert (table.held, table.made) == (3, 6)


def test_releasing_twice_is_refused(world: World) -> None:
    (gref,) = world.table[1].claim(1)
    world.table[1].release([gref])
    with pytest.raises(ValueError, match="not claimed"):
        world.table[1].release([gref])


def test_releasing_a_grant_that_still_stands_is_refused(world: World) -> None:
    gref = world.table[1].grant_access(2, 5)
    with pytest.raises(ValueError, match="still grants access"):
        world.table[1].release([gref])


@pytest.mark.parametrize("gref", [0, 7, 8, 100000, -1])
def test_ending_what_was_never_granted_is_refused(world: World, gref: int) -> None:
    with pytest.raises(ValueError, match="not claimed"):
        world.table[1].end_access(gref)


def test_claiming_less_than_nothing_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="-1"):
        world.table[1].claim(-1)


def test_a_domain_id_is_16_bits_long(world: World) -> None:
    with pytest.raises(ValueError, match="65536"):
        world.table[1].grant_access(65536, 5)
    assert world.table[1].held == 0


def test_status_frames_go_with_version_2_only(v2: World) -> None:
    shared, status = v2.views(1, 1)
    with pytest.raises(ValueError, match="status frames"):
        GrantTable(shared, 1, status)
    with pytest.raises(ValueError, match="status frames"):
        GrantTable(shared, 2)
    with pytest.raises(ValueError, match="version 3"):
        GrantTable(shared, 3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=40))
def test_no_reference_is_claimed_twice(steps: list[tuple[bool, int]]) -> None:
    table = World((1,)).table[0]
    held: list[int] = []
    for claim, count in steps:
        if claim:
            grefs = list(table.claim(count))
            assert len(set(grefs)) == count
            assert not set(grefs) & set(held)
            assert all(8 <= gref < len(table) for gref in grefs)
            held += grefs
        else:
            table.release(held[:count])
            del held[:count]
        assert table.held == len(held)


def test_marks_show_reading_and_writing(world: World) -> None:
    gref = world.table[1].grant_access(2, world.page[1])
    assert not world.table[1].in_use(gref)
    reading = world.map(2, 1, gref, READONLY_MAP)
    assert (world.marks(1, gref), world.table[1].in_use(gref)) == (READ, True)
    writing = world.map(2, 1, gref)
    assert world.marks(1, gref) == WRITE
    world.hypervisor.unmap_grant_ref(2, writing)
    assert world.marks(1, gref) == READ
    world.hypervisor.unmap_grant_ref(2, reading)
    assert world.marks(1, gref) == 0
