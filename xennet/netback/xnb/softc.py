"""One connected vif of xnb, and its two entry points: the interrupt and if_start."""

from __future__ import annotations

import errno

from attrs import define, field

from xennet.interface import Hypervisor
from xennet.netback.defects import BackendPanic
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.defects import NEVER_RETURNS
from xennet.netback.xnb.dump import Log
from xennet.netback.xnb.mbuf import Ifnet, MbufPool
from xennet.netback.xnb.rx import send
from xennet.netback.xnb.tx import recv
from xennet.ring import BackRing, memory_barrier

#: Packets after which an interrupt counts as endless.
INTERRUPT_LIMIT = 65536


@define(eq=False)
class XnbSoftc:
    """A connected struct xnb_softc, as far as the data path needs it.

    ``otherend_id`` is the frontend's domid, ``port`` the event channel of both rings. The two copy
    tables live as long as the vif does, and so do their leftovers.
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
    tx_gnttab: GnttabCopyTable = field(factory=GnttabCopyTable, repr=False)
    rx_gnttab: GnttabCopyTable = field(factory=GnttabCopyTable, repr=False)


def intr(xnb: XnbSoftc, limit: int = INTERRUPT_LIMIT) -> None:
    """The event channel's handler: all packets off the tx ring, then whatever waits for the guest.

    xnb_intr of netback.c. Hands each packet to ``ifp.if_input``, publishes the responses and
    signals if the frontend asked for it. The first error of :func:`recv` ends the pass; afterwards
    req_event is put behind what was *consumed*, not behind what was seen, so that packets left
    over, or half produced, are never announced again (defects A10, A11).

    The driver has no bound (defects A14, A15); after ``limit`` packets this raises BackendPanic
    (A14/A15) in its place.
    """
    txb = xnb.txb
    taken = 0
    while True:
        req_prod_local = txb.sring.req_prod
        while True:
            error, mbufc = recv(
                txb, xnb.otherend_id, xnb.ifp, xnb.tx_gnttab, xnb.hv, xnb.pool, xnb.log
            )
            if error or mbufc is None:
                break
            xnb.ifp.if_input(mbufc)
            taken += 1
            if taken >= limit:
                raise BackendPanic(
                    f"xnb_intr: has not returned after {taken} packets; {txb.sring.name} ring: "
                    f"req_prod {txb.sring.req_prod}, req_cons {txb.req_cons}",
                    NEVER_RETURNS,
                )

        if txb.push_responses_and_check_notify():
            xnb.hv.notify(xnb.port)
        txb.sring.req_event = txb.req_cons + 1
        memory_barrier()
        if txb.sring.req_prod == req_prod_local:
            break

    start(xnb)


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
    rxb = xnb.rxb
    while True:
        out_of_space = False
        req_prod_local = rxb.sring.req_prod
        while xnb.ifp.if_snd:
            mbufc = xnb.ifp.if_snd.popleft()
            error = send(rxb, xnb.otherend_id, mbufc, xnb.rx_gnttab, xnb.hv, xnb.log)
            if error == errno.EAGAIN:
                xnb.ifp.if_snd.appendleft(mbufc)
                out_of_space = True
                break
            if error == errno.EINVAL:
                xnb.ifp.oerrors += 1
            xnb.ifp.opackets += 1
            xnb.pool.m_freem(mbufc)

        notify = rxb.push_responses_and_check_notify()
        if notify or out_of_space:
            xnb.hv.notify(xnb.port)
        rxb.sring.req_event = req_prod_local + 1
        memory_barrier()
        if rxb.sring.req_prod == req_prod_local:
            break
