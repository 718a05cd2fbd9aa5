"""xnb's data path as the passes that a queue runs (xennet.netback.policy).

:class:`XnbTransmitPass` is the inner loop of xnb_intr, :class:`XnbReceivePass` that of
xnb_start_locked; what they call is the driver's own, function by function. A packet between them
and the host is copied once more, from an mbuf chain to a batch of frames or back.

Differences that come from the queue around them: a pass is bounded (defect A15: xnb stays in
its interrupt; only a ring that claims more requests than it has slots, A14, is held against it), a
kick by the host looks at the transmit ring too (which ends the stalls of A10 and A11 as a receive
event does), and no signal is sent when buffers lack and nothing was answered.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable

from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import CSUM_BLANK, MAX_FRAME, FrameBatch, Outbox, lazy_bytes
from xennet.netback import guest_rx, guest_tx
from xennet.netback.defects import BackendPanic
from xennet.netback.keys import FrontendFeatures
from xennet.netback.pass_setup import PassSetup
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.defects import NEVER_RETURNS, NO_IFNET
from xennet.netback.xnb.keys import XnbFeatures
from xennet.netback.xnb.known import Rows
from xennet.netback.xnb.mbuf import (
    CSUM_DELAY_DATA,
    CSUM_TSO,
    Ifnet,
    Mbuf,
    chain_bytes,
    offload_of,
)
from xennet.netback.xnb.pkt import Pkt
from xennet.netback.xnb.rx import EVERY_FEATURE, mbufc2pkt, send, slots_of
from xennet.netback.xnb.softc import INTERRUPT_LIMIT, event_index, goes_on, is_impossible
from xennet.netback.xnb.stage_pages import stage_pool
from xennet.netback.xnb.tx import recv
from xennet.ring import MASK32, memory_barrier

#: Room that nobody lacks: mbufc2pkt is asked only what a packet needs.
_ANY_SPACE = 1 << 16


def _require_ifnet(features: FrontendFeatures, function: str) -> None:
    """Raise BackendPanic (C4), in xnb's ``function``, if its interface was freed."""
    if isinstance(features, XnbFeatures) and features.no_ifnet:
        raise BackendPanic(f"{function}: ifp is NULL: it was freed at the last Closing", NO_IFNET)


class XnbTransmitPass:
    """xnb_intr as far as the transmit ring goes. The staging pages become mbufs.

    The frontend's features are believed in one thing only: whether there is an ifnet. ``ifp`` has
    the driver's own counters. ``interrupt_limit``: packets that are taken from a ring which claims
    more requests than it has slots (defect A14) before this counts as not returning. ``rows``: the
    defects that are ``known`` and those that were met (xennet.netback.xnb.known).
    """

    def __init__(self, setup: PassSetup, *, known: Iterable[str] = ()) -> None:
        self.rows = Rows(known)
        self._hv = setup.hv
        self._ring = ring = setup.ring
        self._otherend_id = setup.otherend_id
        self._features = setup.features
        self._pool = stage_pool(setup.stage)
        self._gnttab = GnttabCopyTable()
        self._seen = ring.req_cons
        self._cut = False
        self._stale = 0
        self.ifp = Ifnet()
        self.interrupt_limit = INTERRUPT_LIMIT
        self.batch = FrameBatch(lazy_bytes(TX_SLOTS * PAGE_SIZE), TX_SLOTS)
        self.res = array("q", bytes(8 * guest_tx.RESULTS))
        #: There is no rate limit in xnb.
        self.credit = guest_tx.UNLIMITED

    def run(self, max_packets: int) -> int:
        """Take packets until there is none, or an error, or ``max_packets``. Returns guest_tx.OK;
        with A14 known also PROD_OVERFLOW.

        ``res[R_SLOTS]`` is the number of responses, which is not always that of requests (defects
        A3, A4). Raises BackendPanic where xnb's kernel ends; without an ifnet (C4) it does so at
        any event, before it takes a request.
        """
        _require_ifnet(self._features, "xnb_intr")
        ring, batch, res, rows = self._ring, self.batch, self.res, self.rows
        batch.clear()
        rows.lines = 0
        self._seen = ring.sring.req_prod
        res[guest_tx.R_SLOTS] = errors = bad_csum = 0
        if is_impossible(ring, self._seen) and rows.fixed("A14"):
            guest_tx.give_up(res, guest_tx.PROD_OVERFLOW, ring.req_cons, self._seen, 0, 0)
            return guest_tx.PROD_OVERFLOW
        answered = ring.rsp_prod_pvt
        limit = min(max_packets, batch.max_frames)
        taken = 0
        self._cut = True
        while taken < limit and batch.has_room(MAX_FRAME):
            begin = ring.req_cons
            error, mbufc = recv(
                ring,
                self._otherend_id,
                self.ifp,
                self._gnttab,
                self._hv,
                self._pool,
                None,
                rows,
            )
            if mbufc is not None:
                self._input(mbufc)
            else:
                bad_csum += error == errno.EBADMSG
                errors += error not in (0, errno.EBADMSG)
                if not goes_on(ring, error, begin, rows):
                    self._cut = False
                    break
            taken += 1
        res[guest_tx.R_SLOTS] = (ring.rsp_prod_pvt - answered) & MASK32
        res[guest_tx.R_PACKETS] = batch.count
        res[guest_tx.R_BYTES] = batch.used
        res[guest_tx.R_ERRORS] = errors
        res[guest_tx.R_BAD_CSUM] = bad_csum
        res[guest_tx.R_NOTIFY] = int(ring.push_responses_and_check_notify())
        self._look_for_the_end()
        return guest_tx.OK

    def await_requests(self) -> bool:
        """Put req_event behind what was consumed (A10, A11). Returns True if more was produced."""
        if self._cut:
            return True
        sring = self._ring.sring
        sring.req_event = event_index(self._ring, self._seen, self.rows)
        memory_barrier()
        return sring.req_prod != self._seen

    def _input(self, mbufc: Mbuf) -> None:
        """if_input. GSO data is lost on the way (defect A20)."""
        flags, gso_size, gso_type = offload_of(mbufc)
        self.batch.append(chain_bytes(mbufc), flags=flags, gso_size=gso_size, gso_type=gso_type)
        self._pool.m_freem(mbufc)

    def _look_for_the_end(self) -> None:
        ring = self._ring
        prod = ring.sring.req_prod
        if not is_impossible(ring, prod):
            self._stale = 0
            return
        self._stale += self.batch.count
        if self._stale >= self.interrupt_limit and not self.rows.fixed("A15"):
            raise BackendPanic(
                f"xnb_intr: has not returned after {self._stale} packets; {ring.sring.name} ring: "
                f"req_prod {prod}, req_cons {ring.req_cons}",
                NEVER_RETURNS,
            )


class XnbReceivePass(Outbox):
    """xnb_start_locked. The staging pages become mbufs.

    The frontend's features are believed in one thing only: whether there is an ifnet; with B10
    known, in all.
    ``rows``: the defects that are ``known`` and those that were met (xennet.netback.xnb.known).
    """

    #: There is no multicast control (C10).
    filtered: tuple[tuple[bytes, int], ...] = ()

    def __init__(self, setup: PassSetup, *, known: Iterable[str] = ()) -> None:
        self.rows = Rows(known)
        features = setup.features
        self._hv = setup.hv
        self._ring = ring = setup.ring
        self._otherend_id = setup.otherend_id
        self._features = features
        self._softc = features.softc if isinstance(features, XnbFeatures) else EVERY_FEATURE
        self._pool = stage_pool(setup.stage)
        self._gnttab = GnttabCopyTable()
        self._seen = ring.req_cons
        super().__init__(FrameBatch(lazy_bytes(setup.stage.count * PAGE_SIZE), RX_SLOTS))
        self.res = array("q", bytes(8 * guest_rx.RESULTS))

    def refill(self) -> FrameBatch:
        """The batch, emptied, for new packets (if_snd). BackendPanic (C4) without an ifnet."""
        _require_ifnet(self._features, "xnb_start")
        return super().refill()

    def run(self) -> int:
        """Send as many packets as the posted buffers allow. Returns guest_rx.OK; with B6 known also
        PROD_OVERFLOW.

        A packet whose copy failed is one response and counts as sent (defect B5).
        """
        ring, batch, res = self._ring, self.batch, self.res
        self._seen = ring.sring.req_prod
        answered = ring.rsp_prod_pvt
        sent = unsendable = needed = 0
        first = self.next
        while self.next < batch.count:
            mbufc = self._mbuf(self.next)
            error = send(
                ring,
                self._otherend_id,
                mbufc,
                self._gnttab,
                self._hv,
                None,
                self._softc,
                self.rows,
            )
            if error == errno.EAGAIN:
                needed = _slots(mbufc)
            self._pool.m_freem(mbufc)
            if error == errno.EPROTO:
                res[guest_rx.R_VERDICT] = guest_rx.PROD_OVERFLOW
                res[guest_rx.R_INDEX], res[guest_rx.R_WORD0] = ring.req_cons, ring.sring.req_prod
                return guest_rx.PROD_OVERFLOW
            if needed:
                break
            if error:
                unsendable += 1
            else:
                sent += batch.length[self.next]
            self.next += 1
        notify = ring.push_responses_and_check_notify()
        ring.sring.req_event = self._seen + 1
        res[guest_rx.R_SLOTS] = (ring.rsp_prod_pvt - answered) & MASK32
        res[guest_rx.R_PACKETS] = self.next - first
        res[guest_rx.R_UNSENDABLE] = unsendable
        res[guest_rx.R_BYTES] = sent
        res[guest_rx.R_NEEDED] = needed
        # Lack of buffers is told to the frontend even if it did not ask.
        res[guest_rx.R_NOTIFY] = int(notify or needed > 0)
        return guest_rx.OK

    def await_requests(self) -> bool:
        """True if buffers have been posted since :meth:`run`, which has asked for an event."""
        memory_barrier()
        return self._ring.sring.req_prod != self._seen

    def _mbuf(self, index: int) -> Mbuf:
        """Frame ``index`` as the host's stack would queue it."""
        batch = self.batch
        mbufc = self._pool.build(bytes(batch.frame(index)))
        assert mbufc.pkthdr is not None
        if batch.flags[index] & CSUM_BLANK:
            mbufc.pkthdr.csum_flags |= CSUM_DELAY_DATA
        if batch.gso_size[index]:
            mbufc.pkthdr.csum_flags |= CSUM_TSO
            mbufc.pkthdr.tso_segsz = batch.gso_size[index]
        return mbufc


def _slots(mbufc: Mbuf) -> int:
    """Slots that a packet needs."""
    pkt = Pkt()
    mbufc2pkt(mbufc, pkt, 0, _ANY_SPACE)
    return slots_of(pkt)
