"""Event channels of a queue: one or two, storms, and a frontend that plays with event indices."""

from __future__ import annotations

import pytest
from back_world import BackWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import RawFrontend

from xennet.netback.queue import Queue
from xennet.netback.xnb.policy import XNB
from xennet.testing.minimal_hypervisor import MinimalMachine
from xennet.vif.late_eoi import HZ, JIFFY

U32 = st.integers(0, 0xFFFFFFFF)
_SECOND = 1_000_000_000


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which passes are made, by name."""
    made: list[str] = []
    for name in ("poll_tx", "poll_rx"):
        real = getattr(Queue, name)

        def noted(queue: Queue, name: str = name, real: object = real) -> bool:
            made.append(name)
            return real(queue)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(Queue, name, noted)
    return made


def test_with_split_channels_each_event_runs_its_own_ring_only(passes: list[str]) -> None:
    front = RawFrontend(split=True)
    front.machine.run()
    passes.clear()
    front.post_rx()
    assert front.push_rx()
    assert set(passes) == {"poll_rx"}
    passes.clear()
    front.stack.room = 0
    front.tx(60)
    assert front.push()
    assert set(passes) == {"poll_tx"}


def test_an_event_on_the_channel_of_the_other_ring_is_not_looked_into() -> None:
    front = RawFrontend(split=True)
    front.machine.run()
    front.tx(60)
    assert front.tx_ring.push_requests_and_check_notify()
    front.guest.notify(front.rx_port)
    front.machine.run()
    assert front.stack.received == []


def test_what_a_packet_provokes_is_sent_without_an_event_of_the_other_channel() -> None:
    # An echo: the host answers while it is given the packet.
    front = RawFrontend(split=True, rx_buffers=4)
    push = front.stack.push

    def echo(batch):  # type: ignore[no-untyped-def]
        push(batch)
        front.stack.to_send += front.stack.received

    front.stack.push = echo  # type: ignore[method-assign]
    front.tx(60)
    assert front.push()
    assert len(front.rx_responses()) == 1


def test_responses_are_announced_on_the_channel_of_their_ring() -> None:
    front = RawFrontend(split=True, rx_buffers=4)
    front.machine.run()
    heard: list[str] = []
    front.guest.on_event(front.port, lambda: heard.append("tx"))
    front.guest.on_event(front.rx_port, lambda: heard.append("rx"))
    front.tx(60)
    assert front.push()
    assert heard == ["tx"]
    front.stack.to_send = [bytes(60)]
    front.run()
    assert heard == ["tx", "rx"]


@pytest.mark.parametrize("split", [False, True])
def test_F19_an_event_that_brings_no_work_is_counted_and_makes_no_pass(
    split: bool, passes: list[str]
) -> None:
    front = RawFrontend(split=split)
    front.machine.run()
    before = front.counters.spurious
    passes.clear()
    for port in (front.port, front.rx_port):
        for _ in range(50):
            front.guest.notify(port)
            front.machine.run()
            front.machine.advance(_SECOND)
            front.machine.run()
    assert front.counters.spurious == before + 100
    assert passes == []


def stormed(front: RawFrontend, rounds: int, port: int | None = None) -> list[int]:
    """Events without work, each as soon as the last one's delay is over; the delays, in jiffies."""
    delays = []
    for _ in range(rounds):
        before = front.counters.jiffies_eoi_delayed
        front.guest.notify(front.port if port is None else port)
        front.machine.run()
        delays.append(front.counters.jiffies_eoi_delayed - before)
        front.machine.advance(delays[-1] * JIFFY)
    return delays


def test_F19_spurious_events_delay_the_next_ones_for_longer_and_longer() -> None:
    front = RawFrontend()
    front.machine.run()  # the port was pending when it was bound: the one that is forgiven
    assert front.counters.spurious == 1
    delays = stormed(front, 12)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 250, 250, 250, 250]
    assert delays[-1] == HZ  # a second


def test_F19_an_event_with_work_makes_the_delays_short_again() -> None:
    front = RawFrontend()
    front.machine.run()
    assert stormed(front, 4) == [1, 2, 4, 8]
    front.tx(60)
    assert front.push()
    assert len(front.stack.received) == 1
    assert stormed(front, 3) == [0, 1, 2]


def test_F19_what_comes_during_a_delay_is_looked_at_when_it_ends() -> None:
    front = RawFrontend()
    front.machine.run()
    assert stormed(front, 3) == [1, 2, 4]
    front.guest.notify(front.port)
    front.machine.run()  # eight jiffies begin
    front.tx(60)
    assert front.push()
    front.machine.advance(8 * JIFFY - 1)
    assert front.machine.run() == 0
    assert front.stack.received == []
    front.machine.advance(1)
    front.machine.run()
    assert len(front.stack.received) == 1


def test_F19_the_host_is_served_during_a_delay() -> None:
    front = RawFrontend(rx_buffers=4)
    front.machine.run()
    for _ in range(3):
        front.guest.notify(front.port)
        front.machine.run()
    front.tx(60)
    assert front.publish_tx()
    front.stack.to_send = [bytes(60)]
    front.run()  # it has frames for the guest
    assert len(front.rx_responses()) == len(front.stack.received) == 1


def test_F19_the_channels_of_a_queue_are_delayed_each_for_itself() -> None:
    front = RawFrontend(split=True)
    front.machine.run()
    assert stormed(front, 3)[-1] == 4
    front.guest.notify(front.port)
    front.machine.run()
    front.post_rx()
    front.stack.to_send = [bytes(60)]
    assert front.push_rx()
    assert len(front.rx_responses()) == 1


def test_F19_requests_that_nobody_takes_do_not_excuse_a_storm(passes: list[str]) -> None:
    front = RawFrontend()
    front.stack.room = 0
    front.machine.run()
    front.tx(60)
    assert front.push()
    passes.clear()
    for _ in range(1000):
        front.guest.notify(front.port)
        front.machine.run()
    assert len(passes) <= 4
    front.make_room(1)
    assert len(front.stack.received) == 1


def test_F19_a_queue_that_is_disconnected_during_a_delay_leaves_no_timer() -> None:
    front = RawFrontend()
    front.machine.run()
    front.guest.notify(front.port)
    front.machine.run()
    front.queue.disconnect()
    front.machine.advance(_SECOND)
    assert front.machine.run() == 0


@pytest.mark.parametrize("split", [False, True])
def test_F19_xnb_has_no_late_eoi(split: bool) -> None:
    front = RawFrontend(policy=XNB, split=split)
    assert stormed(front, 20) == [0] * 20
    assert front.counters.spurious >= 20


def test_F19_an_event_with_work_is_not_spurious() -> None:
    front = RawFrontend()
    front.machine.run()
    before = front.counters.spurious
    front.tx(60)
    assert front.push()
    assert front.counters.spurious == before


def test_F19_a_storm_of_events_is_one_delivery_at_a_time_behind_everybody_elses() -> None:
    front = RawFrontend()
    front.machine.run()
    for _ in range(10_000):
        front.guest.notify(front.port)
    order: list[str] = []
    front.machine.queue.append(lambda: order.append("another vif"))
    for _ in range(10_000):
        front.guest.notify(front.port)
    assert front.machine.run() == 2
    assert order == ["another vif"]


@pytest.mark.parametrize("split", [False, True])
def test_F19_a_guest_that_sends_an_event_at_every_delivery_starves_nobody(split: bool) -> None:
    # Two guests of one machine would share its queue just so.
    front = RawFrontend(split=split)
    machine: MinimalMachine = front.machine
    machine.run()
    served = 0

    def storm() -> None:
        front.guest.notify(front.port)
        front.guest.notify(front.rx_port)

    def work() -> None:
        nonlocal served
        served += 1
        storm()
        if served < 100:
            machine.queue.append(work)

    machine.queue.append(work)
    # Two events for each channel, one of which is forgiven; the next ones have to wait.
    assert machine.run(limit=1000) <= 100 + 4
    assert served == 100


@settings(max_examples=60, deadline=None)
@given(events=st.lists(U32, min_size=1, max_size=20), split=st.booleans())
def test_F20_rsp_event_only_decides_about_notifications(events: list[int], split: bool) -> None:
    front = RawFrontend(split=split, rx_buffers=64)
    front.machine.run()
    for rsp_event in events:
        front.tx_ring.sring.rsp_event = rsp_event
        front.rx_ring.sring.rsp_event = rsp_event
        front.tx(60)
        front.stack.to_send = [bytes(60)]
        front.push()
        assert front.statuses() == [0]
        assert len(front.rx_responses()) == 1
    assert front.fatal == []
    assert len(front.stack.received) == len(events)


@settings(max_examples=40, deadline=None)
@given(events=st.lists(st.tuples(U32, st.booleans()), min_size=1, max_size=20))
def test_F20_a_frontend_that_overwrites_req_event_hurts_itself_only(
    events: list[tuple[int, bool]],
) -> None:
    # Whatever it writes there, a frame of the host or an event of its own is enough to go on.
    front = RawFrontend()
    for req_event, by_host in events:
        front.tx_ring.sring.req_event = req_event
        front.rx_ring.sring.req_event = req_event
        front.tx(60)
        if not front.push():
            if by_host:
                front.stack.to_send.append(bytes(60))
                front.run()
            else:
                front.notify()
        assert front.statuses() == [0]
    assert front.fatal == []


def test_binding_makes_the_channel_pending_so_that_nothing_is_missed() -> None:
    world = BackWorld()
    world.prepare()
    world.queues[0].tx()
    world.queues[0].publish()
    world.state(4)
    assert len(world.stack.received) == 1
