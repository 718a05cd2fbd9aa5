"""Hand-driven peers for tests: a frontend or a backend that writes exactly what it is told to.

They run on the minimal machine, so that what is tested is a driver and its kernels, not the
emulator's hypercalls. They run a driver by nothing but events, and send one only where
RING_PUSH_*_AND_CHECK_NOTIFY says so: a driver that forgets to ask for an event stands still. What
kicks a driver is the network stack on its own side, when it has frames (``run``).
"""

from __future__ import annotations

from array import array
from typing import Any

from xennet import testing
from xennet.abi.netif import XEN_NETIF_EXTRA_TYPE_GSO
from xennet.netback.credit import NO_LIMIT, Rate
from xennet.netback.drain import Carrier
from xennet.netback.keys import FrontendFeatures, QueueKeys
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.queue import Queue as BackQueue
from xennet.netback.queue import VifContext
from xennet.netback.stage import TxStage
from xennet.netback.verdict import FrontendError
from xennet.netback.vif_config import new_vif_config
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.queue import Queue as FrontQueue
from xennet.netfront.rx_pass import rx_batch
from xennet.netfront.verdict import BackendError
from xennet.testing.minimal_hypervisor import MinimalHypervisor, MinimalMachine
from xennet.testing.network_stack import NetworkStack as Stack
from xennet.vif.counters import BackendCounters

GUEST, HOST = 1, 0
FRONTEND, BACKEND = "/local/domain/1/device/vif/0", "/local/domain/0/backend/vif/1/0"


def back_side(
    hv: MinimalHypervisor,
    fatal: list[FrontendError],
    features: FrontendFeatures | None = None,
    *,
    config: array[int] | None = None,
    policy: BackendPolicy = LINUX,
    options: VifOptions | None = None,
) -> VifContext:
    """What a vif gives its queues, for a queue on its own: it has a carrier, and loses it when the
    frontend is disabled."""
    carrier = Carrier(lambda up: None)
    carrier.connect()

    def on_fatal(error: FrontendError) -> None:
        fatal.append(error)
        carrier.disable()

    return VifContext(
        hv=hv,
        otherend_id=GUEST,
        name="vif1.0",
        frontend="frontend",
        policy=policy,
        options=policy.options if options is None else options,
        features=FrontendFeatures(True, 6) if features is None else features,
        config=new_vif_config() if config is None else config,
        stage=TxStage(hv),
        carrier=carrier,
        on_fatal=on_fatal,
    )


def announce(wanted: bool, hv: Any, port: int) -> bool:
    """Notify over ``port`` iff the publication said so, as a real peer does; whether it did."""
    if wanted:
        hv.notify(port)
    return wanted


class _Driven:
    """A driver's ``queue``, the network ``stack`` on its side, and the ``peer`` that faces it."""

    machine: MinimalMachine
    peer: testing.RawFrontend | testing.RawBackend
    stack: Stack
    queue: BackQueue | FrontQueue

    @property
    def events(self) -> int:
        """The events of both channels."""
        return self.peer.queues[0].tx_events + self.peer.queues[0].rx_events

    def publish_tx(self) -> bool:
        """RING_PUSH_*_AND_CHECK_NOTIFY for tx, and the event if it is wanted; whether."""
        return self.peer.push_tx()

    def publish_rx(self) -> bool:
        """The same for rx."""
        return self.peer.push_rx()

    def run(self) -> None:
        """The driver's stack, if it has frames, tells it so; then everything settles."""
        if self.stack.to_send:
            self.queue.kick()
        self.machine.run()

    def make_room(self, room: int = 1 << 30) -> None:
        """The driver's stack takes frames again, and tells it so; then everything settles."""
        self.stack.room = room
        self.queue.kick()
        self.machine.run()


class RawFrontend(_Driven):
    """A guest that posts raw slots to a real backend queue, by a peer that is driven by hand.

    ``start``: index at which both rings start. ``page`` is granted read-only as ``gref`` and holds
    ``data``; requests made by :meth:`tx` point there unless told otherwise. ``split``: a channel
    for each ring (``port`` and ``rx_port``, else the same). ``config``: xennet.netback.vif_config.
    """

    def __init__(
        self,
        *,
        start: int = 0,
        can_sg: bool = True,
        gso_types: int = 6,
        gso_prefix_types: int = 0,
        rx_notify: bool = True,
        rx_buffers: int = 0,
        split: bool = False,
        rate: Rate = NO_LIMIT,
        policy: BackendPolicy = LINUX,
        options: VifOptions | None = None,
    ) -> None:
        self.machine = MinimalMachine()
        self.guest: MinimalHypervisor = self.machine.domain(GUEST)
        self.host: MinimalHypervisor = self.machine.domain(HOST)
        self.guest.store.write("device/vif/0/backend", BACKEND)
        self.guest.store.write("device/vif/0/backend-id", HOST)
        self.peer = testing.RawFrontend(self.guest, settle=self.machine.run)
        self.peer.allocate(split=split, start=start)
        made = self.peer.queues[0]
        self.tx_ring, self.rx_ring = made.tx, made.rx
        self.port, self.rx_port = made.tx_port, made.rx_port
        self.page = self.peer.data_page.run
        self.gref, self.data = self.peer.gref, self.peer.data
        grants = self.guest.grants
        self.rx_pages = self.guest.alloc_pages(256)
        self.rx_grefs = [grants.grant_access(HOST, self.rx_pages.first + i) for i in range(256)]
        for _ in range(rx_buffers):
            self.post_rx()
        self.publish_rx()

        self.stack = Stack()
        self.counters = BackendCounters()
        self.fatal: list[FrontendError] = []
        self.config = new_vif_config()
        self.keys = QueueKeys(made.tx_ref, made.rx_ref, self.port, self.rx_port, path="frontend")
        features = FrontendFeatures(
            can_sg, gso_types, gso_prefix_types, csum_v6=True, rx_notify=rx_notify
        )
        self.side = back_side(
            self.host, self.fatal, features, config=self.config, policy=policy, options=options
        )
        self.queue = BackQueue(self.side, self.keys, self.stack, self.counters, rate)
        self.machine.run()  # a channel is pending when it is bound

    def slot(self, raw: bytes) -> None:
        """Put a raw slot at the next request's place."""
        self.peer.slot(raw)

    def tx(
        self, size: int, flags: int = 0, *, ident: int = 0, offset: int = 0, gref: int | None = None
    ) -> None:
        """A tx request; ``size`` of the first slot is the whole packet's."""
        self.peer.tx(size, flags, ident, offset, gref)

    def extra(
        self, kind: int = XEN_NETIF_EXTRA_TYPE_GSO, *, flags: int = 0, size: int = 0, gso: int = 0
    ) -> None:
        """An extra info slot in the tx ring."""
        self.peer.extra(kind, flags, size, gso)

    def post_rx(self, *, ident: int | None = None, gref: int | None = None) -> None:
        """An rx request for the next receive page."""
        place = self.rx_ring.req_prod_pvt & 0xFF
        self.peer.post_rx(ident=ident, gref=self.rx_grefs[place] if gref is None else gref)

    def push(self) -> bool:
        """Publish the tx requests and let everything settle; whether the backend was notified."""
        notified = self.publish_tx()
        self.machine.run()
        return notified

    def push_rx(self) -> bool:
        """Publish the rx requests and let everything settle; whether the backend was notified."""
        notified = self.publish_rx()
        self.machine.run()
        return notified

    def notify(self) -> None:
        """An event of the tx channel, whether or not it is wanted; then everything settles."""
        self.peer.notify()
        self.machine.run()

    def responses(self) -> list[tuple[int, int]]:
        """All new tx responses as (id, status); NULL ones have their leftover id."""
        return [(one.id, one.status) for one in self.peer.responses(arm=False)]

    def statuses(self) -> list[int]:
        """The statuses of all new tx responses, in ring order."""
        return [status for _, status in self.responses()]

    def rx_responses(self) -> list[bytes]:
        """All new rx response slots, raw."""
        return [one.raw for one in self.peer.rx_responses(arm=False)]


class RawBackend(_Driven):
    """A driver domain that answers a real frontend queue with raw slots, by a peer that is driven
    by hand.

    ``negotiated``: further fields of xennet.netfront.negotiated.Negotiated. With split channels the
    events of both are counted together, and :attr:`rx_events` those of the receive ring.
    """

    def __init__(
        self, *, can_sg: bool = True, gso_types: int = 6, start: bool = True, **negotiated: Any
    ) -> None:
        self.machine = MinimalMachine()
        self.guest: MinimalHypervisor = self.machine.domain(GUEST)
        self.host: MinimalHypervisor = self.machine.domain(HOST)
        self.stack = Stack()
        self.counters = NetfrontCounters()
        self.broken: list[BackendError] = []
        self.queue = FrontQueue(
            self.guest,
            Negotiated(HOST, can_sg=can_sg, gso_types=gso_types, **negotiated),
            self.stack,
            self.counters,
            self.broken.append,
            rx_batch(),
        )
        self.queue.post_buffers()
        keys = {
            "tx-ring-ref": self.queue.tx_ring_ref,
            "rx-ring-ref": self.queue.rx_ring_ref,
            "event-channel": self.queue.tx_port,
        }
        if self.queue.rx_port != self.queue.tx_port:
            keys |= {
                "event-channel-tx": self.queue.tx_port,
                "event-channel-rx": self.queue.rx_port,
            }
        for name, value in keys.items():
            self.guest.store.write(f"{FRONTEND}/{name}", value)
        self.host.store.write(f"{BACKEND}/frontend", FRONTEND)
        self.host.store.write(f"{BACKEND}/frontend-id", GUEST)
        self.peer = testing.RawBackend(self.host, BACKEND, settle=self.machine.run)
        self.peer.attach()
        made = self.peer.queues[0]
        self.tx_ring, self.rx_ring = made.tx, made.rx
        self.port, self.rx_port = made.tx_port, made.rx_port
        if start:
            self.queue.start()
        self.run()

    @property
    def rx_events(self) -> int:
        return self.peer.queues[0].rx_events

    def notify(self) -> None:
        """Events of both channels, whether or not they are wanted; then everything settles."""
        for ring in ("tx", "rx") if self.port != self.rx_port else ("tx",):
            self.peer.notify(ring)
        self.machine.run()

    def requests(self) -> list[bytes]:
        """All new tx request slots, raw."""
        return [one.raw for one in self.peer.requests(arm=False)]

    def answer(self, ident: int, status: int = 0) -> None:
        """A tx response at the next response's place."""
        self.peer.answer(ident, status)

    def push_tx(self) -> None:
        """Publish the tx responses and let everything settle."""
        self.publish_tx()
        self.machine.run()

    def buffer(self, ahead: int = 0) -> tuple[int, int]:
        """(id, gref) of the rx request ``ahead`` places behind the next one."""
        request = self.peer.buffer(ahead)
        return request.id, request.gref

    def fill(self, gref: int, payload: bytes) -> None:
        """Write into the granted page from its start, as a grant copy would."""
        self.peer.fill(gref, payload)

    def rx(
        self, payload: bytes = b"", flags: int = 0, *, offset: int = 0, status: int | None = None
    ) -> None:
        """An rx response that consumes the next request, with its page filled."""
        self.peer.rx(payload, flags, offset=offset, status=status)

    def raw_rx(self, raw: bytes) -> None:
        """A raw slot in place of the next rx response."""
        self.peer.raw_rx(raw)

    def push_rx(self) -> None:
        """Publish the rx responses and let everything settle."""
        self.publish_rx()
        self.machine.run()


def copy_of(words: memoryview | array[int]) -> bytes:
    """The bytes of a view or array, for before-and-after comparisons."""
    return memoryview(words).cast("B").tobytes()
