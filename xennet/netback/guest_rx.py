"""Guest receive, backend side: packets in, rx requests consumed, one response per slot.

Three kernels, called in this order for each pass over the ring:

    fill     packets + posted rx requests -> one grant-copy table, responses prepared privately
    (the caller makes the batched grant copy: GNTTABOP_copy)
    deliver  copy statuses -> responses written and published
    await_requests   ask for an event when more buffers are posted

They read the rx ring page (words) and packets that lie in frames of our own, and write the copy
table, the response half of the ring and ``res`` (places R_*). A request is loaded once; its id goes
back from the private copy. Rules (xen/io/netif.h, "Guest receive"; hardening rules in
docs/hardening.md):

* a response uses the slot of the request it consumes, and all 8 bytes of it are written: bytes left
  from the request would be read as flags and status;
* every slot but the last data slot has more_data; the extra info slot is not counted as one;
* the first response has extra_info if a GSO slot follows it, and the checksum flags;
* the status of a slot is its own byte count, or the negative GNTST_ code of its copy;
* req_prod further than a ring from req_cons is fatal (F1);
* a packet for which too few buffers are posted waits, whole.
"""

from __future__ import annotations

from xennet.abi.grant_table import GNTCOPY_dest_gref
from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.words import (
    COPY_STRIDE,
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_EVENT,
    RSP_PROD,
    RX_MASK,
    RX_SLOTS,
    RX_STRIDE,
    COPY_S_flags,
    COPY_S_offset,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
    EXTRA_S_gso_size,
    RXREQ_W_gref,
    RXRSP_S_status,
    RXRSP_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.kernel import LOG_HEADER, U32Array, U32Words, Vector, arm, note, publish
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT, MASK32
from xennet.trace import RX_COPY_FAILED, RX_PACKET

# Verdicts of fill, in res[R_VERDICT]; texts in xennet/netback/verdict.py.
OK = 0
PROD_OVERFLOW = 1

# Places in the result vector.
R_VERDICT = 0
#: Slots consumed and to be answered, packets taken from the batch, elements of the copy table.
R_SLOTS = 1
R_PACKETS = 2
R_OPS = 3
#: Packets taken but not sent: the frontend did not negotiate what they need.
R_UNSENDABLE = 4
#: Slots of which the copy failed.
R_ERRORS = 5
#: req_cons and the impossible req_prod of a fatal verdict.
R_INDEX = 6
R_WORD0 = 7
#: 1 if the frontend asked to be notified.
R_FLAG = 8
#: Bytes of the packets that were sent.
R_BYTES = 9
RESULTS = 10

#: Elements of the copy table: one for each slot, two where a source page ends inside it.
MAX_OPS = 2 * RX_SLOTS

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_SELF = DOMID_SELF
_DEST_GREF = GNTCOPY_dest_gref << COPY_S_flags
_GSO_EXTRA = XEN_NETIF_EXTRA_TYPE_GSO


def fill(
    first: int,
    count: int,
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    can_sg: int,
    can_gso: int,
    source_frame: int,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    ops: U32Words,
    op_slot: U32Array,
    rsp0: U32Array,
    rsp1: U32Array,
    res: Vector,
) -> int:
    """Prepare packets ``first`` .. ``count - 1`` as far as posted requests reach.

    Packet i lies at byte ``offset[i]`` of consecutive frames of our own that start at
    ``source_frame``. ``can_sg``: the frontend takes packets of several slots; ``can_gso``: bit t
    is set if it takes GSO type t. ``rsp0``, ``rsp1``: the words of each response. Returns the
    verdict; req_cons is not moved, deliver does that.
    """
    start = pvt[BACK_REQ_CONS]
    available = (ring[REQ_PROD] - start) & MASK32
    verdict = OK
    res[R_INDEX] = start
    if available > RX_SLOTS:  # F1
        verdict = PROD_OVERFLOW
        res[R_WORD0] = ring[REQ_PROD]
        available = 0
        count = first

    slot = 0
    n_ops = 0
    unsendable = 0
    sent_bytes = 0
    packet = first
    while packet < count:
        left = length[packet]
        data_slots = (left + _OFFSET_MASK) >> PAGE_SHIFT
        segment = gso_size[packet]
        if (data_slots > 1 and not can_sg) or (segment and not can_gso >> gso_type[packet] & 1):
            unsendable += 1
            packet += 1
            continue
        if slot + data_slots + (1 if segment else 0) > available:
            break

        rflags = 0
        if flags[packet] & CSUM_BLANK:
            rflags = NETRXF_csum_blank | NETRXF_data_validated
        elif flags[packet] & DATA_VALIDATED:
            rflags = NETRXF_data_validated
        if segment:
            rflags |= NETRXF_extra_info
        if len(log) > LOG_HEADER:
            note(log, RX_PACKET, start + slot, data_slots + (1 if segment else 0), left)
        source = offset[packet]
        sent_bytes += left
        while True:
            at = RING_SLOTS + ((start + slot) & RX_MASK) * RX_STRIDE
            rsp0[slot] = ring[at] & _MASK16  # the id; offset 0
            gref = ring[at + RXREQ_W_gref]
            chunk = left if left < PAGE_SIZE else PAGE_SIZE
            left -= chunk
            if left:
                rflags |= NETRXF_more_data
            rsp1[slot] = rflags | chunk << RXRSP_S_status
            filled = 0
            while filled < chunk:
                room = PAGE_SIZE - (source & _OFFSET_MASK)
                piece = chunk - filled if chunk - filled < room else room
                op = n_ops * COPY_STRIDE
                ops[op + COPY_W_source] = source_frame + (source >> PAGE_SHIFT)
                ops[op + COPY_W_source_domid] = _SELF | (source & _OFFSET_MASK) << COPY_S_offset
                ops[op + COPY_W_dest] = gref
                ops[op + COPY_W_dest_domid] = otherend | filled << COPY_S_offset
                ops[op + COPY_W_len] = piece | _DEST_GREF
                op_slot[n_ops] = slot
                n_ops += 1
                source += piece
                filled += piece
            slot += 1
            if segment and rflags & NETRXF_extra_info:
                rsp0[slot] = _GSO_EXTRA | segment << EXTRA_S_gso_size
                rsp1[slot] = gso_type[packet]
                slot += 1
            if not left:
                break
            rflags = 0
        packet += 1

    res[R_VERDICT] = verdict
    res[R_SLOTS] = slot
    res[R_PACKETS] = packet - first
    res[R_OPS] = n_ops
    res[R_UNSENDABLE] = unsendable
    res[R_BYTES] = sent_bytes
    return verdict


def deliver(
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    ops: U32Words,
    op_slot: U32Array,
    rsp0: U32Array,
    rsp1: U32Array,
    res: Vector,
) -> int:
    """Write and publish the responses; returns how many slots failed to be copied."""
    start = pvt[BACK_REQ_CONS]
    errors = 0
    for k in range(res[R_OPS]):
        status = ops[k * COPY_STRIDE + COPY_W_status] & _MASK16
        if status:
            slot = op_slot[k]
            rsp1[slot] = (rsp1[slot] & _MASK16) | status << RXRSP_S_status
            errors += 1
            if len(log) > LOG_HEADER:
                gref = ops[k * COPY_STRIDE + COPY_W_dest]
                note(log, RX_COPY_FAILED, start + slot, status - 0x10000, gref)
    slots = res[R_SLOTS]
    for k in range(slots):
        at = RING_SLOTS + ((start + k) & RX_MASK) * RX_STRIDE
        ring[at] = rsp0[k]
        ring[at + RXRSP_W_status] = rsp1[k]
    end = (start + slots) & MASK32
    pvt[BACK_REQ_CONS] = end
    pvt[BACK_RSP_PROD_PVT] = end
    res[R_ERRORS] = errors
    res[R_FLAG] = publish(ring, RSP_PROD, RSP_EVENT, end)
    return errors


def await_requests(ring: U32Words, seen: int) -> int:
    """Ask for an event as soon as req_prod passes ``seen``; 1 if it already has."""
    arm(ring, REQ_EVENT, (seen + 1) & MASK32)
    return 1 if ring[REQ_PROD] != seen else 0
