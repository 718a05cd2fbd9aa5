"""GNTTABOP_map_grant_ref and GNTTABOP_unmap_grant_ref: pins, marks, refusals."""

from __future__ import annotations

import pytest
from gnttab_world import READ, READONLY_MAP, WRITE, World

from xennet.abi.grant_table import (
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_handle,
    GTF_permit_access,
    GTF_readonly,
    GTF_sub_page,
)
from xennet.gnttab.entry import (
    GNTPIN_devr_inc,
    GNTPIN_devw_inc,
    GNTPIN_hstr_inc,
    GNTPIN_hstw_inc,
)
from xennet.gnttab.hypercalls import Grant, Mapping
from xennet.memory import MemoryAccessError

BOTH = GNTMAP_device_map | GNTMAP_host_map


@pytest.fixture
def gref(world: World) -> int:
    """Domain 1 grants its page to domain 2."""
    return world.table[1].grant_access(2, world.page[1])


def test_a_mapped_page_is_the_granters_page(world: World, gref: int) -> None:
    status, handle, frame = world.hypervisor.map_grant_ref(2, 1, gref, GNTMAP_host_map)
    assert (status, frame) == (0, world.page[1])
    world.spaces[2].write(frame, 7, b"hello")
    assert world.spaces[1].read(world.page[1], 7, 5) == b"hello"
    assert world.hypervisor.unmap_grant_ref(2, handle) == 0
    with pytest.raises(MemoryAccessError):
        world.spaces[2].read(frame)


def test_a_readonly_mapping_cannot_be_written(world: World, gref: int) -> None:
    world.map(2, 1, gref, READONLY_MAP)
    frame = world.page[1]
    assert world.spaces[2].read(frame, 0, 2) == b"\x11\x11"
    with pytest.raises(MemoryAccessError, match="read-only"):
        world.spaces[2].write(frame, 0, b"x")
    with pytest.raises(TypeError):
        world.spaces[2].run(frame).u32[0] = 1


def test_a_readonly_grant_maps_readonly_only(world: World) -> None:
    gref = world.table[1].grant_access(2, world.page[1], readonly=True)
    assert world.map_status(2, 1, gref) == "general_error"
    assert world.marks(1, gref) == 0
    world.map(2, 1, gref, READONLY_MAP)
    assert world.marks(1, gref) == READ
    assert world.map_status(2, 1, gref) == "general_error"
    assert world.marks(1, gref) == READ


@pytest.mark.parametrize(
    ("flags", "pin"),
    [
        (GNTMAP_host_map, GNTPIN_hstw_inc),
        (GNTMAP_host_map | GNTMAP_readonly, GNTPIN_hstr_inc),
        (GNTMAP_device_map, GNTPIN_devw_inc),
        (GNTMAP_device_map | GNTMAP_readonly, GNTPIN_devr_inc),
        (BOTH, GNTPIN_devw_inc + GNTPIN_hstw_inc),
        (BOTH | GNTMAP_readonly, GNTPIN_devr_inc + GNTPIN_hstr_inc),
    ],
)
def test_device_and_host_mappings_are_counted_apart(
    world: World, gref: int, flags: int, pin: int
) -> None:
    handles = [world.map(2, 1, gref, flags) for _ in range(3)]
    assert world.pins(1) == {gref: 3 * pin}
    assert world.marks(1, gref) == (READ if flags & GNTMAP_readonly else WRITE)
    for handle in handles:
        assert world.marks(1, gref)
        assert world.hypervisor.unmap_grant_ref(2, handle) == 0
    assert (world.pins(1), world.marks(1, gref)) == ({}, 0)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 3, 1, 0)])
@pytest.mark.parametrize("first", [BOTH, GNTMAP_device_map])
def test_marks_follow_whatever_mappings_are_left(
    world: World, gref: int, order: tuple[int, ...], first: int
) -> None:
    flags = [first, GNTMAP_device_map | GNTMAP_readonly, GNTMAP_host_map, READONLY_MAP]
    handles = [world.map(2, 1, gref, flag) for flag in flags]
    left = dict(zip(handles, flags, strict=True))
    for index in order:
        world.hypervisor.unmap_grant_ref(2, handles[index])
        del left[handles[index]]
        writers = [flag for flag in left.values() if not flag & GNTMAP_readonly]
        assert world.marks(1, gref) == (WRITE if writers else READ if left else 0)


@pytest.mark.parametrize("flags", [0, GNTMAP_readonly, GNTMAP_contains_pte])
def test_a_mapping_for_nobody_is_refused(world: World, gref: int, flags: int) -> None:
    assert world.map_status(2, 1, gref, flags) == "bad_gntref"


@pytest.mark.parametrize("flag", [GNTMAP_application_map, GNTMAP_contains_pte])
def test_page_table_games_are_refused(world: World, gref: int, flag: int) -> None:
    assert world.map_status(2, 1, gref, GNTMAP_host_map | flag) == "general_error"


@pytest.mark.parametrize("domid", [3, 9, 0x7FF0, 0x7FF1, 0xFFFF, -1])
def test_unknown_domains_are_refused(world: World, gref: int, domid: int) -> None:
    assert world.map_status(2, domid, gref) == "bad_domain"


@pytest.mark.parametrize("beyond", [0, 1, 0xFFFF_0000])
def test_references_beyond_the_table_are_refused(world: World, beyond: int) -> None:
    assert world.map_status(2, 1, len(world.table[1]) + beyond) == "bad_gntref"


def test_a_grant_for_another_domain_is_refused(world: World, gref: int) -> None:
    assert world.map_status(0, 1, gref) == "general_error"
    assert world.marks(1, gref) == 0


def test_an_invalid_entry_is_refused(world: World) -> None:
    assert world.map_status(2, 1, 8) == "general_error"


def test_an_offer_of_a_transfer_is_no_permission_to_map(world: World) -> None:
    assert world.map_status(2, 1, world.table[1].grant_transfer(2)) == "general_error"


def test_a_page_that_the_granter_does_not_own_is_refused(world: World) -> None:
    for frame in (world.page[0], 511, 512, 0xFFFF_FFFF):
        gref = world.table[1].grant_access(2, frame)
        assert world.map_status(2, 1, gref) == "bad_page"
        assert (world.marks(1, gref), world.pins(1)) == (0, {})


def test_version_2_frames_are_compared_in_full(v2: World) -> None:
    gref = v2.table[1].grant_access(2, v2.page[1] | 1 << 32)
    assert v2.map_status(2, 1, gref) == "bad_page"


def test_sub_page_grants_are_copied_never_mapped(world: World, gref: int) -> None:
    world.table[1].words[gref << world.table[1].shift] |= GTF_sub_page
    assert world.map_status(2, 1, gref, READONLY_MAP) == "general_error"


def test_transitive_grants_are_never_mapped(v2: World) -> None:
    behind = v2.table[1].grant_access(0, v2.page[1])
    gref = v2.table[0].grant_transitive(2, 1, behind)
    assert v2.map_status(2, 0, gref, READONLY_MAP) == "general_error"


def test_a_domain_may_map_a_grant_to_itself(world: World) -> None:
    gref = world.table[1].grant_access(1, world.page[1])
    handle = world.map(1, 1, gref)
    assert world.marks(1, gref) == WRITE
    assert world.hypervisor.unmap_grant_ref(1, handle) == 0
    assert world.spaces[1].read(world.page[1], 0, 1) == b"\x11"


def test_one_page_granted_twice_has_two_lives(world: World, gref: int) -> None:
    other = world.table[1].grant_access(2, world.page[1])
    first, second = world.map(2, 1, gref), world.map(2, 1, other)
    world.hypervisor.unmap_grant_ref(2, first)
    assert (world.marks(1, gref), world.marks(1, other)) == (0, WRITE)
    assert world.spaces[2].read(world.page[1], 0, 1) == b"\x11"
    world.hypervisor.unmap_grant_ref(2, second)


def test_a_pinned_entry_means_what_it_meant_whatever_the_guest_writes(
    world: World, gref: int
) -> None:
    """XSA-226 and -255 in spirit: decisions come from the active entry, not from shared memory."""
    table = world.table[1]
    handle = world.map(2, 1, gref)
    entry = gref << table.shift
    table.words[entry] = 0 << 16 | GTF_permit_access
    table.words[entry + table.shift] = world.new_page(1, 0x99)
    assert world.map_status(0, 1, gref) == "general_error"
    again = world.hypervisor.map_grant_ref(2, 1, gref, GNTMAP_host_map)
    assert again[2] == world.page[1]
    for one in (handle, again[1]):
        assert world.hypervisor.unmap_grant_ref(2, one) == 0
    assert (world.pins(1), world.marks(1, gref)) == ({}, 0)
    world.map(0, 1, gref)


def test_a_grant_made_readonly_while_mapped_gives_no_further_writers(
    world: World, gref: int
) -> None:
    world.map(2, 1, gref, READONLY_MAP)
    table = world.table[1]
    table.words[gref << table.shift] |= GTF_readonly
    assert world.map_status(2, 1, gref) == "general_error"
    world.map(2, 1, gref, READONLY_MAP)


@pytest.mark.parametrize("flags", [GNTMAP_host_map, READONLY_MAP, BOTH])
def test_a_use_counter_never_overflows(world: World, gref: int, flags: int) -> None:
    """XSA-224 in spirit: 128 uses of a kind are the most; the rest of the pin is not touched."""
    handles = [world.map(2, 1, gref, flags) for _ in range(128)]
    before = world.pins(1)
    assert world.map_status(2, 1, gref, flags) == "general_error"
    assert world.pins(1) == before
    other_kind = GNTMAP_device_map if flags == READONLY_MAP else READONLY_MAP
    handles.append(world.map(2, 1, gref, other_kind))
    for handle in handles:
        assert world.hypervisor.unmap_grant_ref(2, handle) == 0
    assert (world.pins(1), world.marks(1, gref)) == ({}, 0)


@pytest.mark.parametrize("handle", [0, 1, -1, 0xFFFF_FFFF])
def test_handles_that_are_nobodys_are_refused(world: World, handle: int) -> None:
    assert world.hypervisor.unmap_grant_ref(2, handle) == GNTST_bad_handle


def test_a_handle_is_good_once_and_for_its_domain_only(world: World, gref: int) -> None:
    handle = world.map(2, 1, gref)
    assert world.hypervisor.unmap_grant_ref(0, handle) == GNTST_bad_handle
    assert world.hypervisor.unmap_grant_ref(1, handle) == GNTST_bad_handle
    assert world.hypervisor.unmap_grant_ref(2, handle) == 0
    assert world.hypervisor.unmap_grant_ref(2, handle) == GNTST_bad_handle


def test_handles_are_reused(world: World, gref: int) -> None:
    first, second = world.map(2, 1, gref), world.map(2, 1, gref)
    assert first != second
    world.hypervisor.unmap_grant_ref(2, first)
    assert world.map(2, 1, gref) == first


def test_mappings_of_a_domain_are_bounded(world: World, gref: int) -> None:
    world.hypervisor.max_maptrack = 2
    handle = world.map(2, 1, gref)
    world.map(2, 1, gref)
    assert world.map_status(2, 1, gref) == "no_device_space"
    assert world.pins(1) == {gref: 2 * GNTPIN_hstw_inc}
    world.hypervisor.unmap_grant_ref(2, handle)
    world.map(2, 1, gref)


def test_mappings_and_pins_can_be_listed(world: World, gref: int) -> None:
    assert world.hypervisor.mappings(2) == []
    handle = world.map(2, 1, gref, READONLY_MAP)
    frame = world.page[1]
    assert world.hypervisor.mappings(2) == [Mapping(handle, 1, gref, frame, READONLY_MAP)]
    entry = Grant(gref, 2, frame, GTF_permit_access | READ, GNTPIN_hstr_inc)
    assert world.hypervisor.pinned(1) == [entry]
    unused = world.table[1].grant_access(0, 5, readonly=True)
    other = Grant(unused, 0, 5, GTF_permit_access | GTF_readonly, 0)
    assert world.hypervisor.granted(1) == [entry, other]
    world.table[1].words[gref << world.table[1].shift] = 0
    assert [grant.gref for grant in world.hypervisor.granted(1)] == [gref, unused]


def test_statistics_count_mappings_made_and_left(world: World, gref: int) -> None:
    handles = [world.map(2, 1, gref) for _ in range(3)]
    world.hypervisor.unmap_grant_ref(2, handles[1])
    world.map_status(0, 1, gref)
    statistics = world.hypervisor.statistics
    assert (statistics.mapped, statistics.maps) == (2, 3)


CHECKS_IN_ORDER = [
    # what is wrong: flags, domid, reference; the status that wins
    (0, 9, 10**6, "bad_gntref"),
    (GNTMAP_host_map | GNTMAP_contains_pte, 9, 10**6, "general_error"),
    (GNTMAP_host_map, 9, 10**6, "bad_domain"),
    (GNTMAP_host_map, 1, 10**6, "bad_gntref"),
]


@pytest.mark.parametrize(("flags", "domid", "gref", "status"), CHECKS_IN_ORDER)
def test_the_first_failing_check_of_a_map_decides(
    world: World, flags: int, domid: int, gref: int, status: str
) -> None:
    assert world.map_status(2, domid, gref, flags) == status


def test_out_of_handles_comes_after_the_domain_and_before_the_reference(world: World) -> None:
    world.hypervisor.max_maptrack = 0
    assert world.map_status(2, 9, 10**6) == "bad_domain"
    assert world.map_status(2, 1, 10**6) == "no_device_space"


def test_a_wrong_grantee_wins_over_readonly_and_readonly_over_a_bad_page(world: World) -> None:
    gref = world.table[1].grant_access(2, world.page[0], readonly=True)
    assert world.map_status(0, 1, gref) == "general_error"
    assert world.map_status(2, 1, gref) == "general_error"
    assert world.map_status(2, 1, gref, READONLY_MAP) == "bad_page"
