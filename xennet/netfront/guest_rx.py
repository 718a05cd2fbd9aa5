"""Guest receive, frontend side: rx requests posted, responses in, frames out, buffers posted again.

Two kernels:

    post      empty pages -> grants and rx requests, published
    receive   responses -> frames; each buffer is granted and posted again at once

Ring slot s owns page s of the receive buffer, grant reference ``grefs[s]`` and request id s: a
response sits in the slot of the request that it consumes, so its place says which page was filled,
and the id in it is never read (hardening rule B9).

Rules (xen/io/netif.h, "Guest receive"; hardening rules B1..B14 in docs/hardening.md):

* B1, B2 rsp_prod past what was posted, or behind what it was: the device is broken;
* B5 a page that is still in use although the response says done: broken;
* B8 negative status, or offset + status beyond the page: packet dropped;
* B10 more_data with nothing behind it, B11 too many slots, B12 extra_info with nothing behind it
  or of an unknown type, B13 GSO of size 0 or of unknown type: packet dropped;
* B14 an XDP extra says where payload begins in every slot of the packet; status counts what lies
  before it (xenvif_rx_data_slot), so one that is smaller drops the packet;
* B20 a packet shorter than an Ethernet header or longer than 65535 bytes: packet dropped;
* a first slot with gso_prefix carries no data: its offset is the segment size of the packet behind
  it (backends before Linux 4.10, for frontends that asked with feature-gso-tcpv*-prefix);
* if wanted, what Linux does (checksum_setup): a GSO packet without csum_blank is repaired, its
  checksum field gets the pseudo-header sum ("some buggy peers"; field bug 2); a packet with
  csum_blank is dropped unless a TCP or UDP header is found (B21; xennet.offload.checksum_setup);
* B17 with ``zeros`` every page is wiped before it is granted again.

Dropping consumes the packet's slots and posts them again; only "broken" is for ever.
"""

from __future__ import annotations

from xennet.abi.grant_table import GTF_permit_access, GTF_reading, GTF_writing
from xennet.abi.netif import (
    _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_XDP,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
    XEN_NETIF_EXTRA_TYPE_MAX_in_linux,
)
from xennet.abi.words import (
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_EVENT,
    RSP_PROD,
    RX_MASK,
    RX_SLOTS,
    RX_STRIDE,
    EXTRA_S_flags,
    EXTRA_S_gso_size,
    EXTRA_S_hash_algorithm,
    EXTRA_S_hash_type,
    EXTRA_S_headroom,
    EXTRA_W_gso_type,
    RXREQ_W_gref,
    RXRSP_S_offset,
    RXRSP_S_status,
    RXRSP_W_status,
)
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import (
    LOG_HEADER,
    Bytes,
    U32Array,
    U32Words,
    Vector,
    arm,
    note,
    publish,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MAX_FRAME, MIN_FRAME
from xennet.offload.checksum_setup import set_up
from xennet.offload.headers import ETH_P_IPV6, MAX_TAGS, TAG_BYTES, network_layer
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32
from xennet.vif.refusals import (
    DROP_EXTRA_TYPE,
    DROP_GSO,
    DROP_HEADERS,
    DROP_HEADROOM,
    DROP_MISSING_EXTRA,
    DROP_NEED_SLOTS,
    DROP_PREFIX,
    DROP_RANGE,
    DROP_SIZE,
    DROP_STATUS,
    DROP_TOO_MANY_SLOTS,
    NOT_REFUSED,
)
from xennet.vif.ring_events import RX_DROPPED, RX_RECEIVED

# Verdicts of receive, in res[R_VERDICT]; texts in xennet/netfront/verdict.py.
OK = 0
PROD_OVERFLOW = 1
PROD_BACKWARDS = 2
STILL_GRANTED = 3

# Places in the state vector, which lives as long as the connection.
#: Responses that were seen but not consumed by the last pass, for rule B2.
S_UNCONSUMED = 0
STATES = 1

# Places in the result vector.
R_VERDICT = 0
R_SLOTS = 1
R_PACKETS = 2
R_BYTES = 3
#: Packets dropped, the reason for the last one (xennet.vif.refusals), its ring index and two raw
#: words.
R_DROPPED = 4
R_DROP = 5
R_INDEX = 6
R_WORD0 = 7
R_WORD1 = 8
#: 1 if the backend asked to be notified of the new requests.
R_NOTIFY = 9
#: 1 if responses are left, or came meanwhile.
R_MORE = 10
#: GSO packets that came without data_validated, and those whose checksum was made partial.
R_UNVALIDATED = 11
R_FIXUPS = 12
RESULTS = 13

#: A first response of at most this many bytes allows one more slot (Linux RX_COPY_THRESHOLD).
RX_COPY_THRESHOLD = 256
#: Room a packet may need in the batch before its size is known: every slot of a full chain.
MAX_CHAIN_BYTES = (XEN_NETIF_NR_SLOTS_MIN + 1) * PAGE_SIZE

_MASK16 = 0xFFFF
_SIGN16 = 0x8000
_HASH_TYPES = _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP
_SPECIAL = NETRXF_extra_info | NETRXF_gso_prefix
_VALID = NETRXF_csum_blank | NETRXF_data_validated
_IN_USE = GTF_reading | GTF_writing


def post(
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    grefs: U32Array,
    words: U32Words,
    shift: int,
) -> int:
    """Grant and request every free slot; 1 if the backend asked to be notified."""
    prod = pvt[FRONT_REQ_PROD_PVT]
    end = (pvt[FRONT_RSP_CONS] + RX_SLOTS) & MASK32
    access = GTF_permit_access | otherend << 16
    while prod != end:
        slot = prod & RX_MASK
        gref = grefs[slot]
        words[gref << shift] = access
        at = RING_SLOTS + slot * RX_STRIDE
        ring[at] = slot
        ring[at + RXREQ_W_gref] = gref
        prod = (prod + 1) & MASK32
    pvt[FRONT_REQ_PROD_PVT] = prod
    return publish(ring, REQ_PROD, REQ_EVENT, prod)


def wipe(pages: Bytes, zeros: Bytes, first: int, end: int) -> None:
    """Zero the pages of the slots from index ``first`` to ``end``, which is not included (B17)."""
    while first != end:
        page = (first & RX_MASK) << PAGE_SHIFT
        pages[page : page + PAGE_SIZE] = zeros[0:PAGE_SIZE]
        first = (first + 1) & MASK32


def behind(word1: int, headroom: int, drop: int) -> tuple[int, int]:
    """A response without the headroom that its status counts, and why the packet is dropped."""
    counted = word1 >> RXRSP_S_status
    if counted >= _SIGN16:
        return word1, drop
    if counted < headroom:
        return word1, DROP_HEADROOM
    return word1 - (headroom << RXRSP_S_status), drop


def prefix_type(data: Bytes, start: int, types: int) -> int:
    """The GSO type of a packet announced by a prefix, which does not name one.

    ``types``: bit t is set for each type that was asked for; the Ethernet type, behind VLAN tags,
    decides between two.
    """
    v6 = types >> XEN_NETIF_GSO_TYPE_TCPV6 & 1
    if v6 and types >> XEN_NETIF_GSO_TYPE_TCPV4 & 1:
        kind, _ = network_layer(data, start, MIN_FRAME + MAX_TAGS * TAG_BYTES)
        v6 = 1 if kind == ETH_P_IPV6 else 0
    return XEN_NETIF_GSO_TYPE_TCPV6 if v6 else XEN_NETIF_GSO_TYPE_TCPV4


def receive(
    max_packets: int,
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    pages: Bytes,
    grefs: U32Array,
    words: U32Words,
    shift: int,
    status: U32Words,
    status_shift: int,
    data: Bytes,
    room: int,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    data32: U32Words,
    prefix_types: int,
    setup: int,
    zeros: Bytes,
    state: Vector,
    res: Vector,
) -> int:
    """Turn responses into frames, end to end in ``data`` (``room`` bytes); returns the verdict.

    Stops when all responses are taken, at ``max_packets`` frames, or when the longest legal packet
    would no longer fit; ``res[R_MORE]`` then says so. ``pages``: RX_SLOTS pages of our own.
    ``data32``: the words of ``data``. ``prefix_types``: bit t is set if GSO type t may be announced
    by a prefix. ``setup``: whether packets with csum_blank are looked into, and GSO ones without it
    repaired. ``zeros``: a page of zeros if pages are to be wiped, else less.
    """
    cons = pvt[FRONT_RSP_CONS]
    begin = cons
    prod = ring[RSP_PROD]
    available = (prod - cons) & MASK32
    verdict = OK
    packets = 0
    used = 0
    dropped = 0
    reason = NOT_REFUSED
    unvalidated = 0
    fixups = 0
    res[R_INDEX] = cons
    if available > (pvt[FRONT_REQ_PROD_PVT] - cons) & MASK32:  # B1
        verdict = PROD_OVERFLOW
        res[R_WORD0] = prod
        prod = cons
    elif available < state[S_UNCONSUMED]:  # B2
        verdict = PROD_BACKWARDS
        res[R_WORD0] = prod
        prod = cons

    while cons != prod and packets < max_packets and used + MAX_CHAIN_BYTES <= room:
        head = cons
        at = RING_SLOTS + (cons & RX_MASK) * RX_STRIDE
        word0 = ring[at]
        word1 = ring[at + RXRSP_W_status]
        head0 = word0
        head1 = word1
        rflags = word1 & _MASK16
        drop = NOT_REFUSED
        gso = 0
        kind = 0
        hashed = 0
        headroom = 0
        data_slot = cons & RX_MASK
        cons = (cons + 1) & MASK32
        start_offset = word0 >> RXRSP_S_offset

        if rflags & _SPECIAL:
            if rflags & NETRXF_gso_prefix:
                gso = start_offset
                if not prefix_types or not rflags & NETRXF_more_data:
                    drop = DROP_PREFIX
                elif not gso:
                    drop = DROP_GSO  # B13
                if rflags & NETRXF_more_data and cons != prod:
                    gref = grefs[data_slot]
                    if status[gref << status_shift] & _IN_USE:  # B5
                        verdict = STILL_GRANTED
                        break
                    data_slot = cons & RX_MASK
                    at = RING_SLOTS + data_slot * RX_STRIDE
                    word0 = ring[at]
                    word1 = ring[at + RXRSP_W_status]
                    rflags = word1 & _MASK16
                    cons = (cons + 1) & MASK32
                    start_offset = word0 >> RXRSP_S_offset
            more = rflags & NETRXF_extra_info
            while more:
                if cons == prod:  # B12
                    drop = DROP_MISSING_EXTRA
                    break
                slot = cons & RX_MASK
                at = RING_SLOTS + slot * RX_STRIDE
                extra0 = ring[at]
                extra1 = ring[at + EXTRA_W_gso_type]
                cons = (cons + 1) & MASK32
                # The buffer under an extra was not filled; it is posted again like any other.
                gref = grefs[slot]
                if status[gref << status_shift] & _IN_USE:  # B5
                    data_slot = slot
                    verdict = STILL_GRANTED
                    break
                extra_type = extra0 & 0xFF
                if extra_type == 0 or extra_type >= XEN_NETIF_EXTRA_TYPE_MAX_in_linux:  # B12
                    drop = DROP_EXTRA_TYPE
                elif extra_type == XEN_NETIF_EXTRA_TYPE_GSO:
                    gso = extra0 >> EXTRA_S_gso_size
                    kind = extra1 & 0xFF
                    if not gso or not (
                        XEN_NETIF_GSO_TYPE_TCPV4 <= kind <= XEN_NETIF_GSO_TYPE_TCPV6
                    ):
                        drop = DROP_GSO  # B13
                elif extra_type == XEN_NETIF_EXTRA_TYPE_XDP:
                    headroom = extra0 >> EXTRA_S_headroom  # B14
                elif extra_type == XEN_NETIF_EXTRA_TYPE_HASH:
                    hash_type = extra0 >> EXTRA_S_hash_type & 0xFF
                    algorithm = extra0 >> EXTRA_S_hash_algorithm
                    if algorithm and hash_type <= _HASH_TYPES:
                        hashed = algorithm << 8 | (hash_type + 1)
                        hash_value[packets] = extra1
                more = extra0 >> EXTRA_S_flags & XEN_NETIF_EXTRA_FLAG_MORE
            if verdict != OK:
                break
            if headroom:
                start_offset = headroom
                word1, drop = behind(word1, headroom, drop)

        slots = 1
        size = 0
        limit = XEN_NETIF_NR_SLOTS_MIN
        if word1 >> RXRSP_S_status <= RX_COPY_THRESHOLD or word1 >> RXRSP_S_status >= _SIGN16:
            limit += 1
        while True:
            gref = grefs[data_slot]
            if status[gref << status_shift] & _IN_USE:  # B5
                verdict = STILL_GRANTED
                break
            words[gref << shift] = 0
            chunk = word1 >> RXRSP_S_status
            if chunk >= _SIGN16:  # B8
                drop = DROP_STATUS
            elif start_offset + chunk > PAGE_SIZE:  # B8
                drop = DROP_HEADROOM if headroom else DROP_RANGE
            elif slots <= limit and drop == NOT_REFUSED:
                into = used + size
                filled = (data_slot << PAGE_SHIFT) + start_offset
                data[into : into + chunk] = pages[filled : filled + chunk]
                size += chunk
            if not word1 & NETRXF_more_data:
                break
            if cons == prod:  # B10
                drop = DROP_NEED_SLOTS
                break
            data_slot = cons & RX_MASK
            at = RING_SLOTS + data_slot * RX_STRIDE
            word0 = ring[at]
            word1 = ring[at + RXRSP_W_status]
            start_offset = word0 >> RXRSP_S_offset
            if headroom:
                start_offset = headroom
                word1, drop = behind(word1, headroom, drop)
            cons = (cons + 1) & MASK32
            slots += 1
        if verdict != OK:
            break
        if slots > limit:  # B11
            drop = DROP_TOO_MANY_SLOTS
        elif drop == NOT_REFUSED and (size > MAX_FRAME or size < MIN_FRAME):
            drop = DROP_SIZE
        if gso and drop == NOT_REFUSED:
            if not kind:
                kind = prefix_type(data, used, prefix_types)
            if not rflags & NETRXF_data_validated:
                unvalidated += 1
        if setup and drop == NOT_REFUSED and (gso or rflags & NETRXF_csum_blank):
            recalculate = 0 if rflags & NETRXF_csum_blank else 1
            if recalculate:
                fixups += 1
                rflags |= _VALID
            if not set_up(data, data32, used, size, recalculate):
                drop = DROP_HEADERS
        if drop != NOT_REFUSED:
            dropped += 1
            reason = drop
            res[R_INDEX] = head
            res[R_WORD0] = head0
            res[R_WORD1] = head1
            if len(log) > LOG_HEADER:
                note(log, RX_DROPPED, head, (cons - head) & MASK32, size, drop)
            continue
        if len(log) > LOG_HEADER:
            note(log, RX_RECEIVED, head, (cons - head) & MASK32, size, NOT_REFUSED)
        offset[packets] = used
        length[packets] = size
        flags[packets] = (CSUM_BLANK if rflags & NETRXF_csum_blank else 0) | (
            DATA_VALIDATED if rflags & NETRXF_data_validated else 0
        )
        gso_size[packets] = gso
        gso_type[packets] = kind
        hash_info[packets] = hashed
        used += size
        packets += 1

    res[R_VERDICT] = verdict
    res[R_PACKETS] = packets
    res[R_BYTES] = used
    res[R_DROPPED] = dropped
    res[R_DROP] = reason
    res[R_SLOTS] = (cons - begin) & MASK32
    res[R_NOTIFY] = 0
    res[R_MORE] = 0
    res[R_UNVALIDATED] = unvalidated
    res[R_FIXUPS] = fixups
    if verdict != OK:
        if verdict == STILL_GRANTED:
            res[R_INDEX] = (cons - ((cons - data_slot) & RX_MASK)) & MASK32
            res[R_WORD0] = gref
        return verdict

    pvt[FRONT_RSP_CONS] = cons
    state[S_UNCONSUMED] = (prod - cons) & MASK32
    if cons != begin:
        if len(zeros) == PAGE_SIZE:
            wipe(pages, zeros, begin, cons)
        res[R_NOTIFY] = post(ring, pvt, otherend, grefs, words, shift)
    if cons == prod:
        arm(ring, RSP_EVENT, (cons + 1) & MASK32)
        res[R_MORE] = 1 if ring[RSP_PROD] != cons else 0
    else:
        res[R_MORE] = 1
    return verdict
