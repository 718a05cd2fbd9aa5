"""The target ``frontend-tx``: what netfront makes of a hostile backend's responses to its
requests."""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.kernel import Grants, Ring, Vector
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
from xennet.fuzz.ring_mutations import MORE, START, TX_RESPONSES
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
from xennet.netfront.guest_tx import (
    ILLEGAL_NULL,
    R_ERRORS,
    R_RESPONSES,
    S_EXTRAS,
    S_FREE,
    Buffers,
    Requests,
    take_responses,
)
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.tx_pass import TxPass
from xennet.ring import FRONT_REQ_PROD_PVT, FRONT_RSP_CONS, MASK32

#: Requests that wait for their responses where the input says nothing.
_USUAL_REQUESTS = 16
_MASK_ID = TX_SLOTS - 1
_IDS = len(FOUND)

TxTaken: TypeAlias = "tuple[Vector, Ring, Buffers, Grants, Requests, Vector, Vector]"


def fuzz_tx_responses(
    count: int, replay: int, loop: LoopArrays, world: World, taken: TxTaken
) -> int:
    """A kernel: ``count`` executions, or fewer if one finds something. Returns their number.

    ``replay``: 1 executes the record that is there.
    """
    done = 0
    while done < count:
        done += 1
        if not replay:
            next_input(loop)
        found = run_tx_responses(loop, world, taken)
        if not replay:
            keep(loop)
        if found:
            return done
    return done


def request_all(start: int, waiting: int, extras: int, taken: TxTaken) -> None:
    """A kernel: ``waiting`` requests from index ``start`` on wait for their responses, and
    ``extras`` extra infos; all other ids are free."""
    _log, ring, buffers, grants, requests, state, _res = taken
    _page, pvt = ring
    _pages, grefs, _zeros = buffers
    words, shift, _, _, access, _ = grants
    ids, pending, outcomes = requests
    free = 0
    for slot in range(TX_SLOTS):
        ident = (start + slot) & _MASK_ID
        outcomes[ident] = 0
        if slot < waiting:
            pending[ident] = 1
            words[grefs[ident] << shift] = access
        else:
            pending[ident] = 0
            words[grefs[ident] << shift] = 0
            ids[free] = ident
            free += 1
    state[S_FREE] = free
    state[S_EXTRAS] = extras
    pvt[FRONT_REQ_PROD_PVT] = (start + waiting + extras) & MASK32
    pvt[FRONT_RSP_CONS] = start


def run_tx_responses(loop: LoopArrays, world: World, taken: TxTaken) -> int:
    """A kernel: restore what the last execution changed, execute, judge. Returns a finding."""
    _rng, record, record8, _pool, _pool8, _kept, hits, hits64, _seen, _operands, lstate = loop
    page8, halves, grants_at, pages_at, undo, states = world
    log, ring, buffers, grants, requests, state, res = taken
    page8[0:PAGE_SIZE] = record8[0:PAGE_SIZE]
    start = record[START]
    waiting = record[MORE] & 0xFF
    if not waiting:
        waiting = _USUAL_REQUESTS
    extras = record[MORE + 1] & 7
    request_all(start, waiting, extras, taken)
    apply_pokes(record, halves, grants_at, pages_at, undo)
    clear(hits64)
    verdict = take_responses(log, ring, buffers, grants, requests, state, res)
    undo_pokes(halves, undo)
    answered = res[R_RESPONSES]
    hits[states + verdict % VERDICTS] = 1
    hits[states + VERDICTS + size_class(answered, 9)] = 1
    hits[states + VERDICTS + CLASSES + size_class(res[R_ERRORS], 9)] = 1
    hits[states + VERDICTS + 2 * CLASSES + size_class(state[S_EXTRAS], 9)] = 1
    lstate[L_PACKETS] += answered
    found = judge_tx_responses(verdict, waiting, extras, undo, taken)
    lstate[L_FINDING] = found
    return found


def judge_tx_responses(
    verdict: int, waiting: int, extras: int, undo: Vector, taken: TxTaken
) -> int:
    """A kernel: what holds whatever a backend answers."""
    _log, _ring, buffers, grants, requests, state, res = taken
    _pages, grefs, _zeros = buffers
    words, shift, _, _, _, _ = grants
    ids, pending, _outcomes = requests
    if verdict < 0 or verdict > ILLEGAL_NULL:
        return BAD_VERDICT
    if res[R_RESPONSES] > waiting + extras:
        return BAD_RESPONSES
    poked = grants_poked(undo)
    in_use = total = 0
    for ident in range(TX_SLOTS):
        if pending[ident]:
            in_use += 1
            total += ident
        granted = words[grefs[ident] << shift] != 0
        if not poked and granted != (pending[ident] != 0):
            return BAD_GRANT
    free = state[S_FREE]
    if free + in_use != TX_SLOTS:
        return _IDS
    for place in range(free):
        if pending[ids[place]]:
            return _IDS
        total += ids[place]
    return 0 if total == TX_SLOTS * (TX_SLOTS - 1) >> 1 else _IDS


class FrontendTx(FrontendTarget):
    """Responses to requests that wait, sixteen or as many as the input says, and to extra infos."""

    name = "frontend-tx"
    page = "tx page"
    kind = TX_RESPONSES
    found = (*FOUND, "ids: an id is free twice, or free and in use")

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(fuzz_tx_responses)
        self._pass = TxPass(self.hv, self.ring, Negotiated(HOST), self.buffers)
        self.world = self.places, (self.log, *self._pass.take_args)

    def close(self) -> None:
        del self._pass
        super().close()
