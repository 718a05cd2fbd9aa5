"""The loop of kernel targets: plain and compiled the same, guided by coverage, bounded."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from planted import Planted

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import using
from xennet.fuzz.compiled_loop import L_CAPACITY, L_ENTRIES, L_KEPT
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.poll_page import PagePoller


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


@pytest.fixture(scope="module")
def both() -> Any:
    """The target ``tx`` plain and compiled, and how many executions each has made."""
    pytest.importorskip("numba")
    made = []
    for engine in "plain", "fast":
        with using(engine):
            made.append(TxTarget())
        made[-1].seed(11)
        assert made[-1].burst(1500).finding is None
    yield made
    for target in made:
        target.close()


def test_compiled_the_loop_makes_the_same_choices(both: list[TxTarget]) -> None:
    plain, fast = both
    assert plain.corpus() == fast.corpus()
    assert plain.corpus_size > 50
    assert list(plain.loop.state) == list(fast.loop.state)
    assert bytes(plain.loop.seen) == bytes(fast.loop.seen)
    assert list(plain.loop.operands) == list(fast.loop.operands)


def test_compiled_kernels_count_as_plain_ones_do(both: list[TxTarget]) -> None:
    plain, fast = both
    random, traces = Random(4), set()
    for each in plain.corpus() + [plain.start(random) for _ in range(20)]:
        assert plain.execute(each) is fast.execute(each) is None
        assert bytes(plain.counters) == bytes(fast.counters)
        assert plain.packets == fast.packets
        assert plain.trace() == fast.trace()
        traces.add(plain.trace())
    assert len(traces) > 20


def test_any_page_is_executed_as_a_poller_takes_it(both: list[TxTarget]) -> None:
    random = Random(8)
    poller = PagePoller()
    for _ in range(30):
        page = bytearray(random.randbytes(PAGE_SIZE))
        page[:4] = random.randrange(258).to_bytes(4, "little")
        poller.load(page)
        verdict = poller.poll()
        for target in both:
            assert target.execute(FuzzInput("tx", (("tx page", bytes(page)),))) is None
            assert target.counters[target.states + verdict] == 1
            assert bytes(target._poller.ring_page) == bytes(poller.ring_page)
            assert target.packets == len(poller.packets())
    poller.close()


def test_a_finding_of_the_loop_is_one_when_it_is_executed_again(both: list[TxTarget]) -> None:
    for target in both:
        page = FuzzInput("tx", ())
        entry = target._poller.table.u32
        entry[2 * 8] |= 8  # a mark that nobody takes off (GTF_reading)
        finding = target.execute(page)
        entry[2 * 8] &= ~8
        assert finding is not None
        assert finding.rule == "leak"
        assert target.execute(page) is None
