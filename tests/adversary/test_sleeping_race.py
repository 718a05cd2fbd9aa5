"""Nobody sleeps through work: at every point of a pass that ends in sleep, the peer publishes one
thing more and notifies exactly when its own ring macro says so. It has to be taken without another
kick (RING_FINAL_CHECK_FOR_REQUESTS, RING_FINAL_CHECK_FOR_RESPONSES).

The point that matters lies between the sleeper's last look at the index and its asking for an
event: the peer still sees the old event index there, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import control_sites
import pytest
from vif_peers import RawBackend, RawFrontend

from xennet.abi.netif import (
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
)
from xennet.abi.words import REQ_EVENT, RSP_EVENT
from xennet.adversary import STORE, Access, interleavings
from xennet.netback.policy import LINUX, BackendPolicy
from xennet.netback.xnb.policy import XNB
from xennet.netfront.multicast import MulticastChange
from xennet.ring import MASK32

FRAME = bytes(range(60))
SECOND = 1_000_000_000
#: xnb starts at index 0, whatever the ring holds.
BACKENDS = pytest.mark.parametrize(
    ("start", "policy"),
    [(0, LINUX), (MASK32 - 2, LINUX), (0, XNB)],
    ids=["linux", "linux-wrapping", "xnb"],
)
STARTS = pytest.mark.parametrize("start", [0, MASK32 - 2])


def every_point(
    scene: Callable[[], Any],
    run: Callable[[Any], object],
    publish: Callable[[Any, Access], None],
    settled: Callable[[Any], None],
    event_word: int,
) -> None:
    """Try ``publish`` at every point; ``settled`` then asserts that nothing was left lying. The
    sleeper asked for an event in the same run, or it was none."""
    asked = 0
    for access, world in interleavings(scene, run, publish):
        asked += access.kind == STORE and access.word == event_word
        try:
            settled(world)
        except AssertionError as lost:
            raise AssertionError(f"lost what was published at {access}") from lost
    assert asked


# -- netback -----------------------------------------------------------------------------------


def send(front: RawFrontend, count: int = 1) -> None:
    """``count`` frames from the guest."""
    for _ in range(count):
        front.tx(60, ident=front.tx_ring.req_prod_pvt & 0xFF)
    front.publish_tx()


def post(front: RawFrontend, count: int = 1) -> None:
    """``count`` more receive buffers."""
    for _ in range(count):
        front.post_rx()
    front.publish_rx()


@BACKENDS
@pytest.mark.parametrize("split", [False, True])
def test_a_request_for_the_backend_is_never_slept_through(
    start: int, policy: BackendPolicy, split: bool
) -> None:
    def scene() -> RawFrontend:
        front = RawFrontend(start=start, policy=policy, split=split)
        front.machine.run()
        send(front, 2)
        return front

    def settled(front: RawFrontend) -> None:
        assert front.stack.received == [front.data[:60]] * 3
        assert front.statuses() == [0] * 3

    every_point(
        scene, lambda front: front.machine.run(), lambda front, _: send(front), settled, REQ_EVENT
    )


@BACKENDS
@pytest.mark.parametrize("split", [False, True])
def test_a_buffer_for_the_backend_is_never_slept_through(
    start: int, policy: BackendPolicy, split: bool
) -> None:
    def scene() -> RawFrontend:
        front = RawFrontend(start=start, policy=policy, split=split, rx_buffers=1)
        front.machine.run()
        front.stack.to_send += [FRAME] * 3
        front.queue.kick()  # the host's frames
        return front

    def settled(front: RawFrontend) -> None:
        assert len(front.rx_responses()) == 2
        assert front.queue.counters.rx.packets == 2

    every_point(
        scene, lambda front: front.machine.run(), lambda front, _: post(front), settled, REQ_EVENT
    )


def test_a_packet_of_many_slots_waits_for_all_its_buffers_and_no_longer() -> None:
    def scene() -> RawFrontend:
        front = RawFrontend(rx_buffers=1)
        front.machine.run()
        front.stack.to_send.append(bytes(9000))
        front.queue.kick()
        front.machine.run()
        post(front)  # two of three
        return front

    def settled(front: RawFrontend) -> None:
        assert len(front.rx_responses()) == 3

    every_point(
        scene, lambda front: front.machine.run(), lambda front, _: post(front), settled, REQ_EVENT
    )


def test_a_stalled_queue_never_sleeps_through_the_buffer_that_revives_it() -> None:
    def scene() -> RawFrontend:
        front = RawFrontend()
        front.machine.run()
        while not front.queue.stalled:  # after 60 s
            front.stack.to_send.append(bytes(9000))  # three buffers
            front.queue.kick()
            front.machine.run()
            front.machine.advance(SECOND)
            front.machine.run()
        for _ in range(2):  # an event was asked for with the first one, then with the second
            front.machine.run()
            post(front)
        return front

    def settled(front: RawFrontend) -> None:
        assert not front.queue.stalled
        assert front.side.carrier.up

    every_point(
        scene, lambda front: front.machine.run(), lambda front, _: post(front), settled, REQ_EVENT
    )


# -- netfront ----------------------------------------------------------------------------------


def answer(back: RawBackend, count: int = 1) -> None:
    """Transmit responses to the next ``count`` requests."""
    for _ in range(count):
        raw = back.tx_ring.sring.copy_slot(back.tx_ring.rsp_prod_pvt)
        back.answer(int.from_bytes(raw[8:10], "little"))
    back.publish_tx()


def fill(back: RawBackend, count: int = 1) -> None:
    """``count`` frames for the guest."""
    for _ in range(count):
        back.rx(FRAME)
    back.publish_rx()


@pytest.mark.parametrize("split", [False, True])
def test_a_transmit_response_for_the_frontend_is_never_slept_through(split: bool) -> None:
    def scene() -> RawBackend:
        back = RawBackend(split=split)
        back.machine.run()
        back.stack.to_send += [FRAME] * 270
        back.queue.kick()  # the guest's frames: more than the ring takes
        back.machine.run()
        answer(back, 2)
        return back

    def settled(back: RawBackend) -> None:
        assert back.counters.tx.packets == 259
        assert back.queue.tx_ring.rsp_cons == 3

    every_point(
        scene, lambda back: back.machine.run(), lambda back, _: answer(back), settled, RSP_EVENT
    )


@pytest.mark.parametrize("split", [False, True])
def test_a_frame_for_the_frontend_is_never_slept_through(split: bool) -> None:
    def scene() -> RawBackend:
        back = RawBackend(split=split)
        back.machine.run()
        fill(back, 2)
        return back

    def settled(back: RawBackend) -> None:
        assert back.stack.received == [FRAME] * 3

    every_point(
        scene, lambda back: back.machine.run(), lambda back, _: fill(back), settled, RSP_EVENT
    )


def test_the_answer_to_a_change_of_the_multicast_list_is_never_slept_through() -> None:
    changes = [MulticastChange(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, bytes(6)) for _ in range(2)]

    def reply(back: RawBackend) -> None:
        raw = back.tx_ring.sring.copy_slot(back.tx_ring.rsp_prod_pvt)
        back.answer(int.from_bytes(raw[8:10], "little"))
        back.answer(0, NETIF_RSP_NULL)  # the slot of its extra info
        back.publish_tx()

    def scene() -> RawBackend:
        back = RawBackend()
        back.machine.run()
        for change in changes:
            change.status = None
            back.queue.multicast.add(change)
        back.queue.kick()
        back.machine.run()
        reply(back)
        return back

    def settled(back: RawBackend) -> None:
        assert [change.status for change in changes] == [NETIF_RSP_OKAY] * 2

    every_point(
        scene, lambda back: back.machine.run(), lambda back, _: reply(back), settled, RSP_EVENT
    )


# -- the control ring --------------------------------------------------------------------------


def ask(front: control_sites.RawFrontend) -> None:
    """One control request."""
    front.request(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, ident=front.ring.req_prod_pvt & 0xFFFF)
    front.publish()


@STARTS
def test_a_control_request_for_the_backend_is_never_slept_through(start: int) -> None:
    def scene() -> control_sites.RawFrontend:
        front = control_sites.RawFrontend(start=start)
        front.connect()
        ask(front)
        return front

    def settled(front: control_sites.RawFrontend) -> None:
        assert len(front.responses()) == 2

    every_point(
        scene, lambda front: front.site.run(), lambda front, _: ask(front), settled, REQ_EVENT
    )


def test_a_control_response_for_the_frontend_is_never_slept_through() -> None:
    def reply(back: control_sites.RawBackend) -> None:
        back.answer(*back.asked.pop(0)[:2])
        back.publish()

    def scene() -> control_sites.RawBackend:
        back: Any = control_sites.RawBackend()
        back.replies = []
        for _ in range(2):
            back.client.request(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS, done=back.replies.append)
        back.asked = back.requests()
        reply(back)
        return back

    def settled(back: Any) -> None:
        assert len(back.replies) == 2

    every_point(
        scene, lambda back: back.site.run(), lambda back, _: reply(back), settled, RSP_EVENT
    )
