"""One connected vif of xnb, and its two entry points: the interrupt and if_start."""

from __future__ import annotations

import errno

from attrs import define, field

from xennet.interface import Hypervisor
from xennet.netback.defects import BackendPanic
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.defects import NEVER_RETURNS
from xennet.netback.xnb.dump import Log, printf
from xennet.netback.xnb.known import DELIVERED, Rows
from xennet.netback.xnb.mbuf import Ifnet, MbufPool
from xennet.netback.xnb.rx import EVERY_FEATURE, SoftcFeatures, send
from xennet.netback.xnb.tx import recv
from xennet.ring import MASK32, BackRing, memory_barrier, overflows

#: Packets after which an interrupt counts as endless.
INTERRUPT_LIMIT = 65536


@define(eq=False, repr=False)
class XnbSoftc:
    """A connected struct xnb_softc, as far as the data path needs it.

    ``otherend_id`` is the frontend's domid, ``port`` the event channel of both rings. The two copy
    tables live as long as the vif does, and so do their leftovers. ``rows``: the defects that are
    known (xennet.netback.xnb.known); ``features``: the frontend's, which only B10 looks at.
    """

    hv: Hypervisor
    otherend_id: int
    txb: BackRing
    rxb: BackRing
    port: int
    ifp: Ifnet
    pool: MbufPool
    log: Log = None
    carrier: bool = True
    rows: Rows = field(factory=Rows, repr=False)
    features: SoftcFeatures = EVERY_FEATURE
    tx_gnttab: GnttabCopyTable = field(factory=GnttabCopyTable, repr=False)
    rx_gnttab: GnttabCopyTable = field(factory=GnttabCopyTable, repr=False)


def intr(xnb: XnbSoftc, limit: int = INTERRUPT_LIMIT) -> bool:
    """The event channel's handler: all packets off the tx ring, then whatever waits for the guest.

    xnb_intr of netback.c. Hands each packet to ``ifp.if_input``, publishes the responses and
    signals if the frontend asked for it. The first error of :func:`recv` ends the pass; afterwards
    req_event is put behind what was *consumed*, not behind what was seen, so that packets left
    over, or half produced, are never announced again (defects A10, A11).

    The driver has no bound (defects A14, A15); after ``limit`` packets this raises BackendPanic
    (A14/A15) in its place. With A15 known, returns True if packets are left for another interrupt.
    """
    txb, rows = xnb.txb, xnb.rows
    rows.lines = 0
    taken = 0
    left = False
    while not left:
        req_prod_local = txb.sring.req_prod
        if is_impossible(xnb.txb, req_prod_local) and rows.fixed("A14"):
            _disable(xnb, "tx")
            return False
        while True:
            begin = txb.req_cons
            error, mbufc = recv(
                txb, xnb.otherend_id, xnb.ifp, xnb.tx_gnttab, xnb.hv, xnb.pool, xnb.log, rows
            )
            if mbufc is not None:
                xnb.ifp.if_input(mbufc)
                if rows.meanwhile is not None:
                    rows.meanwhile(DELIVERED)
            elif not goes_on(txb, error, begin, rows):
                break
            taken += 1
            if taken >= txb.nr_ents and txb.unconsumed_requests and rows.fixed("A15"):
                left = True
                break
            if taken >= limit:
                raise BackendPanic(
                    f"xnb_intr: has not returned after {taken} packets; {txb.sring.name} ring: "
                    f"req_prod {txb.sring.req_prod}, req_cons {txb.req_cons}",
                    NEVER_RETURNS,
                )

        if txb.push_responses_and_check_notify():
            xnb.hv.notify(xnb.port)
        txb.sring.req_event = event_index(txb, req_prod_local, rows)
        memory_barrier()
        if txb.sring.req_prod == req_prod_local:
            break

    start(xnb)
    return left


def is_impossible(ring: BackRing, req_prod: int) -> bool:
    """Whether the frontend claims more requests than the ring has slots (rule F1)."""
    return overflows(req_prod, ring.req_cons, ring.nr_ents)


def goes_on(txb: BackRing, error: int, begin: int, rows: Rows) -> bool:
    """Whether the pass goes on after :func:`recv` gave no packet: behind one that was dropped, and
    with A10 known behind one in error.

    ``begin`` was req_cons before; where it did not move (A3), there is no way on.
    """
    if not error or txb.req_cons == begin:
        return False
    if error == errno.EBADMSG:
        return True
    return txb.unconsumed_requests != 0 and rows.fixed("A10")


def event_index(txb: BackRing, seen: int, rows: Rows) -> int:
    """The req_event behind a pass that saw req_prod ``seen``: behind what was consumed (A11)."""
    if txb.req_cons != seen and rows.fixed("A11"):
        return (seen + 1) & MASK32
    return (txb.req_cons + 1) & MASK32


def _disable(xnb: XnbSoftc, ring: str) -> None:
    xnb.carrier = False
    if xnb.rows.may_print(1):
        printf(xnb.log, "xnb_intr", f"{ring} ring: impossible req_prod, the vif is disabled")


def start(xnb: XnbSoftc) -> None:
    """xnb_start: take rx_lock (there are no threads here) and call the rest."""
    start_locked(xnb)


def start_locked(xnb: XnbSoftc) -> None:
    """Send what waits in ``ifp.if_snd`` to the guest, as far as it posted buffers.

    xnb_start_locked of netback.c. A packet that does not fit goes back to the head of the queue,
    and the frontend is signalled even if it did not ask. Everything else is freed and counted as
    sent, also packets that were dropped (EINVAL) or could not be copied (defect B5).
    """
    if not xnb.carrier:
        return
    rxb, rows = xnb.rxb, xnb.rows
    while True:
        out_of_space = False
        req_prod_local = rxb.sring.req_prod
        while xnb.ifp.if_snd:
            mbufc = xnb.ifp.if_snd.popleft()
            error = send(
                rxb, xnb.otherend_id, mbufc, xnb.rx_gnttab, xnb.hv, xnb.log, xnb.features, rows
            )
            if error in (errno.EAGAIN, errno.EPROTO):
                xnb.ifp.if_snd.appendleft(mbufc)
                if error == errno.EPROTO:
                    _disable(xnb, "rx")
                    return
                out_of_space = True
                break
            if error:
                xnb.ifp.oerrors += 1
            if not error or not rows.fixed("B5"):
                xnb.ifp.opackets += 1
            xnb.pool.m_freem(mbufc)

        notify = rxb.push_responses_and_check_notify()
        if notify or out_of_space:
            xnb.hv.notify(xnb.port)
        rxb.sring.req_event = req_prod_local + 1
        memory_barrier()
        if rxb.sring.req_prod == req_prod_local:
            break
