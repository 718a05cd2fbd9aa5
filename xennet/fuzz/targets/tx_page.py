"""The target ``tx``: one pass of the hardened backend over a tx ring page."""

from __future__ import annotations

from array import array
from typing import TypeAlias

from xennet.abi.words import REQ_PROD, RSP_PROD, TX_SLOTS
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.choice import current
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
from xennet.frames import MAX_FRAME, MIN_FRAME
from xennet.fuzz.compiled_loop import (
    HALVES_PER_PAGE,
    L_FINDING,
    L_PACKETS,
    LoopArrays,
    apply_pokes,
    clear,
    differ,
    keep,
    next_input,
    put_back,
    size_class,
    undo_pokes,
)
from xennet.fuzz.payload import fill_pages
from xennet.fuzz.record_target import KernelTarget
from xennet.fuzz.ring_mutations import NR_POKES, START, TX_REQUESTS
from xennet.netback.guest_tx import BAD_GSO_TYPE, R_PACKETS, R_SLOTS, R_START
from xennet.netback.poll_page import (
    FIRST_GREF,
    PAGES,
    Machinery,
    PagePoller,
    forget_pass,
    packet_at,
    poll_ring,
)
from xennet.netback.vif_config import C_MCAST_COUNT
from xennet.ring import MASK32

# What an execution was like, behind the counters of branches: verdict, packets, slots, distance.
_VERDICTS = 16
_CLASSES = 10
STATES = _VERDICTS + 3 * _CLASSES

# Findings.
FOUND = (
    "",
    "verdict: a pass ended with a number that is none",
    "responses: another number was published than slots were taken, or more than there were",
    "length: a packet of fewer than 14 or more than 65535 bytes, or outside of the staging pages",
    "leak: a grant entry is still marked as in use, or was changed",
    "memory: a page of the guest was written, which the backend may only read",
)
_VERDICT, _RESPONSES, _LENGTH, _LEAK, _MEMORY = range(1, 6)

#: Words of the entries that grant the guest's pages.
_ENTRY_WORDS = 2 * (FIRST_GREF + PAGES)
_PAGE_WORDS = PAGES * PAGE_SIZE // 4
#: Words of the guest's pages that are looked at behind each execution; all are where an input went
#: where none did before.
_SAMPLES = 2

#: What a pass takes (xennet.netback.poll_page.poll_ring), and the frame of the staging pages.
Pass: TypeAlias = "tuple[Vector, U32Words, int, U32Array, Vector, Vector, Vector, Machinery]"
#: Ring page as bytes; the machine's memory in half words, and where in it the grant table and the
#: guest's pages begin; what pokes changed; entries and pages now and as they were; base of states.
World: TypeAlias = (
    "tuple[Bytes, U32Words, int, int, Vector, U32Words, U32Array, U32Words, U32Array, int]"
)


def fuzz_tx(count: int, replay: int, loop: LoopArrays, world: World, passed: Pass) -> int:
    """A kernel: ``count`` executions, or fewer if one finds something. Returns their number.

    ``replay``: 1 executes the record that is there.
    """
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(loop)
        found = run_tx(loop, world, passed)
        if (replay or keep(loop)) and not found:
            found = pages_changed(loop, world)
        if found:
            restore_guest(world)
            return done
    return done


def run_tx(loop: LoopArrays, world: World, passed: Pass) -> int:
    """A kernel: restore what the last execution changed, execute, judge. Returns a finding."""
    _rng, record, record8, _pool, _pool8, _kept, hits, hits64, _seen, _operands, lstate = loop
    page8, halves, grants_at, pages_at, undo, _entries, _granted, _pages, _filled, states = world
    log, page, stage, scratch, config, state, res, machine = passed
    page8[0:PAGE_SIZE] = record8[0:PAGE_SIZE]
    config[C_MCAST_COUNT] = 0
    forget_pass(scratch, state)
    apply_pokes(record, halves, grants_at, pages_at, undo)
    clear(hits64)
    start = record[START]
    verdict = poll_ring(start, TX_SLOTS, log, page, stage, scratch, config, state, res, machine)
    undo_pokes(halves, undo)
    ahead = (record[REQ_PROD] - start) & MASK32
    packets, slots = res[R_PACKETS], res[R_SLOTS]
    hits[states + verdict % _VERDICTS] = 1
    hits[states + _VERDICTS + size_class(packets, 9)] = 1
    hits[states + _VERDICTS + _CLASSES + size_class(slots, 9)] = 1
    hits[states + _VERDICTS + 2 * _CLASSES + size_class(ahead, 9)] = 1
    lstate[L_PACKETS] += packets
    found = judge_tx(verdict, ahead, world, passed)
    lstate[L_FINDING] = found
    return found


def judge_tx(verdict: int, ahead: int, world: World, passed: Pass) -> int:
    """A kernel: what a pass may not do, whatever the page says."""
    _page8, _halves, _grants_at, _pages_at, _undo, entries, granted, pages, filled, _states = world
    _log, page, _stage, scratch, _config, _state, res, _machine = passed
    slots = res[R_SLOTS]
    if verdict < 0 or verdict > BAD_GSO_TYPE:
        return _VERDICT
    if slots > ahead or slots > TX_SLOTS or page[RSP_PROD] != (res[R_START] + slots) & MASK32:
        return _RESPONSES
    end = 0
    for packet in range(res[R_PACKETS]):
        at, length = packet_at(scratch, packet)
        if length < MIN_FRAME or length > MAX_FRAME or at + length > TX_SLOTS << PAGE_SHIFT:
            return _LENGTH
        end += length
    for word in range(2 * FIRST_GREF, _ENTRY_WORDS):
        if entries[word] != granted[word]:
            return _LEAK
    at = (end * 40503 + page[RSP_PROD] * 613) & MASK32
    for _sample in range(_SAMPLES):
        at = (at * 1103515245 + 12345) & MASK32
        if pages[at % _PAGE_WORDS] != filled[at % _PAGE_WORDS]:
            return _MEMORY
    return 0


def pages_changed(loop: LoopArrays, world: World) -> int:
    """A kernel: whether any word of the guest's pages was written, as a finding."""
    _, _, _, _, _, _, _, pages, filled, _ = world
    _, _, _, _, _, _, _, _, _, _, lstate = loop
    if differ(pages, filled):
        lstate[L_FINDING] = _MEMORY
        return _MEMORY
    return 0


def restore_guest(world: World) -> None:
    """A kernel: entries and pages as they were, lest a finding comes again with another input."""
    _, _, _, _, _, entries, granted, pages, filled, _ = world
    put_back(entries, granted, 2 * FIRST_GREF, _ENTRY_WORDS)
    put_back(pages, filled, 0, _PAGE_WORDS)


class TxTarget(KernelTarget):
    """Any page, start index, grant entries and payload; the backend takes what it can."""

    name = "tx"
    page = "tx page"
    kind = TX_REQUESTS
    found = FOUND

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(fuzz_tx, STATES)
        self._poller = poller = PagePoller()
        fill_pages(poller.pages)
        view = current().view
        entries, pages = poller.table.u32, poller.payload.u32
        self.world = (
            (
                view(poller.ring_page),
                view(poller.memory.u16),
                poller.table.first * HALVES_PER_PAGE,
                poller.payload.first * HALVES_PER_PAGE,
                view(array("q", bytes(16 * NR_POKES))),
                view(entries),
                view(array("I", entries)),
                view(pages),
                view(array("I", pages)),
                self.states,
            ),
            poller.pass_args,
        )

    def close(self) -> None:
        self.world = ()
        self._poller.close()
