"""A driver with a bug that takes some finding: a kernel, and the target around it."""

from __future__ import annotations

from xennet.abi.words import REQ_PROD, RING_SLOTS, TX_STRIDE
from xennet.engine.kernel import Bytes, U32Array
from xennet.fuzz.compiled_loop import L_FINDING, LoopArrays, clear, keep, next_input
from xennet.fuzz.record_target import KernelTarget
from xennet.fuzz.ring_mutations import TX_REQUESTS

#: Nobody tries that size unless a comparison says it.
MAGIC = 48813
#: Bytes that all slots may have together; more is an index outside of an array.
MOST = 8192


def driver(record: U32Array) -> int:
    """Two good packets, then a chain whose first slot has a size that nobody would guess."""
    good = 0
    for slot in range(min_of(record[REQ_PROD], 8)):
        at = RING_SLOTS + slot * TX_STRIDE
        size, flags = record[at + 2] >> 16, record[at + 1] >> 16
        if good < 2:
            if 14 <= size <= 4096 and flags == 0:
                good += 1
        elif flags & 4 and size == MAGIC:
            return 1
    return 0


def raising_driver(record: U32Array, room: Bytes) -> int:
    """Writes behind the end of what it has, for slots that are large."""
    total = 0
    for slot in range(min_of(record[REQ_PROD], 8)):
        total += record[RING_SLOTS + slot * TX_STRIDE + 2] >> 16
        room[total] = 1
    return 0


def min_of(first: int, second: int) -> int:
    return first if first < second else second


def loop(count: int, replay: int, arrays: LoopArrays) -> int:
    _rng, record, _r8, _pool, _p8, _kept, _hits, hits64, _seen, _operands, state = arrays
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(arrays)
        clear(hits64)
        state[L_FINDING] = driver(record)
        if not replay:
            keep(arrays)
        if state[L_FINDING]:
            return done
    return done


def raising_loop(count: int, replay: int, arrays: LoopArrays, room: Bytes) -> int:
    _rng, record, _r8, _pool, _p8, _kept, _hits, hits64, _seen, _operands, _state = arrays
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(arrays)
        clear(hits64)
        raising_driver(record, room)
        if not replay:
            keep(arrays)
    return done


class Planted(KernelTarget):
    name = "planted"
    page = "tx page"
    kind = TX_REQUESTS
    found = ("", "planted: the size that nobody would guess")

    def __init__(self) -> None:
        super().__init__(loop, 0)


class Raising(KernelTarget):
    name = "raising"
    page = "tx page"
    kind = TX_REQUESTS

    def __init__(self) -> None:
        super().__init__(raising_loop, 0)
        self.world = (memoryview(bytearray(MOST)),)
