"""The other targets of kernels: they run in step with their drivers, reach nearly all of their
branches, and see what they are there to see."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from xennet.fuzz.record_target import KernelTarget, RecordTarget
from xennet.fuzz.ring_mutations import POKE_GRANTS
from xennet.fuzz.targets.ctrl_page import CtrlTarget
from xennet.fuzz.targets.frontend_rx import FrontendRx
from xennet.fuzz.targets.frontend_tx import FrontendTx
from xennet.fuzz.targets.grant_copies import CopyTarget
from xennet.fuzz.targets.rx_page import RxTarget
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.poll_page import FIRST_GREF, PAGES

#: Branches that are reached in 1500 executions, of a hundred (those of other versions of the grant
#: table and of other set-ups are not).
REACHED = {RxTarget: 50, FrontendTx: 50, FrontendRx: 60, CopyTarget: 60, CtrlTarget: 60}


@pytest.mark.parametrize("made", list(REACHED))
def test_hardened_drivers_take_whatever_comes(made: Callable[[], RecordTarget]) -> None:
    target = made()
    target.seed(1)
    burst = target.burst(1500)
    assert (burst.executions, burst.finding) == (1500, None)
    assert burst.packets > 1500
    reached = sum(map(bool, target.loop.seen[: len(target.branches.names)]))
    assert 100 * reached >= REACHED[made] * len(target.branches.names)  # type: ignore[index]
    target.close()


def mark(entries: memoryview) -> Callable[[], None]:
    """Mark the entry of a reference as in use. Returns what takes that back."""
    entries[2 * 9] |= 8

    def restore() -> None:
        entries[2 * 9] &= ~8

    return restore


@pytest.mark.parametrize(
    ("made", "harm", "rule"),
    [
        (RxTarget, lambda t: mark(t._guest.table.u32), "leak"),
        (CopyTarget, lambda t: mark(t._guest.table.u32), "leak"),
        (CopyTarget, lambda t: fill(t._guest.canary.u32), "memory"),
        (RxTarget, lambda t: fill(t._guest.payload.u32), "memory"),
    ],
)
def test_what_may_not_be_is_found(
    made: Callable[[], KernelTarget], harm: Callable[[Any], Callable[[], None]], rule: str
) -> None:
    target = made()
    begun = target.start(Random(1))
    assert target.execute(begun) is None
    restore = harm(target)
    finding = target.execute(begun)
    assert finding is not None
    assert finding.rule == rule
    restore()
    assert target.execute(begun) is None
    target.close()


def fill(words: memoryview) -> Callable[[], None]:
    """Write nearly all words. Returns what takes that back."""
    old = bytes(words)
    for i in range(len(words)):
        words[i] ^= 1

    def restore() -> None:
        words.cast("B")[:] = old

    return restore


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (TxTarget, lambda t: t._poller.payload.u32),
        (RxTarget, lambda t: t._guest.payload.u32),
        (CopyTarget, lambda t: t._guest.payload.u32),
        (CopyTarget, lambda t: t._guest.canary.u32),
    ],
)
def test_a_single_word_is_missed_by_no_input_that_is_kept(
    made: Callable[[], KernelTarget], words: Callable[[Any], memoryview]
) -> None:
    """The last word of the memory, of a page that the input does not name; then it is right again,
    and so is what comes next."""
    target = made()
    before = words(target)[-1]
    target.seed(1)
    words(target)[-1] ^= 1
    burst = target.burst(1)
    assert burst.fresh
    assert burst.finding is not None
    assert burst.finding.rule == "memory"
    assert words(target)[-1] == before
    assert target.burst(1).finding is None
    words(target)[-1] ^= 1
    finding = target.execute(target.start(Random(1)))
    assert finding is not None
    assert finding.rule == "memory"
    assert words(target)[-1] == before
    target.close()


def test_a_guest_that_grants_its_own_table_loses_what_it_says_there() -> None:
    target: Any = RxTarget()
    begun = target.start(Random(1))
    for gref in range(FIRST_GREF, FIRST_GREF + PAGES):
        # POKE_GRANTS, the low half word of the entry's frame, the frame of the table itself
        poke = (POKE_GRANTS, 4 * gref + 2, target._guest.table.first)
        raw = b"".join(word.to_bytes(4, "little") for word in poke)
        assert target.execute(begun.with_section("pokes", raw)) is None
    target.close()
