"""The event-channel hypercalls: who may do what, in Xen's order of checks, and what it leads to."""

from __future__ import annotations

import errno

import pytest
from evtchn_bench import refused

from xennet.abi.event_channel import (
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from xennet.abi.xen import DOMID_SELF, NR_VIRQS, VIRQ_ARGO, VIRQ_DOM_EXC, VIRQ_TIMER
from xennet.evtchn import ChannelStatus

# alloc_unbound


def test_ports_are_handed_out_from_1_lowest_first(bench) -> None:
    channels = bench.channels
    assert [channels.alloc_unbound(1, DOMID_SELF, 2) for _ in range(3)] == [1, 2, 3]
    channels.close(1, 2)
    channels.close(1, 1)
    assert [channels.alloc_unbound(1, DOMID_SELF, 2) for _ in range(3)] == [1, 2, 4]


def test_a_domain_has_4095_or_131071_ports_and_then_no_space(bench) -> None:
    ports = [bench.channels.bind_ipi(1, 0) for _ in range(1, bench.nr_ports)]
    assert ports == list(range(1, bench.nr_ports))
    assert refused(bench.channels.alloc_unbound, 1, DOMID_SELF, 2) == errno.ENOSPC
    bench.channels.close(1, 77)
    assert bench.channels.bind_ipi(1, 0) == 77


def test_only_the_control_domain_allocates_ports_for_others(bench) -> None:
    assert refused(bench.channels.alloc_unbound, 1, 2, 1) == errno.EPERM
    assert bench.channels.alloc_unbound(0, 2, 1) == 1
    assert bench.channels.bind_interdomain(1, 2, 1) == 1


def test_allocating_for_a_domain_that_is_not_there(bench) -> None:
    assert refused(bench.channels.alloc_unbound, 0, 9, 1) == errno.ESRCH


def test_full_comes_before_forbidden(bench) -> None:
    for _ in range(1, bench.nr_ports):
        bench.channels.bind_ipi(2, 0)
    assert refused(bench.channels.alloc_unbound, 1, 2, 1) == errno.ENOSPC


def test_the_remote_domain_need_not_exist_yet(bench) -> None:
    port = bench.channels.alloc_unbound(1, DOMID_SELF, 77)
    assert bench.channels.status(1, 1, port) == ChannelStatus(EVTCHNSTAT_unbound, dom=77)


# bind_interdomain


def test_binding_connects_both_ends(bench) -> None:
    local, remote = bench.connect(1, 2)
    assert bench.channels.status(1, 1, local) == ChannelStatus(
        EVTCHNSTAT_interdomain, dom=2, port=remote
    )
    assert bench.channels.status(2, 2, remote) == ChannelStatus(
        EVTCHNSTAT_interdomain, dom=1, port=local
    )


def test_binding_makes_the_local_port_pending_because_events_may_have_been_lost(bench) -> None:
    remote = bench.channels.alloc_unbound(2, DOMID_SELF, 1)
    bench.channels.send(2, remote)
    assert bench.upcalls == []
    local = bench.channels.bind_interdomain(1, 2, remote)
    assert bench.upcalls == [(1, local)]
    assert bench.channels.bits(1).is_pending(local)
    assert not bench.channels.bits(2).is_pending(remote)


def test_only_the_domain_that_was_named_may_bind(bench) -> None:
    remote = bench.channels.alloc_unbound(2, DOMID_SELF, 1)
    assert refused(bench.channels.bind_interdomain, 0, 2, remote) == errno.EINVAL
    assert bench.channels.open_channels(0) == []


def test_binding_to_a_domain_that_is_not_there(bench) -> None:
    assert refused(bench.channels.bind_interdomain, 1, 9, 1) == errno.ESRCH


def test_a_full_table_is_noticed_before_a_wrong_remote_port(bench) -> None:
    for _ in range(1, bench.nr_ports):
        bench.channels.bind_ipi(1, 0)
    assert refused(bench.channels.bind_interdomain, 1, 2, 999) == errno.ENOSPC


def test_a_domain_can_talk_to_itself(bench) -> None:
    first = bench.channels.alloc_unbound(1, DOMID_SELF, DOMID_SELF)
    second = bench.channels.bind_interdomain(1, DOMID_SELF, first)
    bench.channels.send(1, second)
    assert bench.upcalls == [(1, second), (1, first)]
    bench.channels.close(1, first)
    assert bench.channels.status(1, 1, second) == ChannelStatus(EVTCHNSTAT_unbound, dom=1)


# bind_virq, bind_ipi, bind_pirq, bind_vcpu


@pytest.mark.parametrize(
    ("virq", "vcpu", "error"),
    [
        (-1, 0, errno.EINVAL),
        (NR_VIRQS, 0, errno.EINVAL),
        (NR_VIRQS, 9, errno.EINVAL),
        (VIRQ_ARGO, 1, errno.EINVAL),
        (VIRQ_ARGO, 9, errno.EINVAL),
        (VIRQ_TIMER, 2, errno.ENOENT),
        (VIRQ_TIMER, -1, errno.ENOENT),
    ],
)
def test_a_virq_that_cannot_be_bound(bench, virq: int, vcpu: int, error: int) -> None:
    assert refused(bench.channels.bind_virq, 1, virq, vcpu) == error


def test_a_virq_is_bound_once_per_vcpu(bench) -> None:
    bench.channels.bind_virq(1, VIRQ_TIMER, 0)
    bench.channels.bind_virq(1, VIRQ_TIMER, 1)
    assert refused(bench.channels.bind_virq, 1, VIRQ_TIMER, 1) == errno.EEXIST


def test_a_virq_can_be_bound_again_after_its_port_was_closed(bench) -> None:
    port = bench.channels.bind_virq(1, VIRQ_ARGO, 0)
    bench.channels.close(1, port)
    assert not bench.channels.raise_virq(1, VIRQ_ARGO)
    assert bench.channels.bind_virq(1, VIRQ_ARGO, 0) == port


def test_a_raised_virq_arrives_at_its_port(bench) -> None:
    port = bench.channels.bind_virq(0, VIRQ_DOM_EXC, 0)
    assert bench.channels.raise_virq(0, VIRQ_DOM_EXC)
    assert bench.upcalls == [(0, port)]
    assert bench.channels.status(0, 0, port) == ChannelStatus(EVTCHNSTAT_virq, virq=VIRQ_DOM_EXC)


def test_a_virq_that_nobody_bound_goes_nowhere(bench) -> None:
    assert not bench.channels.raise_virq(1, VIRQ_DOM_EXC)
    assert not bench.channels.raise_virq(9, VIRQ_DOM_EXC)


def test_a_virq_of_one_vcpu_is_not_that_of_another(bench) -> None:
    ports = [bench.channels.bind_virq(1, VIRQ_TIMER, vcpu) for vcpu in (0, 1)]
    bench.channels.raise_virq(1, VIRQ_TIMER, 1)
    assert bench.upcalls == [(1, ports[1])]


def test_an_ipi_is_sent_to_oneself_on_its_vcpu(bench) -> None:
    port = bench.channels.bind_ipi(1, 1)
    bench.channels.send(1, port)
    assert bench.upcalls == [(1, port)]
    assert bench.channels.status(1, 1, port) == ChannelStatus(EVTCHNSTAT_ipi, vcpu=1)
    assert bench.pages[1].u8[64] == 1  # vcpu_info[1].evtchn_upcall_pending


def test_an_ipi_needs_a_vcpu_that_exists(bench) -> None:
    assert refused(bench.channels.bind_ipi, 1, 2) == errno.ENOENT


def test_there_are_no_physical_interrupts(bench) -> None:
    assert refused(bench.channels.bind_pirq, 0, 9, 0) == errno.EINVAL


def test_events_go_to_the_vcpu_that_the_port_was_bound_to(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.bind_vcpu(2, remote, 1)
    bench.channels.send(1, local)
    assert (bench.pages[2].u8[0], bench.pages[2].u8[64]) == (0, 1)


def test_a_moved_virq_still_arrives(bench) -> None:
    port = bench.channels.bind_virq(1, VIRQ_ARGO, 0)
    bench.channels.bind_vcpu(1, port, 1)
    bench.channels.raise_virq(1, VIRQ_ARGO)
    assert (bench.pages[1].u8[0], bench.pages[1].u8[64]) == (0, 1)


def test_an_unknown_vcpu_is_noticed_before_an_unknown_port(bench) -> None:
    assert refused(bench.channels.bind_vcpu, 1, 999, 2) == errno.ENOENT


def test_a_reused_port_is_bound_to_vcpu_0_again(bench) -> None:
    port = bench.channels.alloc_unbound(1, DOMID_SELF, 2)
    bench.channels.bind_vcpu(1, port, 1)
    bench.channels.close(1, port)
    assert bench.channels.alloc_unbound(1, DOMID_SELF, 2) == port
    assert bench.channels.status(1, 1, port).vcpu == 0


# send, close


def test_a_send_makes_the_other_end_pending_once(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.send(1, local)
    bench.channels.send(1, local)
    assert bench.upcalls == [(2, remote)]
    assert bench.channels.bits(2).is_pending(remote)


def test_a_send_to_a_masked_port_waits_for_the_unmask(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.bits(2).mask(remote)
    bench.channels.send(1, local)
    assert bench.upcalls == []
    bench.channels.unmask(2, remote)
    assert bench.upcalls == [(2, remote)]


def test_closing_leaves_the_other_end_waiting_for_the_same_domain(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.close(1, local)
    assert bench.channels.status(2, 2, remote) == ChannelStatus(EVTCHNSTAT_unbound, dom=1)
    assert bench.channels.bind_interdomain(1, 2, remote) == local


def test_a_send_into_a_channel_whose_other_end_is_closed_is_silently_dropped(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.close(1, local)
    bench.channels.send(2, remote)
    assert bench.upcalls == []
    assert not bench.channels.bits(1).is_pending(local)


def test_closing_forgets_the_event_that_was_pending(bench) -> None:
    local, remote = bench.connect(1, 2)
    bench.channels.bits(2).mask(remote)
    bench.channels.send(1, local)
    bench.channels.close(2, remote)
    assert not bench.channels.bits(2).is_pending(remote)


# status, poll, unmask, reset


def test_a_closed_port_is_never_pending_for_a_poll(bench) -> None:
    port = bench.channels.bind_ipi(2, 0)
    bench.channels.close(2, port)
    bench.channels.bits(2).set_pending(port, 0)  # as the guest can in its own pages
    assert not bench.channels.poll(2, port)


def test_unmasking_a_closed_port_delivers_nothing(bench) -> None:
    port = bench.channels.bind_ipi(2, 0)
    bench.channels.close(2, port)
    bench.channels.bits(2).mask(port)
    bench.channels.bits(2).set_pending(port, 0)
    bench.channels.unmask(2, port)
    assert bench.upcalls == []


def test_status_of_another_domain_is_for_the_control_domain(bench) -> None:
    port = bench.channels.bind_ipi(2, 0)
    assert refused(bench.channels.status, 1, 2, port) == errno.EPERM
    assert bench.channels.status(0, 2, port).status == EVTCHNSTAT_ipi
    assert refused(bench.channels.status, 0, 9, port) == errno.ESRCH


def test_a_wrong_port_is_noticed_before_missing_privilege(bench) -> None:
    assert refused(bench.channels.status, 1, 2, 5000) == errno.EINVAL


def test_reset_closes_every_port(bench) -> None:
    local, remote = bench.connect(1, 2)
    for port in (bench.channels.bind_virq(1, VIRQ_TIMER, 0), bench.channels.bind_ipi(1, 0)):
        assert port
    bench.channels.reset(1, DOMID_SELF)
    assert bench.channels.open_channels(1) == []
    assert bench.channels.status(2, 2, remote) == ChannelStatus(EVTCHNSTAT_unbound, dom=1)
    assert bench.channels.bind_virq(1, VIRQ_TIMER, 0) == local


def test_reset_of_a_loopback_channel_closes_both_ends(bench) -> None:
    first = bench.channels.alloc_unbound(1, DOMID_SELF, DOMID_SELF)
    bench.channels.bind_interdomain(1, DOMID_SELF, first)
    bench.channels.reset(1, DOMID_SELF)
    assert bench.channels.open_channels(1) == []


@pytest.mark.parametrize(
    ("caller", "dom", "error"), [(1, 2, errno.EPERM), (0, 2, errno.EINVAL), (0, 9, errno.ESRCH)]
)
def test_reset_of_another_domain_is_refused(bench, caller: int, dom: int, error: int) -> None:
    assert refused(bench.channels.reset, caller, dom) == error


# domains that die


def test_a_dying_domain_loses_its_ports_and_gets_no_new_ones(bench) -> None:
    _, remote = bench.connect(1, 2)
    bench.channels.begin_dying(1)
    assert bench.channels.status(2, 2, remote) == ChannelStatus(EVTCHNSTAT_unbound, dom=1)
    assert refused(bench.channels.alloc_unbound, 0, 1, 2) == errno.EINVAL


def test_a_new_domain_with_the_old_number_may_bind_what_waits_for_it(bench) -> None:
    _, remote = bench.connect(1, 2)
    bench.channels.remove_domain(1)
    assert refused(bench.channels.alloc_unbound, 0, 1, 2) == errno.ESRCH
    bench.add_domain(1, 1)
    assert bench.channels.bind_interdomain(1, 2, remote) == 1
