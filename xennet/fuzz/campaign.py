"""A campaign: rounds of units of work, whose results are merged in order.

A round has one unit for each seed. All units of a round begin with the corpus and the coverage of
the rounds before, and are merged in the order of their seeds; so it does not matter who does them,
or when, and a campaign of the same seeds and rounds always ends the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any

from attrs import asdict, field, frozen

from xennet.fuzz.clusters import Cluster, Clusters
from xennet.fuzz.corpus import Corpus
from xennet.fuzz.coverage import Coverage
from xennet.fuzz.exploration import Explored, Work, explore
from xennet.fuzz.fuzz_input import FuzzInput, from_raw, to_raw
from xennet.fuzz.open_targets import OPEN_TARGETS
from xennet.fuzz.target import Target
from xennet.workers.mapping import Workers

#: Executions of the units of the first round, at least, and as a part of the target's; each round
#: has twice as many, up to the target's.
_FIRST, _FIRST_PART = 512, 64
#: Inputs of a corpus.
MAX_INPUTS = 20_000


@frozen
class Settings:
    """What a campaign is of: results follow from these.

    ``seeds``: of the units of a round. ``known``: rules behind which it goes on.
    """

    target: str
    seeds: tuple[int, ...] = (0,)
    known: frozenset[str] = frozenset()
    rounds: int | None = None


@frozen
class Statistics:
    """What a campaign has done so far.

    ``packets``: that executions have carried; ``findings``: executions with one; ``stability``: the
    share of the corpus that took the same branches when it was executed twice, None before that was
    tried.
    """

    executions: int = 0
    packets: int = 0
    findings: int = 0
    clusters: int = 0
    corpus: int = 0
    features: int = 0
    branches: int = 0
    rounds: int = 0
    seconds: float = 0.0
    stability: float | None = None

    @property
    def rate(self) -> float:
        """Executions a second."""
        return self.executions / self.seconds if self.seconds else 0.0

    @property
    def packets_an_execution(self) -> float:
        """Mean of all executions."""
        return self.packets / self.executions if self.executions else 0.0

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""
        more = {
            "executions_per_second": round(self.rate, 1),
            "packets_per_execution": round(self.packets_an_execution, 3),
        }
        return asdict(self) | {"seconds": round(self.seconds, 3)} | more


@frozen
class Result:
    """How a campaign ended. ``corpus``: the inputs that are worth keeping."""

    statistics: Statistics
    corpus: tuple[FuzzInput, ...]
    clusters: tuple[Cluster, ...]
    unsorted: int
    coverage: bytes = field(repr=False)


#: A target executes one input at a time; the workers of a cluster may be threads of one process.
_ONE_AT_A_TIME = Lock()


def do(work: Work) -> Explored:
    """Do a unit of work, in whatever process."""
    with _ONE_AT_A_TIME, OPEN_TARGETS.using(work.target, work.known) as target:
        return explore(target, work)


class Campaign:
    """``begin``: a corpus to begin with. ``tell`` gets statistics after each unit.

    It has its target open until :meth:`close`. Raises UnknownTargetError, and what ``begin`` and
    ``keep`` raise.
    """

    def __init__(
        self,
        settings: Settings,
        begin: Iterable[FuzzInput] = (),
        tell: Callable[[Statistics], None] = lambda statistics: None,
        keep: Callable[[FuzzInput], object] = lambda fuzz_input: None,
    ) -> None:
        self._settings, self._tell, self._keep = settings, tell, keep
        self._target = OPEN_TARGETS.take(settings.target, settings.known)
        self._closed = False
        self._coverage = Coverage()
        self._clusters = Clusters(self._target)
        self.corpus: list[FuzzInput] = []
        self._executions = self._packets = self._findings = self._rounds = 0
        self._stability: float | None = None
        self._began = time.monotonic()
        try:
            for fuzz_input in begin:
                self._try(fuzz_input)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close its target, and those that units of work have opened in this process."""
        if not self._closed:
            self._closed = True
            OPEN_TARGETS.give_back(self._settings.target, self._settings.known)
            OPEN_TARGETS.close_idle()

    def run(self, workers: Workers, over: Callable[[], bool] = lambda: False) -> Result:
        """Do round after round until ``over()``, or as many as were asked for."""
        rounds = self._settings.rounds
        while not over() and (rounds is None or self._rounds < rounds):
            for explored in workers.map(do, self._units()):
                self._merge(explored)
                self._tell(self.statistics())
                if over():
                    break
            else:
                self._rounds += 1
            # Sorting takes up to a third of all executions.
            self._clusters.sort(self._executions // 2 - self._clusters.executions)
        self._stability = stability(self._target, self.corpus)
        return Result(
            self.statistics(),
            tuple(self.corpus),
            tuple(self._clusters.clusters()),
            self._clusters.unsorted,
            bytes(self._coverage),
        )

    def write_findings(self, corpus: Corpus, clusters: Iterable[Cluster]) -> dict[str, Path]:
        """Write a finding of each cluster to ``corpus``. Returns where, by the clusters' names.
        Raises OSError."""
        known = self._settings.known
        return {
            cluster.name: corpus.add_finding(cluster, known, self._target) for cluster in clusters
        }

    def statistics(self) -> Statistics:
        """How far it is."""
        return Statistics(
            executions=self._executions,
            packets=self._packets,
            findings=self._findings,
            clusters=len(self._clusters),
            corpus=len(self.corpus),
            features=self._coverage.features,
            branches=self._coverage.branches,
            rounds=self._rounds,
            seconds=time.monotonic() - self._began,
            stability=self._stability,
        )

    def _units(self) -> list[Work]:
        most = self._target.unit_executions
        first = max(_FIRST, most // _FIRST_PART)
        executions = min(first << min(self._rounds, 30), most)
        return [self._unit(seed, executions) for seed in self._settings.seeds]

    def _unit(self, seed: int, executions: int) -> Work:
        settings = self._settings
        work = Work(
            settings.target,
            seed,
            self._rounds,
            executions,
            coverage=bytes(self._coverage),
            known=settings.known,
        )
        return work.with_inputs(self.corpus)

    def _merge(self, explored: Explored) -> None:
        self._executions += explored.executions
        self._packets += explored.packets
        self._findings += explored.findings
        for fuzz_input in explored.inputs:
            self._try(fuzz_input)
        for crash in explored.crashes:
            self._clusters.add(crash)

    def _try(self, fuzz_input: FuzzInput) -> None:
        """Take an input into the corpus if it shows something that no other has shown."""
        sections = self._target.sections
        fuzz_input = from_raw(self._target.name, sections, to_raw(sections, fuzz_input))
        self._target.execute(fuzz_input)
        if self._coverage.add(bytes(self._target.counters)) and len(self.corpus) < MAX_INPUTS:
            self.corpus.append(fuzz_input)
            self._keep(fuzz_input)


def stability(target: Target, corpus: Iterable[FuzzInput]) -> float:
    """The share of ``corpus``, 0 to 1, that takes the same branches as often in two executions."""
    same = total = 0
    for fuzz_input in corpus:
        target.execute(fuzz_input)
        first = bytes(target.counters)
        target.execute(fuzz_input)
        same += bytes(target.counters) == first
        total += 1
    return same / total if total else 1.0
