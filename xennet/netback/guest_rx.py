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
* every slot but the last data slot has more_data; extra info slots are not counted as one;
* the first response has extra_info if extras follow it (GSO, HASH, XDP, by their types),
  and the checksum flags; GSO implies data_validated;
* the status of a slot is its own byte count, or the negative GNTST_ code of its copy;
* with an XDP headroom payload begins behind it in every slot, and status counts it (rule B14);
* an old frontend that takes GSO by prefix (``feature-gso-tcpv4-prefix``) gets a slot before the
  data in place of the extra: flags gso_prefix and more_data, offset the segment size, status the
  slots of the packet, the prefix included (Linux 3.2 to 4.8, xenvif_rx_action);
* req_prod further than a ring from req_cons is fatal (F1);
* a packet for which too few buffers are posted waits, whole;
* multicast frames are sent only to those who asked for their address, if there is a filter.
"""

from __future__ import annotations

from xennet.abi.grant_table import GNTCOPY_dest_gref
from xennet.abi.netif import (
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
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
    RXREQ_W_gref,
    RXRSP_S_offset,
    RXRSP_S_status,
    RXRSP_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import LOG_HEADER, Bytes, U32Array, U32Words, Vector, arm, note, publish
from xennet.frames import MIN_FRAME
from xennet.netback.packets import keep_packets
from xennet.netback.vif_words import (
    MAX_HEADROOM,
    W_HASH,
    W_HEADROOM,
    mcast_match,
)
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT, MASK32
from xennet.vif.extra import put_gso, put_hash, put_xdp
from xennet.vif.flags import CSUM_BITS, RX_OF_FRAME
from xennet.vif.refusals import COPY_FAILED, NOT_REFUSED
from xennet.vif.ring_events import RX_COPY_FAILED, RX_PACKET

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
#: Slots that the first packet left over needs, 0 if none is left.
R_NEEDED = 10
#: Multicast packets dropped because their address is not in the list.
R_FILTERED = 11
RESULTS = 12

#: Elements of the copy table: one for each slot, two where a source page ends inside it.
MAX_OPS = 2 * RX_SLOTS

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_SELF = DOMID_SELF
_DEST_GREF = GNTCOPY_dest_gref << COPY_S_flags
_PREFIX = NETRXF_gso_prefix | NETRXF_more_data
_BROADCAST = (1 << 48) - 1


def fill(
    first: int,
    count: int,
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    can_sg: int,
    can_gso: int,
    by_prefix: int,
    source_frame: int,
    words: Vector,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    ops: U32Array,
    op_slot: U32Array,
    rsp: U32Array,
    res: Vector,
) -> int:
    """Prepare packets ``first`` .. ``count - 1`` as far as posted requests reach.

    Packet i lies at byte ``offset[i]`` of consecutive frames of our own that start at
    ``source_frame``. ``can_sg``: the frontend takes packets of several slots; ``can_gso``: bit t
    is set if it takes GSO type t as an extra, ``by_prefix``: if it takes it as a prefix only.
    ``words``: xennet.netback.vif_words. ``rsp``: the words of each response. Returns the verdict;
    req_cons is not moved, deliver does that.
    """
    start = pvt[BACK_REQ_CONS]
    prod = ring[REQ_PROD]
    available = (prod - start) & MASK32
    verdict = OK
    res[R_INDEX] = start
    if available > RX_SLOTS:  # F1
        verdict = PROD_OVERFLOW
        res[R_WORD0] = prod
        available = 0
        count = first
    headroom = words[W_HEADROOM]
    if headroom > MAX_HEADROOM:
        headroom = MAX_HEADROOM
    room = PAGE_SIZE - headroom  # in each slot
    hashing = words[W_HASH]
    takes_gso = can_gso | by_prefix

    slot = 0
    n_ops = 0
    unsendable = 0
    missing = 0
    sent_bytes = 0
    packet = first
    while packet < count:
        left = length[packet]
        needed = 1
        if left > room:
            needed += (left - 1) // room
        segment = gso_size[packet]
        if (needed > 1 and not can_sg) or (segment and not takes_gso >> gso_type[packet] & 1):
            unsendable += 1
            packet += 1
            continue
        extras = 1 if headroom else 0
        if segment:
            extras += 1
        if hashing and hash_info[packet]:
            extras += 1
        needed += extras
        if slot + needed > available:
            missing = needed
            break

        if len(log) > LOG_HEADER:
            note(log, RX_PACKET, start + slot, needed, left, NOT_REFUSED)
        rflags = RX_OF_FRAME[flags[packet] & CSUM_BITS]
        if extras:
            if segment:
                rflags |= NETRXF_data_validated
                if not can_gso >> gso_type[packet] & 1:
                    at = RING_SLOTS + ((start + slot) & RX_MASK) * RX_STRIDE
                    out = slot * RX_STRIDE
                    rsp[out] = ring[at] & _MASK16 | segment << RXRSP_S_offset
                    rsp[out + RXRSP_W_status] = _PREFIX | needed << RXRSP_S_status
                    slot += 1
                    extras -= 1
                    segment = 0
            if extras:
                rflags |= NETRXF_extra_info
        source = offset[packet]
        sent_bytes += left
        while True:
            at = RING_SLOTS + ((start + slot) & RX_MASK) * RX_STRIDE
            out = slot * RX_STRIDE
            rsp[out] = ring[at] & _MASK16  # the id; offset 0
            gref = ring[at + RXREQ_W_gref]
            filled = headroom
            end = headroom + left if left < room else PAGE_SIZE
            left -= end - filled
            if left:
                rflags |= NETRXF_more_data
            rsp[out + RXRSP_W_status] = rflags | end << RXRSP_S_status
            while filled < end:
                piece = PAGE_SIZE - (source & _OFFSET_MASK)
                if piece > end - filled:
                    piece = end - filled
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
            if rflags & NETRXF_extra_info:
                info = hash_info[packet] if hashing else 0
                slot = put_extras(
                    slot,
                    segment,
                    gso_type[packet],
                    info,
                    hash_value[packet],
                    headroom,
                    rsp,
                )
            if not left:
                break
            rflags = 0
        packet += 1

    res[R_VERDICT] = verdict
    res[R_SLOTS] = slot
    res[R_PACKETS] = packet - first
    res[R_OPS] = n_ops
    res[R_UNSENDABLE] = unsendable
    res[R_NEEDED] = missing
    res[R_BYTES] = sent_bytes
    return verdict


def put_extras(
    slot: int,
    segment: int,
    gso_type: int,
    hash_info: int,
    hash_value: int,
    headroom: int,
    rsp: U32Array,
) -> int:
    """Extra infos from place ``slot`` on, at least one; returns the place behind the last.

    ``segment``, ``hash_info`` and ``headroom`` are 0 for an extra that is not there. They come in
    the order of their types.
    """
    if segment:
        put_gso(rsp, slot * RX_STRIDE, hash_info | headroom, segment, gso_type)
        slot += 1
    if hash_info:
        put_hash(rsp, slot * RX_STRIDE, headroom, hash_info, hash_value)
        slot += 1
    if headroom:
        put_xdp(rsp, slot * RX_STRIDE, 0, headroom)
        slot += 1
    return slot


def filter_multicast(
    first: int,
    count: int,
    u8: Bytes,
    words: Vector,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
) -> int:
    """Take packets ``first`` .. ``count - 1`` out that go to a group whose address is not listed.

    Broadcasts stay. ``u8``: the bytes that ``offset`` points into; ``words``: vif_words. Returns
    the new count (xenvif_start_xmit).
    """
    for i in range(first, count):
        at = offset[i]
        if length[i] >= MIN_FRAME and u8[at] & 1:
            mac = 0
            for octet in range(at, at + 6):
                mac = mac << 8 | u8[octet]
            if mac != _BROADCAST and not mcast_match(words, mac):
                length[i] = 0
    return keep_packets(
        first, count, offset, length, flags, gso_size, gso_type, hash_info, hash_value
    )


def deliver(
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    ops: U32Array,
    op_slot: U32Array,
    rsp: U32Array,
    res: Vector,
) -> int:
    """Write and publish the responses; returns how many slots failed to be copied."""
    start = pvt[BACK_REQ_CONS]
    errors = 0
    for k in range(res[R_OPS]):
        status = ops[k * COPY_STRIDE + COPY_W_status] & _MASK16
        if status:
            slot = op_slot[k]
            at = slot * RX_STRIDE + RXRSP_W_status
            rsp[at] = (rsp[at] & _MASK16) | status << RXRSP_S_status
            errors += 1
            if len(log) > LOG_HEADER:
                gref = ops[k * COPY_STRIDE + COPY_W_dest]
                note(log, RX_COPY_FAILED, start + slot, status - 0x10000, gref, COPY_FAILED)
    slots = res[R_SLOTS]
    for k in range(slots):
        at = RING_SLOTS + ((start + k) & RX_MASK) * RX_STRIDE
        ring[at] = rsp[k * RX_STRIDE]
        ring[at + RXRSP_W_status] = rsp[k * RX_STRIDE + RXRSP_W_status]
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
