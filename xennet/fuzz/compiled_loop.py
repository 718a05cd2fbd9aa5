"""The loop of the fuzzer as kernels: parent, mutation, execution, new coverage, corpus.

A target's own loop (xennet.fuzz.targets) is a kernel of ten lines around :func:`next_input` and
:func:`keep`, so that the whole of it is compiled, the driver's kernels with their counters in it;
under the plain engine the same source runs as it is, with the same counters and the same choices.
Everything is in arrays that are made once: a corpus of a fixed number of records, in which a new
one takes the place of another when it is full.
"""

from __future__ import annotations

from array import array
from random import Random
from typing import Any, TypeAlias

from xennet.engine.choice import current
from xennet.engine.counted_plain import BranchCounters
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
from xennet.fuzz.coverage import FEATURES
from xennet.fuzz.ring_mutations import (
    NR_POKES,
    POKE_GRANTS,
    POKE_WORDS,
    POKES,
    PRODUCED,
    RECORD,
    START,
    below,
    draw,
    mutate,
)
from xennet.ring import MASK32

#: Records of a corpus, and bytes of a record.
CAPACITY = 1024
RECORD_BYTES = 4 * RECORD

# Places of the loop's vector.
#: Records in the corpus, and how many there may be.
L_ENTRIES = 0
L_CAPACITY = 1
#: Executions, and the packets that they carried.
L_EXECUTIONS = 2
L_PACKETS = 3
#: Records that were kept; the parent of the present one.
L_KEPT = 4
L_PARENT = 5
#: Kind of ring (xennet.fuzz.ring_mutations).
L_KIND = 6
#: What the last execution found, 0: nothing; the numbers are the target's.
L_FINDING = 7
#: Whether the last record was kept.
L_NEW = 8
LOOP_STATES = 9

#: rng; record and its bytes; corpus and its bytes; when each record of it was kept; counters, as
#: bytes and as words of 64 bits; the classes of counts seen, one bit each; operands; the vector.
LoopArrays: TypeAlias = (
    "tuple[U32Array, U32Array, Bytes, U32Array, Bytes, Vector, Bytes, Vector, Bytes, Vector, "
    "Vector]"
)

#: Class of a count, one bit.
CLASSES = tuple(FEATURES)
HALVES_PER_PAGE = 2048
_HALVES = 64 * HALVES_PER_PAGE


def next_input(loop: LoopArrays) -> None:
    """Make the record of the next execution: a changed one of the corpus. The later ones are chosen
    more often, and of two the one with fewer slots."""
    rng, record, record8, pool, pool8, _kept, _hits, _hits64, _seen, operands, state = loop
    entries = state[L_ENTRIES]
    parent = below(rng, entries)
    if draw(rng) & 16:
        later = below(rng, entries)
        if later > parent:
            parent = later
    kind = state[L_KIND]
    second = below(rng, entries)
    if slots_of(pool, second, kind) < slots_of(pool, parent, kind):
        parent = second
    state[L_PARENT] = parent
    begin = parent * RECORD_BYTES
    record8[0:RECORD_BYTES] = pool8[begin : begin + RECORD_BYTES]
    mutate(rng, (rng, record, pool, below(rng, entries) * RECORD, operands, kind))


def slots_of(pool: U32Array, entry: int, kind: int) -> int:
    """How far the produced index of a record of the corpus is behind its start."""
    at = entry * RECORD
    return (pool[at + PRODUCED[kind]] - pool[at + START]) & MASK32


def clear(hits64: Vector) -> None:
    """All counters to 0."""
    for word in range(len(hits64)):
        hits64[word] = 0


def keep(loop: LoopArrays) -> int:
    """Put the record into the corpus if it went where none did before, or another number of times.
    Returns 1 then, else 0."""
    rng, _record, record8, _pool, pool8, kept, hits, hits64, seen, _operands, state = loop
    state[L_EXECUTIONS] += 1
    fresh = 0
    for word in range(len(hits64)):
        if hits64[word]:
            for i in range(8 * word, 8 * word + 8):
                known = seen[i]
                merged = known | CLASSES[hits[i]]
                if merged != known:
                    seen[i] = merged
                    fresh = 1
    state[L_NEW] = fresh
    if fresh:
        entry = state[L_ENTRIES]
        if entry < state[L_CAPACITY]:
            state[L_ENTRIES] = entry + 1
        else:
            entry = below(rng, entry)
        state[L_KEPT] += 1
        kept[entry] = state[L_KEPT]
        begin = entry * RECORD_BYTES
        pool8[begin : begin + RECORD_BYTES] = record8[0:RECORD_BYTES]
    return fresh


def apply_pokes(
    record: U32Array, halves: U32Words, grants_at: int, pages_at: int, undo: Vector
) -> None:
    """Change what the record's pokes name. ``halves``: the machine's memory in words of 16 bits, in
    which the guest's grant table and its 64 pages begin at ``grants_at`` and ``pages_at``.

    ``undo`` (two words each) takes what was there.
    """
    for number in range(NR_POKES):
        at = POKES + number * POKE_WORDS
        undo[2 * number] = -1
        if record[at]:
            if record[at] == POKE_GRANTS:
                half = grants_at + record[at + 1] % HALVES_PER_PAGE
            else:
                half = pages_at + record[at + 1] % _HALVES
            undo[2 * number] = half
            undo[2 * number + 1] = halves[half]
            halves[half] = record[at + 2] & 0xFFFF


def undo_pokes(halves: U32Words, undo: Vector) -> None:
    """Change it back, the last one first."""
    for number in range(NR_POKES):
        place = 2 * (NR_POKES - 1 - number)
        if undo[place] >= 0:
            halves[undo[place]] = undo[place + 1]


def differ(words: U32Words, wanted: U32Array) -> int:
    """Whether any word is another one: 1 then, else 0."""
    for word in range(len(wanted)):
        if words[word] != wanted[word]:
            return 1
    return 0


def put_back(words: U32Words, wanted: U32Array, begin: int, end: int) -> None:
    """Write the words ``begin`` to ``end`` as they should be."""
    for word in range(begin, end):
        words[word] = wanted[word]


def size_class(count: int, most: int) -> int:
    """How many bits ``count`` has, at most ``most``."""
    bits = 0
    while count and bits < most:
        count >>= 1
        bits += 1
    return bits


class LoopMemory:
    """The arrays of one loop, for the engine in force. ``counters``: of what it executes."""

    def __init__(
        self, counters: BranchCounters, kind: int, seed: int = 1, capacity: int = CAPACITY
    ) -> None:
        view = current().view
        self.record8 = memoryview(bytearray(RECORD_BYTES))
        self.record = self.record8.cast("I")
        self.pool8 = memoryview(bytearray(capacity * RECORD_BYTES))
        self.kept = array("q", bytes(8 * capacity))
        self.hits = counters.hits
        self.seen = bytearray(len(counters.hits))
        self.operands = counters.operands
        self.state = array("q", bytes(8 * LOOP_STATES))
        self.state[L_CAPACITY] = capacity
        self.state[L_KIND] = kind
        self.rng = array("I", bytes(16))
        self.seed(seed)
        self.arrays: Any = (
            view(self.rng),
            view(self.record),
            view(self.record8),
            view(self.pool8.cast("I")),
            view(self.pool8),
            view(self.kept),
            view(self.hits),
            view(self.hits.cast("q")),
            view(memoryview(self.seen)),
            view(self.operands),
            view(self.state),
        )

    def seed(self, seed: int) -> None:
        """Begin the random words anew."""
        random = Random(seed)
        self.rng[:] = array("I", (1 + random.randrange(2**32 - 1) for _ in range(4)))

    def forget(self) -> None:
        """An empty corpus, nothing seen, nothing counted."""
        self.seen[:] = bytes(len(self.seen))
        self.operands[:] = self.operands.__class__(bytes(self.operands.nbytes)).cast("q")
        kind, capacity = self.state[L_KIND], self.state[L_CAPACITY]
        self.state[:] = array("q", bytes(8 * LOOP_STATES))
        self.state[L_KIND], self.state[L_CAPACITY] = kind, capacity

    def add(self, raw: bytes) -> None:
        """Put a record into the corpus. ``raw``: up to RECORD_BYTES."""
        entry = min(self.state[L_ENTRIES], self.state[L_CAPACITY] - 1)
        begin = entry * RECORD_BYTES
        self.pool8[begin : begin + RECORD_BYTES] = raw.ljust(RECORD_BYTES, b"\0")
        self.state[L_ENTRIES] = entry + 1
        self.state[L_KEPT] += 1
        self.kept[entry] = self.state[L_KEPT]

    def entries(self, since: int = 0) -> list[bytes]:
        """The records of the corpus that were kept behind the first ``since``, in that order."""
        found = [(self.kept[i], i) for i in range(self.state[L_ENTRIES]) if self.kept[i] > since]
        places = (i * RECORD_BYTES for _, i in sorted(found))
        return [bytes(self.pool8[at : at + RECORD_BYTES]) for at in places]
