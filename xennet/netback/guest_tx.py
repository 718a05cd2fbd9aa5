"""Guest transmit, backend side: tx requests in, packets out, one response per slot.

The kernels, in the order of a pass, each with what does the same in Linux 6.1's xen-netback:

    take_requests        requests -> packets, and a grant-copy table      xenvif_tx_build_gops
      read_requests        each slot once, checked                          RING_COPY_REQUEST
        read_chain           what is behind a first slot; extra infos         xenvif_get_extras
          amend_list           multicast control                              xenvif_mcast_add
          read_later           later data slots                               xenvif_count_requests
        answer_no_packet     ERROR for a packet that is refused             xenvif_tx_err
        keep_gso             GSO into the packet's columns                  xenvif_set_skb_gso
        give_up              a fatal verdict and its evidence               xenvif_fatal_tx_err
      plan_copies          the copy of all that is good                     xenvif_get_requests
    (the caller makes the batched grant copy: GNTTABOP_copy)
    put_responses        copy statuses judged, responses published        xenvif_tx_submit
      drop_failed          packets that were not copied                     xenvif_tx_check_gop
    (judge_checksums of tx_checksum.py, if res[R_FLAGS_SEEN] has CSUM_BLANK)
    await_requests       the last look before sleeping                    RING_FINAL_CHECK_

Each slot is loaded from shared memory exactly once, word by word, and everything after that works
on the loaded values: a frontend that rewrites a slot meanwhile changes nothing (rule F14).

Tuples and arrays, besides those of xennet.engine.kernel:

    slots    TxSlots: what was read of each slot, by its place in the pass (0: the one at req_cons)
    frames   the packets, which lie end to end
    ops      the table of struct gnttab_copy, for the bytes of the packets from first to last

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

from typing import TypeAlias

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
    XEN_NETIF_EXTRA_TYPE_MAX_in_linux,
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
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.engine.kernel import (
    LOG_HEADER,
    Frames,
    Ring,
    U32Array,
    U32Words,
    Vector,
    arm,
    note,
    publish,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MIN_FRAME
from xennet.netback.packets import keep_packets
from xennet.netback.vif_config import mcast_add, mcast_del
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

#: Most additional slots (beyond the first) of a packet, and the number that counts as an attack.
MAX_ADDITIONAL_SLOTS = XEN_NETIF_NR_SLOTS_MIN
FATAL_ADDITIONAL_SLOTS = 20

# Verdicts of take_requests, in res[R_VERDICT]; texts in xennet/netback/verdict.py.
OK = 0
PROD_OVERFLOW = 1
MISSING_SLOTS = 2
TOO_MANY_SLOTS = 3
CROSSES_PAGE = 4
MISSING_EXTRA = 5
BAD_EXTRA_TYPE = 6
GSO_SIZE_ZERO = 7
BAD_GSO_TYPE = 8

# Indices in the result vector.
R_VERDICT = 0
#: Evidence of a fatal verdict: ring index and the words that were loaded from it.
R_INDEX = 1
R_WORD0 = 2
R_WORD1 = 3
R_WORD2 = 4
#: Ring index of the first slot consumed, and how many slots were consumed and are to be answered.
R_START = 5
R_SLOTS = 6
#: Packets for the host, and their bytes.
R_PACKETS = 7
R_BYTES = 8
#: All flags of the packets, ored: with CSUM_BLANK, their headers have to be judged.
R_FLAGS_SEEN = 9
#: Elements of the copy table.
R_OPS = 10
#: Packets answered ERROR as a whole, or dropped because a copy failed.
R_ERRORS = 11
#: Size of the request that the rate limit's credit did not cover; 0: none.
R_LIMITED = 12
#: GSO packets that came without csum_blank and were given it (F16; Linux: rx_gso_checksum_fixup).
R_CSUM_FIXUP = 13
#: Packets answered OKAY and dropped: csum_blank, but no TCP or UDP header to be found (F17).
R_BAD_CSUM = 14
#: 1 if the frontend asked to be notified of the responses.
R_NOTIFY = 15
RESULTS = 16

# Indices in the state vector, which lives as long as the connection.
#: Bytes of the rate limit that are left.
S_CREDIT = 0
#: How many packets, from the first on, may have GSO columns of the last pass, and how many the
#: hash column.
S_GSO = 1
S_HASHES = 2
STATES = 3

#: Credit of a vif without a rate limit.
UNLIMITED = 1 << 62

#: The fate of a packet is NOT_REFUSED, a refusal (xennet.vif.refusals), or this one, if it was a
#: request to amend the multicast list, which is done.
AMENDED = -1

#: What was read of each slot, TX_SLOTS words each: its response word (id and status); of a data
#: slot, the grant reference; its ``span``, the offset at COPY_S_offset and the bytes to be copied
#: below (0: none). Then, while the log is on, the first slot of each packet; and EXTRA_WORDS words
#: of extra infos.
TxSlots: TypeAlias = "tuple[U32Array, U32Array, U32Array, U32Array, U32Array]"

#: Of each type, word 0 and 1 of the last extra info that a packet has. As in Linux, where the array
#: is called extras (xen-netback, xenvif_get_extras). No extra info is of type 0.
EXTRA_WORDS = 2 * XEN_NETIF_EXTRA_TYPE_MAX_in_linux
_GSO = 2 * XEN_NETIF_EXTRA_TYPE_GSO
_HASH = 2 * XEN_NETIF_EXTRA_TYPE_HASH
_MCAST_ADD = 2 * XEN_NETIF_EXTRA_TYPE_MCAST_ADD
_MCAST_DEL = 2 * XEN_NETIF_EXTRA_TYPE_MCAST_DEL
_GSO_SEEN = 1 << XEN_NETIF_EXTRA_TYPE_GSO
_HASH_SEEN = 1 << XEN_NETIF_EXTRA_TYPE_HASH
_MCAST_SEEN = 1 << XEN_NETIF_EXTRA_TYPE_MCAST_ADD | 1 << XEN_NETIF_EXTRA_TYPE_MCAST_DEL

_MASK16 = 0xFFFF
_SPAN_AT = _MASK16 << COPY_S_offset
_ERROR = (NETIF_RSP_ERROR & _MASK16) << TXRSP_S_status
_NULL = NETIF_RSP_NULL << TXRSP_S_status
_CHAINED = NETTXF_more_data | NETTXF_extra_info
#: In the flags of a packet, beside CSUM_BLANK: the frontend did not say so, its bytes have to be
#: made true (F16). It is above all flags of frames, and judge_checksums takes it away.
CSUM_FIXUP = 1 << 16
_FIXED_UP = CSUM_BLANK | DATA_VALIDATED | CSUM_FIXUP
_SELF = DOMID_SELF
_SOURCE_GREF = GNTCOPY_source_gref << COPY_S_flags

#: Elements of the copy table: one for each slot, two where a staging page ends inside it.
MAX_OPS = 2 * TX_SLOTS


# -- requests in -----------------------------------------------------------------------------------


def take_requests(
    max_packets: int,
    log: Vector,
    ring: Ring,
    otherend: int,
    vif_config: Vector,
    slots: TxSlots,
    ops: U32Array,
    stage_frame: int,
    frames: Frames,
    state: Vector,
    res: Vector,
) -> int:
    """Read and check all packets on the ring (at most ``max_packets``), and prepare their copy.

    ``stage_frame``: the first of TX_SLOTS consecutive staging frames, which good packets fill end
    to end. ``vif_config``: xennet.netback.vif_config, whose multicast list may be amended. ``log``:
    xennet.vif.ring_events. Returns the verdict. req_cons stays; put_responses moves it.
    """
    verdict = read_requests(max_packets, log, ring, vif_config, slots, frames, state, res)
    plan_copies(otherend, stage_frame, slots, ops, res)
    return verdict


def read_requests(
    max_packets: int,
    log: Vector,
    ring: Ring,
    vif_config: Vector,
    slots: TxSlots,
    frames: Frames,
    state: Vector,
    res: Vector,
) -> int:
    """Read packets into ``frames`` and each slot into ``slots``. Returns the verdict."""
    page, pvt = ring
    rsp, grefs, spans, begins, extras = slots
    _data, _data32, offset, length, flags, _gso_size, _gso_type, hash_info, hash_value = frames
    start = pvt[BACK_REQ_CONS]
    available = requests_there(page, start, res)
    forget_extras(frames, state)
    credit = state[S_CREDIT]
    limited = credit < UNLIMITED
    logging = len(log) > LOG_HEADER
    slot = packets = used = seen = kinds = 0
    fate = NOT_REFUSED
    while slot < available and packets < max_packets:
        at = RING_SLOTS + ((start + slot) & TX_MASK) * TX_STRIDE
        gref = page[at]  # F14: each word once (xen 4.17 ring.h, RING_COPY_REQUEST)
        word1 = page[at + 1]
        word2 = page[at + 2]
        size = left = word2 >> TXREQ_S_size  # of the packet (xen 4.17 netif.h, "Guest transmit")
        if limited:
            if size > credit:
                res[R_LIMITED] = size
                break
            credit -= size
        rsp[slot] = word2 & _MASK16  # the id, and NETIF_RSP_OKAY so far
        rflags = word1 >> TXREQ_S_flags
        later = behind = slot + 1
        if rflags & _CHAINED:  # then the first slot holds what the later ones leave of size
            later, behind, left, fate, kinds = read_chain(
                page, start, slot, available, rflags, size, vif_config, slots, res
            )
            if not behind:
                break
        if left < MIN_FRAME:  # F6, or there is no packet
            answer_no_packet(log, start, slot, later, behind, size, fate, slots, res)
            fate = NOT_REFUSED
            slot = behind
            continue
        first_at = word1 & _MASK16
        if first_at + left > PAGE_SIZE:  # F5
            give_up(res, CROSSES_PAGE, start + slot, gref, word1, word2)
            break
        packet_flags = FRAME_OF_TX[rflags & CSUM_BITS]
        if rflags & NETTXF_extra_info:
            if kinds & _HASH_SEEN:
                state[S_HASHES] = packets + 1
                hash_info[packets] = hash_from_frontend(extras[_HASH])
                hash_value[packets] = extras[_HASH + 1]
            if kinds & _GSO_SEEN:
                state[S_GSO] = packets + 1
                packet_flags = keep_gso(packets, packet_flags, start + slot, slots, frames, res)
                if res[R_VERDICT] != OK:
                    break
        grefs[slot] = gref
        spans[slot] = first_at << COPY_S_offset | left
        offset[packets] = used  # good packets lie end to end (plan_copies)
        length[packets] = size
        flags[packets] = packet_flags
        if logging:
            begins[packets] = slot
            note(log, TX_PACKET, start + slot, behind - slot, size, NOT_REFUSED)
        seen |= packet_flags
        used += size
        slot = behind
        packets += 1
    res[R_SLOTS] = slot
    res[R_PACKETS] = packets
    res[R_BYTES] = used
    res[R_FLAGS_SEEN] = seen
    state[S_CREDIT] = credit
    return res[R_VERDICT]


def requests_there(page: U32Words, start: int, res: Vector) -> int:
    """The number of requests from index ``start`` on; also clears ``res`` for a new pass."""
    prod = page[REQ_PROD]
    res[R_VERDICT] = OK
    res[R_START] = start
    res[R_LIMITED] = res[R_ERRORS] = res[R_CSUM_FIXUP] = res[R_BAD_CSUM] = 0
    available = (prod - start) & MASK32
    if available > TX_SLOTS:  # F1
        give_up(res, PROD_OVERFLOW, start, prod, 0, 0)
        available = 0
    return available


def give_up(res: Vector, verdict: int, index: int, word0: int, word1: int, word2: int) -> None:
    """Leave a fatal verdict on the frontend and its evidence in ``res``: ring index and words as
    loaded."""
    res[R_VERDICT] = verdict
    res[R_INDEX] = index & MASK32
    res[R_WORD0] = word0
    res[R_WORD1] = word1
    res[R_WORD2] = word2


def read_chain(
    page: U32Words,
    start: int,
    slot: int,
    available: int,
    rflags: int,
    size: int,
    vif_config: Vector,
    slots: TxSlots,
    res: Vector,
) -> tuple[int, int, int, int, int]:
    """Read what belongs to a packet behind its first slot: extra infos, then later data slots.

    ``slot`` is the place of the first slot in the pass; ``rflags`` and ``size`` are its fields.
    Returns the place of the first later data slot; the place behind the packet, 0 with a verdict;
    the number of bytes that the first slot itself holds, 0 if there is no packet; the fate of the
    packet; and which types of extra infos there are, bit t for type t.
    """
    rsp, _grefs, spans, _begins, extras = slots
    later = slot + 1
    kinds = 0
    more = MORE_EXTRAS if rflags & NETTXF_extra_info else 0
    while more:
        if later >= available:  # F8
            give_up(res, MISSING_EXTRA, start + later, 0, 0, 0)
            return 0, 0, 0, NOT_REFUSED, 0
        at = RING_SLOTS + ((start + later) & TX_MASK) * TX_STRIDE
        word0 = page[at]
        word1 = page[at + EXTRA_W_rest]
        kind = word0 & 0xFF
        if kind != XEN_NETIF_EXTRA_TYPE_HASH and not extra_type(word0):  # F9
            give_up(res, BAD_EXTRA_TYPE, start + later, word0, word1, 0)
            return 0, 0, 0, NOT_REFUSED, 0
        # An extra info overlays the id (xen 4.17 netif.h, "Extra Info"): the low half of its
        # NULL response stays as it is.
        rsp[later] = (word0 & _MASK16) | _NULL
        spans[later] = 0
        extras[2 * kind] = word0  # F12: the last one of a type counts
        extras[2 * kind + 1] = word1
        kinds |= 1 << kind
        more = word0 & MORE_EXTRAS
        later += 1
    if kinds & _MCAST_SEEN:
        # F11: such a request carries no packet; its more_data is not looked at.
        return later, later, 0, amend_list(kinds, extras, vif_config), kinds
    if not rflags & NETTXF_more_data:
        return later, later, size, NOT_REFUSED, kinds
    behind, left, fate = read_later(page, start, later, available, size, slots, res)
    return later, behind, left, fate, kinds


def amend_list(kinds: int, extras: U32Array, vif_config: Vector) -> int:
    """Do what a multicast extra asks for (F11). Returns AMENDED or LIST_FULL."""
    if kinds & 1 << XEN_NETIF_EXTRA_TYPE_MCAST_ADD:
        added = mcast_add(vif_config, mac_of(extras[_MCAST_ADD], extras[_MCAST_ADD + 1]))
        return AMENDED if added else LIST_FULL
    mcast_del(vif_config, mac_of(extras[_MCAST_DEL], extras[_MCAST_DEL + 1]))
    return AMENDED


def read_later(
    page: U32Words,
    start: int,
    position: int,
    available: int,
    size: int,
    slots: TxSlots,
    res: Vector,
) -> tuple[int, int, int]:
    """Read the later data slots of a packet of ``size`` bytes, from place ``position`` on.

    Returns the place behind them, 0 with a verdict; the number of bytes that are left for the first
    slot, 0 if there is no packet; and the fate of the packet.
    """
    rsp, grefs, spans, _begins, _extras = slots
    additional = 0
    fate = NOT_REFUSED
    more = NETTXF_more_data  # of the first slot; what extra infos say does not count
    while more:
        if position >= available:  # F2
            give_up(res, MISSING_SLOTS, start + position - 1, 0, 0, 0)
            return 0, 0, NOT_REFUSED
        if additional >= FATAL_ADDITIONAL_SLOTS:  # F3
            give_up(res, TOO_MANY_SLOTS, start + position, 0, 0, 0)
            return 0, 0, NOT_REFUSED
        if additional >= MAX_ADDITIONAL_SLOTS and fate == NOT_REFUSED:  # F3
            fate = MANY_SLOTS
        at = RING_SLOTS + ((start + position) & TX_MASK) * TX_STRIDE
        gref = page[at]
        word1 = page[at + 1]
        word2 = page[at + 2]
        later_size = word2 >> TXREQ_S_size
        if later_size > size and fate == NOT_REFUSED:
            fate = SIZES_DO_NOT_ADD_UP  # F4: the 16-bit total of a packet >= 64 KiB wrapped
        # What is left in the end is the first slot's own (xen 4.17 netif.h, "Guest transmit").
        size = (size - later_size) & _MASK16
        if (word1 & _MASK16) + later_size > PAGE_SIZE:  # F5
            give_up(res, CROSSES_PAGE, start + position, gref, word1, word2)
            return 0, 0, NOT_REFUSED
        rsp[position] = word2 & _MASK16
        grefs[position] = gref
        spans[position] = (word1 & _MASK16) << COPY_S_offset | later_size
        more = word1 >> TXREQ_S_flags & NETTXF_more_data
        additional += 1
        position += 1
    return position, size if fate == NOT_REFUSED else 0, fate


def answer_no_packet(
    log: Vector,
    start: int,
    slot: int,
    later: int,
    behind: int,
    size: int,
    fate: int,
    slots: TxSlots,
    res: Vector,
) -> None:
    """Answer slots ``slot`` .. ``behind - 1``, which make no packet: none of them is copied.

    Unless they amended the multicast list, the first one and those from ``later`` on get ERROR.
    """
    rsp, _grefs, spans, _begins, _extras = slots
    spans[slot] = 0
    for position in range(later, behind):
        spans[position] = 0
    if fate == AMENDED:
        return
    rsp[slot] |= _ERROR
    for position in range(later, behind):
        rsp[position] |= _ERROR
    res[R_ERRORS] += 1
    if len(log) > LOG_HEADER:
        why = TOO_SHORT if fate == NOT_REFUSED else fate
        note(log, TX_REFUSED, start + slot, behind - slot, size, why)


def keep_gso(
    packet: int, packet_flags: int, index: int, slots: TxSlots, frames: Frames, res: Vector
) -> int:
    """Write the GSO extra of ``packet`` into its columns. Returns the packet's flags.

    ``index`` is the ring index at which it begins.
    """
    _rsp, _grefs, _spans, _begins, extras = slots
    _data, _data32, _offset, _length, _flags, gso_size, gso_type, _hash_info, _hash_value = frames
    size, kind = gso_of(extras[_GSO], extras[_GSO + 1])
    if not size:  # F10
        give_up(res, GSO_SIZE_ZERO, index, size, kind, 0)
    elif not XEN_NETIF_GSO_TYPE_TCPV4 <= kind <= XEN_NETIF_GSO_TYPE_TCPV6:  # F10
        give_up(res, BAD_GSO_TYPE, index, size, kind, 0)
    gso_size[packet] = size
    gso_type[packet] = kind
    if not packet_flags & CSUM_BLANK:  # F16
        return _FIXED_UP
    return packet_flags


def forget_extras(frames: Frames, state: Vector) -> None:
    """Clear the GSO and hash columns, as far as the last pass used them."""
    _data, _data32, _offset, _length, _flags, gso_size, gso_type, hash_info, _hash_value = frames
    for packet in range(state[S_GSO]):
        gso_size[packet] = gso_type[packet] = 0
    for packet in range(state[S_HASHES]):
        hash_info[packet] = 0
    state[S_GSO] = state[S_HASHES] = 0


def plan_copies(
    otherend: int, stage_frame: int, slots: TxSlots, ops: U32Array, res: Vector
) -> None:
    """Fill the copy table: an element for each slot with bytes, end to end into the staging frames,
    and one more where a staging frame ends inside it.

    The constant words of an element (zero upper halves) are not written.
    """
    _rsp, grefs, spans, _begins, _extras = slots
    op = into = 0
    for slot in range(res[R_SLOTS]):
        span = spans[slot]
        while span & _MASK16:  # F7: else nothing is copied
            size = span & _MASK16
            if into + size > PAGE_SIZE:
                size = PAGE_SIZE - into
            ops[op + COPY_W_source] = grefs[slot]
            ops[op + COPY_W_source_domid] = otherend | span & _SPAN_AT
            ops[op + COPY_W_dest] = stage_frame
            ops[op + COPY_W_dest_domid] = _SELF | into << COPY_S_offset
            ops[op + COPY_W_len] = size | _SOURCE_GREF
            op += COPY_STRIDE
            span += (size << COPY_S_offset) - size
            into += size
            if into == PAGE_SIZE:
                into = 0
                stage_frame += 1
    res[R_OPS] = op // COPY_STRIDE


# -- responses out ---------------------------------------------------------------------------------


def put_responses(
    log: Vector, ring: Ring, slots: TxSlots, ops: U32Array, frames: Frames, res: Vector
) -> int:
    """Judge the copies, then write and publish the responses. Returns the number of good packets.

    A packet of which a copy failed is removed from the columns (F13). Each response goes to the
    slot of its request and keeps the request's bytes behind the first word.
    """
    page, pvt = ring
    rsp, _grefs, _spans, _begins, _extras = slots
    start = res[R_START]
    failed = 0
    for at in range(COPY_W_status, res[R_OPS] * COPY_STRIDE, COPY_STRIDE):
        failed |= ops[at]
    if failed & _MASK16:
        drop_failed(log, slots, ops, frames, res)

    # Requests and responses run in step here: all that was consumed is answered in this pass. A
    # response is the first word of its slot, the frontend knows it by its id alone.
    consumed = res[R_SLOTS]
    at = RING_SLOTS + (start & TX_MASK) * TX_STRIDE
    for k in range(consumed):
        page[at] = rsp[k]
        at += TX_STRIDE
        if at == TX_END:
            at = RING_SLOTS
    end = (start + consumed) & MASK32
    pvt[BACK_REQ_CONS] = end
    pvt[BACK_RSP_PROD_PVT] = end
    res[R_NOTIFY] = publish(page, RSP_PROD, RSP_EVENT, end)
    return res[R_PACKETS]


def drop_failed(log: Vector, slots: TxSlots, ops: U32Array, frames: Frames, res: Vector) -> None:
    """Answer ERROR for each slot that could not be copied, and remove its packet from the columns
    (F13)."""
    rsp, grefs, spans, begins, _extras = slots
    _data, _data32, _offset, length, _flags, _gso_size, _gso_type, _hash_info, _hash_value = frames
    # Elements, slots and packets are in the same order and have the same bytes in all: the bytes
    # before an element say which slot and packet it serves.
    slot = packet = -1
    slot_end = packet_end = used = 0
    for op in range(0, res[R_OPS] * COPY_STRIDE, COPY_STRIDE):
        while slot_end == used:
            slot += 1
            slot_end += spans[slot] & _MASK16
        while packet_end == used:
            packet += 1
            packet_end += length[packet]
        used += ops[op + COPY_W_len] & _MASK16
        status = ops[op + COPY_W_status] & _MASK16
        if status:
            rsp[slot] |= _ERROR
            if length[packet]:
                res[R_ERRORS] += 1
                res[R_BYTES] -= length[packet]
                length[packet] = 0  # no good packet is empty: marks it for removal
            if len(log) > LOG_HEADER:
                status -= 0x10000
                note(log, TX_COPY_FAILED, res[R_START] + slot, status, grefs[slot], COPY_FAILED)
    packets = res[R_PACKETS]
    kept = 0
    for i in range(packets):
        if length[i]:
            begins[kept] = begins[i]
            kept += 1
    res[R_PACKETS] = keep_packets(0, packets, frames)


def await_requests(ring: Ring) -> int:
    """RING_FINAL_CHECK_FOR_REQUESTS: 1 if requests are there after all; else ask for an event."""
    page, pvt = ring
    cons = pvt[BACK_REQ_CONS]
    if page[REQ_PROD] != cons:
        return 1
    arm(page, REQ_EVENT, (cons + 1) & MASK32)
    return 1 if page[REQ_PROD] != cons else 0
