"""The target ``copy``: the hypervisor's grant copy, with any elements and any grant entries."""

from __future__ import annotations

from array import array
from typing import TypeAlias

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.words import (
    COPY_STRIDE,
    COPY_S_flags,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_status,
)
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.choice import current
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
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
from xennet.fuzz.ring_mutations import GRANT_COPIES, NR_POKES, SLOTS, place, used
from xennet.gnttab.copy import grant_copy
from xennet.gnttab.directory import ROW_WORDS
from xennet.gnttab.entry import ACTIVE_PIN, active_word
from xennet.netback.poll_page import FIRST_GREF, GUEST, HOST, PAGES, Machinery, PolledGuest

MAX_COPIES = SLOTS[GRANT_COPIES]
#: Pages of the caller that its own frame numbers 0 and up name.
OWN_PAGES = 4
#: Pages of a third domain, which nobody grants.
CANARY_PAGES = 2
_STATUSES = 16
_CLASSES = 8
STATES = _STATUSES + 2 * _CLASSES

FOUND = (
    "",
    "status: an element ended with a number that is no GNTST_",
    "failed: the copies that failed are not as many as was said",
    "leak: a reference is still pinned, or its entry is marked as in use or was changed",
    "memory: bytes were written that no element may write",
)
_STATUS, _FAILED, _LEAK, _MEMORY = range(1, 5)
_ENTRY_WORDS = 2 * (FIRST_GREF + PAGES)
_PAGE_WORDS = PAGES * PAGE_SIZE // 4
_CANARY_WORDS = CANARY_PAGES * PAGE_SIZE // 4
#: Words that are looked at behind each execution; all are where an input went where none did
#: before.
_SAMPLES = 4
#: The lowest status (GNTST_no_device_space and those below it, xen 4.17 grant_table.h).
_LOWEST = -13

#: The machine's memory in half words, and where in it grant table and pages of the guest begin;
#: what pokes changed; entries now and as they were; pages and what was in them, in bytes and words;
#: the canary now and as it was; the caller's first frame; first counter of a state.
World: TypeAlias = (
    "tuple[U32Words, int, int, Vector, U32Words, U32Array, Bytes, Bytes, U32Words, U32Array, "
    "U32Words, U32Array, int, int]"
)


def fuzz_copies(
    count: int, replay: int, loop: LoopArrays, world: World, ops: U32Array, machine: Machinery
) -> int:
    """A kernel: ``count`` executions, or fewer if one finds something. Returns their number.

    ``replay``: 1 executes the record that is there.
    """
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(loop)
        found = run_copies(loop, world, ops, machine)
        if (replay or keep(loop)) and not found:
            found = memory_changed(loop, world)
        if found:
            restore_memory(world)
            return done
    return done


def put_elements(record: U32Array, count: int, own: int, ops: U32Array) -> None:
    """A kernel: the elements of the record; small frame numbers are pages of the caller's."""
    for slot in range(count):
        source, op = place(record, GRANT_COPIES, slot), slot * COPY_STRIDE
        for word in range(COPY_STRIDE):
            ops[op + word] = record[source + word]
        flags = ops[op + COPY_W_len] >> COPY_S_flags
        if not flags & GNTCOPY_source_gref and ops[op + COPY_W_source] < OWN_PAGES:
            ops[op + COPY_W_source] += own
        if not flags & GNTCOPY_dest_gref and ops[op + COPY_W_dest] < OWN_PAGES:
            ops[op + COPY_W_dest] += own


def run_copies(loop: LoopArrays, world: World, ops: U32Array, machine: Machinery) -> int:
    """A kernel: restore what the last execution changed, execute, judge. Returns a finding."""
    _rng, record, _record8, _pool, _pool8, _kept, hits, hits64, _seen, _operands, lstate = loop
    halves, grants_at, pages_at, undo, _, _, _, _, _, _, _, _, own, states = world
    dom_rows, owner, u8, u16, u32, alone = machine
    count = used(record, GRANT_COPIES)
    put_elements(record, count, own, ops)
    apply_pokes(record, halves, grants_at, pages_at, undo)
    clear(hits64)
    failed = grant_copy(ops, count, HOST, dom_rows, owner, u8, u16, u32, alone)
    undo_pokes(halves, undo)
    lstate[L_PACKETS] += count - failed
    found = judge_copies(count, failed, hits, world, ops, machine)
    hits[states + _STATUSES + size_class(count, _CLASSES - 1)] = 1
    hits[states + _STATUSES + _CLASSES + size_class(failed, _CLASSES - 1)] = 1
    lstate[L_FINDING] = found
    return found


def judge_copies(
    count: int, failed: int, hits: Bytes, world: World, ops: U32Array, machine: Machinery
) -> int:
    """A kernel: what a copy may not do; and the pages that it wrote are as before again."""
    _, _, _, undo, entries, granted, pages8, filled8, _, _, canary, blank, _, states = world
    dom_rows, _, _, _, u32, _ = machine
    poked = 0
    for number in range(NR_POKES):
        poked |= undo[2 * number] >= 0
    refused = at = 0
    for slot in range(count):
        op = slot * COPY_STRIDE
        status = ops[op + COPY_W_status] & 0xFFFF
        status = status - 0x10000 if status & 0x8000 else status
        if status > 0 or status < _LOWEST:
            return _STATUS
        hits[states - status] = 1
        if status:
            refused += 1
        gref = ops[op + COPY_W_dest] - FIRST_GREF
        at += status + gref
        if not poked and 0 <= gref < PAGES and ops[op + COPY_W_dest_domid] & 0xFFFF == GUEST:
            begin = gref << PAGE_SHIFT
            pages8[begin : begin + PAGE_SIZE] = filled8[begin : begin + PAGE_SIZE]
    if poked:
        pages8[0 : PAGES << PAGE_SHIFT] = filled8[0 : PAGES << PAGE_SHIFT]
    if refused != failed:
        return _FAILED
    for word in range(2 * FIRST_GREF, _ENTRY_WORDS):
        if entries[word] != granted[word]:
            return _LEAK
    for gref in range(FIRST_GREF + PAGES):
        if u32[active_word(dom_rows, GUEST * ROW_WORDS, gref) + ACTIVE_PIN]:
            return _LEAK
    for _sample in range(_SAMPLES):
        at = (at * 1103515245 + 12345) & 0xFFFFFFFF
        if canary[at % _CANARY_WORDS] != blank[at % _CANARY_WORDS]:
            return _MEMORY
        at8 = at % (_PAGE_WORDS * 4)
        if pages8[at8] != filled8[at8]:
            return _MEMORY
    return 0


def memory_changed(loop: LoopArrays, world: World) -> int:
    """A kernel: whether any word of the guest's pages or the canary is not as before, as a
    finding."""
    _, _, _, _, _, _, _, _, pages, filled, canary, blank, _, _ = world
    _, _, _, _, _, _, _, _, _, _, lstate = loop
    if differ(pages, filled) or differ(canary, blank):
        lstate[L_FINDING] = _MEMORY
        return _MEMORY
    return 0


def restore_memory(world: World) -> None:
    """A kernel: entries, pages and canary as they were, lest a finding comes again with another
    input."""
    _, _, _, _, entries, granted, _, _, pages, filled, canary, blank, _, _ = world
    put_back(entries, granted, 2 * FIRST_GREF, _ENTRY_WORDS)
    put_back(pages, filled, 0, _PAGE_WORDS)
    put_back(canary, blank, 0, _CANARY_WORDS)


class CopyGuest(PolledGuest):
    """A guest that grants pages, a host that copies, and a third domain with pages of zeros."""

    def __init__(self) -> None:
        super().__init__(1024)
        self.machinery = self.machine.grant_tables.copy_args
        self.own = self._host.alloc_pages(OWN_PAGES)
        self.canary = self.machine.create_domain(3).alloc_pages(CANARY_PAGES)


class CopyTarget(KernelTarget):
    """GNTTABOP_copy by domain 0: up to 64 elements, entries of the guest's table (version 1)."""

    name = "copy"
    page = "copies"
    kind = GRANT_COPIES
    found = FOUND

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(fuzz_copies, STATES)
        self._guest = guest = CopyGuest()
        fill_pages(guest.pages)
        view = current().view
        entries, canary = guest.table.u32, guest.canary.u32
        filled = memoryview(bytearray(guest.pages))
        self.world = (
            (
                view(guest.memory.u16),
                guest.table.first * HALVES_PER_PAGE,
                guest.payload.first * HALVES_PER_PAGE,
                view(array("q", bytes(16 * NR_POKES))),
                view(entries),
                view(array("I", entries)),
                view(guest.pages),
                view(filled),
                view(guest.payload.u32),
                view(filled.cast("I")),
                view(canary),
                view(array("I", canary)),
                guest.own.first,
                self.states,
            ),
            view(array("I", bytes(4 * COPY_STRIDE * MAX_COPIES))),
            guest.machinery,
        )

    def close(self) -> None:
        self.world = ()
        self._guest.close()
