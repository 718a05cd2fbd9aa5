"""One connected queue of a frontend vif: both rings, their kernels, the guest side.

The frontend owns everything that is shared: two ring pages, 256 transmit pages and 256 receive
pages, each with its grant reference, and an unbound event channel for the backend to bind.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.counters import RingCounters, VifCounters
from xennet.frames import FrameBatch, FrameEndpoint
from xennet.interface import Hypervisor
from xennet.netfront import guest_rx, guest_tx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.verdict import BackendError, drop_reason, rx_error, tx_error
from xennet.observe import Notification
from xennet.ring import FrontRing, rx_ring, tx_ring

#: Bytes of frames that wait to be sent: eight of the longest.
TX_BATCH_BYTES = 128 * PAGE_SIZE
#: Bytes of frames that were received in one pass: a ring full of full pages and one chain.
RX_BATCH_BYTES = RX_SLOTS * PAGE_SIZE + guest_rx.MAX_CHAIN_BYTES


class Queue:
    """Set up in the constructor, which leaves nothing behind if it fails; idle until connected().

    ``guest`` is the network stack's side. ``on_broken`` hears of the backend's misbehaviour; the
    queue then does nothing more until it is torn down.
    """

    def __init__(
        self,
        hv: Hypervisor,
        otherend_id: int,
        guest: FrameEndpoint,
        counters: VifCounters,
        on_broken: Callable[[BackendError], None],
    ) -> None:
        self.hv = hv
        self.otherend_id = otherend_id
        self.guest = guest
        self.tx = counters.tx
        self.rx = counters.rx
        self.can_sg = False
        self.gso_types = 0
        self.last_drop = ""
        self._on_broken = on_broken
        self._granted: list[GrantedPages] = []
        self._running = False
        self._scheduled = False
        try:
            self._tx_page = self._share(1)
            self._rx_page = self._share(1)
            self._tx_pages = self._share(TX_SLOTS)
            self._rx_pages = self._share(RX_SLOTS)
            self.port = hv.alloc_unbound(otherend_id)
        except Exception:
            self._end_grants()
            raise
        self.tx_ring = FrontRing.init(tx_ring(self._tx_page.pages.u8, self._tx_page.pages.u32))
        self.rx_ring = FrontRing.init(rx_ring(self._rx_page.pages.u8, self._rx_page.pages.u32))
        self._tx_page.grant(otherend_id)
        self._rx_page.grant(otherend_id)
        self.tx.grants += 1
        self.rx.grants += 1

        self._tx_batch = FrameBatch(memoryview(bytearray(TX_BATCH_BYTES)), TX_SLOTS)
        self._tx_next = 0
        self._ids = array("I", range(TX_SLOTS))
        self._pending = array("I", bytes(4 * TX_SLOTS))
        self._tx_state = array("q", (TX_SLOTS, 0))
        self._tx_res = array("q", bytes(8 * guest_tx.RESULTS))
        self._rx_batch = FrameBatch(memoryview(bytearray(RX_BATCH_BYTES)), RX_SLOTS)
        self._rx_state = array("q", bytes(8 * guest_rx.STATES))
        self._rx_res = array("q", bytes(8 * guest_rx.RESULTS))
        hv.on_event(self.port, self.kick)

    @property
    def tx_ring_ref(self) -> int:
        """Grant reference of the guest-transmit ring page."""
        return self._tx_page.grefs[0]

    @property
    def rx_ring_ref(self) -> int:
        """Grant reference of the guest-receive ring page."""
        return self._rx_page.grefs[0]

    def post_buffers(self) -> None:
        """Post all receive buffers; the backend may find them when it attaches."""
        grants = self.hv.grants
        before = self.rx_ring.req_prod_pvt
        notify = guest_rx.post(
            self.rx_ring.sring.u32,
            self.rx_ring.pvt,
            self.otherend_id,
            self._rx_pages.grefs,
            grants.words,
            grants.shift,
        )
        posted = self.rx_ring.req_prod_pvt - before
        self.rx.requests += posted
        self.rx.grants += posted
        self._announce("rx", self.rx, notify)

    def connected(self, *, can_sg: bool, gso_types: int) -> None:
        """The backend is connected and can take this: start to send (never before)."""
        self.can_sg = can_sg
        self.gso_types = gso_types
        self._running = True
        self.kick()

    def disconnect(self) -> list[GrantedPages]:
        """Close the channel and end all grants; twice is harmless.

        Returns the pages that the backend still holds; the caller tries them again later.
        """
        self._running = False
        if self._granted:
            self.hv.close_port(self.port)
        return self._end_grants()

    def kick(self) -> None:
        """There may be work: an event came, or the guest has frames to send."""
        if self._running and not self._scheduled:
            self._scheduled = True
            self.hv.defer(self._poll)

    def _poll(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        try:
            more_rx = self.poll_rx()
            more_tx = self.poll_tx()
        except BackendError as error:
            self._running = False
            self._on_broken(error)
            return
        if more_rx or more_tx:
            self.kick()

    def poll_tx(self) -> bool:
        """Reap responses, then send what the guest has; True if there is more to do at once.

        Raises BackendError when the backend broke the protocol.
        """
        grants, ring, res, batch = self.hv.grants, self.tx_ring, self._tx_res, self._tx_batch
        page = ring.sring.u32
        verdict = guest_tx.reap(
            page,
            ring.pvt,
            self._ids,
            self._tx_pages.grefs,
            self._pending,
            grants.words,
            grants.shift,
            grants.status,
            grants.status_shift,
            self._tx_state,
            res,
        )
        self.tx.responses += res[guest_tx.R_SLOTS]
        self.tx.errors += res[guest_tx.R_ERRORS]
        if verdict != guest_tx.OK:
            raise tx_error(res)
        more = res[guest_tx.R_FLAG] != 0

        if self._tx_next == batch.count and not self._refill():
            return more
        first = self._tx_next
        extras = self._tx_state[guest_tx.S_EXTRAS]
        taken = guest_tx.transmit(
            page,
            ring.pvt,
            self.otherend_id,
            int(self.can_sg),
            self.gso_types,
            self._tx_pages.pages.u8,
            batch.data,
            first,
            batch.count,
            batch.offset,
            batch.length,
            batch.flags,
            batch.gso_size,
            batch.gso_type,
            self._ids,
            self._tx_pages.grefs,
            self._pending,
            grants.words,
            grants.shift,
            self._tx_state,
            res,
        )
        if not taken:
            return more  # the ring is full: a response will wake us
        self._tx_next += taken
        unsendable = res[guest_tx.R_UNSENDABLE]
        self.tx.errors += unsendable
        self.tx.packets += taken - unsendable
        self.tx.bytes += sum(batch.length[first : first + taken])
        if res[guest_tx.R_SLOTS]:
            self.tx.slots += res[guest_tx.R_SLOTS]
            self.tx.requests += res[guest_tx.R_SLOTS]
            extras = self._tx_state[guest_tx.S_EXTRAS] - extras
            self.tx.grants += res[guest_tx.R_SLOTS] - extras
            self._announce("tx", self.tx, res[guest_tx.R_FLAG])
        return True

    def poll_rx(self) -> bool:
        """Take what arrived to the guest; True if there is more to do at once.

        Raises BackendError when the backend broke the protocol.
        """
        room = self.guest.room
        if not room:
            return False
        grants, ring, res, batch = self.hv.grants, self.rx_ring, self._rx_res, self._rx_batch
        verdict = guest_rx.receive(
            ring.sring.u32,
            ring.pvt,
            self.otherend_id,
            self._rx_pages.pages.u8,
            self._rx_pages.grefs,
            grants.words,
            grants.shift,
            grants.status,
            grants.status_shift,
            batch.data,
            len(batch.data),
            min(room, batch.max_frames),
            batch.offset,
            batch.length,
            batch.flags,
            batch.gso_size,
            batch.gso_type,
            self._rx_state,
            res,
        )
        slots = res[guest_rx.R_SLOTS]
        packets = res[guest_rx.R_PACKETS]
        if slots:
            counters = self.rx
            counters.responses += slots
            counters.errors += res[guest_rx.R_DROPPED]
            if res[guest_rx.R_DROP]:
                self.last_drop = drop_reason(res)
            counters.packets += packets
            counters.bytes += res[guest_rx.R_BYTES]
            batch.count = packets
            batch.used = res[guest_rx.R_BYTES]
            if packets:
                self.guest.push(batch)
        if verdict != guest_rx.OK:
            raise rx_error(res)
        if slots:
            self.rx.requests += slots
            self.rx.slots += slots
            self.rx.grants += slots
            self._announce("rx", self.rx, res[guest_rx.R_NOTIFY])
        return res[guest_rx.R_MORE] != 0

    def _refill(self) -> bool:
        """Take frames from the guest that the backend can take; False if there are none."""
        batch = self._tx_batch
        batch.clear()
        self._tx_next = 0
        return self.guest.pull(batch) > 0

    def _share(self, count: int) -> GrantedPages:
        granted = GrantedPages(self.hv, count)
        self._granted.append(granted)
        return granted

    def _end_grants(self) -> list[GrantedPages]:
        held = [granted for granted in self._granted if not granted.end()]
        self._granted = []
        return held

    def _announce(self, ring: str, counters: RingCounters, notify: int) -> None:
        sent = counters.pushed(notify)
        if self.hv.observed:
            self.hv.emit(Notification(self.hv.domid, ring, sent))
        if sent:
            self.hv.notify(self.port)
