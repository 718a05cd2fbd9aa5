"""The backend's end of a vif: what xen-netback does around its rings.

A :class:`Vif` is the driver of one backend directory: it advertises features, reads what the
frontend published, and connects a :class:`~xennet.netback.queue.Queue`. When it may do so is
decided elsewhere (xennet.xenbus.backend).
"""

from __future__ import annotations

import errno

from xennet.counters import VifCounters
from xennet.frames import FrameEndpoint
from xennet.gso import gso_types
from xennet.interface import Hypervisor
from xennet.netback.queue import Queue, QueueConfig
from xennet.netback.verdict import FrontendError
from xennet.ring import RingOverflowError
from xennet.xenbus.backend import Advertisement
from xennet.xenbus.device import XenbusDevice
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory

#: What is advertised, in the order in which Linux writes it: in one transaction, and after it.
FEATURES = (
    ("feature-sg", 1),
    ("feature-gso-tcpv4", 1),
    ("feature-gso-tcpv6", 1),
    ("feature-ipv6-csum-offload", 1),
    ("feature-rx-copy", 1),
    ("feature-rx-flip", 0),
)
EXTRAS = (
    ("feature-split-event-channels", 0),
    ("multi-queue-max-queues", 1),
)
MAX_QUEUES = 1


def read_config(otherend_id: int, keys: NodeDirectory) -> QueueConfig:
    """What the frontend published (read_xenbus_vif_flags, connect_data_rings).

    Raises XenbusError with path and value for a missing or garbled required key, and for a number
    of queues other than 1 (hardening rules F21, F23).
    """
    queues = keys.optional_unsigned("multi-queue-num-queues", 1)
    if not 1 <= queues <= MAX_QUEUES:
        raise XenbusError(
            errno.EINVAL,
            f"number of queues is not in 1..{MAX_QUEUES}",
            path=keys.node("multi-queue-num-queues"),
            value=str(queues).encode(),
        )
    # A frontend that does not ask for copying gets nothing that needs it (xen/io/netif.h).
    rx_copy = keys.optional_unsigned("request-rx-copy") != 0
    return QueueConfig(
        otherend_id=otherend_id,
        tx_ring_ref=keys.unsigned("tx-ring-ref"),
        rx_ring_ref=keys.unsigned("rx-ring-ref"),
        event_channel=keys.unsigned("event-channel"),
        can_sg=rx_copy and keys.optional_unsigned("feature-sg") != 0,
        gso_types=gso_types(keys) if rx_copy else 0,
    )


class Vif:
    """``host`` is where packets from the guest go and packets for it come from.

    ``carrier`` is True while packets can flow; ``error`` is what the frontend did to lose it.
    ``counters`` run over all connections.
    """

    def __init__(self, hv: Hypervisor, host: FrameEndpoint) -> None:
        self.hv = hv
        self.host = host
        self.counters = VifCounters()
        self.queue: Queue | None = None
        self.carrier = False
        self.error: FrontendError | None = None

    def probe(self, dev: XenbusDevice) -> Advertisement:
        return Advertisement(FEATURES, EXTRAS)

    def connect(self, dev: XenbusDevice) -> None:
        config = read_config(dev.otherend_id, dev.otherend)
        try:
            self.queue = Queue(self.hv, config, self.host, self.counters, self._fatal)
        except RingOverflowError as impossible:
            raise XenbusError(errno.EIO, str(impossible), path=dev.otherend.path) from impossible
        self.error = None
        self.carrier = True
        # Requests may be there already; nobody will announce them again.
        self.queue.kick()

    def disconnect(self, dev: XenbusDevice) -> None:
        self.carrier = False
        if self.queue is not None:
            self.queue.disconnect()
            self.queue = None

    def remove(self, dev: XenbusDevice) -> None:
        """Everything went with disconnect."""

    def kick(self) -> None:
        """The host side has packets for the guest, or room for more from it."""
        if self.queue is not None:
            self.queue.kick()

    def _fatal(self, error: FrontendError) -> None:
        # Linux keeps the state Connected: the frontend learns nothing, its packets stop.
        self.carrier = False
        self.error = error
