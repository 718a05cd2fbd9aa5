"""The life of domains: creation, events between them, shutdown, destruction, zombies."""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest

from xennet.abi.grant_table import (
    GNTMAP_host_map,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_okay,
)
from xennet.abi.xen import DOMID_SELF, VIRQ_DOM_EXC
from xennet.hypervisor import Machine
from xennet.interface import HypercallError, OutOfFramesError
from xennet.runloop import Delivery

SHUTDOWN_poweroff = 0
SHUTDOWN_crash = 3


def connect(a, b) -> tuple[int, int]:
    """A channel between two domains with nothing pending and both ends unmasked."""
    far = b.alloc_unbound(DOMID_SELF, a.domid)
    near = a.bind_interdomain(b.domid, far)
    a.unmask(near)
    b.unmask(far)
    return near, far


def refused(call, *args) -> int:
    with pytest.raises(HypercallError) as refusal:
        call(*args)
    return -refusal.value.status


# Creation


def test_the_first_domain_is_the_control_domain() -> None:
    machine = Machine(256, max_grant_frames=1)
    first, second = machine.create_domain(), machine.create_domain()
    assert (first.domid, first.privileged) == (0, True)
    assert (second.domid, second.privileged) == (1, False)


def test_numbers_are_not_used_again_by_themselves(site) -> None:
    site.machine.destroy_domain(site.back.domid)
    assert site.machine.create_domain().domid == 3


def test_a_number_can_be_used_again_on_demand(site) -> None:
    site.machine.destroy_domain(2)
    again = site.machine.create_domain(2, name="again")
    assert site.machine.domain(2) is again
    assert again.alive
    assert not site.back.alive


@pytest.mark.parametrize("domid", [1, -1, 0x7FF0, 0x10000])
def test_a_number_that_is_taken_or_reserved_is_refused(site, domid: int) -> None:
    with pytest.raises(ValueError, match=str(domid)):
        site.machine.create_domain(domid)


@pytest.mark.parametrize("vcpus", [0, 33])
def test_a_domain_has_1_to_32_vcpus(site, vcpus: int) -> None:
    used = site.machine.memory.used
    with pytest.raises(ValueError, match=f"not {vcpus}"):
        site.machine.create_domain(vcpus=vcpus)
    assert site.machine.memory.used == used


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_a_machine_that_is_full_makes_no_half_domain(abi: str) -> None:
    for frames in range(1, {"2l": 9, "fifo": 15}[abi]):
        machine = Machine(frames, max_grant_frames=1)
        with suppress(OutOfFramesError):
            machine.create_domain(evtchn_abi=abi)
        count, used = len(machine.domains), machine.memory.used
        with pytest.raises(OutOfFramesError):
            machine.create_domain(vcpus=4, grant_version=2, evtchn_abi=abi)
        assert (len(machine.domains), machine.memory.used) == (count, used)


def test_a_new_domain_has_all_ports_masked(site) -> None:
    assert site.front.shared_info.u8[2560 : 2560 + 512] == b"\xff" * 512


def test_listeners_hear_of_domains_that_exist_and_that_will(site) -> None:
    heard = []
    site.machine.on_create(lambda domain: heard.append(domain.domid))
    site.machine.create_domain()
    assert heard == [0, 1, 2, 3]


# Events


def test_a_send_runs_the_handler_of_the_other_end(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    events = []
    site.back.set_handler(far, lambda: events.append("back"))
    site.front.send(near)
    assert site.machine.run_loop.ready() == (Delivery("evtchn", 2, far),)
    assert events == []
    site.run()
    assert events == ["back"]


def test_sends_before_the_handler_runs_are_one_event(site) -> None:
    near, far = connect(site.front, site.back)
    events = []
    site.back.set_handler(far, lambda: events.append(1))
    for _ in range(3):
        site.front.send(near)
    site.run()
    assert events == [1]


def test_a_send_from_inside_the_handler_comes_back(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    rally = []

    def answer(domain, port) -> None:
        rally.append(domain.name)
        if len(rally) < 5:
            domain.send(port)

    site.front.set_handler(near, lambda: answer(site.front, near))
    site.back.set_handler(far, lambda: answer(site.back, far))
    site.front.send(near)
    site.run()
    assert rally == ["back", "front", "back", "front", "back"]


def test_an_event_sent_while_its_handler_runs_is_not_lost(site) -> None:
    near, far = connect(site.front, site.back)
    runs = []

    def handler() -> None:
        runs.append(1)
        if len(runs) == 1:
            site.front.send(near)

    site.back.set_handler(far, handler)
    site.front.send(near)
    site.run()
    assert len(runs) == 2


def test_an_event_without_a_handler_is_cleared_and_counted(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    before = site.back.spurious
    site.front.send(near)
    site.run()
    assert site.back.spurious == before + 1
    assert not site.machine.channels.bits(2).is_pending(far)


def test_a_port_masked_while_its_delivery_waits_is_not_handled(site) -> None:
    near, far = connect(site.front, site.back)
    events = []
    site.back.set_handler(far, lambda: events.append(1))
    site.front.send(near)
    site.back.mask(far)
    site.run()
    assert events == []
    site.back.unmask(far)
    site.run()
    assert events == [1]


def test_a_poll_sees_the_event_of_a_masked_port_and_takes_it(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    events = []
    site.back.set_handler(far, lambda: events.append(1))
    site.back.mask(far)
    assert not site.back.poll(far)
    for _ in range(2):
        site.front.send(near)
        assert site.back.poll(far)
        assert not site.back.poll(far)
    site.back.unmask(far)
    site.run()
    assert events == []
    site.front.send(near)
    site.run()
    assert events == [1]


def test_a_port_that_was_just_bound_is_pending_for_a_poll(site) -> None:
    unbound = site.front.alloc_unbound(DOMID_SELF, 2)
    assert not site.front.poll(unbound)
    assert site.back.poll(site.back.bind_interdomain(1, unbound))


def test_polling_a_closed_port_finds_nothing_and_polling_no_port_is_refused(site) -> None:
    near, far = connect(site.front, site.back)
    site.front.send(near)
    site.back.close(far)
    assert not site.back.poll(far)
    for port in (-1, 64, 10**9):
        with pytest.raises(HypercallError) as refused:
            site.back.poll(port)
        assert refused.value.status == -errno.EINVAL


def test_a_number_without_a_mask_bit_cannot_be_masked(site) -> None:
    page = bytes(site.front.shared_info.u8)
    for port in (-1, {"2l": 4096, "fifo": 131072}[site.abi]):
        with pytest.raises(ValueError, match=f"port {port} has no mask bit"):
            site.front.mask(port)
    assert site.front.shared_info.u8 == page


def test_a_closed_port_handles_nothing_any_more_and_its_successor_starts_masked(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    events = []
    site.back.set_handler(far, lambda: events.append(1))
    site.front.send(near)
    site.back.close(far)
    # A FIFO port is still linked to its queue: its number is not given to another before it is not.
    successor = {"2l": far, "fifo": far + 1}[site.abi]
    assert connect(site.front, site.back)[1] == successor
    site.back.mask(far)
    site.run()
    assert events == []


def test_a_handler_that_raises_breaks_neither_the_domain_nor_the_loop(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    events = []

    def handler() -> None:
        events.append(1)
        if len(events) == 1:
            raise ZeroDivisionError("bug in a driver")

    site.back.set_handler(far, handler)
    site.front.send(near)
    site.front.defer(lambda: events.append("work"))
    with pytest.raises(ZeroDivisionError) as raised:
        site.run()
    assert f"while delivering evtchn {far} of domain 2" in raised.value.__notes__[0]
    site.run()
    site.front.send(near)
    site.run()
    assert events == [1, "work", 1]
    assert site.back.alive


# Memory


def test_pages_come_zeroed_and_go_back(site) -> None:
    used = site.machine.memory.used
    run = site.front.alloc_pages(3)
    assert run.u8 == bytes(3 * 4096)
    run.u8[0] = 1
    site.front.free_pages(run)
    assert site.machine.memory.used == used
    assert site.back.alloc_pages(3).u8 == bytes(3 * 4096)


def test_a_run_is_freed_once_and_by_its_owner(site) -> None:
    run = site.front.alloc_pages(1)
    with pytest.raises(ValueError, match="domain 2 holds no run"):
        site.back.free_pages(run)
    site.front.free_pages(run)
    with pytest.raises(ValueError, match="domain 1 holds no run"):
        site.front.free_pages(run)


def test_a_run_is_freed_whole(site) -> None:
    site.front.alloc_pages(2)
    again = site.machine.memory.run(site.front.shared_info.first)
    with pytest.raises(ValueError, match="holds no run"):
        site.front.free_pages(again)


def test_a_freed_page_that_is_mapped_is_kept_until_it_is_unmapped(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    run = front.alloc_pages(2)
    run.u8[0] = 42
    used = site.machine.memory.used
    mapping = back.map_grant(1, front.grants.grant_access(2, run.first))
    front.free_pages(run)
    assert site.machine.memory.used == used - 1
    assert mapping.page.u8[0] == 42
    assert site.machine.leaks().domains[1].lingering == (mapping.page.first,)
    back.unmap_grant(mapping)
    assert site.machine.memory.used == used - 2
    assert site.machine.leaks().domains[1].lingering == ()


def test_a_page_can_be_transferred_and_adopted(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    run = front.alloc_pages(3)
    run.u8[4096] = 7
    frame = run.first + 1
    gref = back.grants.grant_transfer(1)
    assert site.front.grant_transfer(frame, 2, gref) == GNTST_okay
    assert back.grants.end_transfer(gref) == frame
    page = site.back.adopt(frame)
    assert page.u8[0] == 7
    site.back.free_pages(page)
    for left in (run.first, run.first + 2):
        site.front.free_pages(site.front.adopt(left))
    assert not site.machine.leaks()


@pytest.mark.parametrize("which", ["shared info", "grant table", "foreign", "lingering"])
def test_pages_that_cannot_be_transferred_or_adopted(site, which: str) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    lent = front.alloc_pages(1)
    back.map_grant(1, front.grants.grant_access(2, lent.first))
    frames = {
        "shared info": site.front.shared_info.first,
        "grant table": site.machine.grant_tables.table_frames(1)[0],
        "foreign": back.alloc_pages(1).first,
        "lingering": lent.first,
    }
    front.free_pages(lent)
    gref = back.grants.grant_transfer(1)
    assert site.front.grant_transfer(frames[which], 2, gref) == GNTST_bad_page
    with pytest.raises(ValueError, match="waits to be adopted"):
        site.front.adopt(frames[which])


def test_a_page_transferred_to_nobody_is_lost_as_the_header_says(site) -> None:
    used = site.machine.memory.used
    run = site.front.alloc_pages(1)
    assert site.front.grant_transfer(run.first, 2, 8) < 0
    assert site.machine.memory.used == used
    with pytest.raises(ValueError, match="released"):
        run.u8[0] = 1


# Shutdown and destruction


def virq_port(site) -> int:
    ports = [c.port for c in site.machine.channels.open_channels(0) if c.virq == VIRQ_DOM_EXC]
    assert len(ports) == 1
    return ports[0]


def test_a_shutdown_stops_the_domain_and_tells_the_control_domain(site) -> None:
    site.machine.shutdown_domain(1, SHUTDOWN_crash)
    assert site.front.alive
    assert not site.front.running
    assert site.dom0.domain_info(1).shutdown == SHUTDOWN_crash
    assert site.machine.run_loop.ready() == (Delivery("evtchn", 0, virq_port(site)),)


def test_a_domain_can_shut_itself_down(site) -> None:
    site.front.shutdown(SHUTDOWN_poweroff)
    assert site.dom0.domain_info(1).shutdown == SHUTDOWN_poweroff
    assert refused(site.front.bind_ipi, 0) == errno.ESRCH


def test_only_the_first_shutdown_counts(site) -> None:
    site.machine.shutdown_domain(1, SHUTDOWN_crash)
    site.run()
    site.machine.shutdown_domain(1, SHUTDOWN_poweroff)
    assert site.machine.run_loop.idle
    assert site.dom0.domain_info(1).shutdown == SHUTDOWN_crash


def test_a_stopped_domain_receives_events_but_runs_nothing(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    events = []
    site.back.set_handler(far, lambda: events.append(1))
    site.machine.shutdown_domain(2, SHUTDOWN_crash)
    site.front.send(near)
    site.run()
    assert events == []
    assert site.machine.channels.bits(2).is_pending(far)


@pytest.mark.parametrize("end", ["shutdown_domain", "destroy_domain"])
def test_deliveries_of_a_domain_that_ends_vanish(site, end: str) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    done = []
    site.back.set_handler(far, lambda: done.append("event"))
    site.back.defer(lambda: done.append("work"))
    site.front.send(near)
    getattr(site.machine, end)(2, *([SHUTDOWN_crash] if end == "shutdown_domain" else []))
    assert {delivery.domid for delivery in site.machine.run_loop.ready()} == {0}
    site.run()
    assert done == []


def test_a_domain_can_be_destroyed_by_its_own_handler(site) -> None:
    near, far = connect(site.front, site.back)
    site.run()
    site.back.set_handler(far, lambda: site.machine.destroy_domain(2))
    site.front.send(near)
    site.run()
    assert not site.back.alive
    site.front.send(near)
    site.run()


def test_a_destroyed_domain_makes_no_hypercalls(site) -> None:
    back = site.kernel(site.back)
    run = back.alloc_pages(1)
    site.machine.destroy_domain(2)
    calls = [
        lambda: back.alloc_pages(1),
        lambda: back.map_grant(1, 8),
        lambda: back.grant_copy(memoryview(bytes(40)).cast("I"), 1),
        lambda: back.alloc_unbound(1),
        lambda: back.bind_interdomain(1, 1),
        lambda: back.notify(1),
        lambda: back.close_port(1),
        lambda: back.on_event(1, print),
        lambda: back.defer(print),
        lambda: site.back.mask(1),
        lambda: site.back.setup_table(DOMID_SELF, 2),
        lambda: site.back.table_pages(1, 1),
        lambda: site.back.shutdown(0),
    ]
    for call in calls:
        assert refused(call) == errno.ESRCH
    with pytest.raises(ValueError, match="holds no run"):
        back.free_pages(run)


def test_the_other_end_of_a_destroyed_domain_is_unbound_and_harmless(site) -> None:
    near, _ = connect(site.front, site.back)
    site.machine.destroy_domain(2)
    site.front.send(near)
    site.front.close(near)


def test_destruction_gives_everything_back(site) -> None:
    used = site.machine.memory.used
    extra = site.machine.create_domain(grant_version=2)
    kernel = site.kernel(extra)
    kernel.alloc_pages(7)
    grefs = [kernel.grants.grant_access(1, kernel.alloc_pages(1).first) for _ in range(300)]
    assert max(grefs) > 256
    connect(extra, site.front)
    site.run()
    site.machine.destroy_domain(extra.domid)
    site.run()
    assert site.machine.memory.used == used
    assert site.machine.domain_info(extra.domid) is None


def test_a_destroyed_domain_whose_page_is_mapped_is_a_zombie(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    used = site.machine.memory.used
    run = front.alloc_pages(4)
    run.u8[:4] = b"ring"
    mapping = back.map_grant(1, front.grants.grant_access(2, run.first))
    site.machine.destroy_domain(1)
    site.run()
    assert site.dom0.domain_info(1).dying
    assert mapping.page.u8[:4] == b"ring"
    with pytest.raises(ValueError, match="domain 1"):
        site.machine.create_domain(1)
    back.unmap_grant(mapping)
    assert site.machine.domain_info(1) is None
    assert site.machine.run_loop.ready() == (Delivery("evtchn", 0, virq_port(site)),)
    assert site.machine.memory.used < used
    site.machine.create_domain(1, evtchn_abi=site.abi)
    site.machine.build_store_ring(1)
    assert site.machine.memory.used == used


def test_two_zombies_that_map_each_other_both_go(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    frames = front.alloc_pages(1).first, back.alloc_pages(1).first
    back.map_grant(1, front.grants.grant_access(2, frames[0]))
    front.map_grant(2, back.grants.grant_access(1, frames[1]))
    site.machine.destroy_domain(1)
    assert site.machine.domain_info(1).dying
    site.machine.destroy_domain(2)
    site.run()  # xenstored lets go of their rings
    assert site.machine.domain_info(1) is None
    assert site.machine.domain_info(2) is None


def test_the_shared_info_and_table_of_a_zombie_stay_if_they_are_what_is_mapped(site) -> None:
    """A guest may grant these pages as well; freeing them would lend out the next owner's."""
    front, back = site.kernel(site.front), site.kernel(site.back)
    table = site.machine.grant_tables.table_frames(1)[0]
    mappings = [
        back.map_grant(1, front.grants.grant_access(2, frame))
        for frame in (site.front.shared_info.first, table)
    ]
    site.machine.destroy_domain(1)
    greedy = site.machine.create_domain()
    taken = {greedy.alloc_pages(1).first for _ in range(100)}
    assert not taken & {mapping.page.first for mapping in mappings}
    for mapping in mappings:
        back.unmap_grant(mapping)
    site.run()  # xenstored lets go of its ring
    assert site.machine.domain_info(1) is None


def test_the_control_domain_cannot_be_destroyed(site) -> None:
    assert refused(site.machine.destroy_domain, 0) == errno.EINVAL
    assert site.dom0.running


@pytest.mark.parametrize("domid", [9, -1])
def test_a_domain_that_is_not_there_can_be_neither_stopped_nor_destroyed(site, domid) -> None:
    assert refused(site.machine.destroy_domain, domid) == errno.ESRCH
    assert refused(site.machine.shutdown_domain, domid, 0) == errno.ESRCH


def test_a_destroyed_domain_cannot_be_destroyed_again(site) -> None:
    back = site.kernel(site.back)
    front = site.kernel(site.front)
    back.map_grant(1, front.grants.grant_access(2, front.alloc_pages(1).first))
    site.machine.destroy_domain(1)
    assert refused(site.machine.destroy_domain, 1) == errno.ESRCH


def test_domain_information_is_for_the_control_domain(site) -> None:
    assert refused(site.front.domain_info, 2) == errno.EPERM
    assert refused(site.dom0.domain_info, 9) == errno.ESRCH
    assert site.dom0.domain_info(2).name == "back"


# The leak report


def test_fresh_domains_hold_nothing(site) -> None:
    report = site.machine.leaks()
    assert not report
    assert str(report) == "no domain holds anything"


def test_the_leak_report_names_everything_that_is_held(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    ports = connect(site.front, site.back)
    run = front.alloc_pages(2)
    gref = front.grants.grant_access(2, run.first)
    back.map_grant(1, gref)
    report = site.machine.leaks()
    assert report
    _, held, holder = report.domains
    assert [g.gref for g in held.granted] == [g.gref for g in held.pinned] == [gref]
    assert (held.ports, held.pages) == ((ports[0],), 2)
    assert [(m.domid, m.gref) for m in holder.mappings] == [(1, gref)]
    text = str(report)
    for line in (
        f"domain 1 (front) grants reference {gref} (frame {run.first:#x}) to domain 2, in use",
        f"domain 1 (front) has port {ports[0]} open",
        "domain 1 (front) holds 2 pages",
        f"domain 2 (back) maps reference {gref} of domain 1 (frame {run.first:#x})",
        f"domain 2 (back) has port {ports[1]} open",
    ):
        assert line in text.splitlines()


def test_virqs_and_ipis_are_no_leak(site) -> None:
    site.front.bind_ipi(0)
    assert not site.machine.leaks()


def test_a_mapping_is_undone_once_by_its_handle(site) -> None:
    front = site.kernel(site.front)
    gref = front.grants.grant_access(2, front.alloc_pages(1).first)
    assert site.back.map_grant_ref(1, gref, 0) == (GNTST_bad_gntref, -1, None)
    status, handle, page = site.back.map_grant_ref(1, gref, GNTMAP_host_map)
    assert (status, page is None) == (GNTST_okay, False)
    assert site.back.unmap_grant_ref(handle) == GNTST_okay
    assert site.back.unmap_grant_ref(handle) == GNTST_bad_handle
