"""Version 2's own kinds of grants: parts of pages, and references behind references."""

from __future__ import annotations

import pytest
from gnttab_world import READ, READONLY_MAP, Own, Ref, World, element

from xennet.abi.grant_table import GTF_permit_access, GTF_sub_page, GTF_transitive
from xennet.abi.xen import PAGE_SIZE


@pytest.mark.parametrize(
    ("offset", "length", "status"),
    [
        (100, 60, "okay"),
        (100, 61, "general_error"),
        (99, 60, "general_error"),
        (99, 1, "general_error"),
        (159, 1, "okay"),
        (160, 1, "general_error"),
        (130, 30, "okay"),
        (130, 31, "general_error"),
        (0, 4096, "general_error"),
        (0, 4097, "bad_copy_arg"),
    ],
)
def test_only_the_granted_bytes_can_be_copied(
    v2: World, offset: int, length: int, status: str
) -> None:
    gref = v2.table[1].grant_sub_page(0, v2.page[1], 100, 60)
    own = v2.new_page(0)
    assert v2.copy(0, element(Ref(1, gref, offset), Own(own), length)) == [status]
    assert v2.copy(0, element(Own(own), Ref(1, gref, offset), length)) == [status]
    assert (v2.marks(1, gref), v2.pins(1)) == (0, {})


def test_a_part_that_leaves_its_page_grants_no_byte_beyond_it(v2: World) -> None:
    """The guest writes the bounds: 16-bit numbers that may say anything."""
    table = v2.table[1]
    gref = table.grant_sub_page(0, v2.page[1], 4000, 96)
    table.words[(gref << 2) + 1] = 4000 | 0xFFFF << 16
    assert v2.copy(
        0,
        element(Ref(1, gref, 4000), Own(v2.page[0]), 96),
        element(Ref(1, gref, 4000), Own(v2.page[0]), 97),
        element(Ref(1, gref, 5000), Own(v2.page[0]), 1),
    ) == ["okay", "bad_copy_arg", "bad_copy_arg"]


def test_a_readonly_part_is_never_written(v2: World) -> None:
    gref = v2.table[1].grant_sub_page(0, v2.page[1], 0, 100, readonly=True)
    assert v2.copy(0, element(Own(v2.page[0]), Ref(1, gref), 4)) == ["general_error"]


def test_a_mapped_page_turned_sub_page_stays_whole_until_unmapped(v2: World) -> None:
    table = v2.table[1]
    gref = table.grant_access(0, v2.page[1])
    handle = v2.map(0, 1, gref, READONLY_MAP)
    table.words[(gref << 2) + 1] = 100 | 60 << 16
    table.words[gref << 2] |= GTF_sub_page
    whole = element(Ref(1, gref, 0), Own(v2.page[0]), PAGE_SIZE)
    assert v2.copy(0, whole) == ["okay"]
    v2.hypervisor.unmap_grant_ref(0, handle)
    assert v2.copy(0, whole) == ["general_error"]


def chain(world: World, behind_readonly: bool = False, readonly: bool = False) -> tuple[int, int]:
    """Domain 2 grants its page to 1, which grants it on to 0: (1's gref, 2's gref)."""
    behind = world.table[2].grant_access(1, world.page[2], readonly=behind_readonly)
    return world.table[1].grant_transitive(0, 2, behind, readonly=readonly), behind


def test_a_transitive_grant_reaches_the_page_behind_it(v2: World) -> None:
    gref, behind = chain(v2)
    assert v2.copy(0, element(Ref(1, gref, 3), Own(v2.page[0]), 60)) == ["okay"]
    assert v2.bytes_of(v2.page[0], 0, 60) == b"\x21" * 60
    assert v2.copy(0, element(Own(v2.page[0], 100), Ref(1, gref), 10)) == ["okay"]
    assert v2.bytes_of(v2.page[2], 0, 11) == b"\x01" * 10 + b"\x21"
    assert (v2.marks(1, gref), v2.marks(2, behind)) == (0, 0)
    assert (v2.pins(1), v2.pins(2)) == ({}, {})


def test_the_reference_behind_may_be_in_a_version_1_table() -> None:
    world = World((1, 2, 1))
    gref, behind = chain(world)
    assert world.copy(0, element(Ref(1, gref), Own(world.page[0]), 60)) == ["okay"]
    assert world.marks(2, behind) == 0


def test_the_page_behind_may_be_the_callers_own(v2: World) -> None:
    behind = v2.table[0].grant_access(1, v2.page[0])
    gref = v2.table[1].grant_transitive(0, 0, behind)
    other = v2.new_page(0)
    assert v2.copy(0, element(Ref(1, gref), Own(other), 4)) == ["okay"]
    assert v2.bytes_of(other, 0, 4) == b"\x01" * 4


@pytest.mark.parametrize(("behind_readonly", "readonly"), [(True, False), (False, True)])
def test_one_readonly_link_makes_the_chain_readonly(
    v2: World, behind_readonly: bool, readonly: bool
) -> None:
    gref, behind = chain(v2, behind_readonly, readonly)
    assert v2.copy(
        0,
        element(Own(v2.page[0]), Ref(1, gref), 4),
        element(Ref(1, gref), Own(v2.page[0]), 4),
    ) == ["general_error", "okay"]
    assert (v2.marks(1, gref), v2.marks(2, behind)) == (0, 0)


def test_a_part_behind_a_transitive_grant_stays_a_part(v2: World) -> None:
    behind = v2.table[2].grant_sub_page(1, v2.page[2], 100, 60)
    gref = v2.table[1].grant_transitive(0, 2, behind)
    assert v2.copy(
        0,
        element(Ref(1, gref, 100), Own(v2.page[0]), 60),
        element(Ref(1, gref, 99), Own(v2.page[0]), 60),
    ) == ["okay", "general_error"]


def test_transitive_grants_go_one_step_only(v2: World) -> None:
    gref, _ = chain(v2)
    further = v2.table[0].grant_transitive(2, 1, gref)
    assert v2.copy(2, element(Ref(0, further), Own(v2.page[2]), 4)) == ["general_error"]
    assert (v2.marks(0, further), v2.marks(1, gref)) == (0, 0)


def test_an_entry_that_has_become_transitive_is_not_behind_another_even_while_it_is_mapped(
    v2: World,
) -> None:
    behind = v2.table[2].grant_access(1, v2.page[2])
    gref = v2.table[1].grant_transitive(0, 2, behind)
    handle = v2.map(1, 2, behind, READONLY_MAP)
    v2.table[2].words[behind << 2] |= GTF_transitive
    copy = element(Ref(1, gref), Own(v2.page[0]), 4)
    assert v2.copy(0, copy) == ["general_error"]
    assert (v2.marks(1, gref), v2.marks(2, behind)) == (0, READ)
    assert v2.hypervisor.unmap_grant_ref(1, handle) == 0


def test_a_transitive_grant_must_not_lead_back_to_its_granter(v2: World) -> None:
    behind = v2.table[1].grant_access(1, v2.page[1])
    gref = v2.table[1].grant_transitive(0, 1, behind)
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["general_error"]


@pytest.mark.parametrize(
    ("trans_domid", "trans_gref", "status"),
    [
        (9, 8, "general_error"),
        (0x7FF0, 8, "general_error"),
        (2, 10**6, "bad_gntref"),
        (2, 200, "general_error"),
    ],
)
def test_what_is_wrong_behind_is_what_the_copy_reports(
    v2: World, trans_domid: int, trans_gref: int, status: str
) -> None:
    gref = v2.table[1].grant_transitive(0, trans_domid, trans_gref)
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == [status]
    assert (v2.marks(1, gref), v2.pins(1)) == (0, {})


def test_the_granter_must_be_the_grantee_of_what_it_passes_on(v2: World) -> None:
    behind = v2.table[2].grant_access(0, v2.page[2])
    gref = v2.table[1].grant_transitive(0, 2, behind)
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["general_error"]


def test_a_transitive_grant_is_for_its_grantee(v2: World) -> None:
    gref, _ = chain(v2)
    assert v2.copy(2, element(Ref(1, gref), Own(v2.page[2]), 4)) == ["general_error"]


def test_a_transitive_grant_is_both_ends_of_one_copy(v2: World) -> None:
    gref, behind = chain(v2)
    v2.fill(v2.page[2], b"abcd")
    assert v2.copy(0, element(Ref(1, gref), Ref(1, gref, 100), 4)) == ["okay"]
    assert v2.bytes_of(v2.page[2], 100, 4) == b"abcd"
    assert (v2.marks(1, gref), v2.marks(2, behind)) == (0, 0)
    assert (v2.pins(1), v2.pins(2)) == ({}, {})


def test_a_mapped_entry_turned_transitive_must_be_tried_again(v2: World) -> None:
    """The pin says one page, the entry another: Xen gives up on the element."""
    table = v2.table[1]
    gref = table.grant_access(0, v2.page[1])
    v2.map(0, 1, gref, READONLY_MAP)
    behind = v2.table[2].grant_access(1, v2.page[2])
    table.words[(gref << 2) + 1] = 2
    table.words[(gref << 2) + 2] = behind
    table.words[gref << 2] = 0 << 16 | GTF_transitive
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["eagain"]
    assert (v2.marks(1, gref), v2.marks(2, behind), v2.pins(2)) == (READ, 0, {})


def test_a_mapped_page_never_becomes_the_page_behind_its_own_entry(v2: World) -> None:
    """Even when frame and bounds agree: the pin was a page of the granter's own."""
    table, frame = v2.table[1], v2.page[1]
    gref = table.grant_access(0, frame)
    v2.map(0, 1, gref, READONLY_MAP)
    v2.memory.reassign(1, frame, 2)
    behind = v2.table[2].grant_access(1, frame)
    table.words[(gref << 2) + 1] = 2
    table.words[(gref << 2) + 2] = behind
    table.words[gref << 2] = 0 << 16 | GTF_transitive
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["eagain"]


def test_the_type_of_transitive_grants_does_not_exist_in_version_1() -> None:
    world = World()
    gref = world.table[1].grant_access(0, world.page[1])
    world.table[1].words[gref << 1] |= GTF_transitive
    assert world.copy(0, element(Ref(1, gref), Own(world.page[0]), 4)) == ["general_error"]
    assert world.marks(1, gref) == 0


def test_a_mapping_of_the_reference_behind_is_counted_with_the_copies(v2: World) -> None:
    gref, behind = chain(v2)
    handle = v2.map(1, 2, behind, READONLY_MAP)
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["okay"]
    assert v2.marks(2, behind) == READ
    v2.hypervisor.unmap_grant_ref(1, handle)
    assert v2.marks(2, behind) == 0


def test_permit_access_is_not_transitive(v2: World) -> None:
    gref, _ = chain(v2)
    v2.table[1].words[gref << 2] = 0 << 16 | GTF_permit_access
    # Now the word that named a reference is a frame number, of nobody's page.
    assert v2.copy(0, element(Ref(1, gref), Own(v2.page[0]), 4)) == ["bad_page"]
