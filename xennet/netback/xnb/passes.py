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

from xennet.abi.netif import NETRXF_extra_info
from xennet.abi.words import RX_SLOTS, TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MAX_FRAME, FrameBatch, Outbox, lazy_bytes
from xennet.interface import Hypervisor, PageRun
from xennet.netback import guest_rx, guest_tx
from xennet.netback.defects import BackendPanic
from xennet.netback.keys import FrontendFeatures
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.defects import NEVER_RETURNS, NO_IFNET
from xennet.netback.xnb.keys import XnbFeatures
from xennet.netback.xnb.mbuf import (
    CSUM_DATA_VALID,
    CSUM_DELAY_DATA,
    CSUM_TSO,
    Ifnet,
    Mbuf,
    chain_bytes,
)
from xennet.netback.xnb.pkt import Pkt
from xennet.netback.xnb.rx import mbufc2pkt, send
from xennet.netback.xnb.softc import INTERRUPT_LIMIT
from xennet.netback.xnb.stage_pages import stage_pool
from xennet.netback.xnb.tx import recv
from xennet.ring import MASK32, BackRing, memory_barrier, overflows

#: Room that nobody lacks: mbufc2pkt is asked only what a packet needs.
_ANY_SPACE = 1 << 16


class XnbTransmitPass:
    """xnb_intr as far as the transmit ring goes. ``stage``: pages that become mbufs.

    ``ifp`` has the driver's own counters. ``interrupt_limit``: packets that are taken from a ring
    which claims more requests than it has slots (defect A14) before this counts as not returning.
    """

    def __init__(
        self,
        hv: Hypervisor,
        ring: BackRing,
        otherend_id: int,
        stage: PageRun,
        config: array[int],
    ) -> None:
        self._hv = hv
        self._ring = ring
        self._otherend_id = otherend_id
        self._pool = stage_pool(stage)
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
        """Take packets until there is none, or an error, or ``max_packets``; always guest_tx.OK.

        ``res[R_SLOTS]`` is the number of responses, which is not always that of requests (defects
        A3, A4). Raises BackendPanic where xnb's kernel ends.
        """
        ring, batch, res = self._ring, self.batch, self.res
        batch.clear()
        self._seen = ring.sring.req_prod
        answered = ring.rsp_prod_pvt
        limit = min(max_packets, batch.max_frames)
        error = 0
        self._cut = True
        while batch.count < limit and batch.has_room(MAX_FRAME):
            error, mbufc = recv(
                ring, self._otherend_id, self.ifp, self._gnttab, self._hv, self._pool
            )
            if error or mbufc is None:
                self._cut = False
                break
            self._input(mbufc)
        res[guest_tx.R_SLOTS] = (ring.rsp_prod_pvt - answered) & MASK32
        res[guest_tx.R_PACKETS] = batch.count
        res[guest_tx.R_BYTES] = batch.used
        res[guest_tx.R_ERRORS] = int(error != 0)
        res[guest_tx.R_NOTIFY] = int(ring.push_responses_and_check_notify())
        self._look_for_the_end()
        return guest_tx.OK

    def await_requests(self) -> bool:
        """Put req_event behind what was consumed (A10, A11). Returns True if more was produced."""
        if self._cut:
            return True
        sring = self._ring.sring
        sring.req_event = self._ring.req_cons + 1
        memory_barrier()
        return sring.req_prod != self._seen

    def _input(self, mbufc: Mbuf) -> None:
        """if_input. GSO data is lost on the way (defect A20)."""
        assert mbufc.pkthdr is not None
        validated = mbufc.pkthdr.csum_flags & CSUM_DATA_VALID
        self.batch.append(chain_bytes(mbufc), flags=DATA_VALIDATED if validated else 0)
        self._pool.m_freem(mbufc)

    def _look_for_the_end(self) -> None:
        ring = self._ring
        prod = ring.sring.req_prod
        if not overflows(prod, ring.req_cons, ring.nr_ents):
            self._stale = 0
            return
        self._stale += self.batch.count
        if self._stale >= self.interrupt_limit:
            raise BackendPanic(
                f"xnb_intr: has not returned after {self._stale} packets; {ring.sring.name} ring: "
                f"req_prod {prod}, req_cons {ring.req_cons}",
                NEVER_RETURNS,
            )


class XnbReceivePass(Outbox):
    """xnb_start_locked. ``stage``: pages that become mbufs.

    ``features`` are believed in one thing only: whether there is an ifnet.
    """

    #: There is no multicast control (C10).
    filtered: tuple[tuple[bytes, int], ...] = ()

    def __init__(
        self,
        hv: Hypervisor,
        ring: BackRing,
        otherend_id: int,
        features: FrontendFeatures,
        stage: PageRun,
        config: array[int],
    ) -> None:
        self._hv = hv
        self._ring = ring
        self._otherend_id = otherend_id
        self._no_ifnet = isinstance(features, XnbFeatures) and features.no_ifnet
        self._pool = stage_pool(stage)
        self._gnttab = GnttabCopyTable()
        self._seen = ring.req_cons
        super().__init__(FrameBatch(lazy_bytes(stage.count * PAGE_SIZE), RX_SLOTS))
        self.res = array("q", bytes(8 * guest_rx.RESULTS))

    def refill(self) -> FrameBatch:
        """The batch, emptied, for new packets (if_snd). BackendPanic (C4) without an ifnet."""
        if self._no_ifnet:
            raise BackendPanic("xnb_start: ifp is NULL: it was freed at the last Closing", NO_IFNET)
        return super().refill()

    def run(self) -> int:
        """Send as many packets as the posted buffers allow. Returns guest_rx.OK.

        A packet whose copy failed is one response and counts as sent (defect B5).
        """
        ring, batch, res = self._ring, self.batch, self.res
        self._seen = ring.sring.req_prod
        answered = ring.rsp_prod_pvt
        sent = unsendable = needed = 0
        first = self.next
        while self.next < batch.count:
            mbufc = self._mbuf(self.next)
            error = send(ring, self._otherend_id, mbufc, self._gnttab, self._hv)
            if error == errno.EAGAIN:
                needed = _slots(mbufc)
            self._pool.m_freem(mbufc)
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
    return pkt.list_len + (1 if pkt.flags & NETRXF_extra_info else 0)
