"""One connected queue of a backend vif: both rings, their event channels, the host side.

The rings are pages of the frontend, mapped through its grants; payload moves by the batched grant
copy between the frontend's pages and staging pages of the backend. Work is done in passes of at
most one ring full, started by an event or by :meth:`Queue.kick` and continued through the run loop,
so that a frontend that never stops cannot keep the backend from anything else.

An event that finds no work in its ring costs two loads: no pass is made for it. If the frontend has
published nothing since the last event, the next ones are delayed (hardening rule F19,
:mod:`xennet.vif.late_eoi`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from attrs import frozen

from xennet.abi.words import REQ_PROD
from xennet.frames import Endpoint
from xennet.interface import GrantMapping, HypercallError, Hypervisor, PageRun
from xennet.netback import guest_rx, guest_tx
from xennet.netback.credit import NO_LIMIT, Credit, Rate
from xennet.netback.defects import BackendPanic
from xennet.netback.drain import Carrier, Patience, await_slots
from xennet.netback.keys import FrontendFeatures, QueueKeys, blame
from xennet.netback.pass_setup import PassSetup
from xennet.netback.policy import BackendPolicy, VifOptions
from xennet.netback.rx_pass import RxPass
from xennet.netback.stage import TxStage
from xennet.netback.tx_pass import TxPass
from xennet.netback.verdict import FrontendError
from xennet.observe import FrameFiltered
from xennet.ring import BACK_REQ_CONS, BackRing, RingOverflowError, SharedRing, rx_ring, tx_ring
from xennet.vif.announce import Announcer
from xennet.vif.counters import BackendCounters
from xennet.vif.late_eoi import LateEoi
from xennet.vif.passage import Passage
from xennet.vif.refusals import EXPIRED
from xennet.vif.ring_events import tell_refused
from xennet.xenbus.nodes import NodeDirectory

#: Staging pages for packets to the guest: eight of the longest.
RX_STAGE_PAGES = 128

#: Bits: the rings on which there may be work.
TX_WORK = 1
RX_WORK = 2
_RINGS = ("", "tx ", "rx ", "tx and rx ")


@frozen(eq=False, repr=False)
class VifContext:
    """What all queues of one connected vif share.

    ``name``: vif1.0. ``frontend``: the frontend's directory. ``config``: xennet.netback.vif_config.
    ``on_fatal(error)`` is called when the frontend broke the protocol; it stops all queues.
    """

    hv: Hypervisor
    otherend_id: int
    name: str
    frontend: str
    policy: BackendPolicy
    options: VifOptions
    features: FrontendFeatures
    config: array[int]
    stage: TxStage
    carrier: Carrier
    on_fatal: Callable[[FrontendError], None]

    def __repr__(self) -> str:
        return f"<VifContext {self.frontend}>"


class Queue:
    """A queue, connected in the constructor, which leaves nothing behind if it fails.

    ``tx`` and ``rx`` are the passes over the two rings while it is connected; ``tx_port`` and
    ``rx_port`` are its ends of the channels, the same number if there is one for both. ``stalled``:
    buffers have been too few for too long. ``number`` is the queue's, from 0.

    Raises XenbusError that names the node for a ring page that cannot be mapped, a channel that
    cannot be bound and a ring whose req_prod cannot be (hardening rules F21, F22).
    """

    def __init__(
        self,
        vif: VifContext,
        keys: QueueKeys,
        host: Endpoint,
        counters: BackendCounters,
        rate: Rate = NO_LIMIT,
        number: int = 0,
    ) -> None:
        self.hv = vif.hv
        self.vif = vif
        self.keys = keys
        self.host = host
        self.counters = counters
        #: Of recordings.
        self.name = f"{vif.name} q{number}"
        self._passage = Passage(vif.hv, vif.name, number, "host")
        self.stalled = False
        self._undo: list[Callable[[], None]] = []
        self._stopped = False
        self._connected = True
        self.scheduled = False
        self.wanted = 0
        self._needed = 0
        try:
            self._connect(rate)
        except Exception:
            self.disconnect()
            raise

    def __repr__(self) -> str:
        return f"<Queue of vif {self.vif.frontend}: ports {self.tx_port}, {self.rx_port}>"

    @property
    def delivery_name(self) -> str:
        """What the delivery is, in words, that was asked for last."""
        return f"netback {_RINGS[self.wanted]}pass {self.name}"

    # -- what is told of it ------------------------------------------------------------------------

    def reasons(self, backend: NodeDirectory) -> Iterator[str]:
        """What keeps its frames from passing, to be said of it; ``backend``: the vif's nodes."""
        posted = self.rx_ring.unconsumed_requests
        if self.stalled:
            yield f" is stalled, its frames are dropped: {posted} receive buffers are posted"
        elif not posted:
            yield ": the guest has posted no receive buffers"
        size = self.tx.res[guest_tx.R_LIMITED]
        if size and self.tx_ring.unconsumed_requests:
            yield (
                f" waits for the rate limit, {self.tx.credit} bytes are left and {size} are "
                f'needed: {backend.node("rate")} = "{backend.optional_text("rate")}"'
            )

    # -- connecting --------------------------------------------------------------------------------

    def _connect(self, rate: Rate) -> None:
        hv, vif, keys = self.hv, self.vif, self.keys
        tx_name, rx_name = "tx-ring-ref", "rx-ring-ref"
        tx = self._map(tx_name, keys.tx_ring_ref).page
        rx = self._map(rx_name, keys.rx_ring_ref).page
        self.tx_ring = self._attach(tx_ring(tx.u8, tx.u32, self.name), tx_name, keys.tx_ring_ref)
        self.rx_ring = self._attach(rx_ring(rx.u8, rx.u32, self.name), rx_name, keys.rx_ring_ref)

        tx_stage = vif.stage.take()
        self._undo.append(vif.stage.give_back)
        rx_stage = hv.alloc_pages(RX_STAGE_PAGES)
        self._undo.append(lambda: hv.free_pages(rx_stage))
        policy, options, features = vif.policy, vif.options, vif.features

        def setup(ring: BackRing, stage: PageRun) -> PassSetup:
            return PassSetup(hv, ring, vif.otherend_id, features, stage, vif.config)

        self.tx = policy.transmit_pass(setup(self.tx_ring, tx_stage))
        self.rx = policy.receive_pass(setup(self.rx_ring, rx_stage))
        self._undo.append(self._drop_passes)

        self._credit = Credit(hv, rate, self._credit_added, self.name)
        self.tx.credit = self._credit.remaining
        self._undo.append(self._credit.cancel)
        if features.rx_notify:
            drain, stall = options.drain_timeout, options.stall_timeout
        else:
            drain, stall = options.drain_timeout_unnotified, 0
        self._patience = Patience(hv, drain, stall, lambda: self.kick(RX_WORK), self.name)
        self._undo.append(self._patience.cancel)

        self._tx_words, self._rx_words = self.tx_ring.sring.u32, self.rx_ring.sring.u32
        tx_seen, rx_seen = self.tx_ring.req_cons, self.rx_ring.req_cons
        if keys.split:
            self.tx_port = self._bind("event-channel-tx", keys.tx_port)
            self.rx_port = self._bind("event-channel-rx", keys.rx_port)
            self.tx_eoi = self._late_eoi(self.tx_port, tx_seen)
            self._rx_eoi = self._late_eoi(self.rx_port, rx_seen)
            hv.on_event(self.tx_port, self._tx_event)
            hv.on_event(self.rx_port, self._rx_event)
        else:
            self.tx_port = self.rx_port = self._bind("event-channel", keys.tx_port)
            self.tx_eoi = self._late_eoi(self.tx_port, tx_seen << 32 | rx_seen)
            hv.on_event(self.tx_port, self._event)
        self._tx_announcer = Announcer(hv, self.tx_port, "tx", self.counters.tx)
        self._rx_announcer = Announcer(hv, self.rx_port, "rx", self.counters.rx)

    def _map(self, name: str, gref: int) -> GrantMapping:
        try:
            mapping = self.hv.map_grant(self.vif.otherend_id, gref)
        except HypercallError as refused:
            raise blame(self.keys, name, gref, refused) from refused
        self._undo.append(lambda: self.hv.unmap_grant(mapping))
        return mapping

    def _attach(self, ring: SharedRing, name: str, gref: int) -> BackRing:
        try:
            return self.vif.policy.attach(ring)
        except RingOverflowError as impossible:
            raise blame(self.keys, name, gref, impossible) from impossible

    def _bind(self, name: str, remote_port: int) -> int:
        try:
            port = self.hv.bind_interdomain(self.vif.otherend_id, remote_port)
        except HypercallError as refused:
            raise blame(self.keys, name, remote_port, refused) from refused
        self._undo.append(lambda: self.hv.close_port(port))
        return port

    def _late_eoi(self, port: int, seen: int) -> LateEoi:
        delays = self.vif.options.late_eoi
        name = f"netback {self.name}"
        eoi = LateEoi(self.hv, port, self.counters, seen=seen, delays=delays, name=name)
        self._undo.append(eoi.cancel)
        return eoi

    def disconnect(self) -> None:
        """Unbind, free and unmap everything. May be repeated."""
        self._connected = False
        while self._undo:
            self._undo.pop()()

    def _drop_passes(self) -> None:
        self.counters.lost += self.rx.drop_all()
        # Their views go before the memory under them.
        del self.tx, self.rx

    # -- what starts work --------------------------------------------------------------------------

    def kick(self, work: int = TX_WORK | RX_WORK) -> None:
        """Schedule passes over the rings ``work`` (TX_WORK, RX_WORK): by default the host may have
        frames for the guest, or room for more from it."""
        self.wanted |= work
        if not self.scheduled and self._connected:
            self.scheduled = True
            self.hv.defer(self._poll)

    def stop(self) -> None:
        """Abandon the rings; the mappings stay until the frontend closes (rules F1..F10)."""
        self._stopped = True
        self._patience.cancel()
        self._credit.cancel()

    def change_rate(self, rate: Rate) -> None:
        """Set the rate limit."""
        self._credit.change(rate)
        self.tx.credit = self._credit.remaining

    def _credit_added(self) -> None:
        self.tx.credit = self._credit.remaining
        self.kick(TX_WORK)

    def _tx_event(self) -> None:
        req_prod = self._tx_words[REQ_PROD]
        self.tx_eoi.heard(req_prod)
        if req_prod != self.tx_ring.pvt[BACK_REQ_CONS]:
            self.kick(TX_WORK)

    def _rx_event(self) -> None:
        req_prod = self._rx_words[REQ_PROD]
        self._rx_eoi.heard(req_prod)
        if req_prod != self.rx_ring.pvt[BACK_REQ_CONS]:
            self.kick(RX_WORK)

    def _event(self) -> None:
        tx_prod, rx_prod = self._tx_words[REQ_PROD], self._rx_words[REQ_PROD]
        self.tx_eoi.heard(tx_prod << 32 | rx_prod)
        work = TX_WORK if tx_prod != self.tx_ring.pvt[BACK_REQ_CONS] else 0
        if rx_prod != self.rx_ring.pvt[BACK_REQ_CONS]:
            work |= RX_WORK
        if work:
            self.kick(work)

    def _poll(self) -> None:
        self.scheduled = False
        if not self._connected:
            return
        work, self.wanted = self.wanted, 0
        self._make_passes(work, self.poll_tx)

    def _make_passes(self, work: int, poll_tx: Callable[[], bool]) -> None:
        more = 0
        try:
            if work & TX_WORK and not self._stopped and poll_tx():
                more = TX_WORK
            # What was delivered may have been answered at once (an echo), or brought a kick.
            came, self.wanted = self.wanted, 0
            more |= came & TX_WORK
            if (work | came) & RX_WORK and self.poll_rx():
                more |= RX_WORK
        except FrontendError as error:
            self.stop()
            self.vif.on_fatal(error)
            return
        except BackendPanic:
            raise
        except BaseException:
            # The host's end raised. What its pass has done is published; it is made again.
            self.kick()
            raise
        if more:
            self.kick(more)

    # -- passes that are made elsewhere, many in one call (xennet.link.joined) ---------------------

    @property
    def only_takes(self) -> bool:
        """Whether its passes only take what the guest sends, as long as the host has no frames:
        none waits, nothing is limited, and frames pass."""
        tx, rx = self.tx, self.rx
        return (
            self._connected
            and not self._stopped
            and self.vif.carrier.up
            and not self._credit.rate.limits
            and self.keys.split
            and isinstance(tx, TxPass)
            and isinstance(rx, RxPass)
            and rx.empty
            and not rx.batch.used
        )

    @property
    def work(self) -> Callable[[], None]:
        """What :meth:`kick` defers, as long as it is ``scheduled``; ``wanted`` are the rings."""
        return self._poll

    @property
    def tx_handler(self) -> Callable[[], None]:
        """What handles the events of ``tx_port``, and asks ``tx_eoi``."""
        return self._tx_event

    def fail(self) -> None:
        """Go on with a pass whose requests were taken elsewhere, with a verdict."""
        tx = self.tx
        assert isinstance(tx, TxPass)
        verdict = tx.res[guest_tx.R_VERDICT]
        self._make_passes(TX_WORK, lambda: self._settle(tx.answer(verdict)))

    # -- guest transmit ----------------------------------------------------------------------------

    def poll_tx(self) -> bool:
        """Make one pass over the guest-transmit ring. Returns True if there is more to do at once.

        Raises FrontendError after the packets before the fatal one are delivered and answered.
        """
        room = self.host.room
        if not room:
            return False
        return self._settle(self.tx.run(room))

    def _settle(self, verdict: int) -> bool:
        """Deliver and count what a pass has taken, as :meth:`poll_tx` says."""
        tx, counters = self.tx, self.counters.tx
        res = tx.res
        slots = res[guest_tx.R_SLOTS]
        if slots:
            batch = tx.batch
            counters.packets += batch.count
            counters.bytes += batch.used
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            counters.errors += res[guest_tx.R_ERRORS]
            self.counters.csum_fixup += res[guest_tx.R_CSUM_FIXUP]
            self.counters.bad_csum += res[guest_tx.R_BAD_CSUM]
            try:
                if batch.count:
                    if self._passage.interest.any:
                        self._passage.tell("out", batch, batch.count)
                    self.host.push(batch)
                    self.wanted |= RX_WORK
            finally:
                self._tx_announcer.announce(res[guest_tx.R_NOTIFY])
        if verdict != guest_tx.OK:
            raise self.vif.policy.transmit_error(res)
        credit = self._credit
        if credit.rate.limits:
            credit.remaining = tx.credit
            if res[guest_tx.R_LIMITED]:
                if credit.exceeded(res[guest_tx.R_LIMITED]):
                    self.counters.rate_limited += 1
                    return False
                tx.credit = credit.remaining
                return True
        return tx.await_requests()

    # -- guest receive -----------------------------------------------------------------------------

    def poll_rx(self) -> bool:
        """Make one pass that sends the host's frames to the guest. Returns True if there is more to
        do at once.

        Without a carrier frames are dropped. Raises FrontendError for an impossible req_prod.
        """
        if not self.vif.carrier.up:
            return self._without_carrier()
        rx, counters = self.rx, self.counters.rx
        if rx.empty:
            batch = rx.refill()
            try:
                if not self.host.pull(batch):
                    return False
            finally:
                # What a pull that raises has given is sent by the next pass.
                if batch.count:
                    if self._passage.interest.any:
                        self._passage.tell("in", batch, batch.count)
                    self._patience.refilled()
        first = rx.next
        verdict = rx.run()
        res = rx.res
        if res[guest_rx.R_FILTERED]:
            self.counters.filtered += res[guest_rx.R_FILTERED]
            for data, timestamp in rx.filtered:
                self.hv.emit(FrameFiltered(self.hv.domid, self.vif.frontend, data, timestamp))
        if verdict != guest_rx.OK:
            raise self.vif.policy.receive_error(res)
        slots, unsendable = res[guest_rx.R_SLOTS], res[guest_rx.R_UNSENDABLE]
        counters.errors += unsendable
        if slots:
            counters.errors += res[guest_rx.R_ERRORS]
            counters.packets += rx.next - first - unsendable
            counters.bytes += res[guest_rx.R_BYTES]
            counters.slots += slots
            counters.requests += slots
            counters.responses += slots
            self._patience.progressed()
            self._rx_announcer.announce(res[guest_rx.R_NOTIFY])
        # With too few buffers for the next packet, sleep until one more is posted.
        return rx.empty or rx.await_requests() or self._lack()

    def _lack(self) -> bool:
        """Handle that fewer buffers are posted than the next packet needs. Returns True if there is
        more to do."""
        expired, stalled = self._patience.lack()
        if stalled:
            self._needed = self.rx.res[guest_rx.R_NEEDED]
            self.stalled = True
            self.vif.carrier.stall(1)
        elif expired:
            packets = self.rx.drop_all()
            self.counters.expired += packets
            index = self.rx_ring.req_cons
            tell_refused(self.hv, "rx", "packets expired", index, EXPIRED, packets=packets)
        return expired or stalled

    def _without_carrier(self) -> bool:
        if self.stalled and not self._stopped and await_slots(self.rx_ring, self._needed):
            if self.rx_ring.unconsumed_requests >= self._needed:
                self.stalled = False
                self._patience.progressed()
                self.vif.carrier.stall(-1)
            return True
        dropped = self.rx.discard(self.host)
        self.counters.dropped += dropped
        return dropped > 0
