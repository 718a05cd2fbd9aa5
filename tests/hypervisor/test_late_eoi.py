"""Spurious events on the emulated machine: the port's mask bit, the run loop's timers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.vif.counters import BackendCounters
from xennet.vif.late_eoi import HZ, JIFFY, LateEoi
from xennet.xenstored.service import XenStoreService


class Channel:
    """A sender's end and a listener's, which hears at ``heard`` what was published."""

    def __init__(self, evtchn_abi: str = "2l") -> None:
        self.machine = Machine(256, max_grant_frames=1)
        domains = (
            self.machine.create_domain(0),
            self.machine.create_domain(1, evtchn_abi=evtchn_abi),
        )
        service = XenStoreService(self.machine)
        self.sender, self.listener = (
            GuestKernel(domain, service.connect(domain, "kernel")) for domain in domains
        )
        self.counters = BackendCounters()
        self.published = 0
        self.heard: list[tuple[int, int]] = []
        self.port = self.listener.alloc_unbound(0)
        self.far = self.sender.bind_interdomain(1, self.port)
        self.eoi = LateEoi(self.listener, self.port, self.counters)
        self.listener.on_event(self.port, self._event)

    def _event(self) -> None:
        self.heard.append((self.listener.now, self.published))
        self.eoi.heard(self.published)

    def send(self) -> None:
        self.sender.notify(self.far)
        self.machine.run_loop.run_until_idle()


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_an_event_that_is_held_back_arrives_when_the_delay_is_over(abi: str) -> None:
    channel = Channel(abi)
    for _ in range(50):
        channel.send()
    assert [when for when, _ in channel.heard] == [0, 0]
    channel.published = 1
    channel.send()
    channel.machine.run_loop.run_until_idle(advance_timers=True)
    assert channel.heard[2:] == [(JIFFY, 1)]
    assert not channel.eoi.delayed


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_a_storm_gets_a_second_between_two_looks_and_no_less_than_its_share(abi: str) -> None:
    channel = Channel(abi)
    loop = channel.machine.run_loop
    while loop.now < 100 * HZ * JIFFY:
        channel.send()
        channel.send()
        loop.advance(JIFFY)
    looks = [when for when, _ in channel.heard]
    assert max(later - earlier for earlier, later in pairwise(looks)) == HZ * JIFFY
    assert 100 <= len(looks) <= 111


def test_a_domain_that_dies_during_a_delay_is_not_woken() -> None:
    channel = Channel()
    for _ in range(3):
        channel.send()
    assert channel.eoi.delayed
    channel.machine.destroy_domain(1)
    channel.machine.run_loop.run_until_idle(advance_timers=True)
    assert len(channel.heard) == 2


def test_a_port_that_is_gone_when_the_delay_ends_is_left_alone() -> None:
    channel = Channel()
    for _ in range(3):
        channel.send()
    channel.listener.close_port(channel.port)
    channel.machine.run_loop.run_until_idle(advance_timers=True)
    assert not channel.eoi.delayed
