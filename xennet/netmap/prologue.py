"""The ring contract: which head and cur of a client are accepted, and what happens to others.

Kernels over the words of a region and the private indices of one ring (K_* of
:mod:`xennet.netmap.kring`). A client may write its ring at any time, so head and cur are loaded
once. Rules: netmap.c, nm_txsync_prologue, nm_rxsync_prologue, netmap_ring_reinit.
"""

from __future__ import annotations

from xennet.abi.netmap import (
    SLOT_WORDS,
    RING_W_cur,
    RING_W_head,
    RING_W_slot,
    RING_W_tail,
    SLOT_W_buf_idx,
    SLOT_W_len,
)
from xennet.engine.kernel import U32Array, U32Words
from xennet.netmap.kring import (
    K_AT,
    K_BUF_WORDS,
    K_BUFS,
    K_HWCUR,
    K_HWTAIL,
    K_RCUR,
    K_RHEAD,
    K_RTAIL,
    K_SLOTS,
)


def accepts(first: int, last: int, slots: int, head: int, cur: int) -> int:
    """Whether a client that owns slots ``first`` up to ``last`` may move to head and cur, 1 or 0.

    In ring order first <= head <= cur <= last. As in netmap.h's API 14, a cur beyond the ring
    passes where the window wraps and head is in its upper part; a head beyond the ring never does.
    """
    if head >= slots:
        return 0
    if last >= first:
        return 1 if first <= head <= cur <= last else 0
    if last < head < first:
        return 0
    if head <= last:
        return 1 if head <= cur <= last else 0
    return 0 if last < cur < head else 1


def tx_prologue(words: U32Words, pvt: U32Array) -> int:
    """Take head and cur of a tx ring. Returns 1 if they are accepted, else 0.

    What was accepted last is the lower end of the window, the tail that was shown the upper one. A
    tail that the client changed is put back. Refused values are not kept.
    """
    at = pvt[K_AT]
    head = words[at + RING_W_head]
    cur = words[at + RING_W_cur]
    if not accepts(pvt[K_RHEAD], pvt[K_RTAIL], pvt[K_SLOTS], head, cur):
        return 0
    if words[at + RING_W_tail] != pvt[K_RTAIL]:
        words[at + RING_W_tail] = pvt[K_RTAIL]
    pvt[K_RHEAD] = head
    pvt[K_RCUR] = cur
    return 1


def rx_prologue(words: U32Words, pvt: U32Array) -> int:
    """Take head and cur of an rx ring. Returns 1 if they are accepted, else 0.

    The window is that of frames the client has not released, hwcur to hwtail. The values are kept
    before they are judged, as netmap does: cur may go back, and head's base is hwcur.
    """
    at = pvt[K_AT]
    head = words[at + RING_W_head]
    cur = words[at + RING_W_cur]
    pvt[K_RHEAD] = head
    pvt[K_RCUR] = cur
    if not accepts(pvt[K_HWCUR], pvt[K_HWTAIL], pvt[K_SLOTS], head, cur):
        return 0
    if words[at + RING_W_tail] != pvt[K_RTAIL]:
        words[at + RING_W_tail] = pvt[K_RTAIL]
    return 1


def reinit(words: U32Words, pvt: U32Array) -> int:
    """What follows a refusal. Returns 1 if the ring was reset, else 0.

    The client's values become the accepted ones; only if one of them is no index of the ring are
    all set to hwcur and hwtail. A head that moved back inside the ring is thus the base of the next
    sync. Slots without a valid buffer lose index and length, longer than a buffer the length.
    """
    at = pvt[K_AT]
    slots = pvt[K_SLOTS]
    head = words[at + RING_W_head]
    cur = words[at + RING_W_cur]
    tail = words[at + RING_W_tail]
    for i in range(slots):
        slot = at + RING_W_slot + i * SLOT_WORDS
        index = words[slot + SLOT_W_buf_idx]
        second = words[slot + SLOT_W_len]
        if index < 2 or index >= pvt[K_BUFS]:
            words[slot + SLOT_W_buf_idx] = 0
            words[slot + SLOT_W_len] = second & 0xFFFF0000
        elif (second & 0xFFFF) > pvt[K_BUF_WORDS] * 4:
            words[slot + SLOT_W_len] = second & 0xFFFF0000
    reset = 0
    if head >= slots or cur >= slots or tail >= slots:
        reset = 1
        head = pvt[K_HWCUR]
        cur = head
        tail = pvt[K_HWTAIL]
        words[at + RING_W_head] = head
        words[at + RING_W_cur] = cur
        words[at + RING_W_tail] = tail
    pvt[K_RHEAD] = head
    pvt[K_RCUR] = cur
    pvt[K_RTAIL] = tail
    return reset
