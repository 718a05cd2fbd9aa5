"""One connected queue of a backend vif: both rings, their kernels, the host side.

The rings are pages of the frontend, mapped through its grants; payload moves by the batched grant
copy between the frontend's pages and frames of our own. Work is done in passes of at most one ring
full, started by an event or by :meth:`Queue.kick` and continued through the run loop, so that a
frontend that never stops cannot keep the backend from anything else.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from attrs import define

from xennet.abi.words import COPY_STRIDE, REQ_PROD, RX_SLOTS, TX_SLOTS
from xennet.counters import RingCounters, VifCounters
from xennet.frames import FrameBatch, FrameEndpoint
from xennet.interface import Hypervisor
from xennet.netback import guest_rx, guest_tx
from xennet.netback.verdict import FrontendError, rx_error, tx_error
from xennet.observe import Notification
from xennet.ring import BackRing, rx_ring, tx_ring

#: Pages from which packets are sent to the guest: eight of the longest.
RX_STAGE_PAGES = 128


@define(frozen=True)
class QueueConfig:
    """What the frontend published about a queue, and what it can take.

    ``tx_ring_ref``, ``rx_ring_ref``: grants of the ring pages; ``event_channel``: its port;
    ``can_sg``: packets of several slots; ``gso_types``: bit t set for each GSO type t it takes.
    """

    otherend_id: int
    tx_ring_ref: int
    rx_ring_ref: int
    event_channel: int
    can_sg: bool = False
    gso_types: int = 0


def _words(count: int) -> array[int]:
    return array("I", bytes(4 * count))


def _copy_table(elements: int) -> memoryview:
    return memoryview(bytearray(4 * COPY_STRIDE * elements)).cast("I")


class Queue:
    """Connects in the constructor, which leaves nothing behind if it fails.

    Raises HypercallError when a ring page cannot be mapped or the channel not bound, and
    RingOverflowError for a ring whose req_prod cannot be (hardening rule F22).
    """

    def __init__(
        self,
        hv: Hypervisor,
        config: QueueConfig,
        host: FrameEndpoint,
        counters: VifCounters,
        on_fatal: Callable[[FrontendError], None],
    ) -> None:
        self.hv = hv
        self.config = config
        self.host = host
        self.tx = counters.tx
        self.rx = counters.rx
        self._on_fatal = on_fatal
        self._undo: list[Callable[[], None]] = []
        self._disabled = False
        self._scheduled = False
        try:
            self._connect()
        except Exception:
            self.disconnect()
            raise

    def _connect(self) -> None:
        hv, config = self.hv, self.config
        tx_map = hv.map_grant(config.otherend_id, config.tx_ring_ref)
        self._undo.append(lambda: hv.unmap_grant(tx_map))
        rx_map = hv.map_grant(config.otherend_id, config.rx_ring_ref)
        self._undo.append(lambda: hv.unmap_grant(rx_map))
        # Attach, never init: the frontend may have posted receive buffers already.
        self.tx_ring = BackRing.attach(tx_ring(tx_map.page.u8, tx_map.page.u32))
        self.rx_ring = BackRing.attach(rx_ring(rx_map.page.u8, rx_map.page.u32))

        self._tx_stage = hv.alloc_pages(TX_SLOTS)
        self._undo.append(lambda: hv.free_pages(self._tx_stage))
        self._tx_batch = FrameBatch(self._tx_stage.u8, TX_SLOTS)
        self._tx_ops = _copy_table(guest_tx.MAX_OPS)
        self._tx_op_slot = _words(guest_tx.MAX_OPS)
        self._tx_op_packet = _words(guest_tx.MAX_OPS)
        self._tx_rsp = _words(TX_SLOTS)
        self._tx_grefs = _words(TX_SLOTS)
        self._tx_spans = _words(TX_SLOTS)
        self._tx_res = array("q", bytes(8 * guest_tx.RESULTS))

        self._rx_stage = hv.alloc_pages(RX_STAGE_PAGES)
        self._undo.append(lambda: hv.free_pages(self._rx_stage))
        self._rx_batch = FrameBatch(self._rx_stage.u8, RX_SLOTS)
        self._rx_next = 0
        self._rx_ops = _copy_table(guest_rx.MAX_OPS)
        self._rx_op_slot = _words(guest_rx.MAX_OPS)
        self._rx_rsp0 = _words(RX_SLOTS)
        self._rx_rsp1 = _words(RX_SLOTS)
        self._rx_res = array("q", bytes(8 * guest_rx.RESULTS))

        self.port = hv.bind_interdomain(config.otherend_id, config.event_channel)
        self._undo.append(lambda: hv.close_port(self.port))
        hv.on_event(self.port, self.kick)

    def disconnect(self) -> None:
        """Unbind, free and unmap everything; twice is harmless."""
        self._disabled = True
        while self._undo:
            self._undo.pop()()

    def kick(self) -> None:
        """There may be work: an event came, or the host has frames for the guest."""
        if not self._scheduled and not self._disabled:
            self._scheduled = True
            self.hv.defer(self._poll)

    def _poll(self) -> None:
        self._scheduled = False
        if self._disabled:
            return
        try:
            # Both directions, always: what one delivers may be what the other sends (an echo).
            more_tx = self.poll_tx()
            more_rx = self.poll_rx()
        except FrontendError as error:
            # The ring is abandoned, the mappings stay until the frontend closes (rules F1..F10).
            self._disabled = True
            self._on_fatal(error)
            return
        if more_tx or more_rx:
            self.kick()

    def poll_tx(self) -> bool:
        """One pass over the guest-transmit ring; True if there is more to do at once.

        Raises FrontendError after the packets before the fatal one are delivered and answered.
        """
        room = self.host.room
        if not room:
            return False
        batch, res, ring = self._tx_batch, self._tx_res, self.tx_ring
        page = ring.sring.u32
        verdict = guest_tx.gather(
            page,
            ring.pvt,
            self.config.otherend_id,
            min(room, batch.max_frames),
            self._tx_ops,
            self._tx_op_slot,
            self._tx_op_packet,
            self._tx_stage.first,
            self._tx_rsp,
            self._tx_grefs,
            self._tx_spans,
            batch.offset,
            batch.length,
            batch.flags,
            batch.gso_size,
            batch.gso_type,
            res,
        )
        slots = res[guest_tx.R_SLOTS]
        if slots:
            if res[guest_tx.R_OPS]:
                self.hv.grant_copy(self._tx_ops, res[guest_tx.R_OPS])
            packets = guest_tx.settle(
                page,
                ring.pvt,
                self._tx_ops,
                self._tx_op_slot,
                self._tx_op_packet,
                self._tx_rsp,
                batch.offset,
                batch.length,
                batch.flags,
                batch.gso_size,
                batch.gso_type,
                res,
            )
            batch.count = packets
            batch.used = sum(batch.length[:packets])
            counters = self.tx
            counters.packets += packets
            counters.bytes += batch.used
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            counters.errors += res[guest_tx.R_ERRORS]
            if packets:
                self.host.push(batch)
            self._announce("tx", counters, res[guest_tx.R_FLAG])
        if verdict != guest_tx.OK:
            raise tx_error(res)
        return guest_tx.rearm(page, ring.pvt) != 0

    def poll_rx(self) -> bool:
        """One pass that sends the host's frames to the guest; True if there is more to do at once.

        Raises FrontendError for an impossible req_prod.
        """
        batch, res, ring = self._rx_batch, self._rx_res, self.rx_ring
        if self._rx_next == batch.count:
            batch.clear()
            self._rx_next = 0
            if not self.host.pull(batch):
                return False
        page = ring.sring.u32
        seen = page[REQ_PROD]
        verdict = guest_rx.fill(
            page,
            ring.pvt,
            self.config.otherend_id,
            int(self.config.can_sg),
            self.config.gso_types,
            self._rx_stage.first,
            self._rx_next,
            batch.count,
            batch.offset,
            batch.length,
            batch.flags,
            batch.gso_size,
            batch.gso_type,
            self._rx_ops,
            self._rx_op_slot,
            self._rx_rsp0,
            self._rx_rsp1,
            res,
        )
        if verdict != guest_rx.OK:
            raise rx_error(res)
        taken = res[guest_rx.R_PACKETS]
        slots = res[guest_rx.R_SLOTS]
        first = self._rx_next
        self._rx_next += taken
        counters = self.rx
        counters.errors += res[guest_rx.R_UNSENDABLE]
        if slots:
            self.hv.grant_copy(self._rx_ops, res[guest_rx.R_OPS])
            counters.errors += guest_rx.deliver(
                page, ring.pvt, self._rx_ops, self._rx_op_slot, self._rx_rsp0, self._rx_rsp1, res
            )
            counters.packets += taken - res[guest_rx.R_UNSENDABLE]
            counters.bytes += sum(batch.length[first : first + taken])
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            self._announce("rx", counters, res[guest_rx.R_FLAG])
        if self._rx_next == batch.count:
            return True
        # Too few buffers for the next packet: sleep until one more is posted.
        return guest_rx.await_requests(page, seen) != 0

    def _announce(self, ring: str, counters: RingCounters, notify: int) -> None:
        sent = counters.pushed(notify)
        if self.hv.observed:
            self.hv.emit(Notification(self.hv.domid, ring, sent))
        if sent:
            self.hv.notify(self.port)
