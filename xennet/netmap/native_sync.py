"""Native syncs: tx slots become frames for a driver, frames of a driver go into rx slots.

Kernels (docs/kernels.md). Nothing is copied on the way out: the frames of a batch are where the
slots' buffers are, in the region (:func:`load_slots`); only a packet of several slots is joined
first (:func:`join_slots`). Rules: the contract of a driver's txsync and rxsync (netmap_kern.h); its
flags NS_REPORT, NS_BUF_CHANGED and NS_MOREFRAG are cleared in slots that were sent, as in the
drivers with NAF_MOREFRAG.
"""

from __future__ import annotations

from xennet.abi.netmap import (
    NS_BUF_CHANGED,
    NS_MOREFRAG,
    NS_REPORT,
    SLOT_WORDS,
    RING_W_slot,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.engine.kernel import Bytes, Frames, U32Array, U32Words, Vector
from xennet.frames import CSUM_BLANK
from xennet.netmap.kring import (
    K_AT,
    K_BUF_AT,
    K_BUF_WORDS,
    K_HWCUR,
    K_HWTAIL,
    K_SLOTS,
)
from xennet.netmap.vale_forward import ETHERNET_HEADER, frame_at

_MORE = NS_MOREFRAG << SLOT_S_flags
_SENT = (NS_BUF_CHANGED | NS_REPORT | NS_MOREFRAG) << SLOT_S_flags

# Results of load_slots and join_slots
#: The ring index behind the slots that were looked at.
R_END = 0
#: Of join_slots: 1 if the packet's last slot was among them.
R_WHOLE = 1
R_PLACES = 2


def load_slots(
    head: int,
    longest: int,
    words: U32Words,
    pvt: U32Array,
    frames: Frames,
    tags: U32Array,
    res: Vector,
) -> int:
    """Load the frames of a tx ring from hwcur to ``head``, up to a slot with NS_MOREFRAG.

    Fills offset and length of ``frames``, whose bytes are the region, and ``tags`` with the slot of
    each. A slot whose frame is none is passed over: it has no buffer, is longer than that or than
    ``longest``, or shorter than an Ethernet header. Returns the number of frames.
    """
    _, _, offset, length, _, _, _, _, _ = frames
    base = pvt[K_AT] + RING_W_slot
    slots = pvt[K_SLOTS]
    i = pvt[K_HWCUR]
    count = 0
    while i != head:
        slot = base + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        if second & _MORE:
            break
        size = second & 0xFFFF
        if ETHERNET_HEADER <= size <= longest:
            begin = frame_at(words, slot, size, pvt)
            if begin:
                offset[count] = begin
                length[count] = size
                tags[count] = i
                count += 1
        i += 1
        if i == slots:
            i = 0
    res[R_END] = i
    return count


def join_slots(
    head: int, data: Bytes, words: U32Words, pvt: U32Array, joined: Bytes, res: Vector
) -> int:
    """Copy the packet that begins at hwcur, from slots with NS_MOREFRAG and the one behind them.

    Returns its length, 0 if one of its slots has no buffer, or is longer than that, or ``joined``
    does not hold it.
    """
    base = pvt[K_AT] + RING_W_slot
    slots = pvt[K_SLOTS]
    i = pvt[K_HWCUR]
    size = 0
    good = 1
    more = _MORE
    while more and i != head:
        slot = base + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        more = second & _MORE
        chunk = second & 0xFFFF
        begin = frame_at(words, slot, chunk, pvt)
        if begin == 0 or size + chunk > len(joined):
            good = 0
        elif good:
            joined[size : size + chunk] = data[begin : begin + chunk]
            size += chunk
        i += 1
        if i == slots:
            i = 0
    res[R_END] = i
    res[R_WHOLE] = 0 if more else 1
    return size if good else 0


def take_slots(words: U32Words, pvt: U32Array, end: int) -> None:
    """Take the slots of a tx ring from hwcur to ``end``: they are the driver's now."""
    base = pvt[K_AT] + RING_W_slot + SLOT_W_len
    slots = pvt[K_SLOTS]
    i = pvt[K_HWCUR]
    while i != end:
        at = base + i * SLOT_WORDS
        second = words[at]
        if second & _SENT:
            words[at] = second & ~_SENT
        i += 1
        if i == slots:
            i = 0
    pvt[K_HWCUR] = end


def free_slots(pvt: U32Array, unanswered: U32Array) -> int:
    """Free the slots of a tx ring whose requests are answered, in order: hwtail moves on. Returns
    how many."""
    slots = pvt[K_SLOTS]
    cur = pvt[K_HWCUR]
    tail = pvt[K_HWTAIL]
    freed = 0
    following = tail + 1 if tail + 1 < slots else 0
    while following != cur and unanswered[following] == 0:
        tail = following
        following = tail + 1 if tail + 1 < slots else 0
        freed += 1
    pvt[K_HWTAIL] = tail
    return freed


def store_frames(
    count: int, longest: int, frames: Frames, data: Bytes, words: U32Words, pvt: U32Array
) -> int:
    """Copy ``count`` frames that a driver has received to an rx ring, from hwtail on.

    A frame that is longer than a buffer gets several slots, all but the last with NS_MOREFRAG; in a
    slot without a buffer the rest of it is lost. One that needs an offload, is longer than
    ``longest`` or finds no room is not stored. Returns how many were not.
    """
    source, _, offset, length, flags, gso_size, _, _, _ = frames
    base = pvt[K_AT] + RING_W_slot
    slots = pvt[K_SLOTS]
    size = pvt[K_BUF_WORDS] * 4
    buffers = pvt[K_BUF_AT] * 4
    stop = pvt[K_HWCUR] + slots - 1
    if stop >= slots:
        stop -= slots
    place = pvt[K_HWTAIL]
    refused = 0
    for frame in range(count):
        left = length[frame]
        if flags[frame] & CSUM_BLANK or gso_size[frame] or left > longest:
            refused += 1
            continue
        at = offset[frame]
        first = place
        while left and place != stop:
            slot = base + place * SLOT_WORDS
            begin = frame_at(words, slot, 0, pvt)
            if begin:
                chunk = size - (begin - buffers) % size
                if chunk > left:
                    chunk = left
                data[begin : begin + chunk] = source[at : at + chunk]
                at += chunk
                left -= chunk
                words[slot + SLOT_W_len] = chunk | (_MORE if left else 0)
            else:
                left = 0
                words[slot + SLOT_W_len] = 0
            place += 1
            if place == slots:
                place = 0
        if left:
            place = first
            refused += 1
    pvt[K_HWTAIL] = place
    return refused
