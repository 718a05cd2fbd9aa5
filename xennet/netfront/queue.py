"""One connected queue of a frontend vif: both rings, the event channels, the guest's endpoint.

The frontend owns everything that is shared: two ring pages, 256 transmit pages and 256 receive
pages, each with its grant reference, and one or two unbound event channels for the backend to bind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from xennet.abi.words import RSP_PROD, RX_SLOTS, TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import MAX_FRAME, Endpoint, FrameBatch
from xennet.interface import Hypervisor
from xennet.netfront import guest_rx, guest_tx
from xennet.netfront.buffers import GrantedPages, Shares
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.multicast import MulticastRequests
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.rx_pass import RxPass
from xennet.netfront.tx_pass import TxPass
from xennet.netfront.verdict import BackendError, drop_reason, rx_error, tx_error
from xennet.ring import FRONT_RSP_CONS, MASK32, FrontRing, rx_ring, tx_ring
from xennet.vif.announce import Announcer
from xennet.vif.late_eoi import LateEoi
from xennet.vif.passage import Passage


class RingUser(Protocol):
    """Who drives the rings of a queue past the guest's endpoint (xennet.netfront.driven)."""

    def answered(self, free: int) -> None:
        """Note that responses were taken; ``free`` request ids were free before."""
        ...

    def arrived(self) -> bool:
        """Note that there are responses on the receive ring. Returns whether the guest has nothing
        to do with them."""
        ...

    def looked(self) -> None:
        """Note that the queue has looked at its rings, and for frames of the guest."""
        ...


class Queue:
    """One queue. The constructor allocates everything, or nothing if it fails; no frame moves
    before :meth:`start`.

    ``guest`` is the network stack's endpoint; ``rx_batch`` takes the frames of a receive pass and
    may be shared with other queues of the guest. ``on_broken`` is called with the error when the
    backend breaks the protocol; the queue then does nothing until :meth:`disconnect`. ``tx`` and
    ``rx`` are the passes over the two rings, ``tx_port`` and ``rx_port`` their event channels (one
    number, unless they are split). While ``link_up`` is False frames to be sent are dropped and
    counted. ``multicast`` takes changes of the backend's multicast list. ``number`` is the
    queue's, from 0.
    """

    def __init__(
        self,
        hv: Hypervisor,
        negotiated: Negotiated,
        guest: Endpoint,
        counters: NetfrontCounters,
        on_broken: Callable[[BackendError], None],
        rx_batch: FrameBatch,
        number: int = 0,
    ) -> None:
        self.hv = hv
        self.guest = guest
        self.counters = counters
        name = f"{negotiated.vif} q{number}"
        self.delivery_name = f"netfront pass {name}"
        self._passage = Passage(hv, negotiated.vif, number, "guest")
        self.last_drop = ""
        self.link_up = True
        self.multicast = MulticastRequests()
        self._on_broken = on_broken
        self.driven: RingUser | None = None
        #: Bytes of the longest frame that the backend takes.
        self.longest = MAX_FRAME if negotiated.can_sg else PAGE_SIZE
        self._shares = shares = Shares(hv, negotiated.otherend_id)
        self._running = False
        self.scheduled = False
        #: Whether the last pass over the receive ring left responses there, or more came meanwhile.
        self._rx_left = False
        try:
            tx_page, rx_page = shares.page(), shares.page()
            tx_buffers = shares.buffers(TX_SLOTS, readonly=True)
            rx_buffers = shares.buffers(RX_SLOTS)
            self.tx_port = shares.channel()
            self.rx_port = shares.channel() if negotiated.split else self.tx_port
        except Exception:
            shares.end()
            raise
        self.tx_ring = FrontRing.init(tx_ring(tx_page.pages.u8, tx_page.pages.u32, name))
        self.rx_ring = FrontRing.init(rx_ring(rx_page.pages.u8, rx_page.pages.u32, name))
        #: Grant references of the two ring pages.
        self.tx_ring_ref = tx_page.grefs[0]
        self.rx_ring_ref = rx_page.grefs[0]
        counters.tx.grants += 1 + (TX_SLOTS if tx_buffers.lasting else 0)
        counters.rx.grants += 1 + (RX_SLOTS if rx_buffers.lasting else 0)
        #: Number of grants counted for each request that names a buffer.
        self.grants = 0 if tx_buffers.lasting else 1
        self.tx = TxPass(hv, self.tx_ring, negotiated, tx_buffers)
        self.rx = RxPass(hv, self.rx_ring, negotiated, rx_buffers, rx_batch)
        self._tx_announcer = Announcer(hv, self.tx_port, "tx", counters.tx)
        self._rx_announcer = Announcer(hv, self.rx_port, "rx", counters.rx)
        self._tx_words, self._rx_words = self.tx_ring.sring.u32, self.rx_ring.sring.u32
        self._eois = [
            LateEoi(hv, port, counters, delays=negotiated.late_eoi, name=f"netfront {name}")
            for port in shares.ports
        ]
        handlers = (self._tx_event, self._rx_event) if negotiated.split else (self._event,)
        for port, handler in zip(shares.ports, handlers, strict=True):
            hv.on_event(port, handler)

    def __repr__(self) -> str:
        ports = f"ports {self.tx_port}, {self.rx_port}"
        return f"<Queue rings {self.tx_ring_ref}, {self.rx_ring_ref}; {ports}>"

    def ready(self) -> None:
        """Notify the backend once, unasked, now that it can find the rings, since a backend that
        attached to a restored ring may wait for that; then post all buffers."""
        for port in self._shares.ports:
            self.hv.notify(port)
        self.post_buffers()

    def post_buffers(self) -> None:
        """Post all receive buffers, but those that are kept; the backend may find them when it
        attaches."""
        posted, notify = self.rx.put_requests()
        self.counters.rx.requests += posted
        self.counters.rx.grants += posted * self.grants
        if posted:
            self._rx_announcer.announce(notify)

    def start(self) -> None:
        """Send and receive from now on: the backend is connected."""
        self._running = True
        self.kick()

    def stop(self) -> None:
        """Do nothing until :meth:`disconnect`."""
        self._running = False
        self._cancel_delays()

    def drop_waiting(self) -> None:
        """Drop and count the frames that the guest gave and that are not on the ring."""
        self.counters.lost += self.tx.drop_all()

    def disconnect(self) -> list[GrantedPages]:
        """Close the channels and end all grants. May be repeated.

        Returns the pages that the backend still holds; the caller tries them again later.
        """
        self._running = False
        self._cancel_delays()
        if self._shares.ports:
            self.drop_waiting()
            # The views of the buffers go before the memory under them.
            del self.tx, self.rx
        return self._shares.end()

    def _cancel_delays(self) -> None:
        for eoi in self._eois:
            eoi.cancel()

    # An event without new responses may still find responses for which there was no room.

    def _tx_event(self) -> None:
        rsp_prod = self._tx_words[RSP_PROD]
        self._eois[0].heard(rsp_prod)
        if rsp_prod != self.tx_ring.pvt[FRONT_RSP_CONS]:
            self.kick()

    def _rx_event(self) -> None:
        rsp_prod = self._rx_words[RSP_PROD]
        self._eois[1].heard(rsp_prod)
        if rsp_prod != self.rx_ring.pvt[FRONT_RSP_CONS]:
            self.kick()

    def _event(self) -> None:
        tx_prod, rx_prod = self._tx_words[RSP_PROD], self._rx_words[RSP_PROD]
        self._eois[0].heard(tx_prod << 32 | rx_prod)
        tx_cons, rx_cons = self.tx_ring.pvt[FRONT_RSP_CONS], self.rx_ring.pvt[FRONT_RSP_CONS]
        if tx_prod != tx_cons or rx_prod != rx_cons:
            self.kick()

    @property
    def running(self) -> bool:
        """Whether frames pass: the backend is connected, and keeps to the protocol."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many responses of the receive ring are to be looked at, as far as that can be."""
        there = (self._rx_words[RSP_PROD] - self.rx_ring.pvt[FRONT_RSP_CONS]) & MASK32
        return min(there, RX_SLOTS) or int(self._rx_left)

    def kick(self) -> None:
        """Look for work in a later delivery: an event came, or the guest has frames to send."""
        if self._running and not self.scheduled:
            self.scheduled = True
            self.hv.defer(self._poll)

    def _poll(self) -> None:
        self.scheduled = False
        if not self._running:
            return
        try:
            # On a ring without responses the event index stands as the last pass left it.
            more = False
            driven = self.driven
            if self._rx_left or self._rx_words[RSP_PROD] != self.rx_ring.pvt[FRONT_RSP_CONS]:
                more = (driven is None or not driven.arrived()) and self.poll_rx()
            if self._running:
                more = self.poll_tx() or more
        except BackendError as error:
            self.broken(error)
            return
        except BaseException:
            # The guest's end raised. What the pass has done is published; it is made again.
            self.kick()
            raise
        if driven is not None:
            driven.looked()
        if more:
            self.kick()

    def broken(self, error: BackendError) -> None:
        """Do nothing more until :meth:`disconnect`: the backend broke the protocol."""
        self._running = False
        self._on_broken(error)

    # -- polls that are made elsewhere, many in one call (xennet.link.joined) ----------------------

    @property
    def only_sends(self) -> bool:
        """Whether its polls only take responses to what it sent and send what the guest has, as
        long as nothing arrives."""
        return (
            self._running
            and self.link_up
            and self.driven is None
            and not self.multicast.busy
            and self.tx_port != self.rx_port
            and not self.waiting
        )

    @property
    def work(self) -> Callable[[], None]:
        """What :meth:`kick` defers, as long as it is ``scheduled``."""
        return self._poll

    @property
    def tx_handler(self) -> Callable[[], None]:
        """What handles the events of ``tx_port``, and asks ``tx_eoi``."""
        return self._tx_event

    @property
    def tx_eoi(self) -> LateEoi:
        """The end of the events of ``tx_port``."""
        return self._eois[0]

    def fail(self) -> None:
        """Go on with a poll in which responses were taken elsewhere, with a verdict."""
        self._count_responses()
        self.broken(tx_error(self.tx.res))

    # -- guest transmit ----------------------------------------------------------------------------

    def poll_tx(self) -> bool:
        """Take responses, then send the frames that the guest has. Returns True if there is more to
        do at once.

        Raises BackendError when the backend broke the protocol.
        """
        tx = self.tx
        more = False
        if self._tx_words[RSP_PROD] != self.tx_ring.pvt[FRONT_RSP_CONS]:
            more = self._take_tx()
        if self.multicast.busy:
            self._amend_multicast()
        if not self.link_up:
            return self._discard() or more

        if tx.next == tx.batch.count:
            try:
                if not tx.pull(self.guest):
                    return more
            finally:
                # What a pull that raises has given is sent by the next pass.
                if self._passage.interest.any:
                    self._passage.tell("in", tx.batch, tx.batch.count)
        taken = tx.put_requests()
        if not taken:
            return more  # the ring is full: a response will bring an event
        self._announce_tx(taken)
        return more or not tx.full

    def collect(self) -> None:
        """Take all responses of the transmit ring. Raises BackendError as :meth:`poll_tx` does."""
        while self._tx_words[RSP_PROD] != self.tx_ring.pvt[FRONT_RSP_CONS]:
            self._take_tx()

    def _take_tx(self) -> bool:
        """Take responses. Returns whether more have come meanwhile."""
        tx, free = self.tx, self.tx.free
        verdict = tx.take_responses()
        self._count_responses()
        if self.driven is not None:
            self.driven.answered(free)
        if verdict != guest_tx.OK:
            raise tx_error(tx.res)
        return tx.res[guest_tx.R_MORE] != 0

    def _count_responses(self) -> None:
        counters, res = self.counters.tx, self.tx.res
        counters.responses += res[guest_tx.R_RESPONSES]
        counters.errors += res[guest_tx.R_ERRORS]

    def flush(self) -> bool:
        """Send what was taken from the guest. Returns whether that is all on the ring."""
        if not self.tx.empty and (taken := self.tx.put_requests()):
            self._announce_tx(taken)
        return self.tx.empty

    def send_others(self, batch: FrameBatch) -> int:
        """Send frames that are not the guest's. Returns how many the ring has taken."""
        taken = self.tx.put_others(batch)
        if taken:
            if self._passage.interest.any:
                self._passage.tell("in", batch, taken)
            self._announce_tx(taken)
        return taken

    def _announce_tx(self, taken: int) -> None:
        """Count what was sent, and notify the backend if it asked for that."""
        tx, counters = self.tx, self.counters.tx
        slots, unsendable = tx.res[guest_tx.R_REQUESTS], tx.res[guest_tx.R_UNSENDABLE]
        counters.errors += unsendable
        counters.packets += taken - unsendable
        counters.bytes += tx.res[guest_tx.R_BYTES]
        if slots:
            counters.slots += slots
            counters.requests += slots
            counters.grants += (slots - tx.res[guest_tx.R_EXTRAS]) * self.grants
            self._tx_announcer.announce(tx.res[guest_tx.R_NOTIFY])

    def _amend_multicast(self) -> None:
        """Collect the answers to multicast requests, and make the next requests."""
        tx, counters = self.tx, self.counters.tx
        self.multicast.collect(tx)
        while self.multicast.ask(tx):
            counters.slots += 2
            counters.requests += 2
            self._tx_announcer.announce(tx.res[guest_tx.R_NOTIFY])

    def _discard(self) -> bool:
        """Drop the frames that wait to be sent, as the link is down. Returns whether there were
        any."""
        lost = self.tx.discard(self.guest)
        self.counters.no_carrier += lost
        return lost > 0

    def poll_rx(self) -> bool:
        """Take responses and push their frames to the guest. Returns True if there is more to do at
        once.

        Raises BackendError when the backend broke the protocol.
        """
        room = self.guest.room
        if not room:
            return False
        rx, counters = self.rx, self.counters.rx
        verdict = self._take_rx(room)
        try:
            if rx.batch.count:
                if self._passage.interest.any:
                    self._passage.tell("out", rx.batch, rx.batch.count)
                self.guest.push(rx.batch)
        except BaseException:
            if verdict != guest_rx.OK:
                self.broken(rx_error(rx.res))
            raise
        finally:
            slots = rx.res[guest_rx.R_SLOTS]
            if slots and verdict == guest_rx.OK:
                counters.requests += slots
                counters.slots += slots
                counters.grants += slots * self.grants
                self._rx_announcer.announce(rx.res[guest_rx.R_NOTIFY])
        if verdict != guest_rx.OK:
            raise rx_error(rx.res)
        return self._rx_left

    def receive(self, frames: int) -> FrameBatch:
        """Take at most ``frames`` frames that are not for the guest, without posting their buffers
        again. Returns the batch that has them. Raises BackendError as :meth:`poll_rx` does."""
        self.rx.kept = RX_SLOTS
        verdict = self._take_rx(frames)
        if verdict != guest_rx.OK:
            raise rx_error(self.rx.res)
        self.counters.rx.slots += self.rx.res[guest_rx.R_SLOTS]
        if self._passage.interest.any:
            self._passage.tell("out", self.rx.batch, self.rx.batch.count)
        return self.rx.batch

    def _take_rx(self, frames: int) -> int:
        """Take at most ``frames`` frames, and count them. Returns the verdict."""
        rx, counters = self.rx, self.counters.rx
        verdict = rx.take_responses(frames)
        self._rx_left = rx.res[guest_rx.R_MORE] != 0
        slots = rx.res[guest_rx.R_SLOTS]
        if slots:
            counters.responses += slots
            counters.errors += rx.res[guest_rx.R_DROPPED]
            self.counters.unvalidated += rx.res[guest_rx.R_UNVALIDATED]
            self.counters.rx_gso_checksum_fixup += rx.res[guest_rx.R_FIXUPS]
            if rx.res[guest_rx.R_DROP]:
                self.last_drop = drop_reason(rx.res)
            counters.packets += rx.batch.count
            counters.bytes += rx.batch.used
        return verdict
