"""Connecting a backend queue: rings are attached, and a connect that fails leaves nothing."""

from __future__ import annotations

import pytest
from vif_peers import RawFrontend, Stack

from xennet.netback.keys import QueueKeys
from xennet.netback.queue import Queue
from xennet.vif.counters import BackendCounters
from xennet.xenbus.errors import XenbusError


def fresh(*, split: bool = False) -> tuple[RawFrontend, QueueKeys]:
    """A frontend whose backend has just disconnected, and what it published."""
    front = RawFrontend()
    front.queue.disconnect()
    port = rx_port = front.guest.alloc_unbound(0)
    if split:
        rx_port = front.guest.alloc_unbound(0)
    return front, front.keys._replace(tx_port=port, rx_port=rx_port)


def held(front: RawFrontend) -> tuple[int, int, int]:
    frames = sum(frame.owner == 0 for frame in front.machine.frames.values())
    return len(front.host.mappings), len(front.host.ports), frames


def connect(front: RawFrontend, keys: QueueKeys) -> Queue:
    return Queue(front.side, keys, Stack(), BackendCounters())


def test_F22_rings_with_nonzero_indices_are_attached_at_rsp_prod() -> None:
    front, keys = fresh()
    for ring in (front.tx_ring, front.rx_ring):
        ring.sring.req_prod = ring.sring.rsp_prod = 5000
    queue = connect(front, keys)
    assert queue.tx_ring.req_cons == queue.tx_ring.rsp_prod_pvt == 5000
    assert front.tx_ring.sring.req_prod == 5000
    queue.disconnect()


@pytest.mark.parametrize("ring", ["tx_ring", "rx_ring"])
def test_F22_more_than_a_ring_of_requests_at_connect_is_refused(ring: str) -> None:
    front, keys = fresh()
    getattr(front, ring).sring.req_prod = 257
    with pytest.raises(XenbusError, match=r"frontend/.x-ring-ref: .x ring: req_prod 257"):
        connect(front, keys)
    assert held(front) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("tx_ring_ref", "tx-ring-ref"),
        ("rx_ring_ref", "rx-ring-ref"),
        ("tx_port", "event-channel-tx"),
        ("rx_port", "event-channel-rx"),
    ],
)
def test_F21_a_bad_reference_or_port_is_named_and_leaves_nothing_held(key: str, node: str) -> None:
    front, good = fresh(split=True)
    with pytest.raises(XenbusError) as caught:
        connect(front, good._replace(**{key: 1999}))
    assert (caught.value.path, caught.value.value) == (f"frontend/{node}", b"1999")
    assert held(front) == (0, 0, 0)


def test_F21_a_bad_single_port_is_called_event_channel() -> None:
    front, good = fresh()
    with pytest.raises(XenbusError) as caught:
        connect(front, good._replace(tx_port=1999, rx_port=1999))
    assert caught.value.path == "frontend/event-channel"
    assert held(front) == (0, 0, 0)


def test_F21_one_page_for_both_rings_is_accepted_as_linux_does() -> None:
    front, good = fresh()
    queue = connect(front, good._replace(rx_ring_ref=good.tx_ring_ref))
    queue.disconnect()
    assert held(front) == (0, 0, 0)


def test_two_split_channels_that_are_the_same_port_are_one_channel() -> None:
    front, keys = fresh()
    queue = connect(front, keys)
    assert queue.tx_port == queue.rx_port
    queue.disconnect()


def test_a_disconnected_queue_ignores_late_kicks() -> None:
    front = RawFrontend()
    front.tx(60)
    front.publish_tx()
    front.queue.kick()
    front.queue.disconnect()
    front.machine.run()
    assert front.stack.received == []
    assert held(front) == (0, 0, 0)
