"""One connected queue of a backend vif: both rings, the event channel, the host side.

The rings are pages of the frontend, mapped through its grants; payload moves by the batched grant
copy between the frontend's pages and frames of our own. Work is done in passes of at most one ring
full, started by an event or by :meth:`Queue.kick` and continued through the run loop, so that a
frontend that never stops cannot keep the backend from anything else.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.abi.words import TX_SLOTS
from xennet.announce import announce
from xennet.counters import VifCounters
from xennet.frames import FrameEndpoint
from xennet.interface import Hypervisor
from xennet.netback import guest_rx, guest_tx
from xennet.netback.rx_pass import RxPass
from xennet.netback.tx_pass import TxPass
from xennet.netback.verdict import FrontendError, rx_error, tx_error
from xennet.ring import BackRing, rx_ring, tx_ring

#: Pages from which packets are sent to the guest: eight of the longest.
RX_STAGE_PAGES = 128


@frozen
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


class Queue:
    """Connects in the constructor, which leaves nothing behind if it fails.

    ``tx`` and ``rx`` are the passes over the two rings while it is connected.
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
        self.counters = counters
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

        tx_stage = hv.alloc_pages(TX_SLOTS)
        self._undo.append(lambda: hv.free_pages(tx_stage))
        rx_stage = hv.alloc_pages(RX_STAGE_PAGES)
        self._undo.append(lambda: hv.free_pages(rx_stage))
        self.tx = TxPass(hv, self.tx_ring, config.otherend_id, tx_stage)
        self.rx = RxPass(
            hv,
            self.rx_ring,
            config.otherend_id,
            can_sg=config.can_sg,
            gso_types=config.gso_types,
            stage=rx_stage,
        )
        self._undo.append(self._drop_passes)

        self.port = hv.bind_interdomain(config.otherend_id, config.event_channel)
        self._undo.append(lambda: hv.close_port(self.port))
        hv.on_event(self.port, self.kick)

    def disconnect(self) -> None:
        """Unbind, free and unmap everything; twice is harmless."""
        self._disabled = True
        while self._undo:
            self._undo.pop()()

    def _drop_passes(self) -> None:
        # Their views go before the memory under them.
        del self.tx, self.rx

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
        tx, counters = self.tx, self.counters.tx
        verdict = tx.run(room)
        slots = tx.res[guest_tx.R_SLOTS]
        if slots:
            counters.packets += tx.batch.count
            counters.bytes += tx.batch.used
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            counters.errors += tx.res[guest_tx.R_ERRORS]
            if tx.batch.count:
                self.host.push(tx.batch)
            announce(self.hv, self.port, "tx", counters, tx.res[guest_tx.R_FLAG])
        if verdict != guest_tx.OK:
            raise tx_error(tx.res)
        return tx.rearm()

    def poll_rx(self) -> bool:
        """One pass that sends the host's frames to the guest; True if there is more to do at once.

        Raises FrontendError for an impossible req_prod.
        """
        rx, counters = self.rx, self.counters.rx
        if rx.empty and not self.host.pull(rx.refill()):
            return False
        first = rx.next
        verdict = rx.run()
        if verdict != guest_rx.OK:
            raise rx_error(rx.res)
        slots, unsendable = rx.res[guest_rx.R_SLOTS], rx.res[guest_rx.R_UNSENDABLE]
        counters.errors += unsendable
        if slots:
            counters.errors += rx.res[guest_rx.R_ERRORS]
            counters.packets += rx.next - first - unsendable
            counters.bytes += rx.res[guest_rx.R_BYTES]
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            announce(self.hv, self.port, "rx", counters, rx.res[guest_rx.R_FLAG])
        # With too few buffers for the next packet, sleep until one more is posted.
        return rx.empty or rx.await_requests()
