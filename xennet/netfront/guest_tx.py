"""Guest transmit, frontend side: frames in, tx requests out, responses reaped by id.

Three kernels:

    transmit   frames -> granted pages and requests, published
    amend      a change of the backend's multicast list -> a dummy request
    reap       responses -> grants ended, ids free again

Request id i owns page i of the transmit buffer and grant reference ``grefs[i]``, for as long as the
device is connected; what changes with each use is the access: the grant entry is made valid
when a request is written and invalid when its response has come. The frame of each entry is
written once, at connect (xen/grant_table.h: frame and domid before flags).

Rules (xen/io/netif.h, "Guest transmit"; hardening rules B1..B7 in docs/hardening.md):

* the first request carries the size of the whole packet, the later ones their own; every data
  request but the last has more_data; extra info slots follow the first request;
* at most XEN_NETIF_NR_SLOTS_MIN (18) slots for a packet, of at most 65535 bytes;
* responses are identified by id only, and come in any order;
* B1 rsp_prod past what was requested, B3 an id that is no id, B4 an id that is not pending, and
  B5 a grant that is still in use although the response says done, break the device;
* B6 ERROR and DROPPED free the slot like OKAY; B7 more NULL responses than extra info slots
  were sent break it too (the slots behind them would never come back);
* B17 with ``zeros`` the page of a freed id is wiped, so that the next frame in it has only zeros
  behind it.
"""

from __future__ import annotations

from xennet.abi.grant_table import GTF_permit_access, GTF_reading, GTF_readonly, GTF_writing
from xennet.abi.netif import (
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.words import (
    REQ_EVENT,
    REQ_PROD,
    RING_SLOTS,
    RSP_EVENT,
    RSP_PROD,
    TX_END,
    TX_MASK,
    TX_SLOTS,
    TX_STRIDE,
    EXTRA_S_flags,
    EXTRA_S_gso_size,
    EXTRA_S_hash_algorithm,
    EXTRA_S_hash_type,
    EXTRA_S_mcast,
    TXREQ_S_flags,
    TXREQ_S_size,
    TXRSP_S_status,
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
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32
from xennet.vif.refusals import NOT_OKAY, NOT_REFUSED
from xennet.vif.ring_events import TX_RESPONSE, TX_SENT

# Verdicts of reap, in res[R_VERDICT]; texts in xennet/netfront/verdict.py.
OK = 0
PROD_OVERFLOW = 1
BAD_ID = 2
NOT_PENDING = 3
STILL_GRANTED = 4
ILLEGAL_NULL = 5

# Places in the state vector, which lives as long as the connection.
#: Number of ids on the free stack; extra info slots that await their NULL response.
S_FREE = 0
S_EXTRAS = 1
STATES = 2

# Places in the result vector.
R_VERDICT = 0
#: Slots produced (transmit) or consumed (reap).
R_SLOTS = 1
#: Responses other than OKAY and NULL.
R_ERRORS = 2
#: Evidence: ring index and raw first word of the offending response.
R_INDEX = 3
R_WORD0 = 4
#: transmit: 1 if the backend asked to be notified. reap: 1 if responses came meanwhile.
R_FLAG = 5
#: Frames taken but not sent: the backend did not negotiate what they need.
R_UNSENDABLE = 6
#: Bytes of the packets sent, and extra info slots among the slots.
R_BYTES = 7
R_EXTRAS = 8
RESULTS = 9

_MASK16 = 0xFFFF
_OFFSET_MASK = PAGE_SIZE - 1
_IN_USE = GTF_reading | GTF_writing
_CSUM = NETTXF_csum_blank | NETTXF_data_validated
_ACCESS = GTF_permit_access | GTF_readonly
_GSO_EXTRA = XEN_NETIF_EXTRA_TYPE_GSO
_MORE_EXTRA = XEN_NETIF_EXTRA_FLAG_MORE << EXTRA_S_flags
_HASH_EXTRA = XEN_NETIF_EXTRA_TYPE_HASH


def transmit(
    first: int,
    count: int,
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    otherend: int,
    can_sg: int,
    can_gso: int,
    pages: Bytes,
    data: Bytes,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    hashes: int,
    ids: U32Array,
    grefs: U32Array,
    pending: U32Array,
    words: U32Words,
    shift: int,
    state: Vector,
    res: Vector,
) -> int:
    """Send frames ``first`` .. ``count - 1`` as far as the ring has room; returns how many it took.

    Frame i is ``length[i]`` bytes (14 to 65535) at ``data[offset[i]]``. ``can_sg``: the backend
    takes packets of several slots; ``can_gso``: bit t is set if it takes GSO type t; ``hashes``: it
    takes hash extra info. ``pages``: TX_SLOTS pages of our own. ``ids``: stack of free ids,
    ``state[S_FREE]`` deep. ``pending[id]`` is 1 from the publication of a request to its response.
    ``words``, ``shift``: the grant table (xennet.interface.GuestGrants).
    """
    start = pvt[FRONT_REQ_PROD_PVT]
    space = TX_SLOTS - ((start - pvt[FRONT_RSP_CONS]) & MASK32)
    produced = 0
    free = state[S_FREE]
    access = _ACCESS | otherend << 16
    unsendable = 0
    sent_bytes = 0
    extras = 0
    frame = first
    at = RING_SLOTS + (start & TX_MASK) * TX_STRIDE
    while frame < count:
        size = length[frame]
        segment = gso_size[frame]
        chunks = (size + _OFFSET_MASK) >> PAGE_SHIFT
        if (chunks > 1 and not can_sg) or (segment and not can_gso >> gso_type[frame] & 1):
            unsendable += 1
            frame += 1
            continue
        extra = 1 if segment else 0
        if hashes and hash_info[frame]:
            extra += 1
        if chunks > free or chunks + extra > space:
            break
        if len(log) > LOG_HEADER:
            note(log, TX_SENT, start + produced, chunks + extra, size, NOT_REFUSED)
        source = offset[frame]
        rflags = flags[frame] & _CSUM
        if extra:
            rflags |= NETTXF_extra_info
        left = size
        sent_bytes += size
        while True:
            chunk = left if left < PAGE_SIZE else PAGE_SIZE
            left -= chunk
            if left:
                rflags |= NETTXF_more_data
            free -= 1
            space -= 1
            ident = ids[free]
            gref = grefs[ident]
            page = ident << PAGE_SHIFT
            pages[page : page + chunk] = data[source : source + chunk]
            words[gref << shift] = access
            pending[ident] = 1
            ring[at] = gref
            ring[at + 1] = rflags << TXREQ_S_flags
            ring[at + 2] = ident | size << TXREQ_S_size
            produced += 1
            at += TX_STRIDE
            if at == TX_END:
                at = RING_SLOTS
            while extra:
                extra -= 1
                if segment:
                    ring[at] = (
                        _GSO_EXTRA | (_MORE_EXTRA if extra else 0) | segment << EXTRA_S_gso_size
                    )
                    ring[at + 1] = gso_type[frame]
                    segment = 0
                else:
                    info = hash_info[frame]
                    ring[at] = (
                        _HASH_EXTRA
                        | ((info & 0xFF) - 1) << EXTRA_S_hash_type
                        | (info >> 8 & 0xFF) << EXTRA_S_hash_algorithm
                    )
                    ring[at + 1] = hash_value[frame]
                produced += 1
                at += TX_STRIDE
                if at == TX_END:
                    at = RING_SLOTS
                space -= 1
                extras += 1
            if not left:
                break
            source += chunk
            size = left if left < PAGE_SIZE else PAGE_SIZE
            rflags = 0
        frame += 1
    state[S_FREE] = free
    prod = (start + produced) & MASK32
    pvt[FRONT_REQ_PROD_PVT] = prod
    res[R_SLOTS] = produced
    state[S_EXTRAS] += extras
    res[R_UNSENDABLE] = unsendable
    res[R_BYTES] = sent_bytes
    res[R_EXTRAS] = extras
    res[R_FLAG] = publish(ring, REQ_PROD, REQ_EVENT, prod)
    return frame - first


def amend(
    kind: int,
    mac: int,
    ring: U32Words,
    pvt: U32Array,
    ids: U32Array,
    pending: U32Array,
    outcomes: U32Array,
    state: Vector,
    res: Vector,
) -> int:
    """Ask the backend to change its multicast list; the id of the request, -1 without room.

    ``kind``: XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL; ``mac``: the address, its first octet most
    significant. The request is a dummy, only its extra info counts (xen/io/netif.h): it names no
    page and its answer is left in ``outcomes`` by :func:`reap`. ``res[R_FLAG]`` says whether it has
    to be announced.
    """
    prod = pvt[FRONT_REQ_PROD_PVT]
    free = state[S_FREE]
    if not free or TX_SLOTS - ((prod - pvt[FRONT_RSP_CONS]) & MASK32) < 2:
        return -1
    free -= 1
    ident = ids[free]
    at = RING_SLOTS + (prod & TX_MASK) * TX_STRIDE
    ring[at] = 0
    ring[at + 1] = NETTXF_extra_info << TXREQ_S_flags
    ring[at + 2] = ident
    at = RING_SLOTS + ((prod + 1) & TX_MASK) * TX_STRIDE
    ring[at] = kind | (mac >> 40 & 0xFF | (mac >> 32 & 0xFF) << 8) << EXTRA_S_mcast
    low = mac & MASK32
    ring[at + 1] = (
        low >> 24 | (low >> 16 & 0xFF) << 8 | (low >> 8 & 0xFF) << 16 | (low & 0xFF) << 24
    )
    outcomes[ident] = NETIF_RSP_OKAY
    pending[ident] = 1
    state[S_FREE] = free
    state[S_EXTRAS] += 1
    prod = (prod + 2) & MASK32
    pvt[FRONT_REQ_PROD_PVT] = prod
    res[R_FLAG] = publish(ring, REQ_PROD, REQ_EVENT, prod)
    return ident


def wipe(pages: Bytes, zeros: Bytes, ids: U32Array, first: int, end: int) -> None:
    """Zero the pages of the ids at places ``first`` .. ``end - 1`` of the stack (B17)."""
    for place in range(first, end):
        page = ids[place] << PAGE_SHIFT
        pages[page : page + PAGE_SIZE] = zeros[0:PAGE_SIZE]


def reap(
    log: Vector,
    ring: U32Words,
    pvt: U32Array,
    ids: U32Array,
    grefs: U32Array,
    pending: U32Array,
    words: U32Words,
    shift: int,
    status: U32Words,
    status_shift: int,
    outcomes: U32Array,
    pages: Bytes,
    zeros: Bytes,
    state: Vector,
    res: Vector,
) -> int:
    """Take all responses: end the access of their grants and free their ids; returns the verdict.

    ``status``, ``status_shift``: where GTF_reading and GTF_writing of a reference are.
    ``outcomes[id]`` becomes the status (16 bits, unsigned) of a response that is not OKAY.
    ``zeros``: a page of zeros if the pages of freed ids are to be wiped, else less. With a verdict
    other than OK the device is broken and nothing more may be done with the ring.
    """
    cons = pvt[FRONT_RSP_CONS]
    begin = cons
    prod = ring[RSP_PROD]
    free = state[S_FREE]
    extras = state[S_EXTRAS]
    logging = len(log) > LOG_HEADER
    verdict = OK
    errors = 0
    response = 0
    if (prod - cons) & MASK32 > (pvt[FRONT_REQ_PROD_PVT] - cons) & MASK32:  # B1
        verdict = PROD_OVERFLOW
        response = prod
        prod = cons
    at = RING_SLOTS + (cons & TX_MASK) * TX_STRIDE
    while cons != prod:
        response = ring[at]
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
            if status[gref << status_shift] & _IN_USE:  # B5
                verdict = STILL_GRANTED
                break
            words[gref << shift] = 0
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
    res[R_SLOTS] = (cons - begin) & MASK32
    res[R_ERRORS] = errors
    res[R_FLAG] = 0
    if verdict != OK:
        res[R_INDEX] = cons
        res[R_WORD0] = response
    else:
        arm(ring, RSP_EVENT, (cons + 1) & MASK32)
        res[R_FLAG] = 1 if ring[RSP_PROD] != cons else 0
    return verdict
