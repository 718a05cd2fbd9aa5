"""The frontend's end of a vif: what xen-netfront does around its rings.

A :class:`Netfront` is the driver of one frontend directory: it reads the backend's features, makes
a :class:`~xennet.netfront.queue.Queue`, publishes its keys and posts its buffers. When it may do
so is decided elsewhere (xennet.xenbus.frontend).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

from xennet.counters import VifCounters
from xennet.frames import FrameEndpoint
from xennet.gso import gso_types
from xennet.interface import Hypervisor
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.queue import Queue
from xennet.netfront.verdict import BackendError
from xennet.xenbus.device import StoreValue, XenbusDevice
from xennet.xenbus.errors import XenbusError

#: What is published behind the ring keys, in Linux's order.
FEATURES: tuple[tuple[str, StoreValue], ...] = (
    ("request-rx-copy", 1),
    ("feature-rx-notify", 1),
    ("feature-sg", 1),
    ("feature-gso-tcpv4", 1),
    ("feature-gso-tcpv6", 1),
    ("feature-ipv6-csum-offload", 1),
)

_MAC = re.compile(rb"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


class Netfront:
    """``guest`` is the network stack's side: gives packets to send, takes those that came.

    ``carrier`` is True while packets can flow; ``error`` is what the backend did to break the
    device. ``counters`` run over all connections.
    """

    def __init__(self, hv: Hypervisor, guest: FrameEndpoint) -> None:
        self.hv = hv
        self.guest = guest
        self.counters = VifCounters()
        self.queue: Queue | None = None
        self.mac = b""
        self.carrier = False
        self.error: BackendError | None = None
        # Pages that a backend still used when it said that it had closed.
        self._held: list[GrantedPages] = []

    @property
    def held_pages(self) -> int:
        """Pages that cannot be freed because the backend still uses a grant of theirs."""
        return sum(granted.pages.count for granted in self._held)

    def setup(self, dev: XenbusDevice) -> Sequence[tuple[str, StoreValue]] | None:
        offered = dev.otherend
        if not offered.optional_unsigned("feature-rx-copy"):
            return None  # it can only flip pages: of no use (netfront: -ENODEV)
        self._free_held()
        mac = dev.own.raw("mac")
        if not _MAC.fullmatch(mac):
            raise XenbusError(
                errno.EINVAL, "is not a MAC address", path=dev.own.node("mac"), value=mac
            )
        self.mac = bytes.fromhex(mac.decode().replace(":", ""))
        self.error = None
        self.queue = queue = Queue(
            self.hv,
            dev.otherend_id,
            self.guest,
            self.counters,
            self._broken,
            can_sg=offered.optional_unsigned("feature-sg") != 0,
            gso_types=gso_types(offered),
        )
        keys: list[tuple[str, StoreValue]] = []
        if offered.optional_unsigned("multi-queue-max-queues"):
            keys.append(("multi-queue-num-queues", 1))
        keys += [
            ("tx-ring-ref", queue.tx_ring_ref),
            ("rx-ring-ref", queue.rx_ring_ref),
            ("event-channel", queue.port),
        ]
        return [*keys, *FEATURES]

    def ready(self, dev: XenbusDevice) -> None:
        queue = self._connected_queue()
        # Once, unasked: a backend that attached to a restored ring may wait for it.
        self.hv.notify(queue.port)
        queue.post_buffers()

    def connected(self, dev: XenbusDevice) -> None:
        self.carrier = True
        self._connected_queue().start()

    def disconnect(self, dev: XenbusDevice) -> None:
        self.carrier = False
        if self.queue is not None:
            self._held += self.queue.disconnect()
            self.queue = None
        self._free_held()

    def kick(self) -> None:
        """The guest has packets to send, or room for more that came."""
        if self.queue is not None:
            self.queue.kick()

    def _free_held(self) -> None:
        self._held = [granted for granted in self._held if not granted.end()]

    def _connected_queue(self) -> Queue:
        if self.queue is None:
            raise XenbusError(errno.ENODEV, "no queue was set up")
        return self.queue

    def _broken(self, error: BackendError) -> None:
        self.carrier = False
        self.error = error
