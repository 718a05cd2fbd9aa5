"""Frames between a batch and the slots of a mapped ring, as a program copies them.

Two kernels (docs/kernels.md) over the words and bytes of a region. ``ring`` is one argument:
``words`` and ``data`` of the region, and ``place``, where the ring is in it and where buffers are
(P_*). The other clients of a port may write its rings too: whatever is loaded is judged before it
is used.
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netmap import (
    NS_MOREFRAG,
    SLOT_WORDS,
    RING_W_cur,
    RING_W_head,
    RING_W_slot,
    RING_W_tail,
    SLOT_S_flags,
    SLOT_W_buf_idx,
    SLOT_W_len,
    SLOT_W_ptr,
)
from xennet.engine.kernel import Bytes, Frames, U32Array, U32Words, Vector

#: words, data, place.
RingViews: TypeAlias = "tuple[U32Words, Bytes, U32Array]"

# Indices of a ring's place: its first word, its slots, the byte where buffer 0 begins, bytes of a
# buffer, buffers in the region, and the low half of the mask for offsets.
P_AT = 0
P_SLOTS = 1
P_BUFFERS = 2
P_SIZE = 3
P_NUMBER = 4
P_MASK = 5
PLACES = 6

# Indices of the result vector: frames copied, their bytes, frames that were left out because a
# slot names no buffer or they are longer than ``longest``; 1 if there is more than the batch holds.
R_FRAMES = 0
R_BYTES = 1
R_BAD = 2
R_MORE = 3
RESULTS = 4

_MORE = NS_MOREFRAG << SLOT_S_flags


def begin_of(words: U32Words, place: U32Array, slot: int, length: int) -> int:
    """Where in the region ``length`` bytes of a slot begin, 0 if they are not in a buffer."""
    index = words[slot + SLOT_W_buf_idx]
    offset = words[slot + SLOT_W_ptr] & place[P_MASK]
    if index < 2 or index >= place[P_NUMBER] or offset + length > place[P_SIZE]:
        return 0
    return place[P_BUFFERS] + index * place[P_SIZE] + offset


def put_frames(ring: RingViews, frames: Frames, first: int, count: int, res: Vector) -> int:
    """Copy frames ``first`` up to ``count`` of a batch into the slots from head on, as long as
    there is space; head and cur move on.

    Returns the number of the first frame that was not copied. A frame whose slot has no buffer for
    it is left out, and counted in res[R_BAD]; its slot is sent empty.
    """
    words, data, place = ring
    batch, _, offset, length, _, _, _, _, _ = frames
    at = place[P_AT]
    slots = place[P_SLOTS]
    head = words[at + RING_W_head]
    tail = words[at + RING_W_tail]
    res[R_BAD] = 0
    if head >= slots or tail >= slots:
        return first
    i = first
    while i < count and head != tail:
        slot = at + RING_W_slot + head * SLOT_WORDS
        size = length[i]
        begin = begin_of(words, place, slot, size)
        if begin == 0:
            size = 0
            res[R_BAD] += 1
        else:
            data[begin : begin + size] = batch[offset[i] : offset[i] + size]
        words[slot + SLOT_W_len] = size
        i += 1
        head += 1
        if head == slots:
            head = 0
    words[at + RING_W_head] = head
    words[at + RING_W_cur] = head
    return i


def packet_at(ring: RingViews, head: int, tail: int, res: Vector) -> int:
    """How many slots from ``head`` on are one packet: 0 if its last one is not there before
    ``tail``. res[R_BYTES] is its length, -1 if a slot has no buffer."""
    words, _, place = ring
    slots = place[P_SLOTS]
    count = 0
    total = 0
    i = head
    while i != tail:
        slot = place[P_AT] + RING_W_slot + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        size = second & 0xFFFF
        if begin_of(words, place, slot, size) == 0:
            total = -1
        elif total >= 0:
            total += size
        count += 1
        if not second & _MORE:
            res[R_BYTES] = total
            return count
        i += 1
        if i == slots:
            i = 0
    return 0


def take_frames(
    ring: RingViews,
    frames: Frames,
    count: int,
    used: int,
    most: int,
    room: int,
    limits: tuple[int, int],
    res: Vector,
) -> None:
    """Append the packets from head on to a batch that has ``count`` frames in ``used`` bytes, and
    holds ``most`` frames and ``room`` bytes; head and cur move on.

    ``limits``: bytes of the shortest and of the longest frame; others are left out, as packets are
    that have no buffer, and counted in res[R_BAD]. A packet whose end is missing stays.
    """
    words, data, place = ring
    batch, _, offset, length, flags, gso_size, gso_type, hash_info, _ = frames
    shortest, longest = limits
    at = place[P_AT]
    slots = place[P_SLOTS]
    head = words[at + RING_W_head]
    tail = words[at + RING_W_tail]
    first = count
    begin_used = used
    res[R_BAD] = 0
    res[R_MORE] = 0
    while head != tail and head < slots and tail < slots:
        pieces = packet_at(ring, head, tail, res)
        size = res[R_BYTES]
        if pieces == 0:
            break
        good = size >= shortest and size <= longest
        if good and (count >= most or used + size > room):
            res[R_MORE] = 1
            break
        to = used
        for _ in range(pieces):
            slot = at + RING_W_slot + head * SLOT_WORDS
            piece = words[slot + SLOT_W_len] & 0xFFFF
            begin = begin_of(words, place, slot, piece)
            if good and begin != 0 and to + piece <= used + size:
                batch[to : to + piece] = data[begin : begin + piece]
                to += piece
            head += 1
            if head == slots:
                head = 0
        if good:
            offset[count] = used
            length[count] = size
            flags[count] = 0
            gso_size[count] = 0
            gso_type[count] = 0
            hash_info[count] = 0
            used += size
            count += 1
        else:
            res[R_BAD] += 1
        words[at + RING_W_head] = head
        words[at + RING_W_cur] = head
    res[R_FRAMES] = count - first
    res[R_BYTES] = used - begin_used
