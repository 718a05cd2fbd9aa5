"""One unit of work of a campaign: a number of executions, guided by coverage.

What a unit finds follows from what it is given, whichever process does it, and however fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, runtime_checkable

from attrs import evolve, frozen

from xennet.fuzz.coverage import Coverage
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target import Finding, Target

#: Crashes of different rule or trace that a unit tells of; it counts the others.
MAX_CRASHES = 256
#: Inputs that a unit without any begins with.
_BEGINNINGS = 8
#: One in so many inputs is a new beginning; one parent in two is one of the newest.
_FRESH, _NEWEST = 64, 16
#: Inputs of the corpus that a unit is given.
_NEWEST_GIVEN, _OTHERS_GIVEN = 64, 192


@frozen
class Work:
    """What to do: ``executions`` of inputs that are made of ``inputs``, part of the corpus.

    ``seed`` and ``round`` are all that its random choices depend on. ``coverage``: the features
    that the campaign has seen so far (xennet.fuzz.coverage). ``known``: rules whose findings are
    none.
    """

    target: str
    seed: int
    round: int
    executions: int
    inputs: tuple[FuzzInput, ...] = ()
    coverage: bytes = b""
    known: frozenset[str] = frozenset()

    def random(self) -> Random:
        """The source of all its random choices."""
        return Random(f"{self.target} {self.seed} {self.round}")

    def with_inputs(self, corpus: Sequence[FuzzInput]) -> Work:
        """The same work with some of ``corpus``: the newest inputs, and a choice of the others."""
        if len(corpus) <= _NEWEST_GIVEN + _OTHERS_GIVEN:
            return evolve(self, inputs=tuple(corpus))
        newest, others = corpus[-_NEWEST_GIVEN:], corpus[:-_NEWEST_GIVEN]
        chosen = self.random().sample(others, _OTHERS_GIVEN)
        return evolve(self, inputs=(*chosen, *newest))


@frozen
class Crash:
    """Executions with one finding: the smallest input, the trace of it, how many they were."""

    finding: Finding
    trace: bytes
    fuzz_input: FuzzInput
    count: int = 1

    @property
    def rank(self) -> tuple[int, tuple[tuple[str, bytes], ...]]:
        """Orders crashes: smaller inputs first."""
        return self.fuzz_input.size, self.fuzz_input.sections


@frozen
class Explored:
    """What came of a unit.

    ``inputs``: those that showed a feature of which neither ``Work.coverage`` nor those before it
    knew; ``coverage``: ``Work.coverage`` and all new features; ``crashes``: one for each rule and
    trace, up to MAX_CRASHES; ``findings``: how many executions had one.
    """

    executions: int
    packets: int
    findings: int
    inputs: tuple[FuzzInput, ...]
    coverage: bytes
    crashes: tuple[Crash, ...]


@runtime_checkable
class Explorer(Protocol):
    """A target that has a loop of its own, as compiled ones do."""

    def explore(self, work: Work) -> Explored:
        """As :func:`explore` does."""


class CrashTable:
    """The crashes of a unit: the smallest input of each rule and trace."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, bytes], Crash] = {}
        self.findings = 0

    def add(self, crash: Crash) -> None:
        """Add a crash, with all that it counts."""
        self.findings += crash.count
        key = crash.finding.rule, crash.trace
        before = self._found.get(key)
        if before is None:
            if len(self._found) < MAX_CRASHES:
                self._found[key] = crash
        else:
            best = min(before, crash, key=lambda each: each.rank)
            self._found[key] = evolve(best, count=before.count + crash.count)

    def crashes(self) -> tuple[Crash, ...]:
        """All of them, in the order in which they were found."""
        return tuple(self._found.values())


def explore(target: Target, work: Work) -> Explored:
    """Do one unit of work with ``target``."""
    if isinstance(target, Explorer):
        return target.explore(work)
    random, coverage, table = work.random(), Coverage(work.coverage), CrashTable()
    pool = list(work.inputs) or [target.start(random) for _ in range(_BEGINNINGS)]
    untried = [] if work.inputs else pool[::-1]
    found: list[FuzzInput] = []
    packets = 0
    for _ in range(work.executions):
        fuzz_input = untried.pop() if untried else _next_input(target, pool, random)
        finding = target.execute(fuzz_input)
        packets += target.packets
        if coverage.add(bytes(target.counters)):
            pool.append(fuzz_input)
            found.append(fuzz_input)
        if finding is not None and not finding.known(work.known):
            table.add(Crash(finding, target.trace(), fuzz_input))
    return Explored(
        work.executions, packets, table.findings, tuple(found), bytes(coverage), table.crashes()
    )


def _next_input(target: Target, pool: list[FuzzInput], random: Random) -> FuzzInput:
    if random.randrange(_FRESH) == 0:
        return target.start(random)
    newest = pool[-_NEWEST:] if random.randrange(2) else pool
    return target.mutate(random.choice(newest), random, random.choice(pool))
