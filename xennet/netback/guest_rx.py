"""Guest receive, backend side: packets in, rx requests consumed, one response per slot.

The kernels, in the order of a pass, each with what does the same in Linux 6.1's xen-netback:

    filter_multicast     packets to groups that nobody asked for          xenvif_start_xmit
    take_requests        packets + posted buffers -> a grant-copy table   xenvif_rx_action
      read_requests        requests and the responses they will have        xenvif_rx_data_slot
        extras_of            which extra infos a packet has                   xenvif_rx_next_skb
        put_prefix           GSO in the old way
        put_extras           extra infos                                      xenvif_rx_extra_slot
      plan_copies          what goes into which buffer                      xenvif_rx_copy_add
    (the caller makes the batched grant copy: GNTTABOP_copy)
    put_responses        copy statuses judged, responses published        xenvif_rx_copy_flush
      mark_failed          a failed copy in the status of its slot
    await_requests       an event for the next buffer    xenvif_rx_ring_slots_available

A request is loaded once; its id goes back from the private copy.

Tuples and arrays, besides those of xennet.engine.kernel:

    frontend   Frontend: who it is and what it takes
    slots      RxSlots: what becomes of each slot, by its place in the pass (0: the one at req_cons)
    frames     the packets, in frames of our own
    ops        the table of struct gnttab_copy, for the bytes of the packets from first to last

Rules (xen 4.17 netif.h, "Guest receive"; hardening rules in docs/hardening.md):

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

from typing import TypeAlias

from xennet.abi.grant_table import GNTCOPY_dest_gref
from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_NONE,
    XEN_NETIF_EXTRA_TYPE_XDP,
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
    RX_END,
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
from xennet.frames import MIN_FRAME
from xennet.netback.packets import keep_packets
from xennet.netback.vif_config import C_HASH, C_HEADROOM, MAX_HEADROOM, mcast_match
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT, MASK32
from xennet.vif.extra import put_gso, put_hash, put_xdp
from xennet.vif.flags import CSUM_BITS, RX_OF_FRAME
from xennet.vif.refusals import COPY_FAILED, NOT_REFUSED
from xennet.vif.ring_events import RX_COPY_FAILED, RX_PACKET

# Verdicts of take_requests, in res[R_VERDICT]; texts in xennet/netback/verdict.py.
OK = 0
PROD_OVERFLOW = 1

# Indices in the result vector.
R_VERDICT = 0
#: req_cons and the impossible req_prod of a fatal verdict.
R_INDEX = 1
R_WORD0 = 2
#: Slots consumed and to be answered, packets taken from the batch, elements of the copy table.
R_SLOTS = 3
R_PACKETS = 4
R_OPS = 5
#: Bytes of the packets that were sent.
R_BYTES = 6
#: Packets taken but not sent: the frontend did not negotiate what they need.
R_UNSENDABLE = 7
#: Copies that failed.
R_ERRORS = 8
#: Slots that the first packet left over needs, 0 if none is left.
R_NEEDED = 9
#: Multicast packets dropped because their address is not in the list.
R_FILTERED = 10
#: 1 if the frontend asked to be notified of the responses.
R_NOTIFY = 11
RESULTS = 12

#: The frontend: its domid; whether it takes packets of several slots; bit t is set for each GSO
#: type t that it takes as an extra info, and for each that it takes by a prefix.
Frontend: TypeAlias = "tuple[int, int, int, int]"

#: What becomes of each slot, RX_SLOTS words each (two for the first): the words of its response;
#: the grant reference of its buffer; at which byte of our frames begins what is copied there, and
#: how many bytes that are (0: none).
RxSlots: TypeAlias = "tuple[U32Array, U32Array, U32Array, U32Array]"

#: Elements of the copy table: one for each slot, two where a source page ends inside it.
MAX_OPS = 2 * RX_SLOTS

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_SELF = DOMID_SELF
_DEST_GREF = GNTCOPY_dest_gref << COPY_S_flags
_PREFIX_FLAGS = NETRXF_gso_prefix | NETRXF_more_data
# The extra infos of a packet, by their types.
_GSO = 1 << XEN_NETIF_EXTRA_TYPE_GSO
_HASH = 1 << XEN_NETIF_EXTRA_TYPE_HASH
_XDP = 1 << XEN_NETIF_EXTRA_TYPE_XDP
#: In their place: the old prefix.
_PREFIX = 1 << XEN_NETIF_EXTRA_TYPE_NONE

_BROADCAST = (1 << 48) - 1


def take_requests(
    first: int,
    count: int,
    log: Vector,
    ring: Ring,
    frontend: Frontend,
    vif_config: Vector,
    source_frame: int,
    frames: Frames,
    slots: RxSlots,
    ops: U32Array,
    res: Vector,
) -> int:
    """Prepare packets ``first`` .. ``count - 1`` as far as posted requests reach. Returns the
    verdict.

    Packet i lies at byte ``offset[i]`` of consecutive staging frames that start at
    ``source_frame``. ``vif_config``: xennet.netback.vif_config. ``log``: xennet.vif.ring_events.
    req_cons stays; put_responses moves it.
    """
    headroom = vif_config[C_HEADROOM]
    if headroom > MAX_HEADROOM:
        headroom = MAX_HEADROOM
    hashing = vif_config[C_HASH]
    verdict = read_requests(
        first, count, log, ring, frontend, headroom, hashing, frames, slots, res
    )
    otherend, _can_sg, _gso_types, _prefix_types = frontend
    plan_copies(otherend, headroom, source_frame, slots, ops, res)
    return verdict


def read_requests(
    first: int,
    count: int,
    log: Vector,
    ring: Ring,
    frontend: Frontend,
    headroom: int,
    hashing: int,
    frames: Frames,
    slots: RxSlots,
    res: Vector,
) -> int:
    """Read the requests that packets use, and prepare their responses and copies. Returns the
    verdict.

    ``headroom``: bytes to leave free in each slot; ``hashing``: not 0 if hashes are sent.
    """
    page, pvt = ring
    _otherend, can_sg, gso_types, prefix_types = frontend
    rsp, grefs, sources, sizes = slots
    _data, _data32, offset, length, flags, gso_size, gso_type, _hash_info, _hash_value = frames
    start = pvt[BACK_REQ_CONS]
    available = requests_there(page, start, res)
    takes_gso = gso_types | prefix_types
    room = PAGE_SIZE - headroom  # in each slot
    special = headroom | hashing
    logging = len(log) > LOG_HEADER
    slot = sent_bytes = 0
    packet = first
    while packet < count:
        left = length[packet]
        needed = 1 if left <= room else 1 + (left - 1) // room
        segment = gso_size[packet]
        if (needed > 1 and not can_sg) or (segment and not takes_gso >> gso_type[packet] & 1):
            res[R_UNSENDABLE] += 1  # feature-sg, feature-gso-tcpv4/6 say so (xen 4.17 netif.h)
            packet += 1
            continue
        extras = 0
        if segment or special:
            more, extras = extras_of(packet, headroom, hashing, gso_types, frames)
            needed += more
        if slot + needed > available:  # it waits, whole
            res[R_NEEDED] = needed
            break
        if logging:
            note(log, RX_PACKET, start + slot, needed, left, NOT_REFUSED)
        rflags = RX_OF_FRAME[flags[packet] & CSUM_BITS]
        if extras:
            if segment:
                rflags |= NETRXF_data_validated
            if extras & _PREFIX:
                slot = put_prefix(page, start, slot, segment, needed, slots)
            if extras != _PREFIX:
                rflags |= NETRXF_extra_info  # of the first slot; the extra infos are behind it
        sent_bytes += left
        source = offset[packet]
        while True:
            at = RING_SLOTS + ((start + slot) & RX_MASK) * RX_STRIDE
            chunk = left if left < room else room  # each slot says its own ("Guest receive")
            left -= chunk
            if left:
                rflags |= NETRXF_more_data  # another data slot; extra infos do not count
            out = slot * RX_STRIDE
            rsp[out] = page[at] & _MASK16  # the id; offset 0, also with headroom (B14)
            rsp[out + RXRSP_W_status] = rflags | headroom + chunk << RXRSP_S_status
            grefs[slot] = page[at + RXREQ_W_gref]  # both words once (F14)
            sources[slot] = source
            sizes[slot] = chunk
            source += chunk
            slot += 1
            if rflags & NETRXF_extra_info:
                slot = put_extras(slot, extras, packet, headroom, frames, slots)
            if not left:
                break
            rflags = 0
        packet += 1
    res[R_SLOTS] = slot
    res[R_PACKETS] = packet - first
    res[R_BYTES] = sent_bytes
    return res[R_VERDICT]


def requests_there(page: U32Words, start: int, res: Vector) -> int:
    """The number of requests from index ``start`` on; also clears ``res`` for a new pass."""
    prod = page[REQ_PROD]
    res[R_VERDICT] = OK
    res[R_UNSENDABLE] = res[R_ERRORS] = res[R_NEEDED] = 0
    available = (prod - start) & MASK32
    if available > RX_SLOTS:  # F1
        res[R_VERDICT] = PROD_OVERFLOW
        res[R_INDEX] = start
        res[R_WORD0] = prod
        available = 0
    return available


def extras_of(
    packet: int, headroom: int, hashing: int, gso_types: int, frames: Frames
) -> tuple[int, int]:
    """The slots that a packet needs beside its data: (their number, bit t for each extra info of
    type t).

    _PREFIX stands for the old prefix.
    """
    _data, _data32, _offset, _length, _flags, gso_size, gso_type, hash_info, _hash_value = frames
    slots = extras = 0
    if gso_size[packet]:
        slots = 1
        extras = _GSO if gso_types >> gso_type[packet] & 1 else _PREFIX
    if hashing and hash_info[packet]:
        slots += 1
        extras |= _HASH
    if headroom:
        slots += 1
        extras |= _XDP
    return slots, extras


def put_prefix(
    page: U32Words, start: int, slot: int, segment: int, needed: int, slots: RxSlots
) -> int:
    """Write the slot before a GSO packet for a frontend that takes no GSO extra.

    Its offset is the segment size, its status the number of slots of the packet (Linux 3.2
    xen-netback, netbk_gop_skb). Returns the place behind it.
    """
    rsp, _grefs, _sources, sizes = slots
    at = RING_SLOTS + ((start + slot) & RX_MASK) * RX_STRIDE
    rsp[slot * RX_STRIDE] = page[at] & _MASK16 | segment << RXRSP_S_offset
    rsp[slot * RX_STRIDE + RXRSP_W_status] = _PREFIX_FLAGS | needed << RXRSP_S_status
    sizes[slot] = 0
    return slot + 1


def put_extras(
    slot: int, extras: int, packet: int, headroom: int, frames: Frames, slots: RxSlots
) -> int:
    """Write the extra infos of a packet, from place ``slot`` on, in the order of their types.

    Returns the place behind the last one.
    """
    rsp, _grefs, _sources, sizes = slots
    _data, _data32, _offset, _length, _flags, gso_size, gso_type, hash_info, hash_value = frames
    if extras & _GSO:
        more = extras & (_HASH | _XDP)
        put_gso(rsp, slot * RX_STRIDE, more, gso_size[packet], gso_type[packet])
        sizes[slot] = 0
        slot += 1
    if extras & _HASH:
        put_hash(rsp, slot * RX_STRIDE, extras & _XDP, hash_info[packet], hash_value[packet])
        sizes[slot] = 0
        slot += 1
    if extras & _XDP:
        put_xdp(rsp, slot * RX_STRIDE, 0, headroom)
        sizes[slot] = 0
        slot += 1
    return slot


def plan_copies(
    otherend: int, headroom: int, source_frame: int, slots: RxSlots, ops: U32Array, res: Vector
) -> None:
    """Fill the copy table: an element for each buffer with bytes, which begin at ``headroom``, and
    one more where a staging frame ends inside them.

    The constant words of an element (zero upper halves) are not written.
    """
    _rsp, grefs, sources, sizes = slots
    op = 0
    for slot in range(res[R_SLOTS]):
        left = sizes[slot]
        source = sources[slot]
        into = headroom
        while left:
            source_at = source & _OFFSET_MASK
            size = left if source_at + left <= PAGE_SIZE else PAGE_SIZE - source_at
            ops[op + COPY_W_source] = source_frame + (source >> PAGE_SHIFT)
            ops[op + COPY_W_source_domid] = _SELF | source_at << COPY_S_offset
            ops[op + COPY_W_dest] = grefs[slot]
            ops[op + COPY_W_dest_domid] = otherend | into << COPY_S_offset
            ops[op + COPY_W_len] = size | _DEST_GREF
            op += COPY_STRIDE
            left -= size
            source += size
            into += size
    res[R_OPS] = op // COPY_STRIDE


def filter_multicast(first: int, count: int, frames: Frames, vif_config: Vector) -> int:
    """Remove packets ``first`` .. ``count - 1`` for multicast addresses that are not listed.

    Broadcasts stay. ``vif_config``: xennet.netback.vif_config. Returns the new count
    (xenvif_start_xmit).
    """
    data, _data32, offset, length, _flags, _gso_size, _gso_type, _hash_info, _hash_value = frames
    for i in range(first, count):
        at = offset[i]
        if length[i] >= MIN_FRAME and data[at] & 1:
            mac = 0
            for octet in range(at, at + 6):
                mac = mac << 8 | data[octet]
            if mac != _BROADCAST and not mcast_match(vif_config, mac):
                length[i] = 0
    return keep_packets(first, count, frames)


def put_responses(log: Vector, ring: Ring, slots: RxSlots, ops: U32Array, res: Vector) -> None:
    """Judge the copies, then write and publish the responses."""
    page, pvt = ring
    rsp, _grefs, _sources, _sizes = slots
    start = pvt[BACK_REQ_CONS]
    failed = 0
    for at in range(COPY_W_status, res[R_OPS] * COPY_STRIDE, COPY_STRIDE):
        failed |= ops[at]
    if failed & _MASK16:
        mark_failed(log, start, slots, ops, res)
    at = RING_SLOTS + (start & RX_MASK) * RX_STRIDE
    for out in range(0, res[R_SLOTS] * RX_STRIDE, RX_STRIDE):
        page[at] = rsp[out]
        page[at + RXRSP_W_status] = rsp[out + RXRSP_W_status]
        at += RX_STRIDE
        if at == RX_END:
            at = RING_SLOTS
    end = (start + res[R_SLOTS]) & MASK32
    pvt[BACK_REQ_CONS] = end
    pvt[BACK_RSP_PROD_PVT] = end
    res[R_NOTIFY] = publish(page, RSP_PROD, RSP_EVENT, end)


def mark_failed(log: Vector, start: int, slots: RxSlots, ops: U32Array, res: Vector) -> None:
    """Write the GNTST_ code of each copy that failed into the status of its slot."""
    rsp, grefs, _sources, sizes = slots
    # Elements and slots are in the same order and have the same bytes in all: the bytes before an
    # element say which slot it serves.
    slot = -1
    slot_end = used = 0
    for op in range(0, res[R_OPS] * COPY_STRIDE, COPY_STRIDE):
        while slot_end == used:
            slot += 1
            slot_end += sizes[slot]
        used += ops[op + COPY_W_len] & _MASK16
        status = ops[op + COPY_W_status] & _MASK16
        if status:
            at = slot * RX_STRIDE + RXRSP_W_status
            rsp[at] = (rsp[at] & _MASK16) | status << RXRSP_S_status
            res[R_ERRORS] += 1
            if len(log) > LOG_HEADER:
                status -= 0x10000
                note(log, RX_COPY_FAILED, start + slot, status, grefs[slot], COPY_FAILED)


def await_requests(ring: Ring, seen: int) -> int:
    """Ask for an event as soon as req_prod passes ``seen``. Returns 1 if it already has, else 0."""
    page, _pvt = ring
    arm(page, REQ_EVENT, (seen + 1) & MASK32)
    return 1 if page[REQ_PROD] != seen else 0
