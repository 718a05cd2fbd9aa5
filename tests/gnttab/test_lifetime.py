"""The end of a domain, on either side of a mapping."""

from __future__ import annotations

from gnttab_world import READONLY_MAP, WRITE, Own, Ref, World, element

from xennet.abi.grant_table import GNTST_okay
from xennet.abi.xen import DOMID_SELF
from xennet.gnttab.directory import ALIVE, DYING, NONE


def test_a_domain_without_users_is_gone_at_once(world: World) -> None:
    world.table[1].grant_access(2, world.page[1])
    before = world.memory.used
    frames = world.hypervisor.table_frames(1)
    assert world.hypervisor.destroy(1)
    assert world.memory.used < before
    assert all(world.memory.owner[frame] != 1 for frame in frames)
    assert world.hypervisor.directory.state(1) == NONE
    assert world.map_status(2, 1, 8) == "bad_domain"
    assert world.copy(2, element(Ref(1, 8), Own(world.page[2]), 4)) == ["bad_domain"]


def test_all_memory_comes_back(world: World) -> None:
    for domid in range(3):
        world.memory.free(domid, world.page[domid])
        world.hypervisor.setup_table(domid, DOMID_SELF, 3)
        assert world.hypervisor.destroy(domid)
    assert world.memory.used == 1


def test_a_dying_mapper_unmaps_everything(world: World) -> None:
    table = world.table[1]
    grefs = [table.grant_access(2, world.page[1]) for _ in range(3)]
    for gref in grefs:
        world.map(2, 1, gref)
        world.map(2, 1, gref, READONLY_MAP)
    assert world.hypervisor.destroy(2)
    assert world.pins(1) == {}
    assert all(table.end_access(gref) for gref in grefs)
    assert world.hypervisor.statistics.mapped == 0
    assert not world.spaces[2].mapped


def test_a_dying_granter_stays_until_its_last_page_is_unmapped(world: World) -> None:
    gref = world.table[1].grant_access(2, world.page[1])
    handles = [world.map(2, 1, gref), world.map(2, 1, gref, READONLY_MAP)]
    assert not world.hypervisor.destroy(1)
    assert world.hypervisor.directory.state(1) == DYING
    assert [grant.frame for grant in world.hypervisor.pinned(1)] == [world.page[1]]
    assert world.spaces[2].read(world.page[1], 0, 1) == b"\x11"
    assert world.hypervisor.unmap_grant_ref(2, handles[0]) == GNTST_okay
    assert world.hypervisor.directory.state(1) == DYING
    assert world.hypervisor.unmap_grant_ref(2, handles[1]) == GNTST_okay
    assert world.hypervisor.directory.state(1) == NONE


def test_destroying_a_dying_domain_again_changes_nothing(world: World) -> None:
    handle = world.map(2, 1, world.table[1].grant_access(2, world.page[1]))
    assert not world.hypervisor.destroy(1)
    assert not world.hypervisor.destroy(1)
    world.hypervisor.unmap_grant_ref(2, handle)


def test_domains_that_map_each_other_both_go(world: World) -> None:
    world.map(2, 1, world.table[1].grant_access(2, world.page[1]))
    world.map(1, 2, world.table[2].grant_access(1, world.page[2]))
    assert not world.hypervisor.destroy(1)
    assert world.pins(2) == {}
    assert world.hypervisor.destroy(2)
    assert [world.hypervisor.directory.state(domid) for domid in range(3)] == [ALIVE, NONE, NONE]


def test_a_domain_that_maps_itself_goes(world: World) -> None:
    world.map(1, 1, world.table[1].grant_access(1, world.page[1]))
    assert world.hypervisor.destroy(1)
    assert world.hypervisor.statistics.mapped == 0


def test_a_granter_whose_table_page_is_mapped_keeps_it_until_unmapped(world: World) -> None:
    frame = world.hypervisor.table_frames(1)[0]
    gref = world.table[1].grant_access(2, frame)
    handle = world.map(2, 1, gref)
    assert not world.hypervisor.destroy(1)
    assert world.memory.owner[frame] == 1
    assert world.spaces[2].read(frame, 0, 4) is not None
    world.hypervisor.unmap_grant_ref(2, handle)
    assert world.hypervisor.directory.state(1) == NONE
    assert not world.spaces[2].can_access(frame)


def test_a_page_that_its_granter_lost_while_mapped_gives_no_new_access(world: World) -> None:
    """The mapping stays; neither a further one nor a copy follows the stale entry."""
    gref = world.table[1].grant_access(2, world.page[1])
    handle = world.map(2, 1, gref)
    world.memory.reassign(1, world.page[1], 0)
    assert world.map_status(2, 1, gref, READONLY_MAP) == "general_error"
    assert world.copy(
        2,
        element(Ref(1, gref), Own(world.page[2]), 4),
        element(Own(world.page[2]), Ref(1, gref), 4),
    ) == ["bad_domain", "bad_domain"]
    assert world.marks(1, gref) == WRITE
    assert world.hypervisor.unmap_grant_ref(2, handle) == GNTST_okay
    assert (world.marks(1, gref), world.pins(1)) == (0, {})


def test_a_new_domain_with_an_old_number_starts_empty(world: World) -> None:
    world.table[1].grant_access(2, world.page[1])
    world.copy(1, element(Own(world.page[1]), Own(world.page[1], 100), 4))
    world.hypervisor.setup_table(1, DOMID_SELF, 4)
    world.hypervisor.destroy(1)
    world.hypervisor.create(1)
    assert world.hypervisor.query_size(1, DOMID_SELF) == (GNTST_okay, 1, 4)
    assert world.hypervisor.granted(1) == []
    assert world.hypervisor.copied_bytes(1) == 0


def test_frames_know_how_often_they_are_mapped(world: World) -> None:
    released: list[int] = []
    world.hypervisor.released = released.append
    grefs = [world.table[1].grant_access(domid, world.page[1]) for domid in (0, 2)]
    handle = world.map(0, 1, grefs[0])
    world.map(2, 1, grefs[1])
    assert world.hypervisor.frame_mappings(world.page[1]) == 2
    world.hypervisor.unmap_grant_ref(0, handle)
    assert (world.hypervisor.frame_mappings(world.page[1]), released) == (1, [])
    world.hypervisor.destroy(2)
    assert (world.hypervisor.frame_mappings(world.page[1]), released) == (0, [world.page[1]])
