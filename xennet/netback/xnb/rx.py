"""Guest receive: from an mbuf chain of the host's stack into the guest's posted buffers.

    mbufc2pkt -> rxpkt2gnttab -> (grant copy) -> rxpkt2rsp

:func:`send` is that sequence. What the frontend can take (scatter/gather, GSO) is never asked
(defect B10).
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTST_okay
from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.interface import Hypervisor
from xennet.netback.defects import BackendPanic, DefectStruck
from xennet.netback.xnb import defects
from xennet.netback.xnb.copytable import GNTTAB_LEN, GnttabCopyTable
from xennet.netback.xnb.defects import MBUF_CHAIN_LIES, RX_TABLE_TOO_SHORT, TABLE_WALK_LEAVES
from xennet.netback.xnb.dump import Log, printf
from xennet.netback.xnb.known import PLANNED, SHIPPED, Rows
from xennet.netback.xnb.mbuf import CSUM_DELAY_DATA, CSUM_TSO, Mbuf
from xennet.netback.xnb.pkt import Extra, Pkt
from xennet.netback.xnb.slots import extra_info, rx_request, rx_response
from xennet.ring import MASK32, BackRing, overflows

MASK16 = 0xFFFF
SIZE_T = 0xFFFF_FFFF_FFFF_FFFF
#: FreeBSD's value for "no grant reference".
GRANT_REF_INVALID = 0xFFFF_FFFF
#: In place of the number of elements: the table is too short, and B8 is known.
TOO_MANY = -1


class SoftcFeatures(NamedTuple):
    """The frontend's features in struct xnb_softc, 8 bits each; ``ip_csum`` is a boolean."""

    can_sg: int
    gso: int
    gso_prefix: int
    ip_csum: bool

    def covers(self, pkt: Pkt) -> bool:
        """Whether the frontend can take ``pkt``."""
        if pkt.flags & NETRXF_extra_info and not self.gso:
            return False
        if pkt.flags & NETRXF_more_data and not self.can_sg:
            return False
        return self.ip_csum or not pkt.flags & NETRXF_csum_blank


EVERY_FEATURE = SoftcFeatures(1, 1, 0, True)


def mbufc2pkt(
    mbufc: Mbuf | None,
    pkt: Pkt,
    start: int,
    space: int,
    features: SoftcFeatures = EVERY_FEATURE,
    rows: Rows = SHIPPED,
) -> int:
    """Say which slots a chain will take, the first being index ``start`` (xnb_mbufc2pkt).

    ``space``: free slots in the rx ring, a signed number. Returns 0, or EINVAL (no chain, no packet
    header, or a length of 0), or EAGAIN (more slots needed than ``space``); in either case ``pkt``
    is in error. Every slot but the last is taken to be filled with a whole page. The length is cut
    to 16 bits (defect B9): of 65536 bytes nothing remains, and 65636 look like one slot of 100.
    """
    if mbufc is None or mbufc.pkthdr is None or mbufc.pkthdr.len == 0:
        pkt.invalidate()
        return errno.EINVAL

    header = mbufc.pkthdr
    pkt.validate()
    pkt.flags = 0
    pkt.size = header.len
    if pkt.size > MASK16 and not rows.fixed("B9"):
        pkt.size &= MASK16
    pkt.car = start & MASK32
    pkt.car_size = mbufc.len & MASK16

    if header.csum_flags & CSUM_TSO:
        pkt.flags |= NETRXF_extra_info
        pkt.extra = Extra(
            type=XEN_NETIF_EXTRA_TYPE_GSO,
            gso_size=header.tso_segsz & MASK16,
            gso_type=XEN_NETIF_GSO_TYPE_TCPV4,
        )
        pkt.cdr = (start + 2) & MASK32
    else:
        pkt.cdr = (start + 1) & MASK32
    if header.csum_flags & (CSUM_TSO | CSUM_DELAY_DATA):
        pkt.flags |= NETRXF_csum_blank | NETRXF_data_validated

    pkt.list_len = (pkt.size + PAGE_SIZE - 1) // PAGE_SIZE
    if pkt.list_len > 1:
        pkt.flags |= NETRXF_more_data

    if not features.covers(pkt) and rows.fixed("B10"):
        pkt.invalidate()
        return errno.EINVAL
    slots_required = slots_of(pkt)
    if slots_required > space:
        pkt.invalidate()
        return errno.EAGAIN
    return 0


def slots_of(pkt: Pkt) -> int:
    """Slots of the rx ring that a packet takes."""
    return pkt.list_len + (1 if pkt.flags & NETRXF_extra_info else 0)


def rxpkt2gnttab(
    pkt: Pkt,
    mbufc: Mbuf,
    gnttab: GnttabCopyTable,
    rxb: BackRing,
    otherend_id: int,
    rows: Rows = SHIPPED,
) -> int:
    """Plan the copy from a chain into the guest's buffers (xnb_rxpkt2gnttab).

    Fills elements from 0 on and returns their number (0 for a packet in error). An element ends
    where a buffer (4096 bytes) or an mbuf ends, *not* where the mbuf's storage crosses into its
    next page: a 9216- or 16384-byte cluster whose data is not page aligned gives elements that the
    hypervisor refuses (GNTST_bad_copy_arg). Raises BackendPanic (B8) when 64 elements do not
    suffice, or returns :data:`TOO_MANY` with that row known; BackendPanic (mbuf) when the chain is
    shorter than its packet header says.
    """
    mbuf: Mbuf | None = mbufc
    gnt_idx = 0
    r_idx = pkt.car
    r_ofs = 0
    m_ofs = 0
    gref = GRANT_REF_INVALID
    size_remaining = pkt.size if pkt.is_valid else 0

    while size_remaining > 0:
        again = rx_request(rxb, r_idx).gref
        # Once for each element, not for each slot (defect B7).
        if r_ofs == 0 or again == gref or not rows.fixed("B7"):
            gref = again
        if mbuf is None:
            raise BackendPanic(
                f"xnb_rxpkt2gnttab: packet of {pkt.size} bytes: the mbuf chain ends with "
                f"{size_remaining} bytes to go",
                MBUF_CHAIN_LIES,
            )
        mbuf_space = (mbuf.len - m_ofs) & SIZE_T
        space = min(PAGE_SIZE - r_ofs, mbuf_space)

        if gnt_idx >= GNTTAB_LEN:
            if rows.fixed("B8"):
                return TOO_MANY
            raise BackendPanic(
                f"xnb_rxpkt2gnttab: packet of {pkt.size} bytes needs more than {GNTTAB_LEN} copies",
                RX_TABLE_TOO_SHORT,
            )
        entry = gnttab[gnt_idx]
        entry.dest_ref = gref
        entry.dest_domid = otherend_id
        entry.dest_offset = r_ofs
        entry.source_gmfn = mbuf.frame_at(m_ofs)
        entry.source_offset = mbuf.offset_at(m_ofs)
        entry.source_domid = DOMID_SELF
        entry.len = space
        entry.flags = GNTCOPY_dest_gref

        gnt_idx += 1
        r_ofs += space
        m_ofs += space
        size_remaining -= space
        if pkt.size <= MASK16:
            size_remaining &= MASK16
        if r_ofs == PAGE_SIZE:
            r_ofs = 0
            r_idx = pkt.cdr if r_idx == pkt.car else (r_idx + 1) & MASK32
        if mbuf.len <= m_ofs:
            m_ofs = 0
            mbuf = mbuf.next

    return gnt_idx


def rxpkt2rsp(
    pkt: Pkt,
    gnttab: GnttabCopyTable,
    n_entries: int,
    ring: BackRing,
    log: Log = None,
    rows: Rows = SHIPPED,
) -> int:
    """Write the responses to a packet, unpublished (xnb_rxpkt2rsp).

    Returns how many requests were consumed; req_cons and rsp_prod_pvt move by as many. There is
    one response for each run of elements with the same gref (defect B1), and one for the extra
    info; a response's status is the sum of the lengths of the elements that carry the gref which
    its request has *now* (defect B7), searched without looking at ``n_entries`` (defect B2). If any
    element failed there is a single response of NETIF_RSP_ERROR which keeps the request's bytes in
    offset and flags (defects B3, B5).

    Raises BackendPanic (B2) where the search runs past the table's 64 elements.
    """
    n_responses = 0
    last_gref = GRANT_REF_INVALID
    into: list[tuple[int, int]] = []  # of each element: its data slot, and the gref of that
    done = 0
    for i in range(n_entries):
        entry = gnttab[i]
        gref = entry.dest_ref
        if entry.status != GNTST_okay:
            if rows.may_print(1):
                printf(log, "xnb_rxpkt2rsp", f"copy {i} has status {entry.status}")
            n_responses = slots_of(pkt) if rows.fixed("B5") else 1
            for left in range(n_responses, 0, -1):
                _error_response(ring, rows, more=left > 1)
            return n_responses
        if gref != last_gref:
            n_responses += 1
            last_gref = gref
        into.append((done // PAGE_SIZE, gref))
        done += entry.len
    if n_responses != pkt.list_len and n_entries and rows.fixed("B1"):
        n_responses = pkt.list_len

    has_extra = pkt.flags & NETRXF_extra_info
    if has_extra:
        n_responses += 1

    gnt_idx = 0
    slot = -1
    for i in range(n_responses):
        r_idx = ring.rsp_prod_pvt + i
        if has_extra and i == 1:
            ext = extra_info(ring, r_idx)
            ext.type = XEN_NETIF_EXTRA_TYPE_GSO
            ext.flags = 0
            ext.gso_size = pkt.extra.gso_size
            ext.gso_type = XEN_NETIF_GSO_TYPE_TCPV4
            ext.gso_pad = 0
            ext.gso_features = 0
            continue

        slot += 1
        gref = rx_request(ring, r_idx).gref
        used = next((used for at, used in into if at == slot), gref)
        if used != gref and rows.fixed("B7"):
            gref = used
        flags = 0
        # The number of the response, in which the extra info counts (defect B4).
        more = i < pkt.list_len - 1
        if more != (slot < pkt.list_len - 1) and rows.fixed("B4"):
            more = not more
        if more:
            flags |= NETRXF_more_data
        if i == 0 and has_extra:
            flags |= NETRXF_extra_info
        if i == 0 and pkt.flags & NETRXF_data_validated:
            flags |= NETRXF_data_validated | NETRXF_csum_blank
        status = 0
        while _carries(gnttab, gnt_idx, n_entries, gref, rows):
            if gnt_idx < n_entries and into[gnt_idx][0] != slot and rows.fixed("B1"):
                break
            status += gnttab[gnt_idx].len
            gnt_idx += 1
        rsp = rx_response(ring, r_idx)  # the id stays: request and response have it in one place
        rsp.offset = 0
        rsp.flags = flags
        rsp.status = status

    ring.req_cons += n_responses
    ring.rsp_prod_pvt += n_responses
    return n_responses


def _error_response(ring: BackRing, rows: Rows, *, more: bool) -> None:
    """Write the response to a packet that could not be copied: the id (unchanged) and the status
    alone (defect B3). ``more``: another one of the packet follows, which only repaired code has
    (B5)."""
    rsp = rx_response(ring, ring.rsp_prod_pvt)
    if (rsp.offset or rsp.flags) and rows.fixed("B3"):
        rsp.offset = rsp.flags = 0
    if more:
        rsp.flags |= NETRXF_more_data
    rsp.status = NETIF_RSP_ERROR
    ring.req_cons += 1
    ring.rsp_prod_pvt += 1


def _carries(gnttab: GnttabCopyTable, gnt_idx: int, n_entries: int, gref: int, rows: Rows) -> bool:
    """Whether the search for ``gref`` goes on over element ``gnt_idx``, which an earlier packet may
    have left (defect B2)."""
    beyond = gnt_idx >= GNTTAB_LEN
    found = not beyond and gnttab[gnt_idx].dest_ref == gref
    if gnt_idx >= n_entries and (found or beyond) and rows.fixed("B2"):
        return False
    if beyond:
        raise BackendPanic(
            f"xnb_rxpkt2rsp: the search for a gref leaves the table of {GNTTAB_LEN} copies",
            TABLE_WALK_LEAVES,
        )
    return found


def send(
    ring: BackRing,
    otherend: int,
    mbufc: Mbuf | None,
    gnttab: GnttabCopyTable,
    hv: Hypervisor,
    log: Log = None,
    features: SoftcFeatures = EVERY_FEATURE,
    rows: Rows = SHIPPED,
) -> int:
    """Put one packet on the rx ring, unpublished; the caller keeps the chain (xnb_send).

    Returns 0 (also when the copy failed, defect B5), EAGAIN (not enough posted buffers, nothing
    touched) or EINVAL (not a packet). The room is ``req_prod - req_cons`` as the frontend claims
    it: 1000 in a ring of 256 is believed, 2^31 and more is negative and EAGAIN for ever (defect
    B6). Raises BackendPanic as the steps do. Observers hear of a packet that a defect damaged.

    With rows known also EIO (the copy failed, the requests are answered), EMSGSIZE (too many
    copies) and EPROTO (an impossible req_prod); nothing is touched for the last two.
    """
    req_prod = ring.sring.req_prod
    if overflows(req_prod, ring.req_cons, ring.nr_ents) and rows.fixed("B6"):
        return errno.EPROTO
    space = (req_prod - ring.req_cons) & MASK32
    if space > MASK32 >> 1:  # a RING_IDX passed as an int
        space -= 1 << 32
    pkt = Pkt()
    error = mbufc2pkt(mbufc, pkt, ring.rsp_prod_pvt, space, features, rows)
    if error:
        return error
    assert mbufc is not None
    n_entries = rxpkt2gnttab(pkt, mbufc, gnttab, ring, otherend, rows)
    if n_entries == TOO_MANY:
        return errno.EMSGSIZE
    if rows.meanwhile is not None:
        rows.meanwhile(PLANNED)
    if n_entries != 0:
        hv.grant_copy(gnttab.u32, n_entries)
    n_responses = rxpkt2rsp(pkt, gnttab, n_entries, ring, log, rows)
    if hv.interest(DefectStruck).any:
        for row in defects.to_guest(pkt, gnttab, n_entries, n_responses, rows.known):
            rows.met.add(row)
            hv.emit(DefectStruck(hv.domid, otherend, row, defects.WHAT[row]))
    if "B5" in rows.known and any(gnttab[i].status != GNTST_okay for i in range(n_entries)):
        return errno.EIO
    return 0
