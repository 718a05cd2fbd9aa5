"""Each hypercall on structures in the program's memory, and what Xen answers to bad ones."""

from __future__ import annotations

import errno

import pytest
from calling_program import BASE, Program, Site

from xennet.abi import event_channel as ev
from xennet.abi import grant_table as gt
from xennet.abi import sched, version
from xennet.abi import xen as xh
from xennet.abi import xenmem as xm
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE, START_INFO, VIRQ_TIMER
from xennet.hypercall import memory_op, start_info
from xennet.hypercall.caller import MOST_ELEMENTS
from xennet.hypercall.memory_op import MOST_PAGES

EVTCHN = xh.__HYPERVISOR_event_channel_op
GRANT = xh.__HYPERVISOR_grant_table_op
MEMORY = xh.__HYPERVISOR_memory_op
SCHED = xh.__HYPERVISOR_sched_op
VERSION = xh.__HYPERVISOR_xen_version

NOWHERE = 0x10
ALL = (EVTCHN, GRANT, MEMORY, SCHED, VERSION)


@pytest.mark.parametrize("number", [0, 1, 18, 24, 34, 55, 1 << 40])
def test_other_hypercalls_are_not_there(front: Program, number: int) -> None:
    assert front.call(number) == -errno.ENOSYS


@pytest.mark.parametrize("number", ALL)
def test_other_operations_are_not_there(front: Program, number: int) -> None:
    assert front.call(number, 50, BASE, 1) == -errno.ENOSYS


@pytest.mark.parametrize(
    ("number", "cmd"),
    [
        *((EVTCHN, cmd) for cmd in range(14)),
        *((GRANT, cmd) for cmd in (0, 1, 2, 4, 5, 6, 8, 9, 10, 11)),
        (MEMORY, xm.XENMEM_current_reservation),
        (SCHED, sched.SCHEDOP_poll),
        (SCHED, sched.SCHEDOP_shutdown),
        (VERSION, version.XENVER_extraversion),
        (VERSION, version.XENVER_get_features),
    ],
)
def test_a_bad_pointer_is_efault(front: Program, number: int, cmd: int) -> None:
    for pointer in (NOWHERE, 0, (1 << 64) - 8):
        assert front.call(number, cmd, pointer, 1) == -errno.EFAULT
    assert not front.reasons


def test_a_domain_that_does_not_run_makes_no_hypercalls(front: Program) -> None:
    front.domain.shutdown(3)
    assert front.call(EVTCHN, ev.EVTCHNOP_send) == -errno.ESRCH
    assert front.call(GRANT, gt.GNTTABOP_get_version) == -errno.ESRCH


# -- event channels --------------------------------------------------------------------------------


def channel(site: Site) -> tuple[int, int]:
    near = site.front.ask(
        EVTCHN, ev.EVTCHNOP_alloc_unbound, ev.EVTCHN_ALLOC_UNBOUND, dom=DOMID_SELF, remote_dom=2
    ).port
    far = site.back.ask(
        EVTCHN,
        ev.EVTCHNOP_bind_interdomain,
        ev.EVTCHN_BIND_INTERDOMAIN,
        remote_dom=1,
        remote_port=near,
    ).local_port
    return near, far


def test_a_channel_between_two_programs(site: Site) -> None:
    upcalls = []
    site.back.domain.take_upcalls(lambda: upcalls.append(1))
    near, far = channel(site)
    site.front.ask(EVTCHN, ev.EVTCHNOP_send, ev.EVTCHN_SEND, port=near)
    site.machine.run_loop.run_until_idle()
    assert not upcalls, "masked"
    site.back.ask(EVTCHN, ev.EVTCHNOP_unmask, ev.EVTCHN_UNMASK, port=far)
    site.machine.run_loop.run_until_idle()
    assert upcalls == [1]
    site.front.ask(EVTCHN, ev.EVTCHNOP_close, ev.EVTCHN_CLOSE, port=near)
    assert site.front.call(EVTCHN, ev.EVTCHNOP_close) == -errno.EINVAL


def test_the_state_of_a_port(site: Site) -> None:
    near, far = channel(site)

    def status(program: Program, port: int, codec: object) -> object:
        program.put(ev.EVTCHN_STATUS_UNBOUND, dom=DOMID_SELF, port=port)
        assert program.call(EVTCHN, ev.EVTCHNOP_status) == 0
        return program.get(codec)  # type: ignore[arg-type]

    connected = status(site.front, near, ev.EVTCHN_STATUS_INTERDOMAIN)
    assert connected[2:] == (ev.EVTCHNSTAT_interdomain, 0, 2, far)
    site.back.ask(EVTCHN, ev.EVTCHNOP_close, ev.EVTCHN_CLOSE, port=far)
    assert status(site.front, near, ev.EVTCHN_STATUS_UNBOUND)[2:] == (1, 0, 2)
    virq = site.front.ask(EVTCHN, ev.EVTCHNOP_bind_virq, ev.EVTCHN_BIND_VIRQ, virq=VIRQ_TIMER)
    assert status(site.front, virq.port, ev.EVTCHN_STATUS_VIRQ)[2:] == (4, 0, VIRQ_TIMER)
    ipi = site.front.ask(EVTCHN, ev.EVTCHNOP_bind_ipi, ev.EVTCHN_BIND_IPI)
    assert status(site.front, ipi.port, ev.EVTCHN_STATUS_UNBOUND)[2] == ev.EVTCHNSTAT_ipi


def test_refusals_of_event_channels_are_their_errno(front: Program) -> None:
    front.put(ev.EVTCHN_ALLOC_UNBOUND, dom=2)
    assert front.call(EVTCHN, ev.EVTCHNOP_alloc_unbound) == -errno.EPERM
    front.put(ev.EVTCHN_ALLOC_UNBOUND, dom=77)
    assert front.call(EVTCHN, ev.EVTCHNOP_alloc_unbound) == -errno.ESRCH
    front.put(ev.EVTCHN_BIND_INTERDOMAIN, remote_dom=0, remote_port=1)
    assert front.call(EVTCHN, ev.EVTCHNOP_bind_interdomain) == -errno.EINVAL
    front.put(ev.EVTCHN_BIND_VIRQ, virq=99)
    assert front.call(EVTCHN, ev.EVTCHNOP_bind_virq) == -errno.EINVAL
    front.put(ev.EVTCHN_BIND_PIRQ)
    assert front.call(EVTCHN, ev.EVTCHNOP_bind_pirq) == -errno.EINVAL
    front.put(ev.EVTCHN_SET_PRIORITY, port=1)
    assert front.call(EVTCHN, ev.EVTCHNOP_set_priority) == -errno.ENOSYS
    front.put(ev.EVTCHN_EXPAND_ARRAY)
    assert front.call(EVTCHN, ev.EVTCHNOP_expand_array) == -errno.EOPNOTSUPP
    front.put(ev.EVTCHN_BIND_VCPU, port=1, vcpu=5)
    assert front.call(EVTCHN, ev.EVTCHNOP_bind_vcpu) == -errno.ENOENT


def test_the_fifo_abi_on_pages_of_the_program(front: Program) -> None:
    page = front.domain.alloc_pages(2)
    asked = front.ask(
        EVTCHN, ev.EVTCHNOP_init_control, ev.EVTCHN_INIT_CONTROL, control_gfn=page.first
    )
    assert asked.link_bits == 17
    front.ask(EVTCHN, ev.EVTCHNOP_expand_array, ev.EVTCHN_EXPAND_ARRAY, array_gfn=page.first + 1)
    front.ask(EVTCHN, ev.EVTCHNOP_reset, ev.EVTCHN_RESET, dom=DOMID_SELF)
    assert front.domain.evtchn_abi == "2l"


# -- grants ----------------------------------------------------------------------------------------


def grant(program: Program, gref: int, frame: int, flags: int = gt.GTF_permit_access) -> None:
    """Write an entry, as a kernel does."""
    _, frames = program.domain.setup_table(DOMID_SELF, 1)
    table = program.domain.table_pages(frames[0], 1)
    table.u32[2 * gref + 1] = frame
    table.u32[2 * gref] = 2 << 16 | flags


def test_a_page_is_mapped_and_unmapped(site: Site) -> None:
    page = site.front.domain.alloc_pages(1)
    grant(site.front, 9, page.first)
    mapped = site.back.ask(
        GRANT,
        gt.GNTTABOP_map_grant_ref,
        gt.GNTTAB_MAP_GRANT_REF,
        flags=gt.GNTMAP_host_map,
        ref=9,
        dom=1,
        host_addr=0x5000,
    )
    assert (mapped.status, mapped.host_addr) == (gt.GNTST_okay, 0x5000)
    assert mapped.dev_bus_addr == page.first * PAGE_SIZE
    assert site.back.domain.can_access(page.first, write=True)
    for wanted in (gt.GNTST_okay, gt.GNTST_bad_handle):
        unmapped = site.back.ask(
            GRANT,
            gt.GNTTABOP_unmap_grant_ref,
            gt.GNTTAB_UNMAP_GRANT_REF,
            handle=mapped.handle,
        )
        assert unmapped.status == wanted


def test_each_element_has_its_own_status(site: Site) -> None:
    grant(site.front, 9, site.front.domain.alloc_pages(1).first)
    size = gt.GNTTAB_MAP_GRANT_REF.size
    for i, ref in enumerate((8, 9, 1 << 20)):
        at = BASE + i * size
        site.back.put(gt.GNTTAB_MAP_GRANT_REF, at, flags=2, ref=ref, dom=1)
    assert site.back.call(GRANT, gt.GNTTABOP_map_grant_ref, BASE, 3) == 0
    found = [site.back.get(gt.GNTTAB_MAP_GRANT_REF, BASE + i * size).status for i in range(3)]
    assert found == [gt.GNTST_general_error, gt.GNTST_okay, gt.GNTST_bad_gntref]


def test_what_stands_before_a_bad_pointer_is_done(site: Site) -> None:
    grant(site.front, 9, site.front.domain.alloc_pages(1).first)
    size = gt.GNTTAB_MAP_GRANT_REF.size
    at = BASE + len(site.back.memory.data) - size
    site.back.put(gt.GNTTAB_MAP_GRANT_REF, at, flags=2, ref=9, dom=1, status=-77)
    assert site.back.call(GRANT, gt.GNTTABOP_map_grant_ref, at, 2) == -errno.EFAULT
    assert site.back.get(gt.GNTTAB_MAP_GRANT_REF, at).status == gt.GNTST_okay


def test_the_copy_of_a_page(site: Site) -> None:
    page, own = site.front.domain.alloc_pages(1), site.back.domain.alloc_pages(1)
    grant(site.front, 9, page.first)
    page.u8[100:105] = b"hello"
    codec = gt.GNTTAB_COPY_BY_FLAGS[gt.GNTCOPY_source_gref]
    names = dict.fromkeys(codec.fields, 0)
    source = {"source.u.ref": 9, "source.domid": 1, "source.offset": 100}
    dest = {"dest.u.gmfn": own.first, "dest.domid": DOMID_SELF, "len": 5, "flags": 1}
    values = {**names, **source, **dest}
    data = codec.pack(*values.values())
    site.back.memory.write(BASE, data + codec.pack(*{**values, "source.u.ref": 8}.values()))
    assert site.back.call(GRANT, gt.GNTTABOP_copy, BASE, 2) == 0
    assert bytes(own.u8[:5]) == b"hello"
    statuses = [site.back.get(codec, BASE + i * codec.size).status for i in range(2)]
    assert statuses == [gt.GNTST_okay, gt.GNTST_general_error]
    # The second one cannot be read: the first one is done all the same.
    own.u8[:5] = bytes(5)
    at = BASE + len(site.back.memory.data) - codec.size
    site.back.memory.write(at, data)
    assert site.back.call(GRANT, gt.GNTTABOP_copy, at, 2) == -errno.EFAULT
    assert bytes(own.u8[:5]) == b"hello"


def test_the_frames_of_a_table(front: Program) -> None:
    size = front.ask(GRANT, gt.GNTTABOP_query_size, gt.GNTTAB_QUERY_SIZE, dom=DOMID_SELF)
    assert (size.status, size.nr_frames, size.max_nr_frames) == (0, 1, 4)
    lists = BASE + 512
    setup = {"dom": DOMID_SELF, "nr_frames": 3, "frame_list": lists}
    answer = front.ask(GRANT, gt.GNTTABOP_setup_table, gt.GNTTAB_SETUP_TABLE, **setup)
    assert answer.status == gt.GNTST_okay
    data = front.memory.read(lists, 24)
    frames = [int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16)]
    assert all(front.domain.can_access(frame, write=True) for frame in frames)
    for changed, status in (
        ({"nr_frames": 5}, gt.GNTST_general_error),
        ({"dom": 2}, gt.GNTST_permission_denied),
        ({"frame_list": NOWHERE}, gt.GNTST_bad_virt_addr),
    ):
        answer = front.ask(
            GRANT, gt.GNTTABOP_setup_table, gt.GNTTAB_SETUP_TABLE, **{**setup, **changed}
        )
        assert answer.status == status


def test_versions_of_a_table(front: Program) -> None:
    version_of = {"dom": DOMID_SELF}
    asked = front.ask(GRANT, gt.GNTTABOP_get_version, gt.GNTTAB_GET_VERSION, **version_of)
    assert asked.version == 1
    assert front.ask(GRANT, 8, gt.GNTTAB_SET_VERSION, version=2).version == 2
    lists = {"nr_frames": 1, "dom": DOMID_SELF, "frame_list": BASE + 512}
    answer = front.ask(GRANT, gt.GNTTABOP_get_status_frames, gt.GNTTAB_GET_STATUS_FRAMES, **lists)
    assert answer.status == gt.GNTST_okay
    front.put(gt.GNTTAB_SET_VERSION, version=3)
    assert front.call(GRANT, gt.GNTTABOP_set_version, BASE, 1) == -errno.EINVAL
    assert front.get(gt.GNTTAB_SET_VERSION).version == 2, "the one that is in use"
    front.put(gt.GNTTAB_GET_VERSION, dom=77)
    assert front.call(GRANT, gt.GNTTABOP_get_version, BASE, 1) == -errno.ESRCH


def test_entries_are_swapped_and_pages_transferred(site: Site) -> None:
    site.front.ask(GRANT, gt.GNTTABOP_swap_grant_ref, gt.GNTTAB_SWAP_GRANT_REF, ref_a=9, ref_b=10)
    page = site.back.domain.alloc_pages(1)
    grant(site.front, 9, 0, gt.GTF_accept_transfer)
    given = site.back.ask(
        GRANT, gt.GNTTABOP_transfer, gt.GNTTAB_TRANSFER, mfn=page.first, domid=1, ref=9
    )
    assert given.status == gt.GNTST_okay
    assert site.front.domain.can_access(page.first)
    given = site.back.ask(
        GRANT, gt.GNTTABOP_transfer, gt.GNTTAB_TRANSFER, mfn=1 << 60, domid=1, ref=9
    )
    assert given.status == gt.GNTST_bad_page


def test_counts_that_cannot_be(front: Program) -> None:
    assert front.call(GRANT, gt.GNTTABOP_copy, BASE, 0) == 0
    assert front.call(GRANT, gt.GNTTABOP_copy, BASE, 0xFFFFFFFF) == -errno.EINVAL
    assert front.call(GRANT, gt.GNTTABOP_copy, BASE, MOST_ELEMENTS + 1) == -errno.E2BIG
    assert front.call(GRANT, gt.GNTTABOP_setup_table, BASE, 2) == -errno.EINVAL


# -- memory ----------------------------------------------------------------------------------------

LIST = BASE + 512


def reserve(program: Program, cmd: int, **values: int) -> int:
    values = {"domid": DOMID_SELF, "extent_start": LIST, "nr_extents": 1} | values
    program.put(xm.XEN_MEMORY_RESERVATION, **values)
    return program.call(MEMORY, cmd)


def frames_in_list(program: Program, count: int) -> list[int]:
    data = program.memory.read(LIST, 8 * count)
    return [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(count)]


def test_pages_come_and_go_one_by_one(front: Program) -> None:
    assert reserve(front, xm.XENMEM_increase_reservation, nr_extents=4) == 4
    frames = frames_in_list(front, 4)
    assert len({*frames}) == 4
    assert all(front.domain.can_access(frame, write=True) for frame in frames)
    front.put(xm.XEN_MEMORY_DOMAIN, domid=DOMID_SELF)
    assert front.call(MEMORY, xm.XENMEM_current_reservation) == 4
    assert front.call(MEMORY, xm.XENMEM_maximum_reservation) == MOST_PAGES
    front.memory.write(LIST + 16, (0).to_bytes(8, "little"))
    assert reserve(front, xm.XENMEM_decrease_reservation, nr_extents=4) == 2, "frame 0 is not ours"
    assert front.domain.allocated == 2


def test_extents_of_several_pages(front: Program) -> None:
    assert reserve(front, xm.XENMEM_populate_physmap, nr_extents=2, extent_order=3) == 2
    first, second = frames_in_list(front, 2)
    assert abs(first - second) >= 8
    front.memory.write(LIST, (first + 3).to_bytes(8, "little"))
    assert reserve(front, xm.XENMEM_decrease_reservation) == 1, "a page in the middle"
    assert front.domain.allocated == 15


def test_pages_that_were_given_up_and_are_still_mapped_count(
    front: Program, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_op, "MOST_PAGES", 8)
    assert reserve(front, xm.XENMEM_increase_reservation, nr_extents=6) == 6
    mapped = frames_in_list(front, 4)
    site.machine.show_frames(mapped)
    assert reserve(front, xm.XENMEM_decrease_reservation, nr_extents=6) == 6
    assert (front.domain.allocated, front.domain.lingering) == (0, 4)
    assert reserve(front, xm.XENMEM_increase_reservation, nr_extents=9) == 4
    site.machine.hide_frames(mapped)
    assert front.domain.lingering == 0
    assert reserve(front, xm.XENMEM_increase_reservation, nr_extents=9) == 4


def test_memory_that_is_not_there(front: Program) -> None:
    got = [
        reserve(front, xm.XENMEM_increase_reservation, nr_extents=1000, extent_start=0)
        for _ in range(3)
    ]
    assert got[0] == 1000
    assert 0 < got[1] < 1000, "the machine is full"
    assert got[2] == 0
    assert front.domain.allocated == sum(got)


@pytest.mark.parametrize(
    "values",
    [
        {"extent_order": 10},
        {"extent_order": 0xFFFFFFFF},
        {"nr_extents": 1 << 60},
        {"nr_extents": 0},
    ],
)
def test_requests_of_which_nothing_is_done(front: Program, values: dict[str, int]) -> None:
    assert reserve(front, xm.XENMEM_increase_reservation, **values) == 0
    assert front.domain.allocated == 0


def test_a_continuation_goes_on_where_it_says(front: Program) -> None:
    assert reserve(front, xm.XENMEM_increase_reservation | 3 << 6, nr_extents=5) == 5
    assert front.domain.allocated == 2
    assert reserve(front, xm.XENMEM_increase_reservation | 9 << 6, nr_extents=5) == 9


def test_memory_of_another_domain(front: Program) -> None:
    assert reserve(front, xm.XENMEM_increase_reservation, domid=2) == -errno.EPERM
    front.put(xm.XEN_MEMORY_DOMAIN, domid=2)
    assert front.call(MEMORY, xm.XENMEM_current_reservation) == -errno.EPERM


def test_a_reservation_that_cannot_be_read_is_one_of_which_nothing_is_done(front: Program) -> None:
    assert front.call(MEMORY, xm.XENMEM_increase_reservation, NOWHERE) == 0
    assert reserve(front, xm.XENMEM_increase_reservation, extent_start=NOWHERE) == 0
    assert reserve(front, xm.XENMEM_decrease_reservation, extent_start=NOWHERE) == 0


# -- sched, version, start -------------------------------------------------------------------------


def test_poll_says_whether_to_wait(site: Site) -> None:
    near, far = channel(site)
    site.front.memory.write(LIST, near.to_bytes(4, "little"))
    site.front.put(sched.SCHED_POLL, ports=LIST, nr_ports=1)
    assert site.front.call(SCHED, sched.SCHEDOP_poll) == 0
    site.back.ask(EVTCHN, ev.EVTCHNOP_send, ev.EVTCHN_SEND, port=far)
    assert site.front.call(SCHED, sched.SCHEDOP_poll) == 1
    site.front.put(sched.SCHED_POLL, nr_ports=0)
    assert site.front.call(SCHED, sched.SCHEDOP_poll) == 0
    for values, error in (
        ({"ports": LIST, "nr_ports": 129}, errno.EINVAL),
        ({"ports": NOWHERE, "nr_ports": 1}, errno.EFAULT),
        ({"ports": BASE + 1024, "nr_ports": 1}, 0),
    ):
        site.front.put(sched.SCHED_POLL, **values)
        assert site.front.call(SCHED, sched.SCHEDOP_poll) == -error
    site.front.memory.write(LIST, (1 << 20).to_bytes(4, "little"))
    site.front.put(sched.SCHED_POLL, ports=LIST, nr_ports=1)
    assert site.front.call(SCHED, sched.SCHEDOP_poll) == -errno.EINVAL


def test_the_rest_of_sched_op(front: Program) -> None:
    assert front.call(SCHED, sched.SCHEDOP_yield, 0) == 0
    assert front.call(SCHED, sched.SCHEDOP_block, 0) == 0
    front.put(sched.SCHED_SHUTDOWN, reason=0x102)
    assert front.call(SCHED, sched.SCHEDOP_shutdown) == 0
    assert front.reasons == [2]
    for other in (
        sched.SCHEDOP_remote_shutdown,
        sched.SCHEDOP_shutdown_code,
        sched.SCHEDOP_watchdog,
    ):
        assert front.call(SCHED, other) == -errno.ENOSYS


def test_what_the_hypervisor_says_of_itself(front: Program) -> None:
    assert front.call(VERSION, version.XENVER_version, 0) == 4 << 16 | 17
    assert front.call(VERSION, version.XENVER_pagesize, 0) == PAGE_SIZE
    assert front.call(VERSION, version.XENVER_pagesize, BASE) == -errno.EINVAL
    assert front.call(VERSION, version.XENVER_extraversion) == 0
    assert front.memory.read(BASE, 16) == b".xennet".ljust(16, b"\0")
    assert front.call(VERSION, version.XENVER_capabilities) == 0
    assert front.call(VERSION, version.XENVER_changeset) == 0
    assert front.call(VERSION, version.XENVER_guest_handle) == 0
    assert front.ask(VERSION, version.XENVER_get_features, version.XEN_FEATURE_INFO)[1] == 0
    front.put(version.XEN_FEATURE_INFO, submap_idx=1)
    assert front.call(VERSION, version.XENVER_get_features) == -errno.EINVAL


def test_what_a_kernel_finds_at_its_start(site: Site) -> None:
    domain = site.front.domain
    with pytest.raises(ValueError, match="no store ring"):
        start_info(domain)
    site.machine.build_store_ring(domain.domid)
    found = START_INFO.read(start_info(domain, b"console=none"))
    assert found.magic.startswith(b"xen-3.0-x86_64\0")
    assert found.shared_info == domain.shared_info.first * PAGE_SIZE
    assert domain.store_ring is not None
    assert (found.store_mfn, found.store_evtchn) == (domain.store_ring.gfn, domain.store_ring.port)
    assert found.cmd_line.rstrip(b"\0") == b"console=none"
    with pytest.raises(ValueError, match="less than 1024"):
        start_info(domain, bytes(1024))
