"""Guest transmit, frontend side: frames in, tx requests out, responses taken by id.

The kernels, each with the function of Linux 6.1's xen-netfront that does the same:

    put_requests            frames -> granted pages and requests, published   xennet_start_xmit
      slots_of                how many slots a frame takes
      put_extras              its extra infos
      push_requests           the end of it                                     RING_PUSH_REQUESTS_
    put_multicast_request   a multicast address -> a dummy request
    take_responses          responses -> grants ended, ids free again         xennet_tx_buf_gc
      await_responses         the last look before sleeping                     RING_FINAL_CHECK_

Request id i owns page i of the transmit buffers and grant reference ``grefs[i]``, for as long as
the device is connected; what changes with each use is the access: the grant entry is made valid
when a request is written and invalid when its response has come. The frame of each entry is written
once, at connect (xen 4.17 grant_table.h: frame and domid before flags).

Rules (xen 4.17 netif.h, "Guest transmit"; hardening rules B1..B7 in docs/hardening.md):

* the first request carries the size of the whole packet, the later ones their own; every data
  request but the last has more_data; extra info slots follow the first request;
* at most XEN_NETIF_NR_SLOTS_MIN (18) slots for a packet, of at most 65535 bytes;
* responses are identified by id only, and come in any order;
* B1 rsp_prod past what was requested, B3 an id that is no id, B4 an id that is not pending, and
  B5 a grant that is still in use although the response says done, break the device;
* B6 ERROR and DROPPED free the slot like OKAY; B7 more NULL responses than extra info slots
  were sent break it too (the slots behind them would never come back);
* B17 with a page of ``zeros`` the page of a freed id is wiped, so that the next frame in it has
  only zeros behind it.

Tuples, besides those of xennet.engine.kernel:

    buffers    pages, grefs, zeros: TX_SLOTS pages of our own, the reference of each; a page of
               zeros if pages are to be wiped, else less
    requests   ids, pending, outcomes: the stack of free ids, ``state[S_FREE]`` deep; 1 by id from
               the publication of a request to its response; by id the status (16 bits, unsigned) of
               the last response that was not OKAY, or of a multicast request
    backend    can_sg, gso_types, hashes: whether it takes packets of several slots; bit t is set if
               it takes GSO type t; whether it takes hash extra info
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netif import (
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.words import (
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_PROD,
    TX_END,
    TX_MASK,
    TX_SLOTS,
    TX_STRIDE,
    TXREQ_S_flags,
    TXREQ_S_size,
    TXREQ_W_flags,
    TXREQ_W_id,
    TXRSP_S_status,
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
from xennet.granter import end_access
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32
from xennet.vif.extra import put_gso, put_hash, put_mcast
from xennet.vif.flags import CSUM_BITS, TX_OF_FRAME
from xennet.vif.refusals import NOT_OKAY, NOT_REFUSED
from xennet.vif.ring_events import TX_RESPONSE, TX_SENT

Buffers: TypeAlias = "tuple[Bytes, U32Array, Bytes]"
Requests: TypeAlias = "tuple[U32Array, U32Array, U32Array]"
Backend: TypeAlias = "tuple[int, int, int]"

# Verdicts of take_responses, in res[R_VERDICT]; texts in xennet/netfront/verdict.py.
OK = 0
PROD_OVERFLOW = 1
BAD_ID = 2
NOT_PENDING = 3
STILL_GRANTED = 4
ILLEGAL_NULL = 5

# Indices of the state vector, which lives as long as the connection.
#: Number of ids on the free stack; extra info slots that await their NULL response.
S_FREE = 0
S_EXTRAS = 1
STATES = 2

# Indices of the result vector: first those of take_responses.
R_VERDICT = 0
#: With a verdict: the ring index, and rsp_prod (B1) or the raw first word of the response.
R_INDEX = 1
R_WORD0 = 2
#: Responses consumed, and those among them other than OKAY and NULL.
R_RESPONSES = 3
R_ERRORS = 4
#: 1 if responses came meanwhile.
R_MORE = 5
# Those of put_requests and put_multicast_request.
#: Slots produced, and extra info slots among them.
R_REQUESTS = 6
R_EXTRAS = 7
#: Of put_requests alone: bytes of the packets sent.
R_BYTES = 8
#: Frames taken but not sent, because the backend did not negotiate what they need.
R_UNSENDABLE = 9
#: 1 if the backend asked to be notified.
R_NOTIFY = 10
RESULTS = 11

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_LAST_SLOT = TX_END - TX_STRIDE


def put_requests(
    first: int,
    count: int,
    log: Vector,
    ring: Ring,
    buffers: Buffers,
    grants: Grants,
    frames: Frames,
    requests: Requests,
    backend: Backend,
    state: Vector,
    res: Vector,
) -> int:
    """Send frames ``first`` .. ``count - 1`` (14 to 65535 bytes) as far as the ring has room.

    Returns the number of frames taken, including those that the backend cannot take.
    """
    page, pvt = ring
    pages, grefs, _ = buffers
    words, shift, _, _, access, _ = grants
    data, _, offset, length, flags, gso_size, _, hash_info, _ = frames
    ids, pending, _ = requests
    _, _, hashes = backend
    logging = len(log) > LOG_HEADER
    prod = pvt[FRONT_REQ_PROD_PVT]
    space = TX_SLOTS - ((prod - pvt[FRONT_RSP_CONS]) & MASK32)
    free = state[S_FREE]
    sent_bytes = unsendable = 0
    at = RING_SLOTS + (prod & TX_MASK) * TX_STRIDE
    frame = first
    while frame < count:
        left = size = length[frame]
        slots, extra = 1, 0
        if size > PAGE_SIZE or gso_size[frame]:
            slots, extra = slots_of(frame, frames, backend)
        elif hashes and hash_info[frame]:
            slots, extra = 2, 1
        if not slots:
            unsendable += 1
            frame += 1
            continue
        if slots > space or slots - extra > free:
            break
        if logging:
            note(log, TX_SENT, prod, slots, size, NOT_REFUSED)
        space -= slots
        sent_bytes += size
        source = offset[frame]
        rflags = TX_OF_FRAME[flags[frame] & CSUM_BITS] | (NETTXF_extra_info if extra else 0)
        while True:
            chunk = left if left < PAGE_SIZE else PAGE_SIZE
            left -= chunk
            if left:
                rflags |= NETTXF_more_data
            free -= 1
            ident = ids[free]
            gref = grefs[ident]
            into = ident << PAGE_SHIFT
            pages[into : into + chunk] = data[source : source + chunk]
            if shift:
                words[gref << shift] = access  # before the request: then the page may be read
            pending[ident] = 1
            page[at] = gref
            page[at + TXREQ_W_flags] = rflags << TXREQ_S_flags
            page[at + TXREQ_W_id] = ident | size << TXREQ_S_size
            prod += 1
            at = at + TX_STRIDE if at != _LAST_SLOT else RING_SLOTS
            if extra:
                at = put_extras(at, extra, page, frame, frames)
                prod += extra
            if not left:
                break
            source += chunk
            size = left if left < PAGE_SIZE else PAGE_SIZE  # its own; the first has the packet's
            rflags = extra = 0
        frame += 1
    push_requests(prod & MASK32, free, ring, state, res)
    res[R_BYTES] = sent_bytes
    res[R_UNSENDABLE] = unsendable
    return frame - first


def slots_of(frame: int, frames: Frames, backend: Backend) -> tuple[int, int]:
    """The number of slots that a frame takes, and how many of them are extra infos.

    The first is 0 if the backend did not negotiate what the frame needs.
    """
    _, _, _, length, _, gso_size, gso_type, hash_info, _ = frames
    can_sg, gso_types, hashes = backend
    chunks = (length[frame] + _OFFSET_MASK) >> PAGE_SHIFT
    extra = 0
    if gso_size[frame]:
        extra = 1
        if not gso_types >> gso_type[frame] & 1:
            return 0, 0
    if chunks > 1 and not can_sg:
        return 0, 0
    if hashes and hash_info[frame]:
        extra += 1
    return chunks + extra, extra


def put_extras(at: int, extra: int, page: U32Words, frame: int, frames: Frames) -> int:
    """Write the ``extra`` extra infos of a frame, GSO before HASH, from the slot at word ``at`` on.

    Returns the first word of the slot behind them.
    """
    _, _, _, _, _, gso_size, gso_type, hash_info, hash_value = frames
    if gso_size[frame]:
        extra -= 1
        put_gso(page, at, extra, gso_size[frame], gso_type[frame])
        at = at + TX_STRIDE if at != _LAST_SLOT else RING_SLOTS
    if extra:
        put_hash(page, at, 0, hash_info[frame], hash_value[frame])
        at = at + TX_STRIDE if at != _LAST_SLOT else RING_SLOTS
    return at


def push_requests(prod: int, free: int, ring: Ring, state: Vector, res: Vector) -> None:
    """Publish the requests before index ``prod``; ``free`` ids are left.

    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY (xen 4.17 ring.h). A slot without an id is an extra info.
    """
    page, pvt = ring
    res[R_REQUESTS] = (prod - pvt[FRONT_REQ_PROD_PVT]) & MASK32
    res[R_EXTRAS] = res[R_REQUESTS] - (state[S_FREE] - free)
    state[S_EXTRAS] += res[R_EXTRAS]
    state[S_FREE] = free
    pvt[FRONT_REQ_PROD_PVT] = prod
    res[R_NOTIFY] = publish(page, REQ_PROD, REQ_EVENT, prod)


def put_multicast_request(
    kind: int, mac: int, ring: Ring, requests: Requests, state: Vector, res: Vector
) -> int:
    """Ask the backend to change its multicast list.

    ``kind``: XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL; ``mac``: the address, its first octet most
    significant. The request is a dummy, only its extra info counts (xen 4.17 netif.h, "Multicast
    control"): it names no page. Returns its id, -1 without room.
    """
    page, pvt = ring
    ids, pending, outcomes = requests
    prod = pvt[FRONT_REQ_PROD_PVT]
    free = state[S_FREE]
    if not free or TX_SLOTS - ((prod - pvt[FRONT_RSP_CONS]) & MASK32) < 2:
        return -1
    free -= 1
    ident = ids[free]
    at = RING_SLOTS + (prod & TX_MASK) * TX_STRIDE
    page[at] = 0
    page[at + TXREQ_W_flags] = NETTXF_extra_info << TXREQ_S_flags
    page[at + TXREQ_W_id] = ident
    put_mcast(page, RING_SLOTS + ((prod + 1) & TX_MASK) * TX_STRIDE, kind, mac)
    outcomes[ident] = NETIF_RSP_OKAY
    pending[ident] = 1
    push_requests((prod + 2) & MASK32, free, ring, state, res)
    return ident


def wipe(pages: Bytes, zeros: Bytes, ids: U32Array, first: int, end: int) -> None:
    """Zero the pages of the ids at indices ``first`` .. ``end - 1`` of the stack (B17)."""
    for place in range(first, end):
        page = ids[place] << PAGE_SHIFT
        pages[page : page + PAGE_SIZE] = zeros[0:PAGE_SIZE]


def take_responses(
    log: Vector,
    ring: Ring,
    buffers: Buffers,
    grants: Grants,
    requests: Requests,
    state: Vector,
    res: Vector,
) -> int:
    """Take all responses: end the access to their pages and free their ids.

    Returns the verdict. With one other than OK the device is broken, and nothing more may be done
    with the ring.
    """
    page, pvt = ring
    pages, grefs, zeros = buffers
    ids, pending, outcomes = requests
    words, shift, _, _, access, alone = grants
    begin = cons = pvt[FRONT_RSP_CONS]
    prod = page[RSP_PROD]  # loaded once: the value judged is the value used
    free = state[S_FREE]
    extras = state[S_EXTRAS]
    logging = len(log) > LOG_HEADER
    verdict = OK
    errors = 0
    response = prod
    if (prod - cons) & MASK32 > (pvt[FRONT_REQ_PROD_PVT] - cons) & MASK32:  # B1
        verdict = PROD_OVERFLOW
        prod = cons
    at = RING_SLOTS + (cons & TX_MASK) * TX_STRIDE
    while cons != prod:
        response = page[at]  # id and status in one load: what is judged is what is used
        at += TX_STRIDE
        if at == TX_END:
            at = RING_SLOTS
        outcome = response >> TXRSP_S_status
        if logging:
            status_value = outcome - 0x10000 if outcome & 0x8000 else outcome
            refusal = NOT_OKAY if status_value < 0 else NOT_REFUSED
            note(log, TX_RESPONSE, cons, response & _MASK16, status_value, refusal)
        if outcome == NETIF_RSP_NULL:
            if not extras:  # B7
                verdict = ILLEGAL_NULL
                break
            extras -= 1
        else:
            ident = response & _MASK16
            if ident >= TX_SLOTS:  # B3
                verdict = BAD_ID
                break
            if not pending[ident]:  # B4
                verdict = NOT_PENDING
                break
            gref = grefs[ident]
            if alone and words[gref << shift] == access:  # end_access, in line
                words[gref << shift] = 0
            elif not end_access(grants, gref):  # B5
                verdict = STILL_GRANTED
                break
            pending[ident] = 0
            ids[free] = ident
            free += 1
            if outcome:  # B6
                errors += 1
                outcomes[ident] = outcome
        cons = (cons + 1) & MASK32
    if len(zeros) == PAGE_SIZE:
        wipe(pages, zeros, ids, state[S_FREE], free)
    state[S_FREE] = free
    state[S_EXTRAS] = extras
    pvt[FRONT_RSP_CONS] = cons
    res[R_VERDICT] = verdict
    res[R_INDEX] = cons
    res[R_WORD0] = response
    res[R_RESPONSES] = (cons - begin) & MASK32
    res[R_ERRORS] = errors
    res[R_MORE] = await_responses(page, cons) if verdict == OK else 0
    return verdict
