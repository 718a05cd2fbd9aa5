"""The target ``rx``: one pass of the hardened backend that sends frames into an rx ring page."""

from __future__ import annotations

from array import array
from typing import TypeAlias

from xennet.abi.words import COPY_STRIDE, REQ_PROD, RSP_PROD, RX_SLOTS, RX_STRIDE
from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.choice import current, shared
from xennet.engine.kernel import Bytes, Frames, Ring, U32Array, U32Words, Vector
from xennet.frames import MIN_FRAME, FrameBatch
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
from xennet.fuzz.ring_mutations import MORE, NR_POKES, RX_REQUESTS, START
from xennet.gnttab.copy import grant_copy
from xennet.netback.guest_rx import (
    MAX_OPS,
    PROD_OVERFLOW,
    R_NEEDED,
    R_OPS,
    R_PACKETS,
    R_SLOTS,
    RESULTS,
    RxSlots,
    await_requests,
    filter_multicast,
    put_responses,
    take_requests,
)
from xennet.netback.poll_page import FIRST_GREF, GUEST, HOST, PAGES, Machinery, PolledGuest
from xennet.netback.vif_config import C_HASH, C_HEADROOM, C_MCAST_FILTER, new_vif_config
from xennet.ring import BACK_REQ_CONS, BACK_RSP_PROD_PVT, MASK32
from xennet.vif.ring_events import silent_log

#: Frames of an input, and words of each: length, flags, GSO type | GSO size, hash type | hash.
FRAMES, _FRAME_WORDS = 3, 3
#: Behind them: what the frontend takes, and the vif's configuration.
_FEATURES = FRAMES * _FRAME_WORDS
_USUAL_LENGTH = 1514
#: Bytes of the staging pages for each frame.
_ROOM_PAGES = 17

_VERDICTS = 4
_CLASSES = 10
STATES = _VERDICTS + 4 * _CLASSES

FOUND = (
    "",
    "verdict: a pass ended with a number that is none",
    "responses: another number was published than slots were taken, or more than there were",
    "leak: a grant entry is still marked as in use, or was changed",
    "memory: a page of the guest was written that no request named",
)
_VERDICT, _RESPONSES, _LEAK, _MEMORY = range(1, 5)
_ENTRY_WORDS = 2 * (FIRST_GREF + PAGES)
_PAGE_WORDS = PAGES * PAGE_SIZE // 4
#: Words of the guest's pages that are looked at behind each execution; all are where an input went
#: where none did before.
_SAMPLES = 4

#: log, ring, config, first staging frame, frames, slots, copy table, results, machine.
Pass: TypeAlias = "tuple[Vector, Ring, Vector, int, Frames, RxSlots, U32Array, Vector, Machinery]"
#: Ring page as bytes; the machine's memory in half words, and where in it grant table and pages of
#: the guest begin; what pokes changed; entries now and as they were; pages and what was in them,
#: in bytes and words; first counter of a state.
World: TypeAlias = (
    "tuple[Bytes, U32Words, int, int, Vector, U32Words, U32Array, Bytes, Bytes, U32Words, "
    "U32Array, int]"
)


def fuzz_rx(count: int, replay: int, loop: LoopArrays, world: World, passed: Pass) -> int:
    """A kernel: ``count`` executions, or fewer if one finds something. Returns their number.

    ``replay``: 1 executes the record that is there.
    """
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(loop)
        found = run_rx(loop, world, passed)
        if (replay or keep(loop)) and not found:
            found = pages_changed(loop, world)
        if found:
            restore_guest(world)
            return done
    return done


def put_frames(record: U32Array, frames: Frames) -> int:
    """A kernel: the frames that the record asks for. Returns their number."""
    _data, _data32, offset, length, flags, gso_size, gso_type, hash_info, hash_value = frames
    count = 0
    for number in range(FRAMES):
        at = MORE + number * _FRAME_WORDS
        size = record[at] & 0xFFFF
        if number == 0 and not size:
            size = _USUAL_LENGTH
        if size:
            offset[count] = number * _ROOM_PAGES << PAGE_SHIFT
            length[count] = size if size >= MIN_FRAME else MIN_FRAME
            flags[count] = record[at] >> 16 & 3
            segment = record[at + 1] & 0xFFFF
            gso_size[count] = segment
            gso_type[count] = 1 + (record[at] >> 24 & 1)
            hashed = record[at + 1] >> 16
            hash_info[count] = 0x101 + (hashed & 3) if hashed else 0
            hash_value[count] = record[at + 2]
            count += 1
    return count


def run_rx(loop: LoopArrays, world: World, passed: Pass) -> int:
    """A kernel: restore what the last execution changed, execute, judge. Returns a finding."""
    _rng, record, record8, _pool, _pool8, _kept, hits, hits64, _seen, _operands, lstate = loop
    page8, halves, grants_at, pages_at, undo, _, _, _, _, _, _, states = world
    log, ring, config, stage, frames, slots, ops, res, machine = passed
    dom_rows, owner, u8, u16, u32, alone = machine
    page, pvt = ring
    page8[0:PAGE_SIZE] = record8[0:PAGE_SIZE]
    start = record[START]
    pvt[BACK_REQ_CONS] = pvt[BACK_RSP_PROD_PVT] = start
    features, vif = record[MORE + _FEATURES], record[MORE + _FEATURES + 1]
    config[C_HEADROOM] = vif & 0xFFFF
    config[C_MCAST_FILTER] = vif >> 16 & 1
    config[C_HASH] = vif >> 17 & 1
    frontend = (GUEST, ~features & 1, (~features >> 1 & 3) << 1, (features >> 4 & 3) << 1)
    apply_pokes(record, halves, grants_at, pages_at, undo)
    clear(hits64)
    count = put_frames(record, frames)
    if config[C_MCAST_FILTER]:
        count = filter_multicast(0, count, frames, config)
    ahead = page[REQ_PROD]
    verdict = take_requests(0, count, log, ring, frontend, config, stage, frames, slots, ops, res)
    if res[R_SLOTS]:
        grant_copy(ops, res[R_OPS], HOST, dom_rows, owner, u8, u16, u32, alone)
        put_responses(log, ring, slots, ops, res)
    await_requests(ring, ahead)
    undo_pokes(halves, undo)
    ahead = (ahead - start) & MASK32
    hits[states + verdict % _VERDICTS] = 1
    at = states + _VERDICTS
    hits[at + size_class(res[R_PACKETS], 9)] = 1
    hits[at + _CLASSES + size_class(res[R_SLOTS], 9)] = 1
    hits[at + 2 * _CLASSES + size_class(ahead, 9)] = 1
    hits[at + 3 * _CLASSES + size_class(res[R_NEEDED], 9)] = 1
    lstate[L_PACKETS] += res[R_PACKETS]
    found = judge_rx(verdict, start, ahead, world, passed)
    lstate[L_FINDING] = found
    return found


def judge_rx(verdict: int, start: int, ahead: int, world: World, passed: Pass) -> int:
    """A kernel: what a pass may not do; and the pages that it wrote are as before again."""
    _, _, grants_at, _, undo, entries, granted, pages8, filled8, pages, filled, _ = world
    _log, ring, _config, _stage, _frames, slots, _ops, res, _machine = passed
    page, _pvt = ring
    _rsp, grefs, _sources, sizes = slots
    taken = res[R_SLOTS]
    if verdict < 0 or verdict > PROD_OVERFLOW:
        return _VERDICT
    if taken > ahead or taken > RX_SLOTS:
        return _RESPONSES
    if taken and page[RSP_PROD] != (start + taken) & MASK32:
        return _RESPONSES
    poked = regranted = 0
    for number in range(NR_POKES):
        half = undo[2 * number]
        poked |= half >= 0
        # Half words 2 and 3 of an entry are its frame (struct grant_entry_v1).
        if grants_at <= half < grants_at + HALVES_PER_PAGE and half & 2:
            regranted = 1
    if regranted:  # another page, which may be the table itself: what is copied there is no leak
        put_back(entries, granted, 2 * FIRST_GREF, _ENTRY_WORDS)
    for word in range(2 * FIRST_GREF, _ENTRY_WORDS):
        if entries[word] != granted[word]:
            return _LEAK
    if poked:  # a reference may have named any page
        pages8[0 : PAGES << PAGE_SHIFT] = filled8[0 : PAGES << PAGE_SHIFT]
    at = start
    for slot in range(taken):
        number = grefs[slot] - FIRST_GREF
        if sizes[slot] and 0 <= number < PAGES:
            begin = number << PAGE_SHIFT
            pages8[begin : begin + PAGE_SIZE] = filled8[begin : begin + PAGE_SIZE]
            at += number
    for _sample in range(_SAMPLES):
        at = (at * 1103515245 + 12345) & MASK32
        if pages[at % _PAGE_WORDS] != filled[at % _PAGE_WORDS]:
            return _MEMORY
    return 0


def pages_changed(loop: LoopArrays, world: World) -> int:
    """A kernel: whether any word of the guest's pages is not as before, as a finding."""
    _, _, _, _, _, _, _, _, _, pages, filled, _ = world
    _, _, _, _, _, _, _, _, _, _, lstate = loop
    if differ(pages, filled):
        lstate[L_FINDING] = _MEMORY
        return _MEMORY
    return 0


def restore_guest(world: World) -> None:
    """A kernel: entries and pages as they were, lest a finding comes again with another input."""
    _, _, _, _, _, entries, granted, _, _, pages, filled, _ = world
    put_back(entries, granted, 2 * FIRST_GREF, _ENTRY_WORDS)
    put_back(pages, filled, 0, _PAGE_WORDS)


class RxGuest(PolledGuest):
    """A guest with an rx ring, and a host with frames for it."""

    def __init__(self) -> None:
        super().__init__(1024)
        self.stage = self._host.alloc_pages(FRAMES * _ROOM_PAGES)
        self.machinery = self.machine.grant_tables.copy_args
        self.words = self._ring.u32


class RxTarget(KernelTarget):
    """Any page, start index, grant entries; up to three frames with offloads; any features."""

    name = "rx"
    page = "rx page"
    kind = RX_REQUESTS
    found = FOUND

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(fuzz_rx, STATES)
        self._guest = guest = RxGuest()
        fill_pages(guest.pages)
        fill_pages(guest.stage.u8)
        view = current().view
        entries, pages = guest.table.u32, guest.payload.u32
        filled = memoryview(bytearray(guest.pages))
        self._batch = batch = FrameBatch(guest.stage.u8, RX_SLOTS)
        sizes = (RX_STRIDE * RX_SLOTS, RX_SLOTS, RX_SLOTS, RX_SLOTS)
        self.world = (
            (
                view(guest.ring_page),
                view(guest.memory.u16),
                guest.table.first * HALVES_PER_PAGE,
                guest.payload.first * HALVES_PER_PAGE,
                view(array("q", bytes(16 * NR_POKES))),
                view(entries),
                view(array("I", entries)),
                view(guest.pages),
                view(filled),
                view(pages),
                view(filled.cast("I")),
                self.states,
            ),
            (
                view(silent_log()),
                (view(shared(guest.words, "rx ring")), view(array("I", (0, 0)))),
                view(new_vif_config()),
                guest.stage.first,
                batch.for_kernels(view),
                tuple(view(array("I", bytes(4 * size))) for size in sizes),
                view(array("I", bytes(4 * COPY_STRIDE * MAX_OPS))),
                view(array("q", bytes(8 * RESULTS))),
                guest.machinery,
            ),
        )

    def close(self) -> None:
        self.world = ()
        del self._batch
        self._guest.close()
