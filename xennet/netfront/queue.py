"""One connected queue of a frontend vif: both rings, the event channel, the guest side.

The frontend owns everything that is shared: two ring pages, 256 transmit pages and 256 receive
pages, each with its grant reference, and an unbound event channel for the backend to bind.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.announce import announce
from xennet.counters import VifCounters
from xennet.frames import FrameEndpoint
from xennet.interface import Hypervisor
from xennet.netfront import guest_rx, guest_tx
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.rx_pass import RxPass
from xennet.netfront.tx_pass import TxPass
from xennet.netfront.verdict import BackendError, drop_reason, rx_error, tx_error
from xennet.ring import FrontRing, rx_ring, tx_ring


class Queue:
    """Set up in the constructor, which leaves nothing behind if it fails; idle until started.

    ``guest`` is the network stack's side. ``can_sg`` and ``gso_types`` (bit t for GSO type t) are
    what the backend takes. ``on_broken`` hears of the backend's misbehaviour; the queue then does
    nothing more until it is torn down. ``tx`` and ``rx`` are the passes over the two rings.
    """

    def __init__(
        self,
        hv: Hypervisor,
        otherend_id: int,
        guest: FrameEndpoint,
        counters: VifCounters,
        on_broken: Callable[[BackendError], None],
        *,
        can_sg: bool = False,
        gso_types: int = 0,
    ) -> None:
        self.hv = hv
        self.guest = guest
        self.counters = counters
        self.last_drop = ""
        self._on_broken = on_broken
        self._granted: list[GrantedPages] = []
        self._running = False
        self._scheduled = False
        try:
            tx_page, rx_page = self._share(1), self._share(1)
            tx_buffers, rx_buffers = self._share(TX_SLOTS), self._share(RX_SLOTS)
            self.port = hv.alloc_unbound(otherend_id)
        except Exception:
            self._end_grants()
            raise
        self.tx_ring = FrontRing.init(tx_ring(tx_page.pages.u8, tx_page.pages.u32))
        self.rx_ring = FrontRing.init(rx_ring(rx_page.pages.u8, rx_page.pages.u32))
        #: Grant references of the two ring pages.
        self.tx_ring_ref = tx_page.grefs[0]
        self.rx_ring_ref = rx_page.grefs[0]
        tx_page.grant(otherend_id)
        rx_page.grant(otherend_id)
        counters.tx.grants += 1
        counters.rx.grants += 1
        self.tx = TxPass(
            hv,
            self.tx_ring,
            otherend_id,
            can_sg=can_sg,
            gso_types=gso_types,
            buffers=tx_buffers,
        )
        self.rx = RxPass(hv, self.rx_ring, otherend_id, rx_buffers)
        hv.on_event(self.port, self.kick)

    def post_buffers(self) -> None:
        """Post all receive buffers; the backend may find them when it attaches."""
        posted, notify = self.rx.post()
        self.counters.rx.requests += posted
        self.counters.rx.grants += posted
        announce(self.hv, self.port, "rx", self.counters.rx, notify)

    def start(self) -> None:
        """The backend is connected: send and receive (never before)."""
        self._running = True
        self.kick()

    def disconnect(self) -> list[GrantedPages]:
        """Close the channel and end all grants; twice is harmless.

        Returns the pages that the backend still holds; the caller tries them again later.
        """
        self._running = False
        if self._granted:
            self.hv.close_port(self.port)
            # Their views go before the memory under them.
            del self.tx, self.rx
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
        tx, counters = self.tx, self.counters.tx
        verdict = tx.reap()
        counters.responses += tx.res[guest_tx.R_SLOTS]
        counters.errors += tx.res[guest_tx.R_ERRORS]
        if verdict != guest_tx.OK:
            raise tx_error(tx.res)
        more = tx.res[guest_tx.R_FLAG] != 0

        if tx.empty and not self.guest.pull(tx.refill()):
            return more
        taken = tx.transmit()
        if not taken:
            return more  # the ring is full: a response will wake us
        slots, unsendable = tx.res[guest_tx.R_SLOTS], tx.res[guest_tx.R_UNSENDABLE]
        counters.errors += unsendable
        counters.packets += taken - unsendable
        counters.bytes += tx.res[guest_tx.R_BYTES]
        if slots:
            counters.slots += slots
            counters.requests += slots
            counters.grants += slots - tx.res[guest_tx.R_EXTRAS]
            announce(self.hv, self.port, "tx", counters, tx.res[guest_tx.R_FLAG])
        return True

    def poll_rx(self) -> bool:
        """Take what arrived to the guest; True if there is more to do at once.

        Raises BackendError when the backend broke the protocol.
        """
        room = self.guest.room
        if not room:
            return False
        rx, counters = self.rx, self.counters.rx
        verdict = rx.run(room)
        slots = rx.res[guest_rx.R_SLOTS]
        if slots:
            counters.responses += slots
            counters.errors += rx.res[guest_rx.R_DROPPED]
            if rx.res[guest_rx.R_DROP]:
                self.last_drop = drop_reason(rx.res)
            counters.packets += rx.batch.count
            counters.bytes += rx.batch.used
            if rx.batch.count:
                self.guest.push(rx.batch)
        if verdict != guest_rx.OK:
            raise rx_error(rx.res)
        if slots:
            counters.requests += slots
            counters.slots += slots
            counters.grants += slots
            announce(self.hv, self.port, "rx", counters, rx.res[guest_rx.R_NOTIFY])
        return rx.res[guest_rx.R_MORE] != 0

    def _share(self, count: int) -> GrantedPages:
        granted = GrantedPages(self.hv, count)
        self._granted.append(granted)
        return granted

    def _end_grants(self) -> list[GrantedPages]:
        held = [granted for granted in self._granted if not granted.end()]
        self._granted = []
        return held
