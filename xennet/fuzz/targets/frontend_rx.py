"""The target ``frontend-rx``: what netfront makes of the frames of a hostile backend."""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.words import RX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.kernel import Frames, Grants, Ring, Vector
from xennet.frames import MAX_FRAME
from xennet.fuzz.compiled_loop import (
    L_FINDING,
    L_PACKETS,
    LoopArrays,
    apply_pokes,
    clear,
    keep,
    next_input,
    size_class,
    undo_pokes,
)
from xennet.fuzz.ring_mutations import MORE, RX_RESPONSES, START
from xennet.fuzz.targets.frontend_target import (
    BAD_GRANT,
    BAD_RESPONSES,
    BAD_VERDICT,
    CLASSES,
    FOUND,
    VERDICTS,
    FrontendTarget,
    World,
    grants_poked,
)
from xennet.netback.poll_page import HOST
from xennet.netfront.guest_rx import (
    OK,
    R_DROPPED,
    R_PACKETS,
    R_SLOTS,
    S_KEPT,
    S_UNCONSUMED,
    STILL_GRANTED,
    Backend,
    Buffers,
    take_responses,
)
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.rx_pass import RxPass, rx_batch
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32

_LENGTH = len(FOUND)

RxTaken: TypeAlias = "tuple[Vector, Ring, Buffers, Grants, Frames, Backend, Vector, Vector, Vector]"


def fuzz_rx_responses(
    count: int, replay: int, loop: LoopArrays, world: World, taken: RxTaken
) -> int:
    """A kernel: ``count`` executions, or fewer if one finds something. Returns their
    number.

    ``replay``: 1 executes the record that is there.
    """
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(loop)
        found = run_rx_responses(loop, world, taken)
        if not replay:
            keep(loop)
        if found:
            return done
    return done


def run_rx_responses(loop: LoopArrays, world: World, taken: RxTaken) -> int:
    """A kernel: restore what the last execution changed, execute, judge. Returns a finding."""
    _rng, record, record8, _pool, _pool8, _kept, hits, hits64, _seen, _operands, lstate = loop
    page8, halves, grants_at, pages_at, undo, states = world
    log, ring, buffers, grants, frames, _backend, extras, state, res = taken
    _page, pvt = ring
    _pages, grefs, _zeros = buffers
    words, shift, _, _, access, _ = grants
    page8[0:PAGE_SIZE] = record8[0:PAGE_SIZE]
    start, features = record[START], record[MORE]
    for slot in range(RX_SLOTS):
        words[grefs[slot] << shift] = access
    pvt[FRONT_REQ_PROD_PVT] = (start + RX_SLOTS) & MASK32
    pvt[FRONT_RSP_CONS] = start
    state[S_UNCONSUMED] = features >> 16 & 0xFF
    state[S_KEPT] = 0
    backend = (features & 6, ~features >> 3 & 1)
    apply_pokes(record, halves, grants_at, pages_at, undo)
    clear(hits64)
    verdict = take_responses(
        RX_SLOTS, log, ring, buffers, grants, frames, backend, extras, state, res
    )
    undo_pokes(halves, undo)
    packets = res[R_PACKETS]
    hits[states + verdict % VERDICTS] = 1
    hits[states + VERDICTS + size_class(packets, 9)] = 1
    hits[states + VERDICTS + CLASSES + size_class(res[R_SLOTS], 9)] = 1
    hits[states + VERDICTS + 2 * CLASSES + size_class(res[R_DROPPED], 9)] = 1
    lstate[L_PACKETS] += packets
    found = judge_rx_responses(verdict, start, undo, taken)
    lstate[L_FINDING] = found
    return found


def judge_rx_responses(verdict: int, start: int, undo: Vector, taken: RxTaken) -> int:
    """A kernel: what holds whatever a backend answers."""
    _log, ring, buffers, grants, frames, _backend, _extras, _state, res = taken
    _page, pvt = ring
    _pages, grefs, _zeros = buffers
    words, shift, _, _, _, _ = grants
    data, _, offset, length, _, _, _, _, _ = frames
    if verdict < 0 or verdict > STILL_GRANTED:
        return BAD_VERDICT
    if res[R_SLOTS] > RX_SLOTS:
        return BAD_RESPONSES
    for packet in range(res[R_PACKETS]):
        size = length[packet]
        if not size or size > MAX_FRAME or offset[packet] + size > len(data):
            return _LENGTH
    if verdict == OK:
        if (pvt[FRONT_REQ_PROD_PVT] - pvt[FRONT_RSP_CONS]) & MASK32 != RX_SLOTS:
            return BAD_RESPONSES
        if not grants_poked(undo):
            for slot in range(RX_SLOTS):
                if not words[grefs[slot] << shift]:
                    return BAD_GRANT
    return 0


class FrontendRx(FrontendTarget):
    """Responses to a ring full of buffers, in which there are frames of every kind."""

    name = "frontend-rx"
    page = "rx page"
    kind = RX_RESPONSES
    found = (*FOUND, "length: a frame of 0 bytes or of more than 65535, or outside of the batch")

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(fuzz_rx_responses)
        self._pass = RxPass(self.hv, self.ring, Negotiated(HOST), self.buffers, rx_batch())
        self.world = self.places, (self.log, *self._pass.take_args)

    def close(self) -> None:
        del self._pass
        super().close()
