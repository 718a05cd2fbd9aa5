"""Findings that are the same are one cluster: by rule, and by the branches of a reduced input.

The branches of a crash as it was found tell too much: whatever else its page has. So crashes of one
rule and trace are a group, and the smallest of a group is reduced; groups whose reduced inputs take
the same branches are one cluster.
"""

from __future__ import annotations

from collections import Counter

from attrs import evolve, frozen

from xennet.fuzz.exploration import Crash
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.reduction import Replayer, reduced
from xennet.fuzz.target import Finding, Target

#: Groups of one rule that are reduced; crashes of later ones are only counted, and not kept.
MAX_GROUPS = 1000
#: Executions to reduce one of them: enough for inputs of a few slots, which come sooner or later.
_REDUCTION = 512


@frozen
class Cluster:
    """``count`` crashes; ``fuzz_input``: the smallest reduced one, with ``finding``, ``trace``."""

    finding: Finding
    trace: bytes
    fuzz_input: FuzzInput
    count: int

    @property
    def name(self) -> str:
        """For files: its rule, and the begin of its trace unless the rule says it all."""
        rule = "".join(c if c.isalnum() else "-" for c in self.finding.rule)
        return f"{rule}-{self.trace.hex()[:8]}" if any(self.trace) else rule


class Clusters:
    """All clusters of a target. ``executions``: how many were made to reduce inputs."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._clusters: dict[tuple[str, bytes], Cluster] = {}
        self._group: dict[tuple[str, bytes], tuple[str, bytes]] = {}
        self._waiting: dict[tuple[str, bytes], Crash] = {}
        #: By rule: those that have a cluster, and those that wait for one.
        self._groups = Counter[str]()
        self._more = 0
        self.executions = 0

    def __len__(self) -> int:
        return len(self._clusters)

    def clusters(self) -> list[Cluster]:
        """All of them, by name of their rule."""
        return sorted(self._clusters.values(), key=lambda each: (each.finding.rule, each.trace))

    @property
    def unsorted(self) -> int:
        """Crashes without a cluster: of groups that wait, or too many of their rule."""
        return self._more + sum(crash.count for crash in self._waiting.values())

    def add(self, crash: Crash) -> None:
        """Add a crash, to its cluster if that of its group is known."""
        group = crash.finding.rule, crash.trace
        if (key := self._group.get(group)) is not None:
            cluster = self._clusters[key]
            self._clusters[key] = cluster = evolve(cluster, count=cluster.count + crash.count)
            if crash.trace == cluster.trace and crash.fuzz_input.size < cluster.fuzz_input.size:
                smaller = evolve(cluster, finding=crash.finding, fuzz_input=crash.fuzz_input)
                self._clusters[key] = smaller
        elif (before := self._waiting.get(group)) is not None:
            best = min(before, crash, key=lambda each: each.rank)
            self._waiting[group] = evolve(best, count=before.count + crash.count)
        elif self._groups[crash.finding.rule] < MAX_GROUPS:
            self._groups[crash.finding.rule] += 1
            self._waiting[group] = crash
        else:
            self._more += crash.count

    def sort(self, budget: int) -> None:
        """Reduce groups that wait, rules without a cluster first, until ``budget`` executions are
        spent; what is left waits on. A rule without a cluster always gets its first."""
        have = {rule for rule, _ in self._clusters}
        order = sorted(self._waiting, key=lambda group: group[0] in have)
        end = self.executions + budget
        for group in order:
            rule = group[0]
            if self.executions >= end and rule in have:
                continue
            self._sort(group, self._waiting.pop(group))
            have.add(rule)

    def _sort(self, group: tuple[str, bytes], crash: Crash) -> None:
        target = self._target
        replayer = Replayer(target, crash.finding.rule, _REDUCTION)
        fuzz_input = reduced(replayer, crash.fuzz_input)
        finding = target.execute(fuzz_input)
        self.executions += replayer.executions + 1
        if finding is None or finding.rule != crash.finding.rule:  # it is not stable
            finding, trace, fuzz_input = crash.finding, crash.trace, crash.fuzz_input
        else:
            trace = target.trace()
        key = finding.rule, trace
        self._group[group] = key
        made = Cluster(finding, trace, fuzz_input, crash.count)
        if (before := self._clusters.get(key)) is not None:
            smaller = min(before, made, key=lambda each: each.fuzz_input.size)
            made = evolve(smaller, count=before.count + crash.count)
        self._clusters[key] = made
