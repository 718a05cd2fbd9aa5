"""Guest receive, frontend side: rx requests posted, responses in, frames out, buffers posted again.

The kernels, each with the function of Linux 6.1's xen-netfront that does the same:

    put_requests       empty pages -> grants and rx requests, published    xennet_alloc_rx_buffers
    take_responses     a pass: responses -> frames, buffers posted again   xennet_poll
      take_packets       each packet: made a frame, or dropped               its loop
        get_extras         the slots before a packet's data                    xennet_get_extras
        get_responses      a packet's slots and their bytes                    xennet_get_responses
        set_up_offload     its checksum field and flags, corrected             checksum_setup
      await_responses    the last look before sleeping                       RING_FINAL_CHECK_

Ring slot s owns page s of the receive buffers, grant reference ``grefs[s]`` and request id s: a
response sits in the slot of the request that it consumes, so its index says which page was filled,
and the id in it is never read (hardening rule B9).

Rules (xen 4.17 netif.h, "Guest receive"; hardening rules B1..B21 in docs/hardening.md):

* B1, B2 rsp_prod past what was posted, or behind its earlier value: the device is broken;
* B5 a page that is still in use although the response says done: broken;
* B8 negative status, or offset + status beyond the page: packet dropped;
* B10 more_data with nothing behind it, B11 too many slots, B12 extra_info with nothing behind it
  or of an unknown type, B13 GSO of size 0 or of unknown type: packet dropped;
* B14 an XDP extra says where payload begins in every slot of the packet; status counts the bytes
  before it too (xenvif_rx_data_slot), so a smaller status drops the packet;
* B20 a packet shorter than an Ethernet header or longer than 65535 bytes: packet dropped;
* a first slot with gso_prefix carries no data: its offset is the segment size of the packet behind
  it (backends before Linux 4.10, for frontends that asked with feature-gso-tcpv*-prefix);
* if wanted, what Linux does (checksum_setup): a GSO packet without csum_blank is repaired, its
  checksum field gets the pseudo-header sum ("some buggy peers"; field bug 2); a packet with
  csum_blank is dropped unless a TCP or UDP header is found (B21; xennet.offload.checksum_setup);
* B17 with a page of ``zeros`` every page is wiped before it is granted again.

Dropping consumes the packet's slots and posts them again; only "broken" is for ever.

Tuples, besides those of xennet.engine.kernel:

    buffers   pages, grefs, zeros: RX_SLOTS pages of our own, the reference of each; a page of
              zeros if pages are to be wiped, else less
    backend   prefix_types, setup: bit t is set if GSO type t may be announced by a prefix; whether
              checksums are set up as Linux does
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_XDP,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
)
from xennet.abi.words import (
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_PROD,
    RX_MASK,
    RX_SLOTS,
    RX_STRIDE,
    EXTRA_W_rest,
    RXREQ_W_gref,
    RXRSP_S_offset,
    RXRSP_S_status,
    RXRSP_W_status,
)
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import (
    LOG_HEADER,
    Bytes,
    Frames,
    Grants,
    Ring,
    U32Array,
    U32Words,
    Vector,
    await_responses,
    note,
    publish,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MAX_FRAME, MIN_FRAME
from xennet.granter import end_access
from xennet.offload.checksum_setup import set_up
from xennet.offload.headers import ETH_P_IPV6, MAX_TAGS, TAG_BYTES, network_layer
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32
from xennet.vif.extra import MORE_EXTRAS, extra_type, gso_of, hash_from_backend, headroom_of
from xennet.vif.flags import CSUM_BITS, FRAME_OF_RX
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

Buffers: TypeAlias = "tuple[Bytes, U32Array, Bytes]"
Backend: TypeAlias = "tuple[int, int]"

# Verdicts of take_responses, in res[R_VERDICT]; texts in xennet/netfront/verdict.py.
OK = 0
PROD_OVERFLOW = 1
PROD_BACKWARDS = 2
STILL_GRANTED = 3

# Indices of the state vector, which lives as long as the connection.
#: Responses that were seen but not consumed by the last pass, for rule B2.
S_UNCONSUMED = 0
#: Slots that are not requested again, as many as another reader keeps (xennet.netfront.driven).
S_KEPT = 1
STATES = 2

# Indices of the vector that get_extras fills; 0 is "not there".
E_GSO_SIZE = 0
#: XEN_NETIF_GSO_TYPE_*; 0 beside a size that came in a prefix, which names no type.
E_GSO_TYPE = 1
#: As in the column hash_info of xennet.frames, and the value that goes with it.
E_HASH_INFO = 2
E_HASH_VALUE = 3
#: Bytes before the payload in every slot.
E_HEADROOM = 4
EXTRAS = 5

# Indices of the result vector.
R_VERDICT = 0
#: With a verdict: the ring index, and rsp_prod (B1, B2) or the grant reference (B5).
R_INDEX = 1
R_WORD0 = 2
#: Responses consumed; with a verdict, those that were looked at.
R_SLOTS = 3
#: Frames made of them, and their bytes.
R_PACKETS = 4
R_BYTES = 5
#: Packets dropped; of the last one the reason (xennet.vif.refusals), its ring index, two raw words.
R_DROPPED = 6
R_DROP = 7
R_DROP_INDEX = 8
R_DROP_WORD0 = 9
R_DROP_WORD1 = 10
#: GSO packets that came without data_validated, and those whose checksum was made partial.
R_UNVALIDATED = 11
R_FIXUPS = 12
#: 1 if the backend asked to be notified of the new requests.
R_NOTIFY = 13
#: 1 if responses are left, or came meanwhile.
R_MORE = 14
RESULTS = 15

#: A first response of at most this many bytes allows one more slot (Linux RX_COPY_THRESHOLD).
RX_COPY_THRESHOLD = 256
#: Room a packet may need in the batch before its size is known: every slot of a full chain.
MAX_CHAIN_BYTES = (XEN_NETIF_NR_SLOTS_MIN + 1) * PAGE_SIZE

_SIGN16 = 0x8000
_SPECIAL = NETRXF_extra_info | NETRXF_gso_prefix


def put_requests(kept: int, ring: Ring, grefs: U32Array, grants: Grants) -> int:
    """Grant and request every free slot but ``kept`` of them.

    Returns 1 if the backend asked to be notified, else 0.
    """
    page, pvt = ring
    words, shift, _, _, access, _ = grants
    prod = pvt[FRONT_REQ_PROD_PVT]
    left = RX_SLOTS - kept - ((prod - pvt[FRONT_RSP_CONS]) & MASK32)
    end = (prod + left) & MASK32 if left > 0 else prod
    while prod != end:
        slot = prod & RX_MASK
        gref = grefs[slot]
        # Frame and domain are there since connect; the flags come last, and before the request
        # (xen 4.17 grant_table.h, "Introducing a valid entry into the grant table").
        if shift:
            words[gref << shift] = access
        at = RING_SLOTS + slot * RX_STRIDE
        page[at] = slot
        page[at + RXREQ_W_gref] = gref
        prod = (prod + 1) & MASK32
    pvt[FRONT_REQ_PROD_PVT] = prod
    return publish(page, REQ_PROD, REQ_EVENT, prod)


def take_responses(
    max_packets: int,
    log: Vector,
    ring: Ring,
    buffers: Buffers,
    grants: Grants,
    frames: Frames,
    backend: Backend,
    extras: Vector,
    state: Vector,
    res: Vector,
) -> int:
    """Turn responses into frames, end to end in the bytes of ``frames``; post their buffers again.

    Stops when all responses are taken, at ``max_packets`` frames, or when the longest legal packet
    would no longer fit; ``res[R_MORE]`` is 1 then. ``extras`` has EXTRAS items, for get_extras.

    Returns the verdict. With any other than OK the device is broken: nothing is posted, and the
    ring must not be touched any more.
    """
    page, pvt = ring
    pages, grefs, zeros = buffers
    for place in range(RESULTS):
        res[place] = 0
    begin = pvt[FRONT_RSP_CONS]
    prod = page[RSP_PROD]  # loaded once: the value judged is the value used
    available = (prod - begin) & MASK32
    if available > (pvt[FRONT_REQ_PROD_PVT] - begin) & MASK32:  # B1
        return broken(PROD_OVERFLOW, begin, prod, res)
    if available < state[S_UNCONSUMED]:  # B2
        return broken(PROD_BACKWARDS, begin, prod, res)

    cons = take_packets(
        begin, prod, max_packets, log, page, buffers, grants, frames, backend, extras, res
    )
    res[R_SLOTS] = (cons - begin) & MASK32
    if res[R_VERDICT] != OK:
        return res[R_VERDICT]
    pvt[FRONT_RSP_CONS] = cons
    state[S_UNCONSUMED] = (prod - cons) & MASK32
    if cons != begin:
        if len(zeros) == PAGE_SIZE:
            wipe(pages, zeros, begin, cons)
        res[R_NOTIFY] = put_requests(state[S_KEPT], ring, grefs, grants)
    # An event is asked for if nothing is left; else the pass is to be repeated without one.
    res[R_MORE] = await_responses(page, cons) if cons == prod else 1
    return OK


def broken(verdict: int, index: int, word: int, res: Vector) -> int:
    """Store the evidence for ``verdict``. Returns ``verdict``."""
    res[R_VERDICT] = verdict
    res[R_INDEX] = index
    res[R_WORD0] = word
    return verdict


def wipe(pages: Bytes, zeros: Bytes, first: int, end: int) -> None:
    """Zero the pages of the slots from index ``first`` up to, but not including, ``end`` (B17)."""
    while first != end:
        page = (first & RX_MASK) << PAGE_SHIFT
        pages[page : page + PAGE_SIZE] = zeros[0:PAGE_SIZE]
        first = (first + 1) & MASK32


def take_packets(
    cons: int,
    prod: int,
    max_packets: int,
    log: Vector,
    page: U32Words,
    buffers: Buffers,
    grants: Grants,
    frames: Frames,
    backend: Backend,
    extras: Vector,
    res: Vector,
) -> int:
    """Take packets from index ``cons`` on, as far as there is room for the longest.

    Stores the counters of packets, and a verdict, in ``res``. Returns the index behind the last
    response that was looked at.
    """
    data, data32, offset, length, flags, gso_size, gso_type, hash_info, hash_value = frames
    prefix_types, setup = backend
    last = len(data) - MAX_CHAIN_BYTES
    logging = len(log) > LOG_HEADER
    packets = 0
    used = 0
    while cons != prod and packets < max_packets and used <= last:
        index = head = cons
        at = RING_SLOTS + (cons & RX_MASK) * RX_STRIDE
        word0 = head0 = page[at]
        word1 = head1 = page[at + RXRSP_W_status]
        cons = (cons + 1) & MASK32
        drop = NOT_REFUSED
        verdict = OK
        gso = kind = info = headroom = size = 0
        if word1 & _SPECIAL:
            cons, index, word0, word1, drop, verdict = get_extras(
                cons, prod, word0, word1, page, buffers, grants, prefix_types, extras
            )
            gso, kind = extras[E_GSO_SIZE], extras[E_GSO_TYPE]
            info, headroom = extras[E_HASH_INFO], extras[E_HEADROOM]
        bits = FRAME_OF_RX[word1 & CSUM_BITS]
        if verdict == OK:
            cons, index, size, drop, verdict = get_responses(
                cons, prod, index, word0, word1, headroom, drop, used, page, buffers, grants, data
            )
        if verdict != OK:
            _, grefs, _ = buffers
            broken(verdict, index, grefs[index & RX_MASK], res)
            break
        if drop == NOT_REFUSED and (gso or bits & CSUM_BLANK):
            if gso and not kind:
                kind = prefix_type(data, used, prefix_types)
            bits, drop = set_up_offload(data, data32, used, size, bits, gso, setup, res)
        if logging:
            what = RX_RECEIVED if drop == NOT_REFUSED else RX_DROPPED
            note(log, what, head, (cons - head) & MASK32, size, drop)
        if drop != NOT_REFUSED:
            res[R_DROPPED] += 1
            res[R_DROP] = drop
            res[R_DROP_INDEX] = head
            res[R_DROP_WORD0] = head0
            res[R_DROP_WORD1] = head1
            continue
        offset[packets] = used
        length[packets] = size
        flags[packets] = bits
        gso_size[packets] = gso
        gso_type[packets] = kind
        hash_info[packets] = info
        if info:
            hash_value[packets] = extras[E_HASH_VALUE]
        used += size
        packets += 1
    res[R_PACKETS] = packets
    res[R_BYTES] = used
    return cons


def get_extras(
    cons: int,
    prod: int,
    word0: int,
    word1: int,
    page: U32Words,
    buffers: Buffers,
    grants: Grants,
    prefix_types: int,
    extras: Vector,
) -> tuple[int, int, int, int, int, int]:
    """Take the slots before a packet's data: a gso_prefix slot, and extra infos.

    ``word0``, ``word1``: the first response, the one before index ``cons``. Fills ``extras``.

    Returns the index behind the slots taken, the index and both words of the response in which data
    begins (or of the one with a verdict), the reason why the packet is dropped, and the verdict.
    """
    _, grefs, _ = buffers
    for place in range(EXTRAS):
        extras[place] = 0
    drop = NOT_REFUSED
    index = (cons - 1) & MASK32
    # No buffer here is filled; all the same its access ends before it is posted again.
    if word1 & NETRXF_gso_prefix:
        size = word0 >> RXRSP_S_offset
        extras[E_GSO_SIZE] = size
        if not prefix_types or not word1 & NETRXF_more_data:
            drop = DROP_PREFIX
        elif not size:
            drop = DROP_GSO  # B13
        if word1 & NETRXF_more_data and cons != prod:
            if not end_access(grants, grefs[index & RX_MASK]):  # B5
                return cons, index, word0, word1, drop, STILL_GRANTED
            index = cons
            at = RING_SLOTS + (index & RX_MASK) * RX_STRIDE
            word0 = page[at]
            word1 = page[at + RXRSP_W_status]
            cons = (cons + 1) & MASK32
    more = word1 & NETRXF_extra_info
    while more:
        if cons == prod:  # B12
            drop = DROP_MISSING_EXTRA
            break
        slot = cons & RX_MASK
        at = RING_SLOTS + slot * RX_STRIDE
        extra0 = page[at]
        extra1 = page[at + EXTRA_W_rest]
        if not end_access(grants, grefs[slot]):  # B5
            return (cons + 1) & MASK32, cons, word0, word1, drop, STILL_GRANTED
        cons = (cons + 1) & MASK32
        drop = get_extra(extra0, extra1, drop, extras)
        more = extra0 & MORE_EXTRAS
    return cons, index, word0, word1, drop, OK


def get_extra(extra0: int, extra1: int, drop: int, extras: Vector) -> int:
    """Note one extra info in ``extras``; of two of a type the later one counts.

    Returns the reason why the packet is dropped; ``drop`` if this extra info gives none.
    """
    kind = extra_type(extra0)
    if not kind:  # B12
        return DROP_EXTRA_TYPE
    if kind == XEN_NETIF_EXTRA_TYPE_GSO:
        size, gso_type = gso_of(extra0, extra1)
        extras[E_GSO_SIZE] = size
        extras[E_GSO_TYPE] = gso_type
        known = XEN_NETIF_GSO_TYPE_TCPV4 <= gso_type <= XEN_NETIF_GSO_TYPE_TCPV6
        if not size or not known:  # B13
            return DROP_GSO
    elif kind == XEN_NETIF_EXTRA_TYPE_XDP:
        extras[E_HEADROOM] = headroom_of(extra0)
    elif kind == XEN_NETIF_EXTRA_TYPE_HASH:
        info = hash_from_backend(extra0)
        if info:
            extras[E_HASH_INFO] = info
            extras[E_HASH_VALUE] = extra1
    # MCAST_ADD and MCAST_DEL are for backends (xen 4.17 netif.h); here they say nothing.
    return drop


def get_responses(
    cons: int,
    prod: int,
    index: int,
    word0: int,
    word1: int,
    headroom: int,
    drop: int,
    used: int,
    page: U32Words,
    buffers: Buffers,
    grants: Grants,
    data: Bytes,
) -> tuple[int, int, int, int, int]:
    """Take the data of one packet: end the access to each page, then copy its bytes to ``used``.

    ``word0``, ``word1``: the first response, at ``index``; the next one is at ``cons``. ``drop``:
    the reason why the packet is dropped, if there is one already.

    Returns the index behind the packet, the index of its last response (or of the one with a
    verdict), the number of bytes copied, the reason why it is dropped, and the verdict.
    """
    pages, grefs, _ = buffers
    words, shift, _, _, access, alone = grants
    slots = 1
    limit = XEN_NETIF_NR_SLOTS_MIN
    size = 0
    while True:
        slot = index & RX_MASK
        gref = grefs[slot]
        if alone and words[gref << shift] == access:  # end_access, in line
            words[gref << shift] = 0
        elif not end_access(grants, gref):  # B5
            return cons, index, size, drop, STILL_GRANTED
        start = word0 >> RXRSP_S_offset
        chunk = word1 >> RXRSP_S_status
        if headroom:
            start = headroom
            chunk, drop = behind_headroom(chunk, headroom, drop)
        if chunk >= _SIGN16:  # B8
            drop = DROP_STATUS
        elif start + chunk > PAGE_SIZE:  # B8, B14
            drop = DROP_HEADROOM if headroom else DROP_RANGE
        elif slots <= limit and drop == NOT_REFUSED:
            into = used + size
            filled = (slot << PAGE_SHIFT) + start
            data[into : into + chunk] = pages[filled : filled + chunk]
            size += chunk
        if not word1 & NETRXF_more_data:
            break
        if slots == 1 and (chunk <= RX_COPY_THRESHOLD or chunk >= _SIGN16):
            limit += 1
        if cons == prod:  # B10
            drop = DROP_NEED_SLOTS
            break
        index = cons
        at = RING_SLOTS + (index & RX_MASK) * RX_STRIDE
        word0 = page[at]
        word1 = page[at + RXRSP_W_status]
        cons = (cons + 1) & MASK32
        slots += 1
    if slots > limit:  # B11
        drop = DROP_TOO_MANY_SLOTS
    elif drop == NOT_REFUSED and (size > MAX_FRAME or size < MIN_FRAME):  # B20
        drop = DROP_SIZE
    return cons, index, size, drop, OK


def behind_headroom(chunk: int, headroom: int, drop: int) -> tuple[int, int]:
    """The number of bytes of a slot behind the headroom, which its status ``chunk`` counts too, and
    the reason why the packet is dropped. A negative status stays as it is."""
    if chunk >= _SIGN16:
        return chunk, drop
    if chunk < headroom:  # B14
        return chunk, DROP_HEADROOM
    return chunk - headroom, drop


def set_up_offload(
    data: Bytes,
    data32: U32Array,
    at: int,
    size: int,
    bits: int,
    gso: int,
    setup: int,
    res: Vector,
) -> tuple[int, int]:
    """Correct the flags and the checksum field of a GSO packet or one with a blank checksum.

    ``bits``: its flags CSUM_BLANK and DATA_VALIDATED; ``gso``: its segment size, 0 = none.

    Returns the flags, and the reason why the packet is dropped.
    """
    if gso and not bits & DATA_VALIDATED:
        res[R_UNVALIDATED] += 1
    if not setup:
        return bits, NOT_REFUSED
    recalculate = 0
    if not bits & CSUM_BLANK:
        # GSO without csum_blank: "some buggy peers" (Linux 6.1 xen-netfront, checksum_setup).
        recalculate = 1
        bits = CSUM_BLANK | DATA_VALIDATED
        res[R_FIXUPS] += 1
    if not set_up(data, data32, at, size, recalculate):  # B21
        return bits, DROP_HEADERS
    return bits, NOT_REFUSED


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
