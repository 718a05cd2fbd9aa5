"""Connecting a backend queue: rings are attached, and a connect that fails leaves nothing."""

from __future__ import annotations

import pytest
from vif_peers import GUEST, RawFrontend, Stack

from xennet.counters import VifCounters
from xennet.interface import HypercallError
from xennet.netback.queue import Queue, QueueConfig
from xennet.ring import RingOverflowError


def fresh() -> tuple[RawFrontend, QueueConfig]:
    """A frontend whose backend has just disconnected, and what it published."""
    front = RawFrontend()
    front.queue.disconnect()
    front.port = front.guest.alloc_unbound(0)
    old = front.queue.config
    return front, QueueConfig(GUEST, old.tx_ring_ref, old.rx_ring_ref, front.port)


def held(front: RawFrontend) -> tuple[int, int, int]:
    frames = sum(frame.owner == 0 for frame in front.machine.frames.values())
    return len(front.host.mappings), len(front.host.ports), frames


def connect(front: RawFrontend, config: QueueConfig) -> Queue:
    return Queue(front.host, config, Stack(), VifCounters(), front.fatal.append)


def test_F22_rings_with_nonzero_indices_are_attached_at_rsp_prod() -> None:
    front, config = fresh()
    for ring in (front.tx_ring, front.rx_ring):
        ring.sring.req_prod = ring.sring.rsp_prod = 5000
    queue = connect(front, config)
    assert queue.tx_ring.req_cons == queue.tx_ring.rsp_prod_pvt == 5000
    assert front.tx_ring.sring.req_prod == 5000
    queue.disconnect()


@pytest.mark.parametrize("ring", ["tx_ring", "rx_ring"])
def test_F22_more_than_a_ring_of_requests_at_connect_is_refused(ring: str) -> None:
    front, config = fresh()
    getattr(front, ring).sring.req_prod = 257
    with pytest.raises(RingOverflowError, match="req_prod 257"):
        connect(front, config)
    assert held(front) == (0, 0, 0)


@pytest.mark.parametrize("key", ["tx_ring_ref", "rx_ring_ref", "event_channel"])
def test_F21_a_bad_reference_or_port_leaves_nothing_held(key: str) -> None:
    front, good = fresh()
    values = {
        "otherend_id": GUEST,
        "tx_ring_ref": good.tx_ring_ref,
        "rx_ring_ref": good.rx_ring_ref,
        "event_channel": good.event_channel,
        key: 1999,
    }
    with pytest.raises(HypercallError):
        connect(front, QueueConfig(**values))
    assert held(front) == (0, 0, 0)


def test_F21_one_page_for_both_rings_is_accepted_as_linux_does() -> None:
    front, good = fresh()
    queue = connect(
        front, QueueConfig(GUEST, good.tx_ring_ref, good.tx_ring_ref, good.event_channel)
    )
    queue.disconnect()
    assert held(front) == (0, 0, 0)


def test_a_disconnected_queue_ignores_late_kicks() -> None:
    front = RawFrontend()
    front.tx(60)
    front.tx_ring.push_requests()
    front.queue.kick()
    front.queue.disconnect()
    front.machine.run()
    assert front.stack.received == []
    assert held(front) == (0, 0, 0)
