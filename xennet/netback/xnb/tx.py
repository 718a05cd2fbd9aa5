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
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_XDP,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    NETRXF_extra_info,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.frames import MIN_FRAME
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
from xennet.netback.xnb.known import PARSED, SHIPPED, Rows
from xennet.netback.xnb.mbuf import (
    CSUM_DATA_VALID,
    CSUM_DELAY_DATA,
    CSUM_IP6_TSO,
    CSUM_IP_CHECKED,
    CSUM_IP_TSO,
    CSUM_IP_VALID,
    CSUM_PSEUDO_HDR,
    Ifnet,
    Mbuf,
    MbufPool,
    chain,
    chain_bytes,
)
from xennet.netback.xnb.pkt import Pkt
from xennet.netback.xnb.slots import ExtraInfo, TxRequest, extra_info, tx_request, tx_response
from xennet.offload.checksum import blank, complete
from xennet.ring import MASK32, BackRing

MASK16 = 0xFFFF
SIZE_T = 0xFFFF_FFFF_FFFF_FFFF
#: In place of the number of elements: the table is too short, and A9 is known.
TOO_MANY = -1

#: Extra infos that a backend may pass over, and those that carry no packet (A7).
_PASSED_OVER = frozenset({XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_TYPE_XDP})
_MULTICAST = frozenset({XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL})
_GSO_TYPES = frozenset({XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6})
#: Lines of one message about a slot (A18): its own, and six for each of two slots.
_COMPLAINT_LINES = 13


def ring2pkt(pkt: Pkt, tx_ring: BackRing, start: int, log: Log = None, rows: Rows = SHIPPED) -> int:
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
    more_data = 0
    later = 0
    largest = 0
    waits = False
    # Else the slot itself is read, each time (defect A16).
    keeps = "A16" in rows.known or rows.meanwhile is not None

    pkt.initialize()

    if tx_ring.unconsumed_requests_from(idx):
        tx = _first_look(pkt, tx_ring, idx, rows) if keeps else tx_request(tx_ring, idx)
        pkt.size = tx.size
        pkt.flags = tx.flags & ~NETTXF_more_data
        more_data = tx.flags & NETTXF_more_data
        pkt.list_len += 1
        pkt.car = idx
        idx = (idx + 1) & MASK32

    discard = False
    # An extra_info flag with no slot behind it is passed over in silence (defect A4).
    if pkt.flags & NETTXF_extra_info:
        if tx_ring.unconsumed_requests_from(idx):
            idx, discard, waits = _read_extras(pkt, tx_ring, start, idx, 0, log, rows)
        else:
            waits = rows.fixed("A4")
        if pkt.amends:
            more_data = 0

    pkt.cdr = idx

    while more_data and not waits and tx_ring.unconsumed_requests_from(idx):
        tx = _first_look(pkt, tx_ring, idx, rows) if keeps else tx_request(tx_ring, idx)
        pkt.list_len += 1
        size = tx.size
        later += size
        if size > largest:
            largest = size
        announced = 0
        if tx.flags & ~NETTXF_more_data:
            # Said and done: the packet stays valid (defect A6).
            _complain(tx_ring, start, idx, f"flags {tx.flags:#x} on a later request", log, rows)
            announced = tx.flags & NETTXF_extra_info
        more_data = tx.flags & NETTXF_more_data
        idx = (idx + 1) & MASK32
        if announced and rows.fixed("A6"):
            discard = waits = True
            if tx_ring.unconsumed_requests_from(idx):
                behind = pkt.list_len - 1
                idx, _, waits = _read_extras(pkt, tx_ring, start, idx, behind, log, rows)

    if waits or more_data:
        pkt.invalidate()
        # A packet that fills the ring never gets its last slot (defect A8).
        full = tx_ring.request_cons_overflow(idx)
        if not full or not rows.fixed("A8"):
            idx = start
    else:
        pkt.adds_up = later <= pkt.size
        if later > MASK16 and rows.fixed("A2"):
            discard = True
        later &= MASK16
        if later > pkt.size and rows.fixed("A1"):
            discard = True
        pkt.car_size = (pkt.size - later) & MASK16
        pkt.oversize = pkt.adds_up and (largest > PAGE_SIZE or pkt.car_size > PAGE_SIZE)
        if pkt.oversize and rows.fixed("A13"):
            discard = True
    if discard:
        pkt.invalidate()
    if pkt.error and pkt.list_len and rows.fixed("A21"):
        pkt.slots, pkt.list_len = pkt.list_len, 0

    return (idx - start) & MASK32


def _first_look(pkt: Pkt, tx_ring: BackRing, idx: int, rows: Rows) -> TxRequest:
    """The request at ``idx``, of which a copy is kept."""
    pkt.copies = {**pkt.copies, idx: tx_ring.sring.copy_slot(idx)}
    return _look_again(pkt, tx_ring, idx, rows)


def _look_again(pkt: Pkt, tx_ring: BackRing, idx: int, rows: Rows) -> TxRequest:
    """The request at ``idx``, which was read before: what is in the slot now (defect A16)."""
    copy = pkt.copies.get(idx)
    if copy is not None and (
        "A16" in rows.known or (copy != tx_ring.sring.copy_slot(idx) and rows.fixed("A16"))
    ):
        return TxRequest(memoryview(copy), 0)
    return tx_request(tx_ring, idx)


def _read_extras(
    pkt: Pkt, tx_ring: BackRing, start: int, idx: int, behind: int, log: Log, rows: Rows
) -> tuple[int, bool, bool]:
    """Read extra info at ``idx``, behind data slot ``behind`` of the packet that is at ``start``.

    There is a slot at ``idx``. Returns the index behind what was read; whether the packet has to
    be discarded; whether there should be more extra infos and are not yet.
    """
    discard = False
    more = XEN_NETIF_EXTRA_FLAG_MORE
    has_gso = False
    while more:
        if not tx_ring.unconsumed_requests_from(idx):
            return idx, discard, True
        ext = extra_info(tx_ring, idx)
        if "A16" in rows.known:
            ext = ExtraInfo(memoryview(tx_ring.sring.copy_slot(idx)), 0)
        pkt.extra.type = kind = ext.type
        if kind == XEN_NETIF_EXTRA_TYPE_GSO:
            pkt.extra.gso_size = ext.gso_size
            pkt.extra.gso_type = ext.gso_type
            pkt.extra.gso_pad = ext.gso_pad
            pkt.extra.gso_features = ext.gso_features
            has_gso = True
        elif kind in _PASSED_OVER and rows.fixed("A7"):
            pass
        elif kind in _MULTICAST and rows.fixed("A7"):
            pkt.amends = True
        else:
            _complain(tx_ring, start, idx, f"extra info of unknown type {kind}", log, rows)
            discard = True
        pkt.extra.flags = ext.flags
        pkt.extras = {**pkt.extras, behind: pkt.extras.get(behind, 0) + 1}
        more = ext.flags & XEN_NETIF_EXTRA_FLAG_MORE
        if more and not rows.fixed("A5"):
            _complain(tx_ring, start, idx, "more than one extra info", log, rows)
            discard = True
            more = 0
        idx = (idx + 1) & MASK32
    # The size and the type are recorded, and used for nothing (defect A20).
    if has_gso and rows.fixed("A20"):
        pkt.gso = pkt.extra.gso_size != 0 and pkt.extra.gso_type in _GSO_TYPES
        discard |= not pkt.gso
    return idx, discard, False


def _complain(tx_ring: BackRing, start: int, idx: int, what: str, log: Log, rows: Rows) -> None:
    """Print the console message about a slot, and both slots in full (without limit, A18)."""
    if rows.may_print(_COMPLAINT_LINES) and log is not None:
        printf(log, "xnb_ring2pkt", f"{what} at index {idx}, packet at {start}")
        dump_txreq(start, tx_request(tx_ring, start), log)
        dump_txreq(idx, tx_request(tx_ring, idx), log)


def txpkt2rsp(pkt: Pkt, ring: BackRing, error: bool, rows: Rows = SHIPPED) -> None:
    """Write the responses to all slots of ``pkt``, unpublished (xnb_txpkt2rsp).

    Every data slot gets its request's id and NETIF_RSP_OKAY, or NETIF_RSP_ERROR if ``error`` or
    the packet is invalid. The slot behind the first gets the status NETIF_RSP_NULL, and nothing
    else (defect A22), if the packet has the extra_info flag, whether or not there was such a slot
    (defect A4). rsp_prod_pvt moves by as many. Nothing is done for list_len 0.

    Raises BackendPanic (A3/A4) unless the packet begins at rsp_prod_pvt.
    """
    status = NETIF_RSP_ERROR if error or not pkt.is_valid else NETIF_RSP_OKAY
    slots = pkt.list_len or pkt.slots
    if slots != 0 and ring.rsp_prod_pvt != pkt.car:
        raise BackendPanic(
            f"xnb_txpkt2rsp: {ring.sring.name} ring: response {ring.rsp_prod_pvt} is due, "
            f"the packet begins at {pkt.car}",
            OUT_OF_ORDER,
        )

    for i in range(slots):
        at = ring.rsp_prod_pvt
        request = _look_again(pkt, ring, at, rows) if pkt.copies else tx_request(ring, at)
        request_id = request.id
        rsp = tx_response(ring, ring.rsp_prod_pvt)
        rsp.id = request_id
        rsp.status = status
        ring.rsp_prod_pvt += 1
        extras = pkt.extras.get(i, 0) if pkt.extras else 0
        # The receive flag's name in netback.c; the bit is the same as NETTXF_extra_info (A21).
        if i == 0 and pkt.flags & NETRXF_extra_info and not extras:
            extras = 1  # which there is not (defect A4)
        for _ in range(extras):
            null = tx_response(ring, ring.rsp_prod_pvt)
            null.status = NETIF_RSP_NULL
            if null.id and rows.fixed("A22"):
                null.id = 0
            ring.rsp_prod_pvt += 1


def pkt2mbufc(pkt: Pkt, ifp: Ifnet, pool: MbufPool, rows: Rows = SHIPPED) -> Mbuf | None:
    """An empty mbuf chain with room for the packet (xnb_pkt2mbufc).

    Marked as fully checked when the request has NETTXF_data_validated; GSO data is ignored (defect
    A20). None when the pool is exhausted, and for a packet of 0 bytes (defect A3).
    """
    mbufc = pool.m_getm(pkt.size)
    if mbufc is not None:
        assert mbufc.pkthdr is not None
        mbufc.pkthdr.rcvif = ifp
        checked = pkt.flags & NETTXF_data_validated
        if checked or (pkt.flags & NETTXF_csum_blank and rows.fixed("A19")):
            mbufc.pkthdr.csum_flags = (
                CSUM_IP_CHECKED | CSUM_IP_VALID | CSUM_DATA_VALID | CSUM_PSEUDO_HDR
            )
            mbufc.pkthdr.csum_data = 0xFFFF
    return mbufc


def txpkt2gnttab(
    pkt: Pkt,
    mbufc: Mbuf,
    gnttab: GnttabCopyTable,
    txb: BackRing,
    otherend_id: int,
    rows: Rows = SHIPPED,
) -> int:
    """Plan the copy from the packet's grants into the chain's storage (xnb_txpkt2gnttab).

    Fills elements from 0 on and returns their number; statuses are left as they are. An element
    ends where a slot or an mbuf ends. Slots are read from shared memory again (defect A16), and
    what is still to be copied does not bound an element, so that inconsistent sizes run off the
    chain's end: BackendPanic (A1/A2). BackendPanic (A9) when 64 elements do not suffice; with that
    row known, the return value is :data:`TOO_MANY` then.
    """
    mbuf: Mbuf | None = mbufc
    gnt_idx = 0
    r_idx = pkt.car
    r_ofs = 0
    m_ofs = 0
    size_remaining = pkt.size

    while size_remaining > 0:
        txq = _look_again(pkt, txb, r_idx, rows) if pkt.copies else tx_request(txb, r_idx)
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
            if rows.fixed("A9"):
                return TOO_MANY
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


def update_mbufc(
    mbufc: Mbuf,
    gnttab: GnttabCopyTable,
    n_entries: int,
    pkt: Pkt | None = None,
    rows: Rows = SHIPPED,
) -> bool:
    """Account for what was copied into the chain, then fill in checksums (xnb_update_mbufc).

    Sets m_len of each mbuf and the length in the packet header from elements 0..n_entries-1.
    Raises BackendPanic (A12/A13) if any of them failed; with A12 known, returns False then, unless
    a slot of ``pkt`` is longer than a page (which is A13).
    """
    mbuf: Mbuf | None = mbufc
    total_size = 0
    for i in range(n_entries):
        entry = gnttab[i]
        if entry.status != GNTST_okay:
            if not (pkt and pkt.oversize) and rows.fixed("A12"):
                return False
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
    if not (pkt and pkt.gso) and "A17" not in rows.known:
        add_mbuf_cksum(mbufc)
    return True


def recv(
    txb: BackRing,
    otherend: int,
    ifnet: Ifnet,
    gnttab: GnttabCopyTable,
    hv: Hypervisor,
    pool: MbufPool,
    log: Log = None,
    rows: Rows = SHIPPED,
) -> tuple[int, Mbuf | None]:
    """Take at most one packet off the tx ring (xnb_recv).

    Returns (errno, chain). (0, None): nothing to receive. (EINVAL, None): a garbage packet, slots
    consumed and answered ERROR. (ENOMEM, None): no mbufs; answered ERROR but *not* consumed, so
    that the next call meets the same slots with their responses already written (defect A3).
    (EBADMSG, None): no packet for the host, slots consumed and answered OKAY; only with A7 or A17
    known. Moves rsp_prod_pvt and req_cons, publishes nothing. Raises BackendPanic as the steps do.
    Observers hear of a packet that a defect damaged.
    """
    pkt = Pkt()
    num_consumed = ring2pkt(pkt, txb, txb.req_cons, log, rows)
    if pkt.error:
        rows.list_len_in_error = max(rows.list_len_in_error, pkt.list_len)
    if num_consumed == 0:
        return 0, None
    if rows.meanwhile is not None:
        rows.meanwhile(PARSED)

    ifnet.ipackets += 1

    if not pkt.is_valid:
        txpkt2rsp(pkt, txb, True, rows)
        txb.req_cons += num_consumed
        if rows.may_print(1):
            printf(log, "xnb_recv", f"garbage packet of {num_consumed} slots")
        ifnet.ierrors += 1
        return errno.EINVAL, None

    if pkt.amends:
        txpkt2rsp(pkt, txb, False, rows)
        txb.req_cons += num_consumed
        return errno.EBADMSG, None

    mbufc = pkt2mbufc(pkt, ifnet, pool, rows)
    if mbufc is None:
        txpkt2rsp(pkt, txb, True, rows)
        if rows.fixed("A3"):
            txb.req_cons += num_consumed
        if rows.may_print(1):
            printf(log, "xnb_recv", f"no mbufs for a packet of {num_consumed} slots")
        ifnet.iqdrops += 1
        return errno.ENOMEM, None

    error = _fill(pkt, mbufc, txb, otherend, gnttab, hv, rows)
    txpkt2rsp(pkt, txb, error == errno.EINVAL, rows)
    txb.req_cons += num_consumed
    if error:
        pool.m_freem(mbufc)
        ifnet.ierrors += 1
        return error, None
    return 0, mbufc


def _fill(
    pkt: Pkt,
    mbufc: Mbuf,
    txb: BackRing,
    otherend: int,
    gnttab: GnttabCopyTable,
    hv: Hypervisor,
    rows: Rows,
) -> int:
    """The middle of xnb_recv: copy the packet into its chain, and look after its checksum.

    Returns 0; with rows known also EINVAL (answer ERROR) or EBADMSG (answer OKAY, but drop it).
    """
    if pkt.adds_up and pkt.car_size < MIN_FRAME and rows.fixed("A17"):
        return errno.EINVAL
    nr_ents = txpkt2gnttab(pkt, mbufc, gnttab, txb, otherend, rows)
    if nr_ents == TOO_MANY:
        return errno.EINVAL
    if nr_ents > 0:
        hv.grant_copy(gnttab.u32, nr_ents)
        observed = hv.interest(DefectStruck).any
        storage = defects.storage_of(mbufc) if observed else b""
        if not update_mbufc(mbufc, gnttab, nr_ents, pkt, rows):
            return errno.EINVAL
        if (pkt.gso or "A17" in rows.known) and not _finish_checksum(pkt, mbufc):
            return errno.EBADMSG
        if observed:
            for row in defects.from_guest(pkt, storage, mbufc, rows.known):
                rows.met.add(row)
                hv.emit(DefectStruck(hv.domid, otherend, row, defects.WHAT[row]))
    return 0


def _finish_checksum(pkt: Pkt, mbufc: Mbuf) -> bool:
    """What is done about a checksum in place of add_mbuf_cksum, with A17 or A20 known.

    Returns False if there is no header for a blank one, so that the packet has to be dropped (F17).
    """
    header = mbufc.pkthdr
    assert header is not None
    if pkt.gso:
        header.tso_segsz = pkt.extra.gso_size
        v4 = pkt.extra.gso_type == XEN_NETIF_GSO_TYPE_TCPV4
        header.csum_flags = CSUM_DELAY_DATA | (CSUM_IP_TSO if v4 else CSUM_IP6_TSO)
        write = blank  # F16
    elif pkt.flags & NETTXF_csum_blank and header.csum_flags & CSUM_IP_VALID:
        write = complete
    else:
        return True
    frame = defects.rewritten(write, chain_bytes(mbufc))
    if frame is None:
        return False
    at = 0
    for segment in chain(mbufc):
        segment.valid()[:] = frame[at : at + segment.len]
        at += segment.len
    return True
