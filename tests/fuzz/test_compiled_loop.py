"""The loop of kernel targets: plain and compiled the same, guided by coverage, bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest
from planted import Planted, Raising

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import using
from xennet.fuzz.compiled_loop import L_CAPACITY, L_ENTRIES, L_EXECUTIONS, L_KEPT
from xennet.fuzz.exploration import Work
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.record_target import RecordTarget
from xennet.fuzz.target_table import open_target
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.poll_page import PagePoller

#: Targets that are compiled: that takes 7 s of CPU time for the smallest, more for others, which
#: XENNET_FUZZ_COMPILED="tx frontend-rx" names.
COMPILED = os.environ.get("XENNET_FUZZ_COMPILED", "frontend-tx").split()


def planted(seed: int) -> Planted:
    with using("plain"):
        target = Planted()
    target.seed(seed)
    return target


@pytest.mark.parametrize("seed", [1, 2])
def test_the_loop_finds_a_planted_bug_and_says_with_which_input(seed: int) -> None:
    target = planted(seed)
    burst = target.burst(30_000)
    assert burst.finding is not None
    assert (burst.finding.rule, burst.finding.where) == (
        "planted",
        "the size that nobody would guess",
    )
    assert burst.found_by is not None
    fresh = planted(99)
    assert fresh.execute(burst.found_by) == burst.finding
    assert fresh.trace() == target.trace()


def test_a_kernel_that_raises_is_a_finding_with_its_input_and_the_loop_goes_on() -> None:
    with using("plain"):
        target = Raising()
    target.seed(1)
    burst = target.burst(30_000)
    assert burst.finding is not None
    assert burst.finding.rule == "exception"
    assert burst.finding.where.startswith("IndexError: ")
    assert burst.found_by is not None
    assert burst.executions == target.loop.state[L_EXECUTIONS] + 1 < 30_000
    with using("plain"):
        assert Raising().execute(burst.found_by) == burst.finding
    explored = target.explore(Work("raising", 1, 0, 2000))
    assert explored.executions == 2000
    assert explored.findings > 1
    for crash in explored.crashes:
        assert target.execute(crash.fuzz_input) == crash.finding


def test_without_operands_of_comparisons_it_does_not() -> None:
    target = planted(1)
    found = None
    for _ in range(300):
        target.loop.operands[:] = memoryview(bytes(target.loop.operands.nbytes)).cast("q")
        found = found or target.burst(5).finding
    assert found is None


def test_a_corpus_has_a_bound_and_what_is_new_is_told_once() -> None:
    target = planted(2)
    target.loop.state[L_CAPACITY] = 3
    told = []
    for _ in range(40):
        told += target.burst(20).fresh
    assert 3 < len(told) <= target.loop.state[L_KEPT] - 1
    assert target.loop.state[L_ENTRIES] == target.corpus_size == 3
    assert len(target.corpus()) == 3
    assert set(target.corpus()) <= {*told, target.start(Random(2))}
    assert len(set(told)) == len(told)


def test_the_same_seed_makes_the_same_corpus_and_another_one_another() -> None:
    corpora = []
    for seed in 5, 5, 6:
        target = planted(seed)
        target.burst(2000)
        corpora.append(target.corpus())
    assert corpora[0] == corpora[1] != corpora[2]


def test_a_loop_goes_on_from_a_corpus_that_it_is_given() -> None:
    target = planted(1)
    target.burst(2000)
    corpus = target.corpus()
    other = planted(2)
    other.seed(7, corpus)
    assert other.corpus() == corpus


@pytest.fixture(scope="module", params=COMPILED)
def both(request: pytest.FixtureRequest) -> Iterator[list[RecordTarget]]:
    """A target plain and compiled, with 1500 executions behind them."""
    pytest.importorskip("numba")
    made = []
    for engine in "plain", "fast":
        with using(engine):
            target = open_target(request.param)
        assert isinstance(target, RecordTarget)
        made.append(target)
        target.seed(11)
        assert target.burst(1500).finding is None
    yield made
    for target in made:
        target.close()


def test_compiled_the_loop_makes_the_same_choices(both: list[RecordTarget]) -> None:
    plain, fast = both
    assert plain.corpus() == fast.corpus()
    assert plain.corpus_size > 8
    assert list(plain.loop.state) == list(fast.loop.state)
    assert bytes(plain.loop.seen) == bytes(fast.loop.seen)
    assert list(plain.loop.operands) == list(fast.loop.operands)


def test_compiled_kernels_count_as_plain_ones_do(both: list[RecordTarget]) -> None:
    plain, fast = both
    random, traces = Random(4), set()
    inputs = plain.corpus()
    while len(inputs) < 200:
        inputs.append(plain.mutate(random.choice(inputs), random, random.choice(inputs)))
    for each in inputs:
        assert plain.execute(each) is fast.execute(each) is None
        assert bytes(plain.counters) == bytes(fast.counters)
        assert plain.packets == fast.packets
        assert plain.trace() == fast.trace()
        traces.add(plain.trace())
    assert len(traces) > 12


@pytest.fixture(scope="module")
def tx() -> Iterator[TxTarget]:
    with using("plain"):
        target = TxTarget()
    yield target
    target.close()


def test_any_page_is_executed_as_a_poller_takes_it(tx: TxTarget) -> None:
    random = Random(8)
    poller = PagePoller()
    for _ in range(30):
        page = bytearray(random.randbytes(PAGE_SIZE))
        page[:4] = random.randrange(258).to_bytes(4, "little")
        poller.load(page)
        verdict = poller.poll()
        assert tx.execute(FuzzInput("tx", (("tx page", bytes(page)),))) is None
        assert tx.counters[tx.states + verdict] == 1
        assert bytes(tx._poller.ring_page) == bytes(poller.ring_page)
        assert tx.packets == len(poller.packets())
    poller.close()


def test_a_mark_that_nobody_takes_off_is_a_leak(tx: TxTarget) -> None:
    page = FuzzInput("tx", ())
    entry = tx._poller.table.u32
    entry[2 * 8] |= 8  # GTF_reading
    finding = tx.execute(page)
    entry[2 * 8] &= ~8
    assert finding is not None
    assert finding.rule == "leak"
    assert tx.execute(page) is None
