"""Slots that change sides between the two ends of a pipe: no byte of a frame is touched.

Kernels (docs/kernels.md). Both ends have rings of their own in one region; ring k of one end's tx
is joined to ring k of the other's rx. A sync copies whole slots, so the buffer moves with its
index. Rules: netmap_pipe.c, netmap_pipe_txsync, netmap_pipe_rxsync.
"""

from __future__ import annotations

from xennet.abi.netmap import (
    NS_BUF_CHANGED,
    NS_MOREFRAG,
    SLOT_WORDS,
    RING_W_slot,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.engine.kernel import U32Array, U32Words
from xennet.netmap.kring import K_AT, K_HWCUR, K_HWTAIL, K_PIPE_TAIL, K_RHEAD, K_SLOTS

_CHANGED = NS_BUF_CHANGED << SLOT_S_flags
_MORE = NS_MOREFRAG << SLOT_S_flags


def pipe_txsync(words: U32Words, pvt: U32Array, peer: U32Array) -> int:
    """Hand the slots from hwcur to rhead to the other end. ``peer``: its rx ring.

    The tail is what the reader has given back. Slots of a packet whose last one is missing are
    copied, and published only with that one. Returns 1 if there is something new for the reader.
    """
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot
    to = peer[K_AT] + RING_W_slot
    pvt[K_HWTAIL] = pvt[K_PIPE_TAIL]
    i = pvt[K_HWCUR]
    head = pvt[K_RHEAD]
    complete = 0
    published = peer[K_PIPE_TAIL]
    while i != head:
        slot = base + i * SLOT_WORDS
        other = to + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        words[other] = words[slot]
        words[other + SLOT_W_len] = second
        words[other + 2] = words[slot + 2]
        words[other + 3] = words[slot + 3]
        if second & _CHANGED:
            words[slot + SLOT_W_len] = second & ~_CHANGED
        i += 1
        if i == slots:
            i = 0
        if not second & _MORE:
            published = i
            complete = 1
    pvt[K_HWCUR] = i
    peer[K_PIPE_TAIL] = published
    return complete


def pipe_rxsync(words: U32Words, pvt: U32Array, peer: U32Array) -> int:
    """Take what the other end published, give back the slots from hwcur to rhead. ``peer``: its tx
    ring.

    Of a slot that is given back only a change of the buffer is told. Returns 1 if any were given
    back.
    """
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot
    to = peer[K_AT] + RING_W_slot
    pvt[K_HWTAIL] = pvt[K_PIPE_TAIL]
    i = pvt[K_HWCUR]
    head = pvt[K_RHEAD]
    if i == head:
        return 0
    while i != head:
        slot = base + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        if second & _CHANGED:
            other = to + i * SLOT_WORDS
            words[other] = words[slot]
            words[other + SLOT_W_len] = second
            words[other + 2] = words[slot + 2]
            words[other + 3] = words[slot + 3]
            words[slot + SLOT_W_len] = second & ~_CHANGED
        i += 1
        if i == slots:
            i = 0
    pvt[K_HWCUR] = head
    peer[K_PIPE_TAIL] = head - 1 if head else slots - 1
    return 1
