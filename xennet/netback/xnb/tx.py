"""Guest transmit: from tx requests to an mbuf chain for the host's stack, and the responses.

    ring2pkt -> pkt2mbufc -> txpkt2gnttab -> (grant copy) -> update_mbufc -> txpkt2rsp

:func:`recv` is that sequence. All sizes are C's: ``uint16_t`` and ``size_t`` wrap.
"""

from __future__ import annotations

import errno

from xennet.abi.grant_table import GNTCOPY_source_gref, GNTST_okay
from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_extra_info,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import DOMID_SELF
from xennet.interface import Hypervisor
from xennet.netback.defects import BackendPanic, DefectStruck
from xennet.netback.xnb import defects
from xennet.netback.xnb.cksum import add_mbuf_cksum
from xennet.netback.xnb.copytable import GNTTAB_LEN, GnttabCopyTable
from xennet.netback.xnb.defects import (
    COPY_FAILED,
    MBUF_CHAIN_ENDS,
    OUT_OF_ORDER,
    TX_TABLE_TOO_SHORT,
)
from xennet.netback.xnb.dump import Log, dump_txreq, printf
from xennet.netback.xnb.mbuf import (
    CSUM_DATA_VALID,
    CSUM_IP_CHECKED,
    CSUM_IP_VALID,
    CSUM_PSEUDO_HDR,
    Ifnet,
    Mbuf,
    MbufPool,
)
from xennet.netback.xnb.pkt import Pkt
from xennet.netback.xnb.slots import extra_info, tx_request, tx_response
from xennet.ring import MASK32, BackRing

MASK16 = 0xFFFF
SIZE_T = 0xFFFF_FFFF_FFFF_FFFF


def ring2pkt(pkt: Pkt, tx_ring: BackRing, start: int, log: Log = None) -> int:
    """Read at most one packet from the tx ring, beginning at index ``start`` (xnb_ring2pkt).

    Fills ``pkt`` and returns how many slots it takes, extra info included; changes neither the
    shared page nor the private indices. 0 means that there is no packet yet: the ring is empty
    there (list_len 0), or the packet's last slot has not been produced (``pkt`` is then in error;
    a packet of 256 more_data slots never is, defect A8).

    One extra info is read, and only behind the first request; any type but GSO, and the MORE flag,
    put the packet in error (defects A5, A7). No slot's offset or size is checked, and sizes add up
    modulo 2^16 (defects A1, A2, A12, A13).
    """
    start &= MASK32
    idx = start
    discard = False
    more_data = 0
    cdr_size = 0

    pkt.initialize()

    if tx_ring.unconsumed_requests_from(idx):
        tx = tx_request(tx_ring, idx)
        pkt.size = tx.size
        pkt.flags = tx.flags & ~NETTXF_more_data
        more_data = tx.flags & NETTXF_more_data
        pkt.list_len += 1
        pkt.car = idx
        idx = (idx + 1) & MASK32

    # An extra_info flag with no slot behind it is passed over in silence (defect A4).
    if pkt.flags & NETTXF_extra_info and tx_ring.unconsumed_requests_from(idx):
        ext = extra_info(tx_ring, idx)
        pkt.extra.type = ext.type
        if pkt.extra.type == XEN_NETIF_EXTRA_TYPE_GSO:
            pkt.extra.gso_size = ext.gso_size
            pkt.extra.gso_type = ext.gso_type
            pkt.extra.gso_pad = ext.gso_pad
            pkt.extra.gso_features = ext.gso_features
        else:
            _complain(tx_ring, start, idx, f"extra info of unknown type {pkt.extra.type}", log)
            discard = True
        pkt.extra.flags = ext.flags
        if ext.flags & XEN_NETIF_EXTRA_FLAG_MORE:
            _complain(tx_ring, start, idx, "more than one extra info", log)
            discard = True
        idx = (idx + 1) & MASK32

    pkt.cdr = idx

    while more_data and tx_ring.unconsumed_requests_from(idx):
        tx = tx_request(tx_ring, idx)
        pkt.list_len += 1
        cdr_size = (cdr_size + tx.size) & MASK16
        if tx.flags & ~NETTXF_more_data:
            # Said and done: the packet stays valid (defect A6).
            _complain(tx_ring, start, idx, f"flags {tx.flags:#x} on a later request", log)
        more_data = tx.flags & NETTXF_more_data
        idx = (idx + 1) & MASK32

    if more_data:
        pkt.invalidate()
        idx = start
    else:
        pkt.car_size = (pkt.size - cdr_size) & MASK16
    if discard:
        pkt.invalidate()

    return (idx - start) & MASK32


def _complain(tx_ring: BackRing, start: int, idx: int, what: str, log: Log) -> None:
    """Print the console message about a slot, and both slots in full."""
    if log is not None:
        printf(log, "xnb_ring2pkt", f"{what} at index {idx}, packet at {start}")
        dump_txreq(start, tx_request(tx_ring, start), log)
        dump_txreq(idx, tx_request(tx_ring, idx), log)


def txpkt2rsp(pkt: Pkt, ring: BackRing, error: bool) -> None:
    """Write the responses to all slots of ``pkt``, unpublished (xnb_txpkt2rsp).

    Every data slot gets its request's id and NETIF_RSP_OKAY, or NETIF_RSP_ERROR if ``error`` or
    the packet is invalid. The slot behind the first gets the status NETIF_RSP_NULL, and nothing
    else (defect A22), if the packet has the extra_info flag, whether or not there was such a slot
    (defect A4). rsp_prod_pvt moves by as many. Nothing is done for list_len 0.

    Raises BackendPanic (A3/A4) unless the packet begins at rsp_prod_pvt.
    """
    status = NETIF_RSP_ERROR if error or not pkt.is_valid else NETIF_RSP_OKAY
    if pkt.list_len != 0 and ring.rsp_prod_pvt != pkt.car:
        raise BackendPanic(
            f"xnb_txpkt2rsp: {ring.sring.name} ring: response {ring.rsp_prod_pvt} is due, "
            f"the packet begins at {pkt.car}",
            OUT_OF_ORDER,
        )

    for i in range(pkt.list_len):
        request_id = tx_request(ring, ring.rsp_prod_pvt).id
        rsp = tx_response(ring, ring.rsp_prod_pvt)
        rsp.id = request_id
        rsp.status = status
        ring.rsp_prod_pvt += 1
        # The receive flag's name in netback.c; the bit is the same as NETTXF_extra_info (A21).
        if i == 0 and pkt.flags & NETRXF_extra_info:
            tx_response(ring, ring.rsp_prod_pvt).status = NETIF_RSP_NULL
            ring.rsp_prod_pvt += 1


def pkt2mbufc(pkt: Pkt, ifp: Ifnet, pool: MbufPool) -> Mbuf | None:
    """An empty mbuf chain with room for the packet (xnb_pkt2mbufc).

    Marked as fully checked when the request has NETTXF_data_validated; GSO data is ignored (defect
    A20). None when the pool is exhausted, and for a packet of 0 bytes (defect A3).
    """
    mbufc = pool.m_getm(pkt.size)
    if mbufc is not None:
        assert mbufc.pkthdr is not None
        mbufc.pkthdr.rcvif = ifp
        if pkt.flags & NETTXF_data_validated:
            mbufc.pkthdr.csum_flags = (
                CSUM_IP_CHECKED | CSUM_IP_VALID | CSUM_DATA_VALID | CSUM_PSEUDO_HDR
            )
            mbufc.pkthdr.csum_data = 0xFFFF
    return mbufc


def txpkt2gnttab(
    pkt: Pkt, mbufc: Mbuf, gnttab: GnttabCopyTable, txb: BackRing, otherend_id: int
) -> int:
    """Plan the copy from the packet's grants into the chain's storage (xnb_txpkt2gnttab).

    Fills elements from 0 on and returns their number; statuses are left as they are. An element
    ends where a slot or an mbuf ends. Slots are read from shared memory again (defect A16), and
    what is still to be copied does not bound an element, so that inconsistent sizes run off the
    chain's end: BackendPanic (A1/A2). BackendPanic (A9) when 64 elements do not suffice.
    """
    mbuf: Mbuf | None = mbufc
    gnt_idx = 0
    r_idx = pkt.car
    r_ofs = 0
    m_ofs = 0
    size_remaining = pkt.size

    while size_remaining > 0:
        txq = tx_request(txb, r_idx)
        if mbuf is None:
            raise BackendPanic(
                f"xnb_txpkt2gnttab: packet of {pkt.size} bytes, first slot {pkt.car_size}: no mbuf "
                f"is left and {size_remaining} bytes seem to be",
                MBUF_CHAIN_ENDS,
            )
        mbuf_space = (mbuf.trailing_space - m_ofs) & SIZE_T
        req_size = pkt.car_size if r_idx == pkt.car else txq.size
        space = min((req_size - r_ofs) & SIZE_T, mbuf_space)

        if gnt_idx >= GNTTAB_LEN:
            raise BackendPanic(
                f"xnb_txpkt2gnttab: packet of {pkt.list_len} slots needs more than {GNTTAB_LEN} "
                "copies",
                TX_TABLE_TOO_SHORT,
            )
        entry = gnttab[gnt_idx]
        entry.source_ref = txq.gref
        entry.source_domid = otherend_id
        entry.source_offset = txq.offset + r_ofs
        entry.dest_gmfn = mbuf.frame_at(m_ofs)
        entry.dest_offset = mbuf.offset_at(m_ofs)
        entry.dest_domid = DOMID_SELF
        entry.len = space
        entry.flags = GNTCOPY_source_gref

        gnt_idx += 1
        r_ofs += space
        m_ofs += space
        size_remaining = (size_remaining - space) & MASK16
        if req_size == r_ofs:
            r_ofs = 0
            r_idx = pkt.cdr if r_idx == pkt.car else (r_idx + 1) & MASK32
        if mbuf.trailing_space <= m_ofs:
            m_ofs = 0
            mbuf = mbuf.next

    return gnt_idx


def update_mbufc(mbufc: Mbuf, gnttab: GnttabCopyTable, n_entries: int) -> None:
    """Account for what was copied into the chain, then fill in checksums (xnb_update_mbufc).

    Sets m_len of each mbuf and the length in the packet header from elements 0..n_entries-1.
    Raises BackendPanic (A12/A13) if any of them failed.
    """
    mbuf: Mbuf | None = mbufc
    total_size = 0
    for i in range(n_entries):
        entry = gnttab[i]
        if entry.status != GNTST_okay:
            raise BackendPanic(
                f"xnb_update_mbufc: copy {i} from gref {entry.source_ref} offset "
                f"{entry.source_offset} length {entry.len} has status {entry.status}",
                COPY_FAILED,
            )
        if mbuf is None:
            raise BackendPanic(
                f"xnb_update_mbufc: no mbuf is left for copy {i} of {n_entries}", MBUF_CHAIN_ENDS
            )
        mbuf.len += entry.len
        total_size += entry.len
        if mbuf.trailing_space <= 0:
            mbuf = mbuf.next
    assert mbufc.pkthdr is not None
    mbufc.pkthdr.len = total_size
    add_mbuf_cksum(mbufc)


def recv(
    txb: BackRing,
    otherend: int,
    ifnet: Ifnet,
    gnttab: GnttabCopyTable,
    hv: Hypervisor,
    pool: MbufPool,
    log: Log = None,
) -> tuple[int, Mbuf | None]:
    """Take at most one packet off the tx ring (xnb_recv).

    Returns (errno, chain). (0, None): nothing to receive. (EINVAL, None): a garbage packet, slots
    consumed and answered ERROR. (ENOMEM, None): no mbufs; answered ERROR but *not* consumed, so
    that the next call meets the same slots with their responses already written (defect A3). Moves
    rsp_prod_pvt and req_cons, publishes nothing. Raises BackendPanic as the steps do. Observers
    hear of a packet that a defect damaged.
    """
    pkt = Pkt()
    num_consumed = ring2pkt(pkt, txb, txb.req_cons, log)
    if num_consumed == 0:
        return 0, None

    ifnet.ipackets += 1

    if not pkt.is_valid:
        txpkt2rsp(pkt, txb, True)
        txb.req_cons += num_consumed
        printf(log, "xnb_recv", f"garbage packet of {num_consumed} slots")
        ifnet.ierrors += 1
        return errno.EINVAL, None

    mbufc = pkt2mbufc(pkt, ifnet, pool)
    if mbufc is None:
        txpkt2rsp(pkt, txb, True)
        printf(log, "xnb_recv", f"no mbufs for a packet of {num_consumed} slots")
        ifnet.iqdrops += 1
        return errno.ENOMEM, None

    nr_ents = txpkt2gnttab(pkt, mbufc, gnttab, txb, otherend)
    if nr_ents > 0:
        hv.grant_copy(gnttab.u32, nr_ents)
        observed = hv.interest(DefectStruck).any
        storage = defects.storage_of(mbufc) if observed else b""
        update_mbufc(mbufc, gnttab, nr_ents)
        if observed:
            for row in defects.from_guest(pkt, storage, mbufc):
                hv.emit(DefectStruck(hv.domid, otherend, row, defects.WHAT[row]))

    txpkt2rsp(pkt, txb, False)
    txb.req_cons += num_consumed
    return 0, mbufc
