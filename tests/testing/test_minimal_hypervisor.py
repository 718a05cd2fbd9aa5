"""The minimal hypervisor that other tests stand on: does it keep the interface's promises?"""

from __future__ import annotations

import pytest

from xennet.abi.grant_table import GNTTAB_COPY_BY_FLAGS
from xennet.abi.xen import DOMID_SELF
from xennet.interface import HypercallError
from xennet.testing.minimal_hypervisor import MinimalMachine

SELF = DOMID_SELF


@pytest.fixture
def machine():
    return MinimalMachine()


@pytest.fixture
def pair(machine):
    return machine.domain(0), machine.domain(1)


def copy(hv, flags, source, dest, length):
    """One grant copy; ``source`` and ``dest`` are (gref or frame, domid, offset). The status."""
    table = bytearray(GNTTAB_COPY_BY_FLAGS[flags].pack(*source, *dest, length, flags, 99))
    hv.grant_copy(memoryview(table).cast("I"), 1)
    return GNTTAB_COPY_BY_FLAGS[flags].read(table).status


def test_pages_are_consecutive_zeroed_and_of_one_memory(machine):
    pages = machine.domain(1).alloc_pages(3)
    assert (pages.count, len(pages.u8), len(pages.u64)) == (3, 12288, 1536)
    pages.u32[1024] = 0x01020304
    assert machine.frames[pages.first + 1].bytes_of(pages.first + 1)[0] == 4


def test_a_page_can_be_freed_by_its_owner_only(pair):
    back, front = pair
    pages = front.alloc_pages(1)
    with pytest.raises(ValueError, match="not one of domain 0's"):
        back.free_pages(pages)
    front.free_pages(pages)


def test_a_copy_moves_bytes_both_ways(pair):
    back, front = pair
    mine, theirs = back.alloc_pages(1), front.alloc_pages(1)
    theirs.u8[100:105] = b"hello"
    gref = front.grants.grant_access(0, theirs.first)
    assert copy(back, 1, (gref, 1, 100), (mine.first, SELF, 7), 5) == 0
    assert bytes(mine.u8[7:12]) == b"hello"
    assert copy(back, 2, (mine.first, SELF, 7), (gref, 1, 0), 5) == 0
    assert bytes(theirs.u8[:5]) == b"hello"


@pytest.mark.parametrize(
    ("source", "length", "status"),
    [
        (("good", 1, 0), 0, 0),
        ((99999, 1, 0), 0, 0),  # nothing to copy: nothing is looked at
        ((99999, 1, 0), 1, -3),
        ((9, 1, 0), 1, -1),
        (("good", 7, 0), 1, -2),
        (("good", 1, 4000), 97, -10),
        (("others", 1, 0), 1, -1),
    ],
)
def test_a_copy_that_cannot_be_says_why(machine, pair, source, length, status):
    back, front = pair
    machine.domain(2)
    page = front.alloc_pages(1).first
    grefs = {
        "good": front.grants.grant_access(0, page),
        "others": front.grants.grant_access(2, page),
    }
    where, domid, offset = source
    mine = back.alloc_pages(1)
    assert copy(
        back, 1, (grefs.get(where, where), domid, offset), (mine.first, SELF, 0), length
    ) == (status)


def test_a_readonly_grant_can_be_read_and_not_written(pair):
    back, front = pair
    mine = back.alloc_pages(1)
    gref = front.grants.grant_access(0, front.alloc_pages(1).first, readonly=True)
    assert copy(back, 1, (gref, 1, 0), (mine.first, SELF, 0), 8) == 0
    assert copy(back, 2, (mine.first, SELF, 0), (gref, 1, 0), 8) == -1


def test_a_frame_of_another_domain_cannot_be_named(pair):
    back, front = pair
    theirs, mine = front.alloc_pages(1), back.alloc_pages(1)
    assert copy(back, 0, (theirs.first, SELF, 0), (mine.first, SELF, 0), 8) == -9
    assert copy(back, 0, (theirs.first, 1, 0), (mine.first, SELF, 0), 8) == -8


def test_a_grant_of_a_page_one_does_not_own_is_worth_nothing(pair):
    back, front = pair
    gref = front.grants.grant_access(0, back.alloc_pages(1).first)
    with pytest.raises(HypercallError) as refusal:
        back.map_grant(1, gref)
    assert refusal.value.status == -9


def test_a_mapped_grant_is_the_same_memory_and_cannot_be_revoked(pair):
    back, front = pair
    page = front.alloc_pages(1)
    gref = front.grants.grant_access(0, page.first)
    mapping = back.map_grant(1, gref)
    page.u32[5] = 77
    assert mapping.page.u32[5] == 77
    assert not front.grants.end_access(gref)
    back.unmap_grant(mapping)
    assert front.grants.end_access(gref)
    with pytest.raises(ValueError):
        mapping.page.u32[5]


def test_two_mappings_of_one_grant_hold_it_until_the_last_goes(pair):
    back, front = pair
    gref = front.grants.grant_access(0, front.alloc_pages(1).first)
    first, second = back.map_grant(1, gref), back.map_grant(1, gref, readonly=True)
    back.unmap_grant(first)
    assert not front.grants.end_access(gref)
    back.unmap_grant(second)
    assert front.grants.end_access(gref)
    with pytest.raises(HypercallError):
        back.unmap_grant(second)


def test_references_come_back_and_run_out(pair):
    grants = pair[1].grants
    every = grants.claim(2040)
    assert min(every) == 8
    with pytest.raises(HypercallError):
        grants.claim(1)
    grants.release(every[:3])
    assert sorted(grants.claim(3)) == sorted(every[:3])


def test_an_event_before_there_is_a_handler_is_not_lost(machine, pair):
    back, front = pair
    heard = []
    theirs = front.alloc_unbound(0)
    front.notify(theirs)  # nobody there yet: silently lost
    mine = back.bind_interdomain(1, theirs)
    back.notify(mine)
    machine.run()
    front.on_event(theirs, lambda: heard.append("front"))
    back.on_event(mine, lambda: heard.append("back"))  # pending since it was bound
    machine.run()
    assert heard == ["front", "back"]


def test_events_merge_until_they_are_delivered(machine, pair):
    back, front = pair
    heard = []
    theirs = front.alloc_unbound(0)
    mine = back.bind_interdomain(1, theirs)
    front.on_event(theirs, lambda: heard.append(1))
    for _ in range(3):
        back.notify(mine)
    machine.run()
    assert heard == [1]


def test_a_port_can_be_bound_by_the_named_domain_once(machine, pair):
    back, front = pair
    port = front.alloc_unbound(0)
    with pytest.raises(HypercallError):
        machine.domain(2).bind_interdomain(1, port)
    back.bind_interdomain(1, port)
    with pytest.raises(HypercallError):
        back.bind_interdomain(1, port)


def test_a_closed_port_leaves_the_other_end_unbound(machine, pair):
    back, front = pair
    theirs = front.alloc_unbound(0)
    mine = back.bind_interdomain(1, theirs)
    back.close_port(mine)
    front.notify(theirs)
    with pytest.raises(HypercallError):
        back.notify(mine)
    assert back.bind_interdomain(1, theirs) == mine


def test_the_store_makes_parents_lists_children_and_removes_trees(pair):
    store = pair[1].store
    store.write("device/vif/0/state", 4)
    store.mkdir("device/vif/1")
    assert store.read("/local/domain/1/device/vif/0/state") == b"4"
    assert sorted(store.directory("device/vif")) == ["0", "1"]
    store.rm("device")
    with pytest.raises(Exception, match="ENOENT"):
        store.read("device/vif/0/state")


def test_watches_fire_once_at_first_then_for_everything_below(machine, pair):
    store, seen = pair[1].store, []
    store.watch("device", "token", lambda path, token: seen.append((path, token)))
    pair[0].store.write("/local/domain/1/device/vif/0/state", 1)
    pair[0].store.rm("/local/domain/1/device")
    machine.run()
    assert seen == [("device", "token"), ("device/vif/0/state", "token"), ("device", "token")]
    store.unwatch("device", "token")
    store.write("device/x", "")
    machine.run()
    assert len(seen) == 3


def test_a_transaction_is_all_or_nothing(machine, pair):
    store, seen = pair[1].store, []
    store.watch("a", "t", lambda path, token: seen.append(path))
    store.transact(lambda tx: (tx.write("a", 1), tx.write("b", 2)))

    def fail(tx):
        tx.write("a", 3)
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        store.transact(fail)
    machine.run()
    assert (store.read("a"), store.read("b"), seen) == (b"1", b"2", ["a", "a"])


def test_deferred_work_runs_in_turn(machine, pair):
    done = []
    pair[0].defer(lambda: done.append(1))
    pair[1].defer(lambda: done.append(2))
    assert done == []
    assert machine.run() == 2
    assert done == [1, 2]


def test_work_without_end_is_stopped(machine, pair):
    def again():
        pair[0].defer(again)

    again()
    with pytest.raises(RuntimeError, match="still busy after 50"):
        machine.run(limit=50)
