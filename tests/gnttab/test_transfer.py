"""GNTTABOP_transfer: an offer, a commitment, a page that changed hands."""

from __future__ import annotations

import pytest
from gnttab_world import World, status_name

from xennet.abi.grant_table import (
    GNTST_eagain,
    GTF_accept_transfer,
    GTF_readonly,
    GTF_transfer_committed,
    GTF_transfer_completed,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import LOAD, Access, Adversary
from xennet.engine.choice import using
from xennet.interface import HypercallError
from xennet.memory import FREE, MemoryAccessError


def transfer(world: World, frame: int, dom: int, ref: int, caller: int = 0) -> str:
    return status_name(world.hypervisor.transfer(caller, frame, dom, ref))


def test_a_page_changes_hands_with_its_contents(world: World) -> None:
    frame = world.new_page(0, 0x77)
    gref = world.table[1].grant_transfer(0)
    assert transfer(world, frame, 1, gref) == "okay"
    assert world.spaces[1].read(frame) == b"\x77" * PAGE_SIZE
    with pytest.raises(MemoryAccessError):
        world.spaces[0].read(frame)


@pytest.mark.parametrize("version", [1, 2])
def test_an_offer_goes_from_accepted_through_committed_to_completed(version: int) -> None:
    adversary = Adversary()
    with using(adversary):
        world = World((version, version))
    table, frame = world.table[1], world.new_page(0)
    gref = table.grant_transfer(0)
    seen: list[int] = []

    def look(access: Access) -> None:
        if access.kind != LOAD:
            seen.append(table.words[gref << table.shift] & 0xFFFF)

    with adversary.watching(look):
        assert transfer(world, frame, 1, gref) == "okay"
    committed = GTF_accept_transfer | GTF_transfer_committed
    assert seen[0] == committed
    assert set(seen[:-1]) == {committed}  # while the frame number is written
    assert len(seen) == 2 + version
    assert seen[-1] == committed | GTF_transfer_completed
    assert table.end_transfer(gref) == frame


def test_the_receiver_learns_the_frame_number(world: World) -> None:
    gref = world.table[1].grant_transfer(0, frame=0xFFFF_FFFF)
    frame = world.new_page(0)
    transfer(world, frame, 1, gref)
    assert world.table[1].end_transfer(gref) == frame
    assert world.table[1].held == 0


def test_an_offer_that_nobody_took_is_taken_back(world: World) -> None:
    gref = world.table[1].grant_transfer(0)
    assert world.table[1].end_transfer(gref) is None
    assert transfer(world, world.new_page(0), 1, gref) == "general_error"


def test_an_offer_cannot_be_taken_back_while_a_page_is_on_its_way(world: World) -> None:
    table = world.table[1]
    gref = table.grant_transfer(0)
    table.words[gref << table.shift] |= GTF_transfer_committed
    with pytest.raises(HypercallError) as refusal:
        table.end_transfer(gref)
    assert refusal.value.status == GNTST_eagain
    assert table.held == 1


def test_an_access_grant_is_no_offer(world: World) -> None:
    gref = world.table[1].grant_access(0, world.page[1])
    with pytest.raises(ValueError, match="offers no transfer"):
        world.table[1].end_transfer(gref)
    assert transfer(world, world.new_page(0), 1, gref) == "general_error"


def test_an_offer_is_used_once(world: World) -> None:
    gref = world.table[1].grant_transfer(0)
    assert transfer(world, world.new_page(0), 1, gref) == "okay"
    assert transfer(world, world.new_page(0), 1, gref) == "general_error"


@pytest.mark.parametrize("flags", [GTF_readonly, 8, 16, 0x100, 0x8000])
def test_an_offer_has_no_other_flags(world: World, flags: int) -> None:
    gref = world.table[1].grant_transfer(0)
    world.table[1].words[gref << world.table[1].shift] |= flags
    assert transfer(world, world.new_page(0), 1, gref) == "general_error"


def test_an_offer_is_for_one_domain(world: World) -> None:
    gref = world.table[1].grant_transfer(2)
    assert transfer(world, world.new_page(0), 1, gref) == "general_error"


@pytest.mark.parametrize("refusal", ["bad_domain", "beyond table", "no offer", "dying"])
def test_a_refused_page_is_gone_all_the_same(world: World, refusal: str) -> None:
    """xen/grant_table.h: it no longer belongs to the caller unless the error is bad_page."""
    frame = world.new_page(0, 0x77)
    dom, ref = (9, 8) if refusal == "bad_domain" else (1, world.table[1].grant_transfer(0))
    if refusal == "beyond table":
        ref = 10**6
    if refusal == "no offer":
        world.table[1].end_transfer(ref)
    if refusal == "dying":
        world.hypervisor.begin_dying(1)
    expected = "bad_domain" if refusal == "bad_domain" else "general_error"
    assert transfer(world, frame, dom, ref) == expected
    assert world.memory.owner[frame] == FREE
    assert world.bytes_of(frame) == bytes(PAGE_SIZE)


@pytest.mark.parametrize("frame", [-1, 0, 512, 1 << 40])
def test_a_page_that_is_not_ones_own_is_not_transferred(world: World, frame: int) -> None:
    assert transfer(world, frame, 9, 0) == "bad_page"


def test_another_domains_page_is_not_transferred(world: World) -> None:
    gref = world.table[1].grant_transfer(0)
    assert transfer(world, world.page[2], 1, gref) == "bad_page"
    assert world.memory.owner[world.page[2]] == 2


def test_a_mapped_page_is_not_transferred(world: World) -> None:
    """Xen steal_page wants to hold the only reference (XSA-218 in spirit: no stale mappings)."""
    handle = world.map(2, 0, world.table[0].grant_access(2, world.page[0]))
    gref = world.table[1].grant_transfer(0)
    assert transfer(world, world.page[0], 1, gref) == "bad_page"
    world.hypervisor.unmap_grant_ref(2, handle)
    assert transfer(world, world.page[0], 1, gref) == "okay"


def test_a_page_of_the_table_is_not_transferred(world: World) -> None:
    gref = world.table[1].grant_transfer(0)
    for frame in world.hypervisor.table_frames(0):
        assert transfer(world, frame, 1, gref) == "bad_page"


def test_grants_of_a_transferred_page_are_void(world: World) -> None:
    gref = world.table[0].grant_access(2, world.page[0])
    offer = world.table[1].grant_transfer(0)
    assert transfer(world, world.page[0], 1, offer) == "okay"
    assert world.map_status(2, 0, gref) == "bad_page"
