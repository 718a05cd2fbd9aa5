"""A driver cannot cheat: what it is given leads to its own memory and to mapped pages only, and no
longer than the right to them lasts."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.grant_table import GNTMAP_host_map, GNTST_okay
from xennet.abi.xen import DOMID_SELF
from xennet.evtchn import EventChannels, FifoBits, GuestPages, TwoLevelBits
from xennet.gnttab.hypercalls import GrantTables
from xennet.hypervisor import Domain, Machine
from xennet.hypervisor.page_frames import FrameAllocator
from xennet.interface import HypercallError
from xennet.memory import AddressSpace, Memory, MemoryAccessError
from xennet.observe import Observers
from xennet.runloop import RunLoop

INNER_PARTS = (
    AddressSpace,
    EventChannels,
    FifoBits,
    FrameAllocator,
    GrantTables,
    GuestPages,
    Machine,
    Memory,
    Observers,
    RunLoop,
    TwoLevelBits,
)


def public_values(value: object) -> Iterator[tuple[str, object]]:
    for name in dir(value):
        if not name.startswith("_"):
            attribute = getattr(value, name)
            # A method's own object counts as well: handing out another's method hands it out.
            yield name, getattr(attribute, "__self__", attribute)


def test_no_public_name_of_a_driver_leads_to_the_machine_or_another_domain(site) -> None:
    kernel = site.kernel(site.front)
    near = kernel.alloc_unbound(2)
    kernel.on_event(near, print)
    page = kernel.alloc_pages(1)
    mapping = site.kernel(site.back).map_grant(1, kernel.grants.grant_access(2, page.first))
    todo: list[tuple[str, object]] = [
        ("kernel", kernel),
        ("domain", site.front),
        ("page", page),
        ("mapping", mapping),
    ]
    seen = set()
    while todo:
        path, value = todo.pop()
        assert not isinstance(value, INNER_PARTS), path
        assert not isinstance(value, Domain) or value is site.front, path
        if id(value) in seen or not type(value).__module__.startswith("xennet"):
            continue
        seen.add(id(value))
        todo += [(f"{path}.{name}", inner) for name, inner in public_values(value)]
    assert len(seen) > 4


def test_views_of_a_freed_page_are_dead(site) -> None:
    run = site.front.alloc_pages(1)
    views = run.u8, run.u16, run.u32, run.u64
    site.front.free_pages(run)
    for view in views:
        with pytest.raises(ValueError, match="released"):
            view[0]


def test_views_of_an_unmapped_page_are_dead(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    mapping = back.map_grant(1, front.grants.grant_access(2, front.alloc_pages(1).first))
    view = mapping.page.u32
    back.unmap_grant(mapping)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_all_views_of_a_destroyed_domain_are_dead(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    lent = front.alloc_pages(1)
    views = [
        back.alloc_pages(2).u8,
        back.grants.words,
        site.back.shared_info.u64,
        back.map_grant(1, front.grants.grant_access(2, lent.first)).page.u8,
    ]
    site.machine.destroy_domain(2)
    for view in views:
        with pytest.raises(ValueError, match="released"):
            view[0]
    lent.u8[0] = 1


def test_a_view_that_the_guest_lent_on_does_not_stop_the_destruction(site) -> None:
    page = site.front.alloc_pages(1)
    export = ctypes.c_char.from_buffer(page.u8)
    site.machine.destroy_domain(1)
    site.run()
    assert site.machine.domain_info(1) is None
    assert export.value == b"\0"


@pytest.mark.parametrize("frame", ["another domain's", "free", "outside the arena"])
def test_a_page_out_of_a_domains_reach_is_not_handed_out_whatever_names_it(
    site, frame, monkeypatch
) -> None:
    """The address space has the last word, should a hypercall ever name a wrong frame."""
    wrong = {
        "another domain's": site.dom0.alloc_pages(1).first,
        "free": site.machine.memory.nr_frames - 1,
        "outside the arena": site.machine.memory.nr_frames,
    }[frame]
    tables = site.machine.grant_tables
    monkeypatch.setattr(tables, "map_grant_ref", lambda *call: (GNTST_okay, 5, wrong))
    monkeypatch.setattr(tables, "table_frames", lambda domid: [wrong])
    with pytest.raises(MemoryAccessError, match="domain 2"):
        site.back.map_grant_ref(1, 8, GNTMAP_host_map)
    with pytest.raises(MemoryAccessError, match="domain 2"):
        site.back.table_pages(wrong, 1)


def test_a_read_only_mapping_cannot_be_written(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    run = front.alloc_pages(1)
    gref = front.grants.grant_access(2, run.first, readonly=True)
    with pytest.raises(HypercallError):
        back.map_grant(1, gref)
    mapping = back.map_grant(1, gref, readonly=True)
    run.u8[5] = 9
    assert mapping.page.u8[5] == 9
    for view in (mapping.page.u8, mapping.page.u16, mapping.page.u32, mapping.page.u64):
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1


def test_a_read_only_mapping_stays_read_only_beside_a_writable_one(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    gref = front.grants.grant_access(2, front.alloc_pages(1).first)
    back.map_grant(1, gref)
    with pytest.raises(TypeError, match="read-only"):
        back.map_grant(1, gref, readonly=True).page.u8[0] = 1


def test_only_the_domains_own_table_frames_can_be_viewed_as_such(site) -> None:
    front = site.kernel(site.front)
    foreign = site.machine.grant_tables.table_frames(2)[0]
    for frame in (foreign, site.front.shared_info.first, front.alloc_pages(1).first, 10**9, -1):
        with pytest.raises(ValueError, match="grant table of domain 1"):
            site.front.table_pages(frame, 1)


def test_a_grant_of_a_page_that_went_to_another_domain_is_worth_nothing(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    run = front.alloc_pages(1)
    gref = front.grants.grant_access(2, run.first)
    frame = run.first
    front.free_pages(run)
    assert site.dom0.alloc_pages(1).first == frame
    with pytest.raises(HypercallError, match="GNTST_bad_page"):
        back.map_grant(1, gref)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), sends=st.integers(0, 5))
def test_a_domain_that_scribbles_over_its_shared_info_hurts_only_itself(
    seed: int, sends: int
) -> None:
    """Random bits in the page; the hypervisor and the other domain go on, and so do its ports."""
    machine = Machine(64, max_grant_frames=1)
    machine.create_domain()
    vandal, victim = machine.create_domain(vcpus=2), machine.create_domain()
    far = vandal.alloc_unbound(DOMID_SELF, victim.domid)
    near = victim.bind_interdomain(vandal.domid, far)
    events = []
    victim.set_handler(near, lambda: events.append("victim"))
    victim.unmask(near)
    machine.run_loop.run_until_idle()
    events.clear()
    vandal.set_handler(far, lambda: vandal.send(far))
    noise = random.Random(seed)
    for _ in range(sends):
        vandal.shared_info.u8[:] = noise.randbytes(4096)
        victim.send(near)
        vandal.unmask(far)
        vandal.bind_ipi(1)
        machine.run_loop.run_until_idle(limit=1000)
    events.clear()
    vandal.send(far)
    machine.run_loop.run_until_idle()
    assert events == ["victim"]
    vandal.shared_info.u8[:] = bytes(4096)
    vandal.set_handler(far, lambda: events.append("vandal"))
    victim.send(near)
    machine.run_loop.run_until_idle()
    assert events == ["victim", "vandal"]
    vandal.shared_info.u8[:] = noise.randbytes(4096)
    machine.destroy_domain(vandal.domid)
    machine.run_loop.run_until_idle()
    assert machine.domain_info(vandal.domid) is None
