"""Hand-driven peers for tests: a frontend or a backend that writes exactly what it is told to.

They run on the minimal machine, so that what is tested is a driver and its kernels, not the
emulator's hypercalls. They run a driver by nothing but events, and send one only where
RING_PUSH_*_AND_CHECK_NOTIFY says so: a driver that forgets to ask for an event stands still. What
kicks a driver is the network stack on its own side, when it has frames (``run``).
"""

from __future__ import annotations

from array import array
from typing import Any

from xennet.abi.netif import (
    EXTRA_GSO,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
)
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
from xennet.ring import BackRing, FrontRing, rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalHypervisor, MinimalMachine
from xennet.testing.network_stack import NetworkStack as Stack
from xennet.vif.counters import BackendCounters

GUEST, HOST = 1, 0


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


class RawFrontend:
    """A guest that posts raw slots to a real backend queue.

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
        tx_page, rx_page = self.guest.alloc_pages(1), self.guest.alloc_pages(1)
        self.tx_ring = FrontRing.init(tx_ring(tx_page.u8, tx_page.u32))
        self.rx_ring = FrontRing.init(rx_ring(rx_page.u8, rx_page.u32))
        for ring in (self.tx_ring, self.rx_ring):
            ring.req_prod_pvt = ring.rsp_cons = start
            ring.sring.req_prod = ring.sring.rsp_prod = start
            ring.sring.req_event = ring.sring.rsp_event = start + 1
        grants = self.guest.grants
        tx_ref = grants.grant_access(HOST, tx_page.first)
        rx_ref = grants.grant_access(HOST, rx_page.first)
        self.page = self.guest.alloc_pages(1)
        self.data = bytes((7 * i + i // 256) & 0xFF for i in range(4096))
        self.page.u8[:] = self.data
        self.gref = grants.grant_access(HOST, self.page.first, readonly=True)
        self.rx_pages = self.guest.alloc_pages(256)
        self.rx_grefs = [grants.grant_access(HOST, self.rx_pages.first + i) for i in range(256)]
        self.port = self.rx_port = self.guest.alloc_unbound(HOST)
        if split:
            self.rx_port = self.guest.alloc_unbound(HOST)
            self.guest.on_event(self.rx_port, self._event)
        self.events = 0
        self.guest.on_event(self.port, self._event)
        for _ in range(rx_buffers):
            self.post_rx()
        self.publish_rx()

        self.stack = Stack()
        self.counters = BackendCounters()
        self.fatal: list[FrontendError] = []
        self.config = new_vif_config()
        self.keys = QueueKeys(tx_ref, rx_ref, self.port, self.rx_port, path="frontend")
        features = FrontendFeatures(
            can_sg, gso_types, gso_prefix_types, csum_v6=True, rx_notify=rx_notify
        )
        self.side = back_side(
            self.host, self.fatal, features, config=self.config, policy=policy, options=options
        )
        self.queue = BackQueue(self.side, self.keys, self.stack, self.counters, rate)
        self.machine.run()  # a channel is pending when it is bound

    def _event(self) -> None:
        self.events += 1

    def slot(self, raw: bytes) -> None:
        """Put a raw slot at the next request's place."""
        self.tx_ring.sring.write_slot(self.tx_ring.req_prod_pvt, raw)
        self.tx_ring.req_prod_pvt += 1

    def tx(
        self, size: int, flags: int = 0, *, ident: int = 0, offset: int = 0, gref: int | None = None
    ) -> None:
        """A tx request; ``size`` of the first slot is the whole packet's."""
        self.slot(TX_REQUEST.pack(self.gref if gref is None else gref, offset, flags, ident, size))

    def extra(
        self, kind: int = XEN_NETIF_EXTRA_TYPE_GSO, *, flags: int = 0, size: int = 0, gso: int = 0
    ) -> None:
        """An extra info slot in the tx ring."""
        self.slot(EXTRA_GSO.pack(kind, flags, size, gso, 0, 0))

    def post_rx(self, *, ident: int | None = None, gref: int | None = None) -> None:
        """An rx request for the next receive page."""
        index = self.rx_ring.req_prod_pvt
        slot = index & 0xFF
        raw = RX_REQUEST.pack(
            slot if ident is None else ident, 0, self.rx_grefs[slot] if gref is None else gref
        )
        self.rx_ring.sring.write_slot(index, raw)
        self.rx_ring.req_prod_pvt += 1

    def publish_tx(self) -> bool:
        """RING_PUSH_REQUESTS_AND_CHECK_NOTIFY for tx, and the event if it is wanted; whether."""
        return announce(self.tx_ring.push_requests_and_check_notify(), self.guest, self.port)

    def publish_rx(self) -> bool:
        """The same for the posted receive buffers."""
        return announce(self.rx_ring.push_requests_and_check_notify(), self.guest, self.rx_port)

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
        self.guest.notify(self.port)
        self.machine.run()

    def run(self) -> None:
        """The host's stack, if it has frames, tells its driver so; then everything settles."""
        if self.stack.to_send:
            self.queue.kick()
        self.machine.run()

    def make_room(self, room: int = 1 << 30) -> None:
        """The host's stack takes frames again, and tells its driver so; then everything settles."""
        self.stack.room = room
        self.queue.kick()
        self.machine.run()

    def responses(self) -> list[tuple[int, int]]:
        """All new tx responses as (id, status); NULL ones have their leftover id."""
        taken = []
        prod = self.tx_ring.response_prod()
        while self.tx_ring.rsp_cons != prod:
            raw = self.tx_ring.sring.copy_slot(self.tx_ring.rsp_cons)
            taken.append(TX_RESPONSE.unpack_from(raw))
            self.tx_ring.rsp_cons += 1
        return taken

    def statuses(self) -> list[int]:
        """The statuses of all new tx responses, in ring order."""
        return [status for _, status in self.responses()]

    def rx_responses(self) -> list[bytes]:
        """All new rx response slots, raw."""
        taken = []
        prod = self.rx_ring.response_prod()
        while self.rx_ring.rsp_cons != prod:
            taken.append(self.rx_ring.sring.copy_slot(self.rx_ring.rsp_cons))
            self.rx_ring.rsp_cons += 1
        return taken


class RawBackend:
    """A driver domain that answers a real frontend queue with raw slots.

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
        self._maps = [
            self.host.map_grant(GUEST, ref)
            for ref in (self.queue.tx_ring_ref, self.queue.rx_ring_ref)
        ]
        tx_page, rx_page = (mapping.page for mapping in self._maps)
        self.tx_ring = BackRing.attach(tx_ring(tx_page.u8, tx_page.u32))
        self.rx_ring = BackRing.attach(rx_ring(rx_page.u8, rx_page.u32))
        self.events = 0
        self.rx_events = 0
        self.port = self.host.bind_interdomain(GUEST, self.queue.tx_port)
        self.host.on_event(self.port, self._event)
        self.rx_port = self.port
        if self.queue.rx_port != self.queue.tx_port:
            self.rx_port = self.host.bind_interdomain(GUEST, self.queue.rx_port)
            self.host.on_event(self.rx_port, self._rx_event)
        if start:
            self.queue.start()
        self.run()

    def _event(self) -> None:
        self.events += 1

    def _rx_event(self) -> None:
        self.events += 1
        self.rx_events += 1

    def publish_tx(self) -> bool:
        """RING_PUSH_RESPONSES_AND_CHECK_NOTIFY for tx, and the event if it is wanted; whether."""
        return announce(self.tx_ring.push_responses_and_check_notify(), self.host, self.port)

    def publish_rx(self) -> bool:
        """The same for the rx responses."""
        return announce(self.rx_ring.push_responses_and_check_notify(), self.host, self.rx_port)

    def notify(self) -> None:
        """Events of both channels, whether or not they are wanted; then everything settles."""
        for port in {self.port, self.rx_port}:
            self.host.notify(port)
        self.machine.run()

    def run(self) -> None:
        """The guest's stack, if it has frames, tells its driver so; then everything settles."""
        if self.stack.to_send:
            self.queue.kick()
        self.machine.run()

    def make_room(self, room: int = 1 << 30) -> None:
        """The guest's stack takes frames again, and tells its driver; then everything settles."""
        self.stack.room = room
        self.queue.kick()
        self.machine.run()

    def requests(self) -> list[bytes]:
        """All new tx request slots, raw."""
        taken = []
        while self.tx_ring.unconsumed_requests:
            taken.append(self.tx_ring.sring.copy_slot(self.tx_ring.req_cons))
            self.tx_ring.req_cons += 1
        return taken

    def answer(self, ident: int, status: int = 0) -> None:
        """A tx response at the next response's place."""
        self.tx_ring.sring.write_slot(self.tx_ring.rsp_prod_pvt, TX_RESPONSE.pack(ident, status))
        self.tx_ring.rsp_prod_pvt += 1

    def push_tx(self) -> None:
        """Publish the tx responses and let everything settle."""
        self.publish_tx()
        self.machine.run()

    def buffer(self, ahead: int = 0) -> tuple[int, int]:
        """(id, gref) of the rx request ``ahead`` places behind the next one."""
        raw = self.rx_ring.sring.copy_slot(self.rx_ring.req_cons + ahead)
        ident, _, gref = RX_REQUEST.unpack_from(raw)
        return ident, gref

    def fill(self, gref: int, payload: bytes) -> None:
        """Write into the granted page from its start, as a grant copy would."""
        mapping = self.host.map_grant(GUEST, gref)
        mapping.page.u8[: len(payload)] = payload
        self.host.unmap_grant(mapping)

    def rx(
        self, payload: bytes = b"", flags: int = 0, *, offset: int = 0, status: int | None = None
    ) -> None:
        """An rx response that consumes the next request, with its page filled."""
        ident, gref = self.buffer()
        if payload:
            self.fill(gref, bytes(offset) + payload)
        self.raw_rx(
            RX_RESPONSE.pack(ident, offset, flags, len(payload) if status is None else status)
        )

    def raw_rx(self, raw: bytes) -> None:
        """A raw slot in place of the next rx response."""
        self.rx_ring.sring.write_slot(self.rx_ring.rsp_prod_pvt, raw)
        self.rx_ring.rsp_prod_pvt += 1
        self.rx_ring.req_cons += 1

    def push_rx(self) -> None:
        """Publish the rx responses and let everything settle."""
        self.publish_rx()
        self.machine.run()


def copy_of(words: memoryview | array[int]) -> bytes:
    """The bytes of a view or array, for before-and-after comparisons."""
    return memoryview(words).cast("B").tobytes()
