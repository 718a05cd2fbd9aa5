"""A campaign of the same seeds and rounds ends the same, whoever works, and whatever dies."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from attrs import evolve
from toy_target import COPY, MORE, NAME, ODD, HidingTarget, ToyTarget, page

from xennet.fuzz.campaign import Campaign, Result, Settings, Statistics, stability
from xennet.fuzz.clusters import Clusters
from xennet.fuzz.container import ContainerError
from xennet.fuzz.corpus import Corpus
from xennet.fuzz.exploration import Crash
from xennet.fuzz.fuzz_input import FuzzInput, RawError
from xennet.fuzz.open_targets import MAX_IDLE, OpenTargets
from xennet.fuzz.reduction import Replayer, reduced
from xennet.fuzz.report import document, lines
from xennet.fuzz.target import Finding
from xennet.fuzz.target_table import UnknownTargetError, open_target
from xennet.netback.xnb.known import FIXED
from xennet.workers.chosen import InProcess
from xennet.workers.mapping import Workers
from xennet.workers.processes import Processes

SETTINGS = Settings(NAME, seeds=(3, 4, 5), rounds=3)


def without_time(result: Result) -> Result:
    return evolve(result, statistics=evolve(result.statistics, seconds=0.0))


@pytest.fixture(scope="module")
def undisturbed() -> Result:
    return without_time(Campaign(SETTINGS).run(InProcess()))


@pytest.fixture
def processes() -> Iterator[Processes]:
    workers = Processes(2)
    yield workers
    workers.close()


def test_three_mistakes_are_three_clusters(undisturbed: Result) -> None:
    found = [(each.finding.rule, each.finding.where) for each in undisturbed.clusters]
    assert sorted(found) == [
        ("T1", "slot 0: a copy of 200 bytes at 3897"),
        ("T1", 'the last slot says "more"'),
        ("T2", "slot 0: op 7 with flags 0x80"),
    ]
    statistics = undisturbed.statistics
    assert statistics.clusters == 3
    assert statistics.rounds == 3
    assert statistics.executions == 3 * (512 + 1024 + 2048)
    assert sum(each.count for each in undisturbed.clusters) == statistics.findings
    assert statistics.corpus == len(undisturbed.corpus) > 5
    assert statistics.stability == 1.0


def test_processes_find_what_one_process_finds(undisturbed: Result, processes: Processes) -> None:
    assert without_time(Campaign(SETTINGS).run(processes)) == undisturbed


def test_workers_that_are_killed_again_and_again_lose_nothing(
    undisturbed: Result, processes: Processes
) -> None:
    killed = 0

    def kill(statistics: Statistics) -> None:
        nonlocal killed
        killed += 1
        os.kill(processes.pids[killed % len(processes.pids)], signal.SIGKILL)

    assert without_time(Campaign(SETTINGS, tell=kill).run(processes)) == undisturbed
    assert killed == 9


def test_a_campaign_ends_when_it_is_told_to_with_what_it_has() -> None:
    told: list[Statistics] = []
    result = Campaign(SETTINGS, tell=told.append).run(InProcess(), lambda: len(told) == 2)
    assert result.statistics.executions == 1024
    assert result.statistics.rounds == 0
    assert result.clusters


def test_a_campaign_begins_with_a_corpus_of_which_it_keeps_what_shows_something(
    undisturbed: Result,
) -> None:
    twice = [*undisturbed.corpus, *undisturbed.corpus]
    campaign = Campaign(SETTINGS, begin=twice)
    assert campaign.statistics().corpus == undisturbed.statistics.corpus
    assert campaign.statistics().features == undisturbed.statistics.features


def test_known_rules_are_played_as_repaired() -> None:
    settings = evolve(SETTINGS, known=frozenset({"T1"}))
    result = Campaign(settings).run(InProcess())
    assert [each.finding.rule for each in result.clusters] == ["T2"]


def test_a_campaign_closes_its_target() -> None:
    settings = evolve(SETTINGS, target=HidingTarget.name, rounds=1)
    first, second = Campaign(settings), Campaign(settings)
    (target,) = HidingTarget.opened
    first.close()
    first.close()
    second.run(InProcess())
    assert HidingTarget.opened == [target]
    second.close()
    assert HidingTarget.opened == []


def test_a_campaign_that_cannot_begin_closes_its_target() -> None:
    with pytest.raises(RawError):
        Campaign(evolve(SETTINGS, target=HidingTarget.name), [page(*[(0, 0, 0, 0, 0)] * 40)])
    assert HidingTarget.opened == []


def test_targets_that_nobody_uses_are_closed_but_a_few() -> None:
    targets = OpenTargets()
    name, kinds = HidingTarget.name, [frozenset({str(i)}) for i in range(MAX_IDLE + 2)]
    kept = targets.take(name, kinds[0])
    for known in kinds[1:]:
        with targets.using(name, known) as target:
            assert target in HidingTarget.opened
    assert len(HidingTarget.opened) == MAX_IDLE + 1
    with targets.using(name, kinds[2]), pytest.raises(UnknownTargetError):
        targets.take("nothing", kinds[1])
    again = targets.take(name, kinds[1])  # which was closed
    assert [again, kept] == [targets.take(name, kinds[1]), targets.take(name, kinds[0])]
    targets.close_idle()
    assert HidingTarget.opened == [kept, again]
    for known in (kinds[0], kinds[1]) * 2:
        targets.give_back(name, known)
    targets.close_idle()
    assert HidingTarget.opened == []


def test_what_differs_from_one_execution_to_the_next_is_not_stable() -> None:
    class Unsteady(ToyTarget):
        def execute(self, fuzz_input: FuzzInput) -> None:
            self.counters[0] = self.counters[0] ^ (fuzz_input.section("page")[0] & 1)

    assert stability(Unsteady(), [page(), page((0, 0, 0, 0, 0))]) == 0.5
    assert stability(ToyTarget(), []) == 1.0


def crashes(target: ToyTarget, count: int) -> Iterable[Crash]:
    """Crashes as they are found: with other slots around, of any values."""
    random, fuzz_input = Random(1), page()
    while count:
        fuzz_input = target.mutate(fuzz_input, random, fuzz_input)
        if finding := target.execute(fuzz_input):
            yield Crash(finding, target.trace(), fuzz_input)
            count -= 1
            fuzz_input = target.start(random)


def test_a_thousand_crashes_of_three_mistakes_are_three_clusters() -> None:
    target = ToyTarget()
    clusters = Clusters(target)
    for crash in crashes(target, 1000):
        clusters.add(crash)
    assert clusters.unsorted == 1000
    clusters.sort(100_000)
    assert sum(each.count for each in clusters.clusters()) == 1000
    assert len({each.name for each in clusters.clusters()}) == len(clusters) == 3
    assert clusters.unsorted == 0
    later = next(iter(crashes(target, 1)))
    clusters.add(later)
    assert sum(each.count for each in clusters.clusters()) == 1001


def test_a_thousand_crashes_of_three_defects_of_a_driver_are_three_clusters() -> None:
    rows = {"A1", "A3", "A12"}
    target = open_target("xnb-tx", frozenset(FIXED) - rows)
    clusters, random, count = Clusters(target), Random(1), 0
    parent = target.start(random)
    while count < 1000:
        fuzz_input = target.mutate(parent, random, target.start(random))
        if finding := target.execute(fuzz_input):
            clusters.add(Crash(finding, target.trace(), fuzz_input))
            count += 1
        parent = fuzz_input if finding or random.randrange(4) == 0 else target.start(random)
    clusters.sort(10_000)
    assert [each.name for each in clusters.clusters()] == ["A1", "A12", "A3"]
    assert sum(each.count for each in clusters.clusters()) == 1000
    assert max(target.slots(each.fuzz_input) for each in clusters.clusters()) <= 2
    target.close()


def test_a_smaller_crash_of_a_cluster_is_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xennet.fuzz.clusters._REDUCTION", 0)
    target = ToyTarget()
    clusters = Clusters(target)
    large, small = page((7, ODD, 9, 9, 9)), page((7, ODD, 9, 9, 0))
    for fuzz_input in (large, small, large):
        finding = target.execute(fuzz_input)
        assert finding is not None
        clusters.add(Crash(finding, target.trace(), fuzz_input))
        clusters.sort(0)
    (cluster,) = clusters.clusters()
    assert (cluster.fuzz_input, cluster.count) == (small, 3)


def test_long_evidence_is_shortened_in_lines(undisturbed: Result) -> None:
    (first, *_) = undisturbed.clusters
    told = evolve(first, finding=Finding("T1", "x" * 500))
    written = document(SETTINGS, evolve(undisturbed, clusters=(told,)), {}, "")
    assert written["findings"][0]["where"] == "x" * 500
    assert max(map(len, lines(written))) < 160


def test_sorting_is_bounded_but_each_rule_gets_a_cluster() -> None:
    target = ToyTarget()
    clusters = Clusters(target)
    for crash in crashes(target, 50):
        clusters.add(crash)
    clusters.sort(0)
    assert {each.finding.rule for each in clusters.clusters()} == {"T1", "T2"}
    assert clusters.unsorted > 0


def test_crashes_of_too_many_groups_are_counted_and_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xennet.fuzz.clusters.MAX_GROUPS", 3)
    clusters = Clusters(ToyTarget())
    crossing, odd = page((COPY, 0, 4000, 200, 0)), page((7, ODD, 0, 0, 0))
    kept: list[weakref.ref[Crash]] = []

    def add(rule: str, fuzz_input: FuzzInput, group: int) -> None:
        crash = Crash(Finding(rule, ""), group.to_bytes(8), fuzz_input, count=2)
        clusters.add(crash)
        kept.append(weakref.ref(crash))

    def of(rule: str) -> list[int]:
        return [each.count for each in clusters.clusters() if each.finding.rule == rule]

    for group in range(10):
        add("T1", crossing, group)
    gc.collect()
    assert [ref() is not None for ref in kept] == [True] * 3 + [False] * 7
    assert clusters.unsorted == 20
    clusters.sort(1000)
    assert (of("T1"), clusters.unsorted) == ([6], 14)
    for group in (2, 3, 11):  # one that is sorted, two that are not
        add("T1", crossing, group)
    add("T2", odd, 0)  # a rule has its own
    clusters.sort(1000)
    assert (of("T1"), of("T2"), clusters.unsorted) == ([8], [2], 18)


@pytest.mark.parametrize(
    ("large", "small"),
    [
        (
            page((2, MORE, 5, 5, 5), (3, 0, 1, 1, 1), (COPY, 0, 4000, 200, 9), (4, 4, 4, 4, 4)),
            page((COPY, 0, 3897, 200, 0)),
        ),
        (page((2, 0, 5, 5, 5), (3, MORE, 1, 1, 1)), page((0, MORE, 0, 0, 0))),
        (page((7, ODD | 4, 5, 5, 5), (3, MORE, 1, 1, 1)), page((7, ODD, 0, 0, 0))),
    ],
)
def test_an_input_is_reduced_to_what_matters(large: FuzzInput, small: FuzzInput) -> None:
    target = ToyTarget()
    finding = target.execute(large)
    assert finding is not None
    large = large.with_section("limit", b"ab")
    replayer = Replayer(target, finding.rule, 100)
    assert reduced(replayer, large) == small
    assert replayer.executions < 60


def test_a_reduction_ends_when_its_executions_are_spent() -> None:
    target = ToyTarget()
    large = page(*[(0, 0, 9, 9, 9)] * 20, (COPY, 0, 4000, 200, 9))
    replayer = Replayer(target, "T1", budget=5)
    less = reduced(replayer, large)
    assert replayer.executions == 5
    assert target.execute(less) is not None


def test_a_corpus_is_kept_in_a_directory(tmp_path: Path, undisturbed: Result) -> None:
    corpus = Corpus(tmp_path, NAME)
    campaign = Campaign(SETTINGS, keep=corpus.add)
    result = campaign.run(InProcess())
    assert sorted(corpus.load(), key=repr) == sorted(undisturbed.corpus, key=repr)
    files = campaign.write_findings(corpus, result.clusters)
    assert {path: recorded.finding for path, recorded in corpus.recorded_findings()} == {
        files[each.name]: each.finding for each in result.clusters
    }
    kept = undisturbed.corpus[:3]
    assert corpus.keep_only(kept) == len(undisturbed.corpus) - 3
    assert sorted(corpus.load(), key=repr) == sorted(kept, key=repr)


def test_what_a_process_left_half_written_is_no_input(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, NAME)
    path = corpus.add(page())
    path.with_name(".half.part").write_bytes(b"xenf")
    path.with_name("README").write_text("something else")
    assert list(corpus.load()) == [page()]


def test_an_input_of_another_target_is_refused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, NAME)
    path = corpus.add(FuzzInput("tx", ()))
    with pytest.raises(ContainerError, match=f"{path}: offset 0: an input of tx, not of {NAME}"):
        list(corpus.load())


def test_workers_may_be_anybody(undisturbed: Result) -> None:
    """Results are merged in order, however late they come."""

    class Backwards:
        def map(self, function, items):  # type: ignore[no-untyped-def]
            yield from [function(item) for item in reversed(list(items))][::-1]

        def close(self) -> None:
            pass

    workers: Workers = Backwards()
    assert without_time(Campaign(SETTINGS).run(workers)) == undisturbed
