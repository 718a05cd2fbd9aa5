"""Domains whose kernels receive events by the FIFO ABI."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.grant_table import GNTMAP_host_map, GNTST_bad_page, GNTST_okay
from xennet.abi.xen import DOMID_SELF
from xennet.hypervisor import Domain, Machine
from xennet.interface import HypercallError, OutOfFramesError
from xennet.observe import Hypercall


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine(512, max_grant_frames=1)
    machine.create_domain()
    yield machine
    machine.close()


@pytest.fixture
def guest(machine: Machine) -> Domain:
    return machine.create_domain(vcpus=2, evtchn_abi="fifo")


def refused(call, *args) -> int:
    with pytest.raises(HypercallError) as refusal:
        call(*args)
    return -refusal.value.status


def heard(domain: Domain, ports: list[int]) -> list[int]:
    """A list to which every handler of ``ports`` appends its port."""
    events: list[int] = []
    for port in ports:
        domain.set_handler(port, lambda port=port: events.append(port))
        domain.unmask(port)
    return events


# Birth and death


def test_the_abi_is_chosen_for_each_domain(machine, guest) -> None:
    assert [domain.evtchn_abi for domain in machine.domains] == ["2l", "fifo"]


def test_an_unknown_abi_is_refused(machine) -> None:
    used = machine.memory.used
    with pytest.raises(ValueError, match='"2l" or "fifo", not \'3l\''):
        machine.create_domain(evtchn_abi="3l")
    assert machine.memory.used == used


def test_a_new_domain_makes_the_hypercalls_of_a_booting_kernel(machine) -> None:
    calls: list[Hypercall] = []
    machine.observers.subscribe(calls.append, Hypercall)
    machine.create_domain(vcpus=2, evtchn_abi="fifo")
    ops = [(call.op, call.result) for call in calls]
    control = ("EVTCHNOP_init_control", 17)
    assert ops == [control, control, ("EVTCHNOP_expand_array", None)]


def test_its_pages_are_its_own_and_no_leak(machine, guest) -> None:
    plain = machine.create_domain(vcpus=2)
    owned = [len(machine.memory.owned_by(domain.domid)) for domain in (guest, plain)]
    assert owned[0] == owned[1] + 2 + 1
    assert not machine.leaks()


def test_nothing_is_left_of_a_destroyed_domain(machine) -> None:
    used = machine.memory.used
    guest = machine.create_domain(vcpus=4, evtchn_abi="fifo")
    ports = [guest.bind_ipi(0) for _ in range(3000)]
    for port in ports[::7]:
        guest.unmask(port)
        guest.send(port)
    machine.destroy_domain(guest.domid)
    machine.run_loop.run_until_idle()
    assert machine.memory.used == used
    assert machine.domain_info(guest.domid) is None


def test_a_kernel_can_change_to_the_abi_later(machine) -> None:
    guest = machine.create_domain()
    ports = [guest.bind_ipi(0) for _ in range(1500)]
    for port in ports:
        guest.send(port)
    guest.use_fifo_events()
    events = heard(guest, ports)
    machine.run_loop.run_until_idle()
    assert sorted(events) == ports
    assert not machine.leaks()


def test_the_abi_in_use_cannot_be_started_again(machine, guest) -> None:
    port = guest.bind_ipi(0)
    events = heard(guest, [port])
    guest.send(port)
    assert refused(guest.use_fifo_events) == errno.EINVAL
    machine.run_loop.run_until_idle()
    assert events == [port]


def test_a_kernel_comes_back_to_the_abi_after_a_reset(machine, guest) -> None:
    used = machine.memory.used
    ports = [guest.bind_ipi(0) for _ in range(1500)]
    events = heard(guest, ports)
    for port in ports:
        guest.send(port)
    guest.reset(DOMID_SELF)
    assert guest.evtchn_abi == "2l"
    machine.run_loop.run_until_idle()  # of what was about to be delivered nothing is left
    guest.use_fifo_events()
    assert [guest.bind_ipi(0) for _ in range(1500)] == ports
    again = heard(guest, ports)
    guest.send(ports[-1])
    machine.run_loop.run_until_idle()
    assert (events, again) == ([], [ports[-1]])
    assert machine.memory.used == used + 1  # the second page of words stays the domain's
    assert not machine.leaks()


def test_a_kernel_without_memory_for_the_change_is_no_worse_off_than_before() -> None:
    machine = Machine(256, max_grant_frames=1)
    machine.create_domain()
    guest = machine.create_domain(vcpus=3)
    filler = guest.alloc_pages(machine.memory.nr_frames - machine.memory.used - 2)
    with pytest.raises(OutOfFramesError):
        guest.use_fifo_events()
    assert guest.evtchn_abi == "2l"
    guest.free_pages(filler)
    guest.use_fifo_events()
    assert not machine.leaks()


# Many ports


def test_a_domain_can_have_more_than_4096_ports(machine, guest) -> None:
    ports = [guest.bind_ipi(0) for _ in range(5000)]
    assert ports == list(range(1, 5001))
    events = heard(guest, ports)
    order = random.Random(1).sample(ports, k=len(ports))
    for port in order:
        guest.send(port)
    assert machine.run_loop.run_until_idle() == 5000
    assert events == order


def test_a_port_that_another_domain_opened_gets_its_word_with_its_handler(machine, guest) -> None:
    control = machine.domain(0)
    port = [control.alloc_unbound(guest.domid, 0) for _ in range(1200)][-1]
    near = control.bind_interdomain(guest.domid, port)
    events = heard(guest, [port])
    control.send(near)
    machine.run_loop.run_until_idle()
    assert events == [port]


def test_an_event_before_the_handler_waits_for_it(machine, guest) -> None:
    control = machine.domain(0)
    port = [control.alloc_unbound(guest.domid, 0) for _ in range(1200)][-1]
    control.send(control.bind_interdomain(guest.domid, port))
    machine.run_loop.run_until_idle()
    events = heard(guest, [port])
    machine.run_loop.run_until_idle()
    assert events == [port]


def test_a_port_for_which_there_is_no_memory_is_not_opened(machine, guest) -> None:
    for _ in range(1023):
        guest.bind_ipi(0)
    guest.alloc_pages(machine.memory.nr_frames - machine.memory.used)
    with pytest.raises(OutOfFramesError):
        guest.bind_ipi(0)
    assert len(machine.channels.open_channels(guest.domid)) == 1023


@pytest.mark.parametrize("port", [131072, 10**9])
def test_a_handler_for_no_port_costs_no_memory(machine, guest, port: int) -> None:
    used = machine.memory.used
    guest.set_handler(port, lambda: None)
    assert machine.memory.used == used


# Priorities


def test_a_high_priority_is_handled_first(machine, guest) -> None:
    ports = [guest.bind_ipi(0) for _ in range(4)]
    guest.set_priority(ports[2], 0)
    guest.set_priority(ports[0], 15)
    guest.set_priority(ports[1], 7)
    events = heard(guest, ports)
    for port in ports:
        guest.send(port)
    machine.run_loop.run_until_idle()
    assert events == [ports[2], ports[1], ports[3], ports[0]]


def test_an_urgent_event_from_a_handler_overtakes_what_waits(machine, guest) -> None:
    first, second, urgent = (guest.bind_ipi(0) for _ in range(3))
    guest.set_priority(urgent, 0)
    events = heard(guest, [first, second, urgent])
    guest.set_handler(first, lambda: guest.send(urgent))
    guest.send(first)
    guest.send(second)
    machine.run_loop.run_until_idle()
    assert events == [urgent, second]


def test_priorities_are_among_the_events_of_one_vcpu(machine, guest) -> None:
    slow, urgent = guest.bind_ipi(0), guest.bind_ipi(1)
    guest.set_priority(urgent, 0)
    events = heard(guest, [slow, urgent])
    guest.send(slow)
    guest.send(urgent)
    machine.run_loop.run_until_idle()
    assert events == [slow, urgent]


def test_priorities_of_one_domain_do_not_delay_another(machine, guest) -> None:
    other = machine.create_domain()
    (port,) = ports = [other.bind_ipi(0)]
    events = heard(other, ports)
    mine = [guest.bind_ipi(0) for _ in range(2)]
    guest.set_priority(mine[1], 0)
    heard(guest, mine)
    other.send(port)
    for each in mine:
        guest.send(each)
    assert [d.ident for d in machine.run_loop.ready()] == [port, mine[1], mine[0]]
    machine.run_loop.step()
    assert events == [port]


def test_a_chooser_may_take_any_event_first(machine, guest) -> None:
    ports = [guest.bind_ipi(0) for _ in range(3)]
    events = heard(guest, ports)
    for port in ports:
        guest.send(port)
    machine.run_loop.run_until_idle(choose=lambda ready: len(ready) - 1)
    assert events == ports[::-1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 15), min_size=12, max_size=12),
    st.lists(st.integers(0, 11), max_size=40),
)
def test_events_are_handled_in_the_order_in_which_the_words_are_linked(priorities, sends) -> None:
    machine = Machine(64, max_grant_frames=1)
    guest = machine.create_domain(evtchn_abi="fifo")
    ports = [guest.bind_ipi(0) for _ in priorities]
    events = heard(guest, ports)
    for port, priority in zip(ports, priorities, strict=True):
        guest.set_priority(port, priority)
    for index in sends:
        guest.send(ports[index])
    pages = machine._records[0].event_pages
    block, words = pages.control[0].u32, pages.array[0].u32
    linked = []
    for priority in range(16):
        port = block[2 + priority] if block[0] >> priority & 1 else 0
        while port:
            linked.append(port)
            port = words[port] & 0x1FFFF
    machine.run_loop.run_until_idle()
    assert events == linked
    machine.close()


# Pages that the hypervisor has mapped


def test_an_event_page_that_the_guest_gives_up_has_no_new_owner_before_the_reset(machine) -> None:
    guest, other = machine.create_domain(), machine.create_domain()
    control, array = guest.alloc_pages(1), guest.alloc_pages(1)
    guest.init_control(control.first, 0, 0)
    guest.expand_array(array.first)
    first = array.first
    guest.free_pages(array)
    assert machine.leaks().domains[guest.domid].lingering == (first,)
    assert all(other.alloc_pages(1).first != first for _ in range(machine_room(machine)))
    port = guest.bind_ipi(0)
    guest.unmask(port)
    guest.send(port)
    machine.run_loop.run_until_idle()
    guest.reset(DOMID_SELF)
    assert machine.leaks().domains[guest.domid].lingering == ()
    assert bytes(other.alloc_pages(1).u8) == bytes(4096)


def machine_room(machine: Machine) -> int:
    return machine.memory.nr_frames - machine.memory.used


def test_an_event_page_that_somebody_else_has_mapped_lingers_until_both_let_go(machine) -> None:
    guest, back = machine.create_domain(), machine.create_domain()
    page = guest.alloc_pages(1)
    guest.init_control(page.first, 0, 0)
    _, frames = guest.setup_table(DOMID_SELF, 1)
    table = guest.table_pages(frames[0], 1)
    table.u32[2 * 8 + 1] = page.first
    table.u32[2 * 8] = back.domid << 16 | 1
    status, handle, _ = back.map_grant_ref(guest.domid, 8, GNTMAP_host_map)
    assert status == GNTST_okay
    first = page.first
    guest.free_pages(page)
    back.unmap_grant_ref(handle)
    assert machine.leaks().domains[guest.domid].lingering == (first,)
    guest.reset(DOMID_SELF)
    assert machine.leaks().domains[guest.domid].lingering == ()


def test_an_event_page_cannot_be_transferred_away(machine) -> None:
    guest = machine.create_domain()
    page = guest.alloc_pages(1)
    guest.init_control(page.first, 0, 0)
    assert guest.grant_transfer(page.first, 0, 8) == GNTST_bad_page
    assert page.u8[0] == 0  # still there


def test_only_memory_of_ones_own_can_be_offered(machine, guest) -> None:
    other = machine.create_domain()
    _, table = other.setup_table(DOMID_SELF, 1)
    foreign = guest.shared_info.first
    for gfn in (foreign, table[0], machine.memory.nr_frames, 2**60):
        assert refused(other.init_control, gfn, 0, 0) == errno.EINVAL


# Hostile guests


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), rounds=st.integers(1, 5))
def test_a_domain_that_scribbles_over_its_event_pages_hurts_only_itself(seed, rounds) -> None:
    """Random bits everywhere; the hypervisor and the other domain go on, and no page but the
    vandal's changes."""
    machine = Machine(64, max_grant_frames=1)
    machine.create_domain()
    vandal = machine.create_domain(vcpus=2, evtchn_abi="fifo")
    victim = machine.create_domain(evtchn_abi="fifo")
    far = vandal.alloc_unbound(DOMID_SELF, victim.domid)
    near = victim.bind_interdomain(vandal.domid, far)
    events = heard(victim, [near])
    machine.run_loop.run_until_idle()
    vandal.set_handler(far, lambda: vandal.send(far))
    events.clear()
    pages = machine._records[vandal.domid].event_pages
    noise = random.Random(seed)
    for _ in range(rounds):
        for page in (*pages, vandal.shared_info):
            page.u8[:] = noise.randbytes(4096)
        victim.send(near)
        vandal.unmask(far)
        own = vandal.bind_ipi(1)
        vandal.set_priority(own, noise.randrange(16))
        vandal.unmask(own)
        vandal.send(own)
        if noise.randrange(2):
            vandal.close(own)
        machine.run_loop.run_until_idle(limit=1000)
    events.clear()
    vandal.send(far)
    machine.run_loop.run_until_idle()
    assert events == [near]
    assert not machine.leaks().domains[0]
    vandal.reset(DOMID_SELF)
    vandal.use_fifo_events()
    port = vandal.bind_ipi(0)
    recovered = heard(vandal, [port])
    vandal.send(port)
    machine.run_loop.run_until_idle()
    assert recovered == [port]
    machine.destroy_domain(vandal.domid)
    machine.run_loop.run_until_idle()
    assert machine.domain_info(vandal.domid) is None
    machine.close()
