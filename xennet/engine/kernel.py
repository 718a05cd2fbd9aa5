"""The base of all kernels: the types of their arguments and the few steps that touch the machine.

A kernel is a module-level function over flat integer views and plain integers: loads, stores,
integer arithmetic, ``while`` and ``for ... in range``. In CPython the views are memoryviews and
``array`` objects. Everything that another way of running the same source has to do differently is
in this file: copying payload, publishing an index, changing a word that others change too.

A load of a shared word (:data:`U32Words`) is one load: the compiled engine neither makes two of it
nor takes the value of an earlier one (XSA-155).
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Any, TypeAlias

from xennet.abi.words import RSP_EVENT, RSP_PROD
from xennet.engine import atomics
from xennet.engine.atomics import OwnMap
from xennet.ring import BARRIER, MASK32, must_notify

_unpack_words = Struct(">IHHI").unpack_from

#: Bytes of memory.
Bytes: TypeAlias = "memoryview"
#: Words of memory (32 bits, or 16 as ``u16``) that another domain may write at any time: loads and
#: stores are single and aligned. What both sides change is changed by the three operations below.
U32Words: TypeAlias = "memoryview"
#: A private array of unsigned 32-bit words.
U32Array: TypeAlias = "array[int] | memoryview"
#: A private vector of signed integers, for results.
Vector: TypeAlias = "array[int]"

#: Equal tuples, or arrays, by number: an item is one of them, and no load. What Engine.each made
#: (xennet/engine/choice.py).
Each: TypeAlias = "tuple[Any, ...]"

# Values that belong together are one argument. A kernel unpacks it first; the caller makes it once,
# when it is set up.
#: page, pvt: the words of a ring page, and the private indices (FRONT_* or BACK_* of xennet.ring).
Ring: TypeAlias = "tuple[U32Words, U32Array]"
#: words, shift, status, status_shift: a grant table, as in xennet.interface.GuestGrants; access:
#: the first word of an entry that grants one of these pages, as its owner writes it; alone: 1 if
#: the table is of version 1 and in memory that only this process has (:func:`alone`).
Grants: TypeAlias = "tuple[U32Words, int, U32Words, int, int, int]"
#: data, data32, offset, length, flags, gso_size, gso_type, hash_info, hash_value: of a FrameBatch,
#: its bytes a second time in words.
Frames: TypeAlias = (
    "tuple[Bytes, U32Array, U32Array, U32Array, U32Array, U32Array, U32Array, U32Array, U32Array]"
)


#: A log is a vector: words used (header included), records lost, then the records.
LOG_USED = 0
LOG_LOST = 1
LOG_HEADER = 2
#: A record: what, ring index, two values, why it was refused (xennet.vif.refusals).
LOG_RECORD = 5


def note(log: Vector, what: int, index: int, first: int, second: int, refusal: int) -> None:
    """Append a record to a log (xennet.vif.ring_events); when it is full, count it as lost.

    Callers ask ``len(log) > LOG_HEADER`` once: a log of a header alone is off.
    """
    at = log[LOG_USED]
    if at + LOG_RECORD > len(log):
        log[LOG_LOST] += 1
        return
    log[at] = what
    log[at + 1] = index & MASK32
    log[at + 2] = first
    log[at + 3] = second
    log[at + 4] = refusal
    log[LOG_USED] = at + LOG_RECORD


def publish(ring: U32Words, word: int, event_word: int, new: int) -> int:
    """Store an index. Returns 1 if the peer asked for an event in the range just published
    (xennet.ring.must_notify), else 0.

    One aligned store of ``new`` into ``ring[word]``, a full barrier, one load of the peer's event
    index.
    """
    old = ring[word]
    ring[word] = new
    with BARRIER:
        pass
    return 1 if must_notify(old, new, ring[event_word]) else 0


def arm(ring: U32Words, event_word: int, value: int) -> None:
    """Ask for an event at index ``value``; the peer sees that before anything is looked at
    again."""
    ring[event_word] = value
    with BARRIER:
        pass


def await_responses(ring: U32Words, cons: int) -> int:
    """Ask for an event at the first response from ``cons`` on, then look whether it is there.

    RING_FINAL_CHECK_FOR_RESPONSES (xen 4.17 ring.h), of a frontend that took all responses before
    index ``cons``. Returns 1 if there are more to take, for which no event may come.
    """
    arm(ring, RSP_EVENT, (cons + 1) & MASK32)
    return 1 if ring[RSP_PROD] != cons else 0


def alone(words: U32Words) -> bool:
    """Whether only this process changes ``words``, now at least. Raises as xennet.engine.atomics.of
    does.

    In one thread a load and a store are then as good as an operation in one step. Kernels that
    change a word for each slot are told so when they are set up, and spare the calls. It stays so
    for a guest's own entries, which nobody else writes but the hypervisor, in this process too.
    """
    return words.obj.__class__ is OwnMap or atomics.of(words) is None


def always_alone(words: U32Words) -> bool:
    """Whether only this process can ever change ``words``, and no other code sees it do so."""
    return words.obj.__class__ is OwnMap


def network_words(data: Bytes, at: int) -> tuple[int, ...]:
    """The 12 bytes from ``data[at]`` on, in the order of a network, as numbers of 32, 16, 16 and 32
    bits.

    Bytes that nobody else writes. A load of each of them costs plain Python twice as much.
    """
    try:
        return _unpack_words(data, at)
    except TypeError:  # a view that tells of its loads
        return _unpack_words(data[at : at + 12])


def compare_and_swap(words: U32Words, at: int, old: int, new: int) -> int:
    """Store ``new`` into ``words[at]`` if ``old`` is there. Returns the value from before.

    One step in the eyes of every other domain and a full barrier, as cmpxchg (xen/grant_table.h,
    "Use SMP-safe CMPXCHG"). Items of 16 and 32 bits are swapped, all of the item is compared.
    """
    if words.obj.__class__ is not OwnMap and (way := atomics.of(words)) is not None:
        return way.compare_and_swap(words, at, old, new)
    seen: int = words[at]
    if seen == old:
        words[at] = new
    return seen


def fetch_or(words: U32Words, at: int, bits: int) -> int:
    """Set ``bits`` of ``words[at]`` and leave the others as they are. Returns the value from
    before.

    One step in the eyes of every other domain and a full barrier, as lock or (lock bts for one bit:
    Xen's test_and_set_bit).
    """
    if words.obj.__class__ is not OwnMap and (way := atomics.of(words)) is not None:
        return way.fetch_or(words, at, bits)
    seen: int = words[at]
    words[at] = seen | bits
    return seen


def fetch_and(words: U32Words, at: int, bits: int) -> int:
    """Clear all but ``bits`` of ``words[at]``. Returns the value from before.

    One step in the eyes of every other domain and a full barrier, as lock and (Xen's clear_bit;
    with ``bits`` 0 as Xen's xchg with 0).
    """
    if words.obj.__class__ is not OwnMap and (way := atomics.of(words)) is not None:
        return way.fetch_and(words, at, bits)
    seen: int = words[at]
    words[at] = seen & bits
    return seen
