"""Units of work are guided by coverage and depend on nothing but what they are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_target import MORE, NAME, ToyTarget, page

from xennet.fuzz.coverage import FEATURES, Coverage
from xennet.fuzz.exploration import (
    MAX_CRASHES,
    Crash,
    CrashTable,
    Explored,
    Work,
    explore,
)
from xennet.fuzz.target import Finding

COUNTERS = st.binary(min_size=6, max_size=6)


def test_a_feature_is_a_range_of_a_counter() -> None:
    ranges = [[0], [1], [2], [3], range(4, 8), range(8, 16), range(16, 32), range(32, 128)]
    for bit, counts in enumerate([*ranges, range(128, 256)]):
        assert {FEATURES[count] for count in counts} == {1 << bit >> 1}


@given(st.lists(COUNTERS), COUNTERS)
def test_coverage_says_what_is_new_and_goes_on_from_bytes(
    before: list[bytes], counters: bytes
) -> None:
    coverage = Coverage()
    for each in before:
        coverage.add(each)
    seen = [{FEATURES[each[i]] for each in before} for i in range(6)]
    new = any(FEATURES[counters[i]] not in seen[i] | {0} for i in range(6))
    again = Coverage(bytes(coverage))
    assert again.features == coverage.features == sum(len(each - {0}) for each in seen)
    assert again.branches == sum(bool(each - {0}) for each in seen)
    assert again.add(counters) is coverage.add(counters) is new
    assert not coverage.add(counters)


def test_a_unit_finds_what_is_there_and_keeps_inputs_that_show_something() -> None:
    target = ToyTarget()
    explored = explore(target, Work(NAME, 0, 0, 2000))
    assert explored.executions == 2000
    assert {crash.finding.rule for crash in explored.crashes} == {"T1", "T2"}
    assert explored.findings == sum(crash.count for crash in explored.crashes) > 100
    coverage = Coverage()
    for fuzz_input in explored.inputs:
        target.execute(fuzz_input)
        assert coverage.add(bytes(target.counters)), "it shows nothing new"
    assert bytes(coverage) == explored.coverage
    for crash in explored.crashes:
        assert target.execute(crash.fuzz_input) == crash.finding
        assert target.trace() == crash.trace


def test_a_unit_depends_on_what_it_is_given_alone() -> None:
    def done(seed: int, number: int) -> Explored:
        return explore(ToyTarget(), Work(NAME, seed, number, 300))

    assert done(1, 2) == done(1, 2)
    assert len({done(seed, number).inputs for seed in (1, 2) for number in (1, 2)}) == 4


def test_a_unit_goes_on_from_the_corpus_and_its_coverage() -> None:
    target = ToyTarget()
    first = explore(target, Work(NAME, 0, 0, 2000))
    work = Work(NAME, 0, 1, 500, coverage=first.coverage).with_inputs(first.inputs)
    assert work.inputs == first.inputs
    coverage = Coverage(first.coverage)
    for fuzz_input in explore(target, work).inputs:
        target.execute(fuzz_input)
        assert coverage.add(bytes(target.counters))


def test_a_large_corpus_is_given_in_part_the_newest_always() -> None:
    corpus = [page((1, 0, 0, 0, number)) for number in range(1000)]
    work = Work(NAME, 0, 5, 1).with_inputs(corpus)
    assert len(set(work.inputs)) == 256
    assert work.inputs[-64:] == tuple(corpus[-64:])
    assert work.with_inputs(corpus).inputs == work.inputs
    assert Work(NAME, 0, 6, 1).with_inputs(corpus).inputs != work.inputs


def test_known_rules_are_no_findings() -> None:
    explored = explore(ToyTarget(), Work(NAME, 0, 0, 1000, known=frozenset({"T1"})))
    assert {crash.finding.rule for crash in explored.crashes} == {"T2"}


def test_a_target_with_a_loop_of_its_own_is_left_to_it() -> None:
    class Own(ToyTarget):
        def explore(self, work: Work) -> Explored:
            return Explored(work.executions, 7, 0, (), b"", ())

    assert explore(Own(), Work(NAME, 0, 0, 3)).packets == 7


def test_of_crashes_with_one_rule_and_trace_the_smallest_is_kept() -> None:
    table = CrashTable()
    large, small = page((1, MORE, 1, 1, 1)), page((1, MORE, 0, 0, 0))
    for fuzz_input in (large, small, large):
        table.add(Crash(Finding("T1", ""), b"a", fuzz_input))
    table.add(Crash(Finding("T2", ""), b"a", large, count=5))
    assert table.findings == 8
    assert [(crash.fuzz_input, crash.count) for crash in table.crashes()] == [
        (small, 3),
        (large, 5),
    ]


def test_more_crashes_of_different_traces_than_a_unit_tells_are_counted() -> None:
    table = CrashTable()
    for number in range(MAX_CRASHES + 5):
        table.add(Crash(Finding("T1", ""), number.to_bytes(2), page()))
    assert len(table.crashes()) == MAX_CRASHES
    assert table.findings == MAX_CRASHES + 5


@pytest.mark.parametrize("seed", range(5))
def test_every_mistake_is_found_from_any_seed(seed: int) -> None:
    found = explore(ToyTarget(), Work(NAME, seed, 0, 2000)).crashes
    assert len({crash.trace for crash in found}) >= 3
