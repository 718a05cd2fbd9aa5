"""The table itself: how long it is, which version, who may ask; and what observers are told."""

from __future__ import annotations

import errno

import pytest
from gnttab_world import READ, READONLY_MAP, WRITE, Own, Ref, World, element, status_name

from xennet.abi.grant_table import (
    GNTMAP_host_map,
    GNTST_bad_domain,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GTF_permit_access,
    GTF_transitive,
)
from xennet.abi.xen import DOMID_SELF, DOMID_XEN, PAGE_SIZE
from xennet.gnttab.directory import NR_DOMIDS, DomainDirectory
from xennet.gnttab.hypercalls import GrantTables
from xennet.interface import OutOfFramesError
from xennet.memory import AddressSpace, Memory

DENIED, NO_DOMAIN = GNTST_permission_denied, GNTST_bad_domain


def test_a_new_table_has_one_frame_of_invalid_entries(world: World) -> None:
    assert world.hypervisor.query_size(1, DOMID_SELF) == (GNTST_okay, 1, 4)
    assert world.hypervisor.granted(1) == []


def test_setup_table_grows_the_table_and_names_consecutive_frames(world: World) -> None:
    one = world.hypervisor.setup_table(1, DOMID_SELF, 1)[1]
    status, frames = world.hypervisor.setup_table(1, DOMID_SELF, 3)
    assert (status, frames) == (GNTST_okay, list(range(one[0], one[0] + 3)))
    assert world.hypervisor.query_size(1, DOMID_SELF) == (GNTST_okay, 3, 4)
    for frame in frames:
        assert world.memory.owner[frame] == 1


def test_setup_table_never_shrinks_and_names_as_many_as_asked(world: World) -> None:
    world.hypervisor.setup_table(1, DOMID_SELF, 3)
    status, frames = world.hypervisor.setup_table(1, DOMID_SELF, 2)
    assert (status, len(frames)) == (GNTST_okay, 2)
    assert world.hypervisor.setup_table(1, DOMID_SELF, 0) == (GNTST_okay, [])
    assert world.hypervisor.query_size(1, DOMID_SELF)[1] == 3


def test_setup_table_is_bounded(world: World) -> None:
    assert world.hypervisor.setup_table(1, DOMID_SELF, 5) == (GNTST_general_error, [])
    assert world.hypervisor.query_size(1, DOMID_SELF)[1] == 1
    assert world.hypervisor.setup_table(1, DOMID_SELF, 4)[0] == GNTST_okay


def test_the_grown_part_is_empty_and_the_old_part_kept(world: World) -> None:
    gref = world.table[1].grant_access(2, world.page[1])
    world.hypervisor.setup_table(1, DOMID_SELF, 4)
    assert [grant.gref for grant in world.hypervisor.granted(1)] == [gref]
    world.map(2, 1, gref)


def test_references_of_the_grown_part_are_good_at_once(world: World) -> None:
    first = len(world.table[1])
    assert world.map_status(2, 1, first) == "bad_gntref"
    world.hypervisor.setup_table(1, DOMID_SELF, 2)
    assert world.map_status(2, 1, first) == "general_error"
    assert world.map_status(2, 1, 2 * first) == "bad_gntref"


def test_the_unused_part_of_the_table_is_out_of_reach(world: World) -> None:
    (frame,) = world.hypervisor.setup_table(1, DOMID_SELF, 1)[1]
    assert world.memory.owner[frame + 1] == DOMID_XEN
    gref = world.table[1].grant_access(0, frame + 1)
    assert world.copy(0, element(Ref(1, gref), Own(world.page[0]), 4)) == ["bad_page"]


def test_active_entries_are_out_of_reach(world: World) -> None:
    for frame in range(world.memory.nr_frames):
        if world.memory.owner[frame] == DOMID_XEN:
            assert not any(world.spaces[domid].can_access(frame) for domid in range(3))


@pytest.mark.parametrize(
    ("caller", "dom", "status"),
    [
        (1, DOMID_SELF, GNTST_okay),
        (1, 1, GNTST_okay),
        (0, 1, GNTST_okay),
        (1, 0, DENIED),
        (1, 2, DENIED),
        (1, 9, NO_DOMAIN),
        (0, 0x7FF1, NO_DOMAIN),
        (0, 0xFFFF, NO_DOMAIN),
    ],
)
def test_only_domain_0_looks_at_other_domains_tables(
    world: World, caller: int, dom: int, status: int
) -> None:
    hypervisor = world.hypervisor
    assert hypervisor.query_size(caller, dom)[0] == status
    assert hypervisor.setup_table(caller, dom, 1)[0] == status
    assert hypervisor.get_status_frames(caller, dom, 0)[0] == status
    version = {GNTST_okay: world.table[1].version, DENIED: -errno.EPERM, NO_DOMAIN: -errno.ESRCH}
    assert hypervisor.get_version(caller, dom) == version[status]


def test_who_asks_comes_before_what_is_asked(world: World) -> None:
    assert world.hypervisor.setup_table(1, 2, 99)[0] == DENIED
    assert world.hypervisor.setup_table(1, 9, 99)[0] == NO_DOMAIN


def test_status_frames_exist_in_version_2_only() -> None:
    world = World((1, 2))
    assert world.hypervisor.get_status_frames(0, DOMID_SELF, 0) == (GNTST_okay, [])
    assert world.hypervisor.get_status_frames(0, DOMID_SELF, 1) == (GNTST_general_error, [])
    status, frames = world.hypervisor.get_status_frames(1, DOMID_SELF, 1)
    assert (status, world.memory.owner[frames[0]]) == (GNTST_okay, 1)
    assert world.hypervisor.get_status_frames(1, DOMID_SELF, 2)[0] == GNTST_general_error


def test_status_frames_grow_with_the_table() -> None:
    """2048 status words a frame: one for every 8 frames of version 2 entries."""
    world = World((2,), max_frames=17)
    for nr_frames, nr_status in ((8, 1), (9, 2), (16, 2), (17, 3)):
        world.hypervisor.setup_table(0, DOMID_SELF, nr_frames)
        status, frames = world.hypervisor.get_status_frames(0, DOMID_SELF, nr_status)
        assert (status, len(frames)) == (GNTST_okay, nr_status)
        assert all(world.memory.owner[frame] == 0 for frame in frames)
        beyond = world.hypervisor.get_status_frames(0, DOMID_SELF, nr_status + 1)
        assert beyond[0] == GNTST_general_error


def test_the_last_reference_of_the_longest_table_works() -> None:
    for version in (1, 2):
        world = World((1, version), max_frames=9)
        shared, status = world.views(1, 9)
        gref = shared.count * (512 if version == 1 else 256) - 1
        entry = gref << version
        shared.u32[entry + version] = world.page[1]
        shared.u32[entry] = 0 << 16 | GTF_permit_access
        world.map(0, 1, gref)
        marks = shared.u16[gref << 2] if status is None else status.u16[gref]
        assert marks & WRITE == WRITE
        assert world.copy(0, element(Ref(1, gref), Own(world.page[0]), 4)) == ["okay"]


@pytest.mark.parametrize("version", [0, 3, -1])
def test_there_is_no_other_version(world: World, version: int) -> None:
    assert world.hypervisor.set_version(1, version) == -errno.EINVAL
    with pytest.raises(ValueError, match="version"):
        world.hypervisor.create(5, version)


def test_setting_the_same_version_again_changes_nothing(world: World) -> None:
    table = world.table[1]
    gref = table.grant_access(2, world.page[1])
    world.map(2, 1, gref)
    assert world.hypervisor.set_version(1, table.version) == 0
    assert [grant.gref for grant in world.hypervisor.granted(1)] == [gref]


def test_a_change_of_version_clears_all_but_the_reserved_entries(world: World) -> None:
    old = world.table[1]
    for gref in (0, 1, 7, 8, 9):
        old.words[(gref << old.shift) + old.shift] = world.page[1]
        old.words[gref << old.shift] = 2 << 16 | GTF_permit_access
    assert world.hypervisor.set_version(1, 3 - old.version) == 0
    assert world.hypervisor.get_version(1, DOMID_SELF) == 3 - old.version
    grants = world.hypervisor.granted(1)
    assert [(grant.gref, grant.domid, grant.frame) for grant in grants] == [
        (gref, 2, world.page[1]) for gref in (0, 1, 7)
    ]
    assert world.map_status(2, 1, 8) == "general_error"
    world.map(2, 1, 7)


def test_marks_of_reserved_entries_move_with_the_version(world: World) -> None:
    old = world.table[1]
    for gref in (0, 1):
        old.words[(gref << old.shift) + old.shift] = world.page[1]
        old.words[gref << old.shift] = 2 << 16 | GTF_permit_access
    handle = world.map(2, 1, 0)
    world.map(2, 1, 1, READONLY_MAP)
    assert world.hypervisor.set_version(1, 3 - old.version) == 0
    world.table[1] = world.guest_table(1)
    assert (world.marks(1, 0), world.marks(1, 1)) == (WRITE, READ)
    assert world.hypervisor.unmap_grant_ref(2, handle) == 0
    assert world.marks(1, 0) == 0


def test_the_version_stays_while_a_reference_is_in_use(world: World) -> None:
    table = world.table[1]
    handle = world.map(2, 1, table.grant_access(2, world.page[1]), READONLY_MAP)
    assert world.hypervisor.set_version(1, 3 - table.version) == -errno.EBUSY
    assert world.hypervisor.get_version(1, DOMID_SELF) == table.version
    world.hypervisor.unmap_grant_ref(2, handle)
    assert world.hypervisor.set_version(1, 3 - table.version) == 0


def test_a_reserved_entry_that_version_1_cannot_say_keeps_version_2(v2: World) -> None:
    words = v2.table[1].words
    words[3 << 2] = GTF_transitive
    assert v2.hypervisor.set_version(1, 1) == -errno.ERANGE
    words[(3 << 2) + 3] = 1
    words[3 << 2] = GTF_permit_access
    assert v2.hypervisor.set_version(1, 1) == -errno.ERANGE
    words[3 << 2] = 0
    assert v2.hypervisor.set_version(1, 1) == 0


def test_mapped_status_frames_keep_version_2(v2: World) -> None:
    """XSA-379, -384 in spirit: status pages are not freed under somebody's mapping."""
    (frame,) = v2.hypervisor.get_status_frames(1, DOMID_SELF, 1)[1]
    words = v2.table[1].words
    words[2] = frame
    words[0] = 2 << 16 | GTF_permit_access  # a reserved reference: does not keep it by itself
    handle = v2.map(2, 1, 0)
    assert v2.hypervisor.set_version(1, 1) == -errno.EBUSY
    v2.hypervisor.unmap_grant_ref(2, handle)
    assert v2.hypervisor.set_version(1, 1) == 0
    assert v2.memory.owner[frame] == DOMID_XEN


def test_going_back_and_forth_between_versions_leaks_nothing() -> None:
    world = World((1,))
    assert world.hypervisor.set_version(0, 2) == 0
    used = world.memory.used
    for version in (1, 2, 1, 2):
        world.hypervisor.setup_table(0, DOMID_SELF, 4)
        assert world.hypervisor.set_version(0, version) == 0
    status_frames = world.hypervisor.get_status_frames(0, DOMID_SELF, 1)[1]
    assert world.bytes_of(status_frames[0]) == bytes(PAGE_SIZE)
    assert world.memory.used == used


def test_no_memory_for_status_words_keeps_version_1() -> None:
    world = World((1,))
    while world.memory.used < world.memory.nr_frames:
        world.memory.alloc(0)
    assert world.hypervisor.set_version(0, 2) == -errno.ENOMEM
    assert world.hypervisor.get_version(0, DOMID_SELF) == 1


def test_two_entries_are_swapped(world: World) -> None:
    table = world.table[1]
    a = table.grant_access(2, world.page[1])
    b = table.grant_access(0, world.page[1], readonly=True)
    assert world.hypervisor.swap_grant_ref(1, a, b) == GNTST_okay
    assert world.map_status(2, 1, a) == "general_error"
    world.map(2, 1, b)
    world.map(0, 1, a, READONLY_MAP)


def test_references_in_use_are_not_swapped(world: World) -> None:
    table = world.table[1]
    a, b = table.grant_access(2, world.page[1]), table.grant_access(0, world.page[1])
    handle = world.map(2, 1, a)
    for refs in ((a, b), (b, a)):
        assert status_name(world.hypervisor.swap_grant_ref(1, *refs)) == "eagain"
    assert status_name(world.hypervisor.swap_grant_ref(1, a, a)) == "okay"
    world.hypervisor.unmap_grant_ref(2, handle)
    assert world.hypervisor.swap_grant_ref(1, a, b) == GNTST_okay


def test_references_outside_the_table_are_not_swapped(world: World) -> None:
    end = len(world.table[1])
    for refs in ((8, end), (end, 8), (end, end), (-1, 8)):
        assert status_name(world.hypervisor.swap_grant_ref(1, *refs)) == "bad_gntref"


def test_status_words_are_swapped_with_their_entries(v2: World) -> None:
    v2.table[1].status[8], v2.table[1].status[9] = 3, 5
    v2.hypervisor.swap_grant_ref(1, 8, 9)
    assert list(v2.table[1].status[8:10]) == [5, 3]


def test_a_domid_has_one_table(world: World) -> None:
    for domid in (1, -1, NR_DOMIDS, 0x7FF0):
        with pytest.raises(ValueError, match=f"domain {domid}"):
            world.hypervisor.create(domid)


@pytest.mark.parametrize("nr_frames", [4, 12, 13])
def test_a_table_that_does_not_fit_the_arena_leaves_nothing_behind(nr_frames: int) -> None:
    memory, directory = Memory(nr_frames), DomainDirectory()
    tables = GrantTables(memory, directory, 5, spaces=lambda domid: AddressSpace(memory, domid))
    with pytest.raises(OutOfFramesError):
        tables.create(1, 2)
    assert (memory.used, directory.row(1)) == (0, -1)


def test_a_table_has_at_least_one_frame() -> None:
    memory = Memory(1)
    with pytest.raises(ValueError, match="at least one frame"):
        GrantTables(memory, DomainDirectory(), 0, spaces=lambda d: AddressSpace(memory, d))


def test_observers_are_told_every_operation_with_its_result(world: World) -> None:
    told: list[tuple[int, str, tuple[object, ...], object]] = []
    world.hypervisor.observer = lambda *operation: told.append(operation)
    table = world.table[1]
    gref, offer = table.grant_access(2, world.page[1]), table.grant_transfer(0)
    own = world.new_page(0)
    (frame,) = world.hypervisor.setup_table(1, DOMID_SELF, 1)[1]
    handle = world.map(2, 1, gref)
    world.hypervisor.unmap_grant_ref(2, handle)
    op = element(Ref(1, gref), Own(world.page[2]), 4)
    world.copy(2, op)
    world.hypervisor.transfer(0, own, 1, offer)
    world.hypervisor.query_size(1, 2)
    world.hypervisor.get_version(0, 9)
    world.hypervisor.get_status_frames(1, 9, 1)
    world.hypervisor.set_version(1, 7)
    world.hypervisor.swap_grant_ref(1, 8, 8)
    done = op[:-4] + bytes(4)
    assert told == [
        (1, "GNTTABOP_setup_table", (DOMID_SELF, 1), (0, [frame])),
        (2, "GNTTABOP_map_grant_ref", (1, gref, GNTMAP_host_map), (0, handle, world.page[1])),
        (2, "GNTTABOP_unmap_grant_ref", (handle,), 0),
        (2, "GNTTABOP_copy", (1, done), 0),
        (0, "GNTTABOP_transfer", (own, 1, offer), 0),
        (1, "GNTTABOP_query_size", (2,), (DENIED, 0, 0)),
        (0, "GNTTABOP_get_version", (9,), -errno.ESRCH),
        (1, "GNTTABOP_get_status_frames", (9, 1), (NO_DOMAIN, [])),
        (1, "GNTTABOP_set_version", (7,), -errno.EINVAL),
        (1, "GNTTABOP_swap_grant_ref", (8, 8), 0),
    ]


def test_a_copy_that_is_observed_says_what_it_copied_and_how_that_went() -> None:
    world = World()
    told: list[tuple[object, ...]] = []
    world.hypervisor.observer = lambda *operation: told.append(operation)
    gref = world.table[1].grant_access(2, world.page[1])
    own = world.page[2]
    world.copy(2, element(Ref(1, gref), Own(own), 4), element(Own(own), Ref(1, 60000), 9))
    ((_, _, (count, table), failed),) = told
    assert (count, failed) == (2, 1)
    assert repr(table) == (
        f"<CopyTable 4 bytes from reference {gref} of domain 1 at 0 to frame {own:#x} at 0: "
        f"GNTST_okay; 9 bytes from frame {own:#x} at 0 to reference 60000 of domain 1 at 0: "
        "GNTST_bad_gntref>"
    )
    assert repr(type(table)(table * 5)).endswith("; and 2 more>")
