"""Mutations that know what a ring page is: slots, chains, extra infos, indices, references.

All of it is kernels (xennet.engine.kernel): the compiled loop of the fuzzer calls them, and so do
targets that run in plain Python. Nothing is drawn but from the random words in ``rng``.

An input is a *record* of RECORD words:

    0 .. 1023     the ring page
    START         index at which the driver under test begins
    POKES         NR_POKES times: where (0: nothing), which half word, its value
    MORE          NR_MORE words, whose meaning is the target's

A zero word behind the page is "as usual". Which slots a page has depends on the ring
(:data:`KINDS`).
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netif import (
    XEN_NETIF_EXTRA_FLAG_MORE,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.words import REQ_PROD, RING_SLOTS, RSP_PROD, TXREQ_S_flags, TXREQ_S_size
from xennet.abi.xen import DOMID_SELF
from xennet.engine.kernel import U32Array, Vector
from xennet.ring import MASK32

PAGE_WORDS = 1024
START = PAGE_WORDS
POKES = START + 1
NR_POKES = 6
POKE_WORDS = 3
MORE = POKES + NR_POKES * POKE_WORDS
NR_MORE = 13
RECORD = MORE + NR_MORE

# Where a poke goes: the grant table, the guest's pages.
POKE_GRANTS = 1
POKE_PAGES = 2

# Rings whose slots the hostile end writes.
TX_REQUESTS = 0
RX_REQUESTS = 1
TX_RESPONSES = 2
RX_RESPONSES = 3
CTRL_REQUESTS = 4
# No ring: a table of struct gnttab_copy behind a header, whose first word is their number.
GRANT_COPIES = 5
KINDS = 6

# Of each kind: words of a slot, slots of a ring, and the header word of the index that is produced.
STRIDES = (3, 2, 3, 2, 4, 10)
SLOTS = (256, 256, 256, 256, 128, 64)
PRODUCED = (REQ_PROD, REQ_PROD, RSP_PROD, RSP_PROD, REQ_PROD, REQ_PROD)

# What a field holds.
GREF = 0
OFFSET = 1
FLAGS = 2
IDENT = 3
SIZE = 4
STATUS = 5
ANY = 6
CTRL_TYPE = 7
DOMID = 8
COPY_FLAGS = 9

#: Fields of a slot, FIELDS of each kind, some twice: word, shift, bits, what it holds.
FIELDS = 8
_FIELD = 4
_FIELD_ROWS = (
    # netif_tx_request: gref | offset, flags | id, size
    (
        (0, 0, 32, GREF),
        (1, 0, 16, OFFSET),
        (1, 16, 16, FLAGS),
        (2, 0, 16, IDENT),
        (2, 16, 16, SIZE),
    ),
    # netif_rx_request: id, pad | gref
    ((0, 0, 16, IDENT), (0, 16, 16, ANY), (1, 0, 32, GREF), (1, 0, 32, GREF), (0, 0, 16, IDENT)),
    # netif_tx_response: id, status
    (
        (0, 0, 16, IDENT),
        (0, 16, 16, STATUS),
        (0, 0, 16, IDENT),
        (0, 16, 16, STATUS),
        (1, 0, 32, ANY),
    ),
    # netif_rx_response: id, offset | flags, status
    (
        (0, 0, 16, IDENT),
        (0, 16, 16, OFFSET),
        (1, 0, 16, FLAGS),
        (1, 16, 16, SIZE),
        (1, 16, 16, STATUS),
    ),
    # xen_netif_ctrl_request: id, type | data[3]
    (
        (0, 0, 16, IDENT),
        (0, 16, 16, CTRL_TYPE),
        (1, 0, 32, GREF),
        (2, 0, 32, SIZE),
        (3, 0, 32, SIZE),
    ),
    # gnttab_copy: source and dest (reference or frame, domid, offset), len, flags
    (
        (0, 0, 32, GREF),
        (2, 0, 16, DOMID),
        (2, 16, 16, OFFSET),
        (4, 0, 32, GREF),
        (6, 0, 16, DOMID),
        (6, 16, 16, OFFSET),
        (8, 0, 16, SIZE),
        (8, 16, 16, COPY_FLAGS),
    ),
)
_FIELD_TABLE = tuple(
    value for row in _FIELD_ROWS for field in (row * FIELDS)[:FIELDS] for value in field
)

#: Values worth a try, 16 for each thing that a field holds.
_CHOICES = 16
_VALUE_ROWS = (
    (8, 9, 10, 11, 8, 9, 70, 71, 0, 7, 72, 511, 512, 600, MASK32, 8),
    (0, 0, 0, 0, 0, 0, 1, 100, 200, 4000, 4036, 4082, 4095, 4096, 0xFFFF, 2048),
    (0, 0, 0, 4, 4, 8, 8, 12, 1, 2, 3, 11, 7, 16, 0x8000, 0xFFFF),
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 255, 256, 0xFFFF, 0x8000),
    (60, 60, 100, 14, 200, 1514, 4000, 4096, 4097, 0, 1, 4, 13, 40000, 65000, 0xFFFF),
    (0, 0, 0, 0, 0, 60, 1514, 4096, 0xFFFF, 0xFFFE, 0xFFFD, 1, 1, 14, 100, 0x8000),
    (0, 0, 1, 2, 3, 4, 8, 16, 60, 255, 256, 4096, 0x7FFF, 0x8000, 0xFFFF, MASK32),
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 4, 255, 0xFFFF),
    (
        DOMID_SELF,
        DOMID_SELF,
        DOMID_SELF,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        3,
        100,
        0x7FEF,
        0x7FFF,
        0x8000,
        0xFFFF,
    ),
    (1, 1, 1, 1, 2, 2, 2, 2, 3, 0, 4, 5, 6, 0x8001, 0xFFFF, 1),
)
_VALUES = tuple(value for row in _VALUE_ROWS for value in row)
#: Extra infos: type by chance.
_EXTRA_TYPES = (1, 1, 1, 1, 1, 2, 3, 4, 4, 5, 0, 6, 255, 1, 2, 1)
#: How long a chain is.
_CHAINS = (2, 2, 2, 2, 3, 3, 3, 4, 5, 17, 18, 19, 20, 21, 22, 40, 64, 65, 66, 70, 100, 256, 2, 3)
#: How far the produced index is behind the slots, or before them.
_AHEAD = (1, 1, 2, 8, 255, 256, 257, 1000, 1 << 31, MASK32, MASK32, MASK32 - 1, MASK32 - 15, 0)
_STARTS = (0, 0, 1, 250, 255, 256, 0x7FFFFFFF, 0x80000000, MASK32, MASK32 - 1, MASK32 - 255)
_MASK16 = 0xFFFF
#: Slots that a mutation works on where the produced index says nothing of use.
_SOME = 8

#: rng, record, others (records end to end), at which word of them another one begins, operands of
#: comparisons, kind of ring.
Mutation: TypeAlias = "tuple[U32Array, U32Array, U32Array, int, Vector, int]"


def draw(rng: U32Array) -> int:
    """The next random word of 32 bits (Marsaglia's xorshift128). ``rng``: four words, not all
    zero."""
    t = rng[0]
    t ^= t << 11 & MASK32
    w = rng[3]
    rng[0] = rng[1]
    rng[1] = rng[2]
    rng[2] = w
    w ^= w >> 19 ^ t ^ t >> 8
    rng[3] = w
    return w


def below(rng: U32Array, count: int) -> int:
    """A number from 0 to ``count`` - 1."""
    return (draw(rng) >> 4) % count


def mutate(rng: U32Array, mutation: Mutation) -> None:
    """Change the record in one to eight steps."""
    steps = 1 + below(rng, 3)
    if below(rng, 4) == 0:
        steps += below(rng, 6)
    for _step in range(steps):
        which = below(rng, 32)
        if which < 8:
            change_field(rng, mutation)
        elif which < 16:
            change_slots(rng, mutation, which)
        elif which < 18:
            make_chain(rng, mutation)
        elif which < 21:
            put_extra(rng, mutation)
        elif which < 23:
            change_index(rng, mutation)
        elif which < 25:
            splice(rng, mutation)
        elif which < 27:
            use_operand(rng, mutation)
        elif which == 27:
            poke(rng, mutation)
        else:
            change_more(rng, mutation)


def used(record: U32Array, kind: int) -> int:
    """The number of slots that a record has: up to the produced index, if that is in the ring."""
    ahead = (record[PRODUCED[kind]] - record[START]) & MASK32
    return ahead if ahead <= SLOTS[kind] else _SOME


def place(record: U32Array, kind: int, slot: int) -> int:
    """The first word of a slot, counted from the start index."""
    return RING_SLOTS + ((record[START] + slot) & (SLOTS[kind] - 1)) * STRIDES[kind]


def value_for(rng: U32Array, holds: int) -> int:
    """A value for a field that holds such a thing."""
    if below(rng, 12) == 0:
        return draw(rng)
    if holds == GREF and below(rng, 2):
        return 8 + below(rng, 64)
    return _VALUES[holds * _CHOICES + below(rng, _CHOICES)]


def change_field(rng: U32Array, mutation: Mutation) -> None:
    """Give a field of a slot a value, flip one of its bits, or move it by a little."""
    _rng, record, _others, _other, _operands, kind = mutation
    slots = used(record, kind)
    if not slots:
        return
    row = (kind * FIELDS + below(rng, FIELDS)) * _FIELD
    at = place(record, kind, below(rng, slots)) + _FIELD_TABLE[row]
    shift, bits = _FIELD_TABLE[row + 1], _FIELD_TABLE[row + 2]
    mask = (1 << bits) - 1
    old = record[at] >> shift & mask
    how = below(rng, 8)
    if how == 0:
        new = old + below(rng, 9) - 4
    elif how == 1:
        new = old ^ 1 << below(rng, 4 if bits == 16 else bits)
    else:
        new = value_for(rng, _FIELD_TABLE[row + 3])
    record[at] = record[at] & ~(mask << shift) | (new & mask) << shift


def put_good(rng: U32Array, record: U32Array, kind: int, slot: int) -> None:
    """Write a slot that is right as far as a slot alone can be."""
    at = place(record, kind, slot)
    gref = 8 + below(rng, 64)
    if kind == TX_REQUESTS:
        record[at] = gref
        record[at + 1] = 0
        record[at + 2] = slot & 0xFF | (60 + below(rng, 2) * 40) << TXREQ_S_size
    elif kind == RX_REQUESTS:
        record[at] = slot & 0xFF
        record[at + 1] = gref
    elif kind == TX_RESPONSES:
        record[at] = (record[START] + slot) & 0xFF
    elif kind == RX_RESPONSES:
        record[at] = (record[START] + slot) & 0xFF
        record[at + 1] = 60 << 16
    elif kind == GRANT_COPIES:
        give = 4 * below(rng, 2)  # from a page of the guest, or into one
        record[at + give] = gref
        record[at + 4 - give] = slot & 3
        record[at + 2 + give] = 1
        record[at + 6 - give] = DOMID_SELF
        record[at + 8] = 60 | (2 if give else 1) << 16
    else:
        record[at] = slot & 0xFF | (1 + below(rng, 10)) << 16
        record[at + 1] = below(rng, 2) * gref
        record[at + 2] = _VALUES[SIZE * _CHOICES + below(rng, _CHOICES)]
        record[at + 3] = 0


def copy_slot(record: U32Array, kind: int, source: int, dest: int) -> None:
    """Copy a slot of the record to another."""
    begin, into = place(record, kind, source), place(record, kind, dest)
    for word in range(STRIDES[kind]):
        record[into + word] = record[begin + word]


def produce(record: U32Array, kind: int, slots: int) -> None:
    """Set the produced index behind ``slots`` slots."""
    record[PRODUCED[kind]] = (record[START] + slots) & MASK32


def open_up(record: U32Array, kind: int, slot: int, count: int) -> int:
    """Move the slots from ``slot`` on up by ``count``, and the produced index; what leaves the ring
    is lost. Returns the number of slots."""
    slots = used(record, kind) + count
    if slots > SLOTS[kind]:
        slots = SLOTS[kind]
    for dest in range(slots - 1, slot + count - 1, -1):
        copy_slot(record, kind, dest - count, dest)
    produce(record, kind, slots)
    return slots


def change_slots(rng: U32Array, mutation: Mutation, which: int) -> None:
    """Add, remove, repeat, exchange or fill slots."""
    _rng, record, _others, _other, _operands, kind = mutation
    slots = used(record, kind)
    slot = below(rng, slots + 1)
    if which < 11 or not slots:
        open_up(record, kind, slot, 1)
        put_good(rng, record, kind, slot if slot < SLOTS[kind] else 0)
    elif which < 13:
        for dest in range(slot, slots - 1):
            copy_slot(record, kind, dest + 1, dest)
        produce(record, kind, slots - 1)
    elif which == 13:
        copy_slot(record, kind, below(rng, slots), slot if slot < SLOTS[kind] else 0)
    elif which == 14:
        open_up(record, kind, slot, 1)
        copy_slot(record, kind, below(rng, slots), slot if slot < SLOTS[kind] else 0)
    else:
        source = below(rng, slots)
        length = _CHAINS[below(rng, len(_CHAINS))]
        for dest in range(length):
            copy_slot(record, kind, source, dest)
        produce(record, kind, length if length > slots else slots)


def make_chain(rng: U32Array, mutation: Mutation) -> None:
    """Insert a packet of several slots whose sizes are consistent, or nearly.

    Requests say the size of the whole packet in the first slot (xen 4.17 netif.h, "Guest
    transmit"), responses each their own.
    """
    _rng, record, _others, _other, _operands, kind = mutation
    if kind != TX_REQUESTS and kind != RX_RESPONSES:
        change_field(rng, mutation)
        return
    first = below(rng, used(record, kind) + 1)
    length = _CHAINS[below(rng, len(_CHAINS))]
    each = 1 + below(rng, 100) if below(rng, 4) else below(rng, 4097)
    open_up(record, kind, first, length)
    if first + length > SLOTS[kind]:
        length = SLOTS[kind] - first
    total = 60
    for slot in range(first + length - 1, first - 1, -1):
        put_good(rng, record, kind, slot)
        more = NETTXF_more_data if slot != first + length - 1 else 0
        at = place(record, kind, slot)
        if kind == TX_REQUESTS:
            size = total & _MASK16 if slot == first else each
            record[at + 1] = more << TXREQ_S_flags
            record[at + 2] = slot & 0xFF | size << TXREQ_S_size
        else:
            record[at + 1] = more | each << 16
        total += each


def put_extra(rng: U32Array, mutation: Mutation) -> None:
    """Say extra_info in a slot and put an extra info behind it, or say it alone."""
    _rng, record, _others, _other, _operands, kind = mutation
    slots = used(record, kind)
    if kind in (CTRL_REQUESTS, RX_REQUESTS) or not slots:
        change_field(rng, mutation)
        return
    slot = below(rng, slots)
    at = place(record, kind, slot)
    if kind == TX_REQUESTS:
        record[at + 1] |= NETTXF_extra_info << TXREQ_S_flags
    elif kind == RX_RESPONSES:
        record[at + 1] |= NETTXF_extra_info
    count = below(rng, 4)
    if count == 3:
        count = 1
    for more in range(count):
        if slot + 1 < SLOTS[kind]:
            open_up(record, kind, slot + 1, 1)
            at = place(record, kind, slot + 1)
            flags = XEN_NETIF_EXTRA_FLAG_MORE if more or below(rng, 8) == 0 else 0
            size = 0 if below(rng, 4) == 0 else 1448
            what = _EXTRA_TYPES[below(rng, len(_EXTRA_TYPES))]
            record[at] = what | flags << 8 | size << 16
            record[at + 1] = 1 if below(rng, 4) else draw(rng)


def change_index(rng: U32Array, mutation: Mutation) -> None:
    """Set the produced index, the other end's event index, or the start with all slots."""
    _rng, record, _others, _other, _operands, kind = mutation
    slots = used(record, kind)
    how = below(rng, 8)
    if how < 5:
        ahead = _AHEAD[below(rng, len(_AHEAD))]
        record[PRODUCED[kind]] = (record[START] + (slots if how < 3 else 0) + ahead) & MASK32
    elif how == 5:
        record[1 + 2 * below(rng, 2)] = (record[START] + below(rng, 4)) & MASK32
    else:
        old = record[START]
        new = _STARTS[below(rng, len(_STARTS))]
        last = SLOTS[kind] - 1
        distance = (new - old) & last
        # Slots go along, the last one first where they go up, so that none is lost.
        for number in range(slots):
            slot = slots - 1 - number if distance + slots <= last else number
            copy_slot(record, kind, slot, slot + distance)
        ahead = (record[PRODUCED[kind]] - old) & MASK32
        record[START] = new
        record[PRODUCED[kind]] = (new + ahead) & MASK32


def splice(rng: U32Array, mutation: Mutation) -> None:
    """Insert slots of another record."""
    _rng, record, others, other, _operands, kind = mutation
    ahead = (others[other + PRODUCED[kind]] - others[other + START]) & MASK32
    if ahead == 0 or ahead > SLOTS[kind]:
        ahead = 1
    begin = below(rng, ahead)
    count = 1 + below(rng, ahead - begin)
    slot = below(rng, used(record, kind) + 1)
    open_up(record, kind, slot, count)
    if slot + count > SLOTS[kind]:
        count = SLOTS[kind] - slot
    start = others[other + START]
    for number in range(count):
        source = (start + begin + number) & (SLOTS[kind] - 1)
        source = other + RING_SLOTS + source * STRIDES[kind]
        into = place(record, kind, slot + number)
        for word in range(STRIDES[kind]):
            record[into + word] = others[source + word]


def use_operand(rng: U32Array, mutation: Mutation) -> None:
    """Where a field holds one operand of a comparison that failed, write the other one there.

    If none does, write it into some field.
    """
    _rng, record, _others, _other, operands, kind = mutation
    slots = used(record, kind)
    if not slots:
        return
    pair = 2 * below(rng, len(operands) >> 1)
    turn = below(rng, 2)
    wanted, new = operands[pair + turn], operands[pair + 1 - turn] + below(rng, 3) - 1
    first = below(rng, slots)
    tried = slots if slots < _SOME else _SOME
    found = -1
    for number in range(tried):
        slot = first + number if first + number < slots else first + number - slots
        for field in range(FIELDS):
            row = (kind * FIELDS + field) * _FIELD
            at = place(record, kind, slot) + _FIELD_TABLE[row]
            shift, mask = _FIELD_TABLE[row + 1], (1 << _FIELD_TABLE[row + 2]) - 1
            if found < 0 and record[at] >> shift & mask == wanted & mask:
                record[at] = record[at] & ~(mask << shift) | (new & mask) << shift
                found = slot
    if found < 0:
        row = (kind * FIELDS + below(rng, FIELDS)) * _FIELD
        at = place(record, kind, first) + _FIELD_TABLE[row]
        shift, mask = _FIELD_TABLE[row + 1], (1 << _FIELD_TABLE[row + 2]) - 1
        record[at] = record[at] & ~(mask << shift) | (new & mask) << shift


def poke(rng: U32Array, mutation: Mutation) -> None:
    """Change a half word of a grant entry or of the headers in a page of the guest; or take that
    back."""
    _rng, record, _others, _other, _operands, _kind = mutation
    at = POKES + below(rng, NR_POKES) * POKE_WORDS
    where = below(rng, 4)
    record[at] = where if where <= POKE_PAGES else POKE_PAGES
    if where == POKE_GRANTS:
        gref = 8 + below(rng, 8) if below(rng, 2) else 8 + below(rng, 64)
        record[at + 1] = gref * 4 + below(rng, 4)
        record[at + 2] = below(rng, 32) if below(rng, 4) else draw(rng) & _MASK16
    elif where:
        page = below(rng, 8) if below(rng, 2) else below(rng, 64)
        record[at + 1] = page * 2048 + below(rng, 32)
        record[at + 2] = _VALUES[ANY * _CHOICES + below(rng, _CHOICES)] & _MASK16
        if below(rng, 2):
            record[at + 2] = draw(rng) & _MASK16
    else:
        record[at + 1] = record[at + 2] = 0


def change_more(rng: U32Array, mutation: Mutation) -> None:
    """Change a word whose meaning is the target's, or a half or a byte of it."""
    _rng, record, _others, _other, _operands, _kind = mutation
    at = MORE + below(rng, NR_MORE)
    how = below(rng, 8)
    value = _VALUES[ANY * _CHOICES + below(rng, _CHOICES)] if how & 1 else draw(rng)
    if how < 2:
        record[at] = value
    elif how < 5:
        shift = 16 * below(rng, 2)
        value = _VALUES[SIZE * _CHOICES + below(rng, _CHOICES)] if how == 3 else value
        record[at] = record[at] & ~(0xFFFF << shift) | (value & _MASK16) << shift
    else:
        shift = 8 * below(rng, 4)
        record[at] = record[at] & ~(0xFF << shift) | (value & 0xFF) << shift
