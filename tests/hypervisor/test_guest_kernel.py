"""GuestKernel keeps the promises of xennet.interface.Hypervisor."""

from __future__ import annotations

from array import array

import pytest

from xennet.abi.grant_table import (
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_source_gref,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_general_error,
    GNTST_okay,
)
from xennet.abi.xen import DOMID_SELF
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import HypercallError, Hypervisor, OutOfFramesError


def as_interface(kernel: GuestKernel) -> Hypervisor:
    """mypy holds the class against the protocol here."""
    return kernel


@pytest.fixture(params=[1, 2], ids=["grant table v1", "grant table v2"])
def pair(site, request) -> tuple[Hypervisor, Hypervisor]:
    front = site.machine.create_domain(name="front", grant_version=request.param)
    return as_interface(site.kernel(front)), as_interface(site.kernel(site.back))


def test_a_granted_page_is_shared_memory(pair) -> None:
    front, back = pair
    page = front.alloc_pages(1)
    mapping = back.map_grant(front.domid, front.grants.grant_access(back.domid, page.first))
    page.u32[5] = 0xDEADBEEF
    mapping.page.u32[6] = 1
    assert (mapping.page.u32[5], page.u32[6]) == (0xDEADBEEF, 1)
    assert (mapping.domid, mapping.page.count) == (front.domid, 1)


def test_access_cannot_end_while_the_page_is_mapped(pair) -> None:
    front, back = pair
    gref = front.grants.grant_access(back.domid, front.alloc_pages(1).first)
    mapping = back.map_grant(front.domid, gref)
    assert not front.grants.end_access(gref)
    back.unmap_grant(mapping)
    assert front.grants.end_access(gref)


def test_the_raw_words_are_the_table_that_the_hypervisor_reads(pair) -> None:
    front, back = pair
    grants, page = front.grants, front.alloc_pages(1)
    (gref,) = grants.claim(1)
    grants.words[(gref << grants.shift) + grants.shift] = page.first
    grants.words[gref << grants.shift] = back.domid << 16 | 1
    back.map_grant(front.domid, gref)
    assert grants.status[gref << grants.status_shift] & 0x18 == 0x18


def test_the_table_grows_when_all_references_are_taken(pair) -> None:
    front, back = pair
    page = front.alloc_pages(1)
    grefs = [front.grants.grant_access(back.domid, page.first) for _ in range(600)]
    assert len(set(grefs)) == 600
    back.map_grant(front.domid, grefs[-1])


def test_a_table_that_cannot_grow_says_so(pair) -> None:
    front, _ = pair
    with pytest.raises(HypercallError, match="GNTTABOP_setup_table"):
        front.grants.claim(4 * 512)


def test_two_mappings_of_one_reference_are_undone_one_by_one(pair) -> None:
    front, back = pair
    gref = front.grants.grant_access(back.domid, front.alloc_pages(1).first)
    first, second = (back.map_grant(front.domid, gref) for _ in range(2))
    back.unmap_grant(first)
    second.page.u8[0] = 1
    with pytest.raises(HypercallError) as refusal:
        back.unmap_grant(first)
    assert refusal.value.status == GNTST_bad_handle
    back.unmap_grant(second)
    assert front.grants.end_access(gref)


@pytest.mark.parametrize(
    ("domid", "gref", "status"),
    [(77, 8, GNTST_bad_domain), (1, 10**6, GNTST_bad_gntref), (1, 9, GNTST_general_error)],
)
def test_a_refused_mapping_names_the_grant_and_the_status(site, domid, gref, status) -> None:
    with pytest.raises(HypercallError, match=f"reference {gref} of domain {domid}") as refusal:
        site.kernel(site.back).map_grant(domid, gref)
    assert refusal.value.status == status


def test_grant_copy_moves_bytes_and_writes_statuses(pair) -> None:
    front, back = pair
    source, dest = front.alloc_pages(1), back.alloc_pages(1)
    source.u8[10:15] = b"hello"
    gref = front.grants.grant_access(back.domid, source.first, readonly=True)
    codec = GNTTAB_COPY_BY_FLAGS[GNTCOPY_source_gref]
    table = array("I", bytes(2 * codec.size))
    for index, ref in enumerate((gref, 7777)):
        values = {
            "source.u.ref": ref,
            "source.domid": front.domid,
            "source.offset": 10,
            "dest.u.gmfn": dest.first,
            "dest.domid": DOMID_SELF,
            "dest.offset": 100,
            "len": 5,
            "flags": GNTCOPY_source_gref,
            "status": 99,
        }
        codec.pack_into(table, index * codec.size, *(values[name] for name in codec.fields))
    back.grant_copy(memoryview(table), 2)
    assert bytes(dest.u8[100:105]) == b"hello"
    statuses = [codec.read(memoryview(table).cast("B"), i * codec.size).status for i in (0, 1)]
    assert statuses == [GNTST_okay, GNTST_bad_gntref]


def test_an_event_channel_between_two_drivers(site, pair) -> None:
    front, back = pair
    events = []
    port = front.alloc_unbound(back.domid)
    front.on_event(port, lambda: events.append("front"))
    remote = back.bind_interdomain(front.domid, port)
    back.on_event(remote, lambda: events.append("back"))
    site.run()
    assert events == ["back"]  # a fresh binding is always pending
    back.notify(remote)
    front.notify(port)
    site.run()
    assert events == ["back", "front", "back"]
    back.close_port(remote)
    front.notify(port)
    site.run()
    assert events == ["back", "front", "back"]


def test_deferred_work_waits_for_the_run_loop(site, pair) -> None:
    front, _ = pair
    done = []
    front.defer(lambda: done.append(1))
    assert done == []
    site.run()
    assert done == [1]


def test_the_store_is_the_domains_own_connection(site, pair) -> None:
    front, back = pair
    site.kernel(site.dom0).store.write("/local/domain/3/name", "guest")
    site.kernel(site.dom0).store.set_perms("/local/domain/3/name", ["n3", "r2"])
    assert front.store.read("name") == b"guest"
    assert back.store.read("/local/domain/3/name") == b"guest"


def test_a_machine_without_memory_says_so(pair) -> None:
    front, _ = pair
    with pytest.raises(OutOfFramesError, match="10000 consecutive frames"):
        front.alloc_pages(10_000)


def test_events_are_only_built_when_somebody_listens(site, pair) -> None:
    front, _ = pair
    assert not front.interest(str).any
    seen = []
    site.machine.observers.subscribe(seen.append, str)
    assert front.interest(str).any
    assert not front.interest(bytes).any
    front.emit("a slot was written")
    assert seen == ["a slot was written"]
