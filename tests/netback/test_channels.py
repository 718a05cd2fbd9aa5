"""Event channels of a queue: one or two, storms, and a frontend that plays with event indices."""

from __future__ import annotations

import pytest
from back_world import BackWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from minimal_hv import MinimalMachine
from vif_peers import RawFrontend

from xennet.netback.queue import Queue

U32 = st.integers(0, 0xFFFFFFFF)


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
    front.rx_ring.push_requests()
    front.guest.notify(front.rx_port)
    front.machine.run()
    assert set(passes) == {"poll_rx"}
    passes.clear()
    front.stack.room = 0
    front.tx(60)
    front.tx_ring.push_requests()
    front.guest.notify(front.port)
    front.machine.run()
    assert set(passes) == {"poll_tx"}


def test_an_event_on_the_channel_of_the_other_ring_is_not_looked_into() -> None:
    front = RawFrontend(split=True)
    front.machine.run()
    front.tx(60)
    front.tx_ring.push_requests()
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
    front.tx_ring.push_requests()
    front.guest.notify(front.port)
    front.machine.run()
    assert len(front.rx_responses()) == 1


def test_responses_are_announced_on_the_channel_of_their_ring() -> None:
    front = RawFrontend(split=True, rx_buffers=4)
    front.machine.run()
    heard: list[str] = []
    front.guest.on_event(front.port, lambda: heard.append("tx"))
    front.guest.on_event(front.rx_port, lambda: heard.append("rx"))
    front.tx(60)
    front.tx_ring.push_requests()
    front.guest.notify(front.port)
    front.machine.run()
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
    assert front.counters.spurious == before + 100
    assert passes == []


def test_F19_an_event_with_work_is_not_spurious() -> None:
    front = RawFrontend()
    front.machine.run()
    before = front.counters.spurious
    front.tx(60)
    front.tx_ring.push_requests()
    front.guest.notify(front.port)
    front.machine.run()
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
    # For each unit of somebody's work at most two events are delivered, each without a pass.
    assert machine.run(limit=1000) <= 100 + 200
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
@given(events=st.lists(U32, min_size=1, max_size=20))
def test_F20_a_frontend_that_overwrites_req_event_hurts_itself_only(events: list[int]) -> None:
    # Whatever it writes there, a kick of the host or an event of its own is enough to go on.
    front = RawFrontend()
    for req_event in events:
        front.tx_ring.sring.req_event = req_event
        front.rx_ring.sring.req_event = req_event
        front.tx(60)
        front.push()
        assert front.statuses() == [0]
    assert front.fatal == []


def test_binding_makes_the_channel_pending_so_that_nothing_is_missed() -> None:
    world = BackWorld()
    world.prepare()
    world.queues[0].tx()
    world.queues[0].tx_ring.push_requests()
    world.state(4)
    assert len(world.stack.received) == 1
