"""Guest transmit, backend side: tx requests in, packets out, one response per slot.

Three kernels, called in this order for each pass over the ring:

    gather   ring page -> private slot copies, checks, one grant-copy table for all packets
    (the caller makes the batched grant copy: GNTTABOP_copy)
    settle   copy statuses -> failed packets dropped, responses written and published
    (if res[R_FLAGS_SEEN] has csum_blank: judge_checksums of tx_checksum.py)
    rearm    final check for requests before sleeping

They are plain functions over flat integer views: no object, no allocation per slot. They read the
tx ring page (words), and write the copy table, the packet arrays, ``rsp`` (one response word for
each consumed slot), the response half of the ring and ``res``, a result vector of signed integers
(places R_*). Each slot is loaded from shared memory exactly once, word by word, and everything
after that works on the loaded values: a frontend that rewrites a slot meanwhile changes nothing
(hardening rule F14, RING_COPY_REQUEST).

Which rule each step obeys (rules F1..F17 are explained in docs/hardening.md):

    F1   req_prod further than a ring from req_cons          fatal
    F2   more_data on the last request there is              fatal
    F3   19 or 20 additional slots: ERROR; 21 or more        fatal
    F4   later slots are larger than first.size allows       ERROR on every slot
    F5   offset + size of any slot beyond the page           fatal
    F6   first slot shorter than an Ethernet header          ERROR on every slot
    F7   later slots of size 0                               OKAY, nothing copied
    F8   extra_info without a slot behind it                 fatal
    F9   extra type 0 or unknown                             fatal
    F10  GSO size 0, or neither TCPv4 nor TCPv6              fatal
    F11  multicast extras                                    answered at once, no packet
    F12  two extras of a type                                the last one counts, both NULL
    F13  a grant copy failed                                 ERROR for that slot, siblings OKAY
    F15  headers in many small slots                         the whole packet is copied anyway
    F16  GSO without csum_blank                              flag and pseudo-header sum are put in
    F17  csum_blank, but no TCP or UDP header                OKAY, dropped

Fatal means: no response to the packet, nothing further read. The packets before it are delivered
and answered as usual.

The rate limit is looked at as in Linux (xenvif_tx_build_gops): when the first request of a packet
has been copied and nothing behind it has. A packet costs what that request says, whatever becomes
of it.
"""

from __future__ import annotations

from xennet.abi.grant_table import GNTCOPY_source_gref
from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.words import (
    COPY_STRIDE,
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_EVENT,
    RSP_PROD,
    TX_END,
    TX_MASK,
    TX_SLOTS,
    TX_STRIDE,
    COPY_S_flags,
    COPY_S_offset,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
    EXTRA_W_rest,
    TXREQ_S_flags,
    TXREQ_S_size,
    TXRSP_S_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import LOG_HEADER, U32Array, U32Words, Vector, arm, note, publish
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MIN_FRAME
from xennet.netback.packets import keep_packets
from xennet.netback.vif_words import mcast_add, mcast_del
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT, MASK32
from xennet.vif.extra import MORE_EXTRAS, extra_type, gso_of, hash_from_frontend, mac_of
from xennet.vif.flags import CSUM_BITS, FRAME_OF_TX
from xennet.vif.refusals import (
    COPY_FAILED,
    LIST_FULL,
    MANY_SLOTS,
    NOT_REFUSED,
    SIZES_DO_NOT_ADD_UP,
    TOO_SHORT,
)
from xennet.vif.ring_events import TX_COPY_FAILED, TX_PACKET, TX_REFUSED

#: Additional slots (beyond the first) that a packet may have, and the count that is an attack.
MAX_ADDITIONAL_SLOTS = XEN_NETIF_NR_SLOTS_MIN
FATAL_ADDITIONAL_SLOTS = 20

# Verdicts of gather, in res[R_VERDICT]; texts in xennet/netback/verdict.py.
OK = 0
PROD_OVERFLOW = 1
MISSING_SLOTS = 2
TOO_MANY_SLOTS = 3
CROSSES_PAGE = 4
MISSING_EXTRA = 5
BAD_EXTRA_TYPE = 6
GSO_SIZE_ZERO = 7
BAD_GSO_TYPE = 8

# Places in the result vector.
R_VERDICT = 0
#: Slots consumed and to be answered, packets for the host, elements of the copy table.
R_SLOTS = 1
R_PACKETS = 2
R_OPS = 3
#: Bytes of these packets.
R_BYTES = 4
#: Evidence of a fatal verdict: ring index and the words that were loaded from it.
R_INDEX = 5
R_WORD0 = 6
R_WORD1 = 7
R_WORD2 = 8
#: Packets answered ERROR as a whole, or dropped because a copy failed.
R_ERRORS = 9
#: Whether the last publication wants an event, or whether work is left (see each kernel).
R_FLAG = 10
#: From read_chain: what the first slot itself holds, its first later data slot, GSO size and type.
R_FIRST_SIZE = 11
R_LATER = 12
R_GSO_SIZE = 13
R_GSO_TYPE = 14
#: Bytes of the rate limit that are left, before and after; and the size of the request that they
#: did not cover (0: none).
R_CREDIT = 15
R_LIMITED = 16
#: GSO packets that came without csum_blank and were given it (F16; Linux: rx_gso_checksum_fixup).
R_CSUM_FIXUP = 17
#: Packets answered OKAY and dropped: csum_blank, but no TCP or UDP header to be found (F17).
R_BAD_CSUM = 18
#: From read_chain: the hash, as in the hash columns.
R_HASH_INFO = 19
R_HASH_VALUE = 20
#: How many hash columns may hold something from the last pass, from the first on.
R_HASHED = 21
#: All flags of the packets, ored: with CSUM_BLANK, their headers have to be judged.
R_FLAGS_SEEN = 22
#: From read_chain: why there is no packet (xennet.vif.refusals).
R_REFUSAL = 23
RESULTS = 24

#: Credit, or more, that is not used up.
UNLIMITED = 1 << 62

#: In R_FIRST_SIZE: the packet is answered (NULL, ERROR) and not delivered.
NO_PACKET = -1
#: In R_FIRST_SIZE: it was a request to amend the multicast list, which is done.
AMENDED = -2
#: In R_GSO_TYPE: there was no GSO extra (the type has 8 bits).
NO_GSO = -1

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_ERROR = (NETIF_RSP_ERROR & _MASK16) << TXRSP_S_status
_NULL = NETIF_RSP_NULL << TXRSP_S_status
_CHAINED = NETTXF_more_data | NETTXF_extra_info
#: In the flags of a packet, beside CSUM_BLANK: the frontend did not say so, its bytes have to be
#: made true (F16). It is above all flags of frames, and judge_checksums takes it away.
CSUM_FIXUP = 1 << 16
_FIXED_UP = CSUM_BLANK | DATA_VALIDATED | CSUM_FIXUP
#: No address: they have 48 bits.
_NO_MAC = -1
_SELF = DOMID_SELF
_SOURCE_GREF = GNTCOPY_source_gref << COPY_S_flags

#: Elements of the copy table: one for each slot, two where a staging page ends inside it.
MAX_OPS = 2 * TX_SLOTS


def gather(
    max_packets: int,
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    ops: U32Array,
    op_slot: U32Array,
    op_packet: U32Array,
    begins: U32Array,
    stage_frame: int,
    rsp: U32Array,
    grefs: U32Array,
    spans: U32Array,
    words: Vector,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    res: Vector,
) -> int:
    """Read all packets there are (at most ``max_packets``), check them, prepare their copy.

    ``ring``: words of the tx ring page. ``ops``: gnttab_copy elements, MAX_OPS of them, of which
    the constant words (zero upper halves) are left alone; ``op_slot`` and ``op_packet`` note for
    each element the slot and packet it serves; ``begins``, while ``log`` is on, the ring index of
    each packet. ``stage_frame``: first of TX_SLOTS consecutive frames of our own, which packets
    fill end to end. ``rsp``: the response word of each slot;
    ``grefs`` and ``spans``: private copies of later slots (TX_SLOTS words each). ``words``:
    xennet.netback.vif_words. ``offset`` ... ``hash_value``: the packets (xennet.frames). ``log``:
    xennet.vif.ring_events. ``res[R_CREDIT]`` is read and written. Returns the verdict; req_cons is
    not moved, settle does that.
    """
    start = pvt[BACK_REQ_CONS]
    prod = ring[REQ_PROD]
    available = (prod - start) & MASK32
    logging = len(log) > LOG_HEADER
    slot = 0  # slots consumed so far, relative to start
    packets = 0
    n_ops = 0
    used = 0  # bytes of the staging area, which good packets fill end to end
    errors = 0
    seen = 0  # flags of the packets, ored
    credit = res[R_CREDIT]
    limited = credit < UNLIMITED
    verdict = OK
    res[R_INDEX] = start
    res[R_LIMITED] = 0
    res[R_CSUM_FIXUP] = 0
    res[R_BAD_CSUM] = 0
    if res[R_HASHED]:
        forget_hashes(hash_info, res)
    if available > TX_SLOTS:  # F1
        verdict = PROD_OVERFLOW
        res[R_WORD0] = prod
        available = 0

    while slot < available and packets < max_packets:
        at = RING_SLOTS + ((start + slot) & TX_MASK) * TX_STRIDE
        gref = ring[at]
        word1 = ring[at + 1]
        word2 = ring[at + 2]
        size = left = word2 >> TXREQ_S_size
        if limited:
            if size > credit:
                res[R_LIMITED] = size
                break
            credit -= size
        rflags = word1 >> TXREQ_S_flags
        later = next_slot = slot + 1
        rsp[slot] = word2 & _MASK16
        if rflags & _CHAINED:
            next_slot = read_chain(
                ring, start, slot, available, rflags, size, rsp, grefs, spans, words, res
            )
            verdict = res[R_VERDICT]
            if verdict != OK:
                break
            left = res[R_FIRST_SIZE]
            later = res[R_LATER]
        if left < MIN_FRAME:  # F6, or read_chain says that there is no packet
            if left == AMENDED:
                slot = next_slot
                continue
            rsp[slot] |= _ERROR
            for position in range(later, next_slot):
                rsp[position] |= _ERROR
            if logging:
                why = res[R_REFUSAL] if left == NO_PACKET else TOO_SHORT
                note(log, TX_REFUSED, start + slot, next_slot - slot, size, why)
            slot = next_slot
            errors += 1
            continue
        piece_at = word1 & _MASK16
        if piece_at + left > PAGE_SIZE:  # F5
            verdict = CROSSES_PAGE
            res[R_INDEX] = (start + slot) & MASK32
            res[R_WORD0] = gref
            res[R_WORD1] = word1
            res[R_WORD2] = word2
            break
        packet_flags = FRAME_OF_TX[rflags & CSUM_BITS]
        gso_size[packets] = 0
        gso_type[packets] = 0
        if rflags & NETTXF_extra_info:
            verdict = judge_gso(res)  # F10
            if verdict != OK:
                res[R_INDEX] = (start + slot) & MASK32
                break
            gso_size[packets] = res[R_GSO_SIZE]
            gso_type[packets] = res[R_GSO_TYPE]
            if res[R_GSO_SIZE] and not packet_flags & CSUM_BLANK:  # F16
                packet_flags = _FIXED_UP
            if res[R_HASH_INFO]:
                hash_info[packets] = res[R_HASH_INFO]
                hash_value[packets] = res[R_HASH_VALUE]
                res[R_HASHED] = packets + 1

        # The packet is good: one copy element for each slot, more where a staging page ends.
        offset[packets] = used
        length[packets] = size
        flags[packets] = packet_flags
        seen |= packet_flags
        piece_slot = slot
        while True:
            while left:
                into = used & _OFFSET_MASK
                piece = left if left + into <= PAGE_SIZE else PAGE_SIZE - into
                op = n_ops * COPY_STRIDE
                ops[op + COPY_W_source] = gref
                ops[op + COPY_W_source_domid] = otherend | piece_at << COPY_S_offset
                ops[op + COPY_W_dest] = stage_frame + (used >> PAGE_SHIFT)
                ops[op + COPY_W_dest_domid] = _SELF | into << COPY_S_offset
                ops[op + COPY_W_len] = piece | _SOURCE_GREF
                op_slot[n_ops] = piece_slot
                op_packet[n_ops] = packets
                n_ops += 1
                used += piece
                piece_at += piece
                left -= piece
            if later == next_slot:
                break
            gref = grefs[later]
            piece_at = spans[later] >> 16
            left = spans[later] & _MASK16  # F7: nothing is copied for size 0
            piece_slot = later
            later += 1
        if logging:
            begins[packets] = (start + slot) & MASK32
            note(log, TX_PACKET, start + slot, next_slot - slot, size, NOT_REFUSED)
        slot = next_slot
        packets += 1

    res[R_VERDICT] = verdict
    res[R_SLOTS] = slot
    res[R_PACKETS] = packets
    res[R_OPS] = n_ops
    res[R_BYTES] = used
    res[R_ERRORS] = errors
    res[R_FLAGS_SEEN] = seen
    res[R_CREDIT] = credit
    return verdict


def forget_hashes(hash_info: U32Array, res: Vector) -> None:
    """Empty the hash column, as far as the last pass used it."""
    for i in range(res[R_HASHED]):
        hash_info[i] = 0
    res[R_HASHED] = 0


def read_chain(
    ring: U32Words,
    start: int,
    slot: int,
    available: int,
    rflags: int,
    size: int,
    rsp: U32Array,
    grefs: U32Array,
    spans: U32Array,
    words: Vector,
    res: Vector,
) -> int:
    """What belongs to a packet behind its first slot: extra infos, then later data slots.

    ``slot`` is the first slot's place relative to ``start``, ``rflags`` and ``size`` are what it
    says. Fills ``rsp`` (NULL for extras, the id for data), ``grefs`` and ``spans`` (offset in the
    upper half, size in the lower) at the later slots' places; amends the multicast list in
    ``words``. Returns the place behind the packet; ``res``: the verdict, R_FIRST_SIZE to R_GSO_TYPE
    and R_HASH_INFO, R_HASH_VALUE.
    """
    position = slot + 1
    added = _NO_MAC
    deleted = _NO_MAC
    res[R_VERDICT] = OK
    res[R_GSO_SIZE] = 0
    res[R_GSO_TYPE] = NO_GSO
    res[R_HASH_INFO] = 0
    res[R_FIRST_SIZE] = NO_PACKET

    more = rflags & NETTXF_extra_info
    while more:
        if position >= available:  # F8
            res[R_VERDICT] = MISSING_EXTRA
            res[R_INDEX] = (start + position) & MASK32
            return position
        at = RING_SLOTS + ((start + position) & TX_MASK) * TX_STRIDE
        extra0 = ring[at]
        extra1 = ring[at + EXTRA_W_rest]
        kind = extra_type(extra0)
        if not kind:  # F9
            res[R_VERDICT] = BAD_EXTRA_TYPE
            res[R_INDEX] = (start + position) & MASK32
            res[R_WORD0] = extra0
            res[R_WORD1] = extra1
            return position
        # An extra has no id: the low half of its NULL response stays as it is.
        rsp[position] = (extra0 & _MASK16) | _NULL
        position += 1
        if kind == XEN_NETIF_EXTRA_TYPE_GSO:  # F12: the last one counts
            res[R_GSO_SIZE], res[R_GSO_TYPE] = gso_of(extra0, extra1)
        elif kind == XEN_NETIF_EXTRA_TYPE_HASH:
            res[R_HASH_INFO] = hash_from_frontend(extra0)
            res[R_HASH_VALUE] = extra1
        elif kind == XEN_NETIF_EXTRA_TYPE_MCAST_ADD:
            added = mac_of(extra0, extra1)
        elif kind == XEN_NETIF_EXTRA_TYPE_MCAST_DEL:
            deleted = mac_of(extra0, extra1)
        more = extra0 & MORE_EXTRAS
    res[R_LATER] = position
    # F11: such a request carries no packet; its more_data is not looked at.
    if added != _NO_MAC:
        if mcast_add(words, added):
            res[R_FIRST_SIZE] = AMENDED
        res[R_REFUSAL] = LIST_FULL
        return position
    if deleted != _NO_MAC:
        mcast_del(words, deleted)
        res[R_FIRST_SIZE] = AMENDED
        return position

    additional = 0
    refusal = NOT_REFUSED
    more = rflags & NETTXF_more_data
    while more:
        if position >= available:  # F2
            res[R_VERDICT] = MISSING_SLOTS
            res[R_INDEX] = (start + position - 1) & MASK32
            return position
        if additional >= FATAL_ADDITIONAL_SLOTS:  # F3
            res[R_VERDICT] = TOO_MANY_SLOTS
            res[R_INDEX] = (start + position) & MASK32
            return position
        if additional >= MAX_ADDITIONAL_SLOTS and refusal == NOT_REFUSED:  # F3
            refusal = MANY_SLOTS
        at = RING_SLOTS + ((start + position) & TX_MASK) * TX_STRIDE
        gref = ring[at]
        word1 = ring[at + 1]
        word2 = ring[at + 2]
        later_size = word2 >> TXREQ_S_size
        if later_size > size and refusal == NOT_REFUSED:
            refusal = SIZES_DO_NOT_ADD_UP  # F4: the 16-bit total of a packet >= 64 KiB wrapped
        size = (size - later_size) & _MASK16
        if (word1 & _MASK16) + later_size > PAGE_SIZE:  # F5
            res[R_VERDICT] = CROSSES_PAGE
            res[R_INDEX] = (start + position) & MASK32
            res[R_WORD0] = gref
            res[R_WORD1] = word1
            res[R_WORD2] = word2
            return position
        rsp[position] = word2 & _MASK16
        grefs[position] = gref
        spans[position] = (word1 & _MASK16) << 16 | later_size
        more = word1 >> TXREQ_S_flags & NETTXF_more_data
        additional += 1
        position += 1
    res[R_REFUSAL] = refusal
    if refusal == NOT_REFUSED:
        res[R_FIRST_SIZE] = size
    return position


def judge_gso(res: Vector) -> int:
    """Verdict on the GSO extra that read_chain left in ``res`` (F10); none at all is fine."""
    size = res[R_GSO_SIZE]
    kind = res[R_GSO_TYPE]
    if kind == NO_GSO:
        res[R_GSO_TYPE] = 0
        return OK
    if XEN_NETIF_GSO_TYPE_TCPV4 <= kind <= XEN_NETIF_GSO_TYPE_TCPV6 and size:
        return OK
    res[R_WORD0] = size
    res[R_WORD1] = kind
    return BAD_GSO_TYPE if size else GSO_SIZE_ZERO


def settle(
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    ops: U32Array,
    op_slot: U32Array,
    op_packet: U32Array,
    begins: U32Array,
    rsp: U32Array,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    res: Vector,
) -> int:
    """Judge the copies, write and publish the responses; returns the number of good packets.

    A packet of which a copy failed is taken out of the packet arrays (F13). Responses go to the
    slots of their requests; each keeps the bytes of the request behind the first word.
    ``res[R_FLAG]`` is 1 if the frontend asked to be notified.
    """
    packets = res[R_PACKETS]
    start = pvt[BACK_REQ_CONS]
    failed = 0
    for at in range(COPY_W_status, res[R_OPS] * COPY_STRIDE, COPY_STRIDE):
        if ops[at] & _MASK16:
            k = at // COPY_STRIDE
            rsp[op_slot[k]] |= _ERROR
            if length[op_packet[k]]:
                failed += 1
                res[R_BYTES] -= length[op_packet[k]]
                length[op_packet[k]] = 0  # no good packet is empty: marks it for removal
            if len(log) > LOG_HEADER:
                status = (ops[at] & _MASK16) - 0x10000
                gref = ops[k * COPY_STRIDE]
                note(log, TX_COPY_FAILED, start + op_slot[k], status, gref, COPY_FAILED)
    res[R_ERRORS] += failed
    if failed:
        if len(log) > LOG_HEADER:
            kept = 0
            for i in range(packets):
                if length[i]:
                    begins[kept] = begins[i]
                    kept += 1
        packets = keep_packets(
            0, packets, offset, length, flags, gso_size, gso_type, hash_info, hash_value
        )
        res[R_PACKETS] = packets

    # Requests and responses run in step here: all that was consumed is answered in this pass.
    slots = res[R_SLOTS]
    at = RING_SLOTS + (start & TX_MASK) * TX_STRIDE
    for k in range(slots):
        ring[at] = rsp[k]
        at += TX_STRIDE
        if at == TX_END:
            at = RING_SLOTS
    end = (start + slots) & MASK32
    pvt[BACK_REQ_CONS] = end
    pvt[BACK_RSP_PROD_PVT] = end
    res[R_FLAG] = publish(ring, RSP_PROD, RSP_EVENT, end)
    return packets


def rearm(ring: U32Words, pvt: U32Array) -> int:
    """RING_FINAL_CHECK_FOR_REQUESTS: 1 if requests are there after all; else ask for an event."""
    cons = pvt[BACK_REQ_CONS]
    if ring[REQ_PROD] != cons:
        return 1
    arm(ring, REQ_EVENT, (cons + 1) & MASK32)
    return 1 if ring[REQ_PROD] != cons else 0
