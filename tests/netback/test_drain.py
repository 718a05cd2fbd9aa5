"""Packets for a guest that posts too few buffers: they wait, expire, and take the carrier along."""

from __future__ import annotations

import pytest
from back_world import BackWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import RawFrontend

from xennet.netback.drain import Carrier
from xennet.netback.policy import VifOptions

MS = 1_000_000
SECOND = 1000 * MS


def later(front: RawFrontend, ns: int) -> None:
    front.machine.advance(ns)
    front.machine.run()


def give(front: RawFrontend, *sizes: int) -> None:
    """The host has frames for the guest."""
    front.stack.to_send += [bytes(size) for size in sizes]
    front.run()


def post(front: RawFrontend, count: int, *, notify: bool = True) -> bool:
    """The guest posts buffers; whether the backend wanted to hear of it."""
    for _ in range(count):
        front.post_rx()
    if notify:
        return front.push_rx()
    wanted = front.rx_ring.push_requests_and_check_notify()
    front.machine.run()
    return wanted


def test_packets_wait_for_buffers_and_the_backend_asks_to_be_told() -> None:
    front = RawFrontend()
    give(front, 60, 60)
    later(front, 9 * SECOND)
    assert post(front, 2)
    assert len(front.rx_responses()) == 2
    assert front.counters.expired == 0


def test_the_backend_is_told_of_the_very_next_buffer() -> None:
    front = RawFrontend()
    give(front, 60, 60)
    assert post(front, 1)
    assert len(front.rx_responses()) == 1


def test_F18_packets_that_found_no_buffer_expire_after_10_s() -> None:
    front = RawFrontend()
    give(front, 60, 60, 60)
    later(front, 10 * SECOND - 1)
    assert front.counters.expired == 0
    later(front, 1)
    assert front.counters.expired == 3
    post(front, 3)
    assert front.rx_responses() == []


def test_the_time_of_packets_that_come_later_begins_later() -> None:
    front = RawFrontend()
    give(front, 60)
    later(front, 9 * SECOND)
    # The host keeps this one: a batch waits already.
    give(front, 61)
    later(front, 1 * SECOND)
    assert front.counters.expired == 1
    later(front, 10 * SECOND - 1)
    assert front.counters.expired == 1
    later(front, 1)
    assert front.counters.expired == 2


def test_sending_part_of_a_batch_does_not_give_the_rest_more_time() -> None:
    front = RawFrontend()
    give(front, 60, 60)
    later(front, 5 * SECOND)
    post(front, 1)
    later(front, 5 * SECOND)
    assert front.counters.expired == 1


def test_F18_a_guest_that_posts_nothing_cannot_make_the_backend_keep_more_than_a_batch() -> None:
    front = RawFrontend()
    give(front, *[1500] * 3000)
    held = 3000 - len(front.stack.to_send)
    assert held == 256
    for _ in range(12):
        assert front.queue.rx.batch.count <= 256
        later(front, 10 * SECOND)
    assert front.stack.to_send == []
    assert front.counters.expired + front.counters.dropped == 3000


def test_without_rx_notify_packets_expire_after_30_ms() -> None:
    front = RawFrontend(rx_notify=False)
    give(front, 60)
    later(front, 30 * MS - 1)
    assert front.counters.expired == 0
    later(front, 1)
    assert front.counters.expired == 1


def test_without_rx_notify_the_backend_looks_for_buffers_by_itself() -> None:
    front = RawFrontend(rx_notify=False)
    give(front, 60, 60)
    post(front, 2, notify=False)
    assert front.rx_responses() == []
    later(front, 30 * MS)
    assert len(front.rx_responses()) == 2
    assert front.counters.expired == 0


def test_without_rx_notify_a_queue_never_stalls() -> None:
    front = RawFrontend(rx_notify=False)
    for _ in range(50):
        give(front, 60)
        later(front, 10 * SECOND)
    assert front.side.carrier.up
    assert front.counters.expired == 50


def starve(front: RawFrontend, seconds: int, size: int = 60) -> None:
    """The host has a packet every second."""
    for _ in range(seconds):
        give(front, size)
        later(front, SECOND)


def test_a_minute_without_progress_takes_the_carrier() -> None:
    front = RawFrontend()
    starve(front, 59)
    assert front.side.carrier.up
    starve(front, 2)
    assert not front.side.carrier.up
    assert front.queue.stalled


def test_progress_starts_the_minute_again() -> None:
    front = RawFrontend()
    starve(front, 50)
    post(front, 1)
    starve(front, 50)
    assert front.side.carrier.up


def test_F18_one_free_slot_is_no_progress_for_packets_that_need_more() -> None:
    # XSA-392: judged against the slots that are needed, not against there being any.
    front = RawFrontend(rx_buffers=1)
    starve(front, 61, size=6000)
    assert not front.side.carrier.up


def test_frames_are_dropped_and_counted_while_there_is_no_carrier() -> None:
    front = RawFrontend()
    starve(front, 61)
    before = front.counters.dropped
    give(front, *[60] * 500)
    assert front.stack.to_send == []
    assert front.counters.dropped == before + 500


def test_the_carrier_returns_when_as_many_buffers_are_posted_as_were_lacking() -> None:
    front = RawFrontend()
    starve(front, 61, size=10_000)
    assert not front.side.carrier.up
    assert post(front, 1)
    assert post(front, 1)
    assert not front.side.carrier.up
    assert post(front, 1)
    assert front.side.carrier.up
    assert not front.queue.stalled
    give(front, 10_000)
    assert len(front.rx_responses()) == 3


def test_a_stalled_guest_may_still_transmit() -> None:
    front = RawFrontend()
    starve(front, 61)
    front.tx(60)
    front.push()
    assert front.statuses() == [0]
    assert len(front.stack.received) == 1


def test_one_stalled_queue_is_enough_to_lose_the_carrier_of_the_vif() -> None:
    changes: list[bool] = []
    carrier = Carrier(changes.append)
    carrier.connect()
    carrier.stall(1)
    carrier.stall(1)
    carrier.stall(-1)
    assert not carrier.up
    carrier.stall(-1)
    assert carrier.up
    assert changes == [True, False, True]


def test_a_disabled_vif_does_not_come_back_by_posting_buffers() -> None:
    front = RawFrontend()
    starve(front, 61)
    front.tx_ring.sring.req_prod = 1000
    front.notify()
    assert len(front.fatal) == 1
    post(front, 10)
    assert not front.side.carrier.up


def test_times_of_0_are_never() -> None:
    front = RawFrontend(options=VifOptions(drain_timeout=0, stall_timeout=0))
    give(front, 60)
    later(front, 10**15)
    assert front.counters.expired == 0
    assert front.side.carrier.up
    assert front.machine.timers == []


def test_a_queue_that_may_stall_but_not_drain_wakes_up_to_see_it() -> None:
    front = RawFrontend(options=VifOptions(drain_timeout=0))
    give(front, 60)
    later(front, 60 * SECOND)
    assert not front.side.carrier.up


def test_no_timer_runs_while_buffers_suffice() -> None:
    front = RawFrontend(rx_buffers=200)
    give(front, *[60] * 200)
    assert front.machine.timers == []


def test_waiting_packets_and_their_timer_die_with_the_connection() -> None:
    world = BackWorld()
    world.connect()
    world.stack.to_send = [bytes(60)] * 3
    world.vif.kick()
    world.run()
    world.state(6)
    world.advance(100 * SECOND)
    assert world.held() == (0, 0, 0)
    assert world.vif.counters.expired == 0


def test_a_new_connection_is_not_stalled() -> None:
    world = BackWorld()
    world.connect()
    for _ in range(61):
        world.stack.to_send = [bytes(60)]
        world.vif.kick()
        world.run()
        world.advance(SECOND)
    assert not world.vif.carrier
    assert world.own_state == "4"
    world.reconnect()
    assert world.vif.carrier


@pytest.mark.parametrize("split", [False, True])
@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([60, 5000, 20_000]), st.integers(0, 8)),
        max_size=40,
    ),
    waits=st.lists(st.sampled_from([0, MS, 4 * SECOND, 30 * SECOND]), min_size=40, max_size=40),
)
def test_every_frame_of_the_host_is_sent_expired_dropped_or_waits(
    split: bool, steps: list[tuple[int, int, int]], waits: list[int]
) -> None:
    front = RawFrontend(split=split)
    given_frames = 0
    for (frames, size, buffers), wait in zip(steps, waits, strict=False):
        give(front, *[size] * frames)
        given_frames += frames
        front.rx_responses()
        post(front, min(buffers, front.rx_ring.free_requests))
        later(front, wait)
        counters, batch = front.counters, front.queue.rx.batch
        waiting = batch.count - front.queue.rx.next + len(front.stack.to_send)
        gone = counters.rx.packets + counters.expired + counters.dropped
        assert gone + waiting == given_frames
        assert front.side.carrier.up == (not front.queue.stalled)
    # A guest that behaves gets its carrier back, and what waits.
    front.rx_responses()
    post(front, front.rx_ring.free_requests)
    assert front.side.carrier.up
    assert front.queue.rx.empty
