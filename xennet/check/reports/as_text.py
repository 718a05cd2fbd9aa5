"""Results for a reader at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from xennet.check.check import Check
from xennet.check.reports.as_json import versions
from xennet.check.rule_book import Rule
from xennet.check.runner import Result
from xennet.check.target import Target

#: Lines of a program's output that are shown.
_LINES = 3


def result_lines(result: Result) -> Iterator[str]:
    """One line; of a result that is not as expected, all that is known as well."""
    seen = "" if result.seen is None else f"  {result.seen}"
    yield f"{result.word:11} {result.check.id}{seen}"
    if result.outcome == "unsupported":
        yield from (f"    declared: {problem}" for problem in result.problems)
    if result.good:
        return
    rule, evidence = result.rule, result.evidence
    yield from (f"    {problem}" for problem in result.problems)
    yield f"    rule {rule.id} ({rule.severity}, tier {rule.tier}): {rule.text}"
    yield f"    {rule.source} of Xen {rule.release}: {rule.anchor}"
    place = ", ".join(f"{key} {value}" for key, value in evidence.items() if key != "hint")
    if place:
        yield f"    evidence: {place}"
    if result.diff:
        yield "    the control twin differs in: " + "; ".join(result.diff[:4])
    if "hint" in evidence:
        yield f"    hint: {evidence['hint']}"
    if result.unannounced:
        yield f"    not announced by the driver: {', '.join(result.unannounced)}"
    if result.again:
        yield f"    again: {result.again}"
    for what, play in (("its output", result.play), ("the control twin's output", result.twin)):
        for line in () if play is None else play.output.splitlines()[-_LINES:]:
            yield f"    {what}: {line}"


def unannounced_lines(results: Sequence[Result]) -> Iterator[str]:
    """What to declare of a driver whose checks fail for features that it does not announce, if any
    do."""
    lacking = [result for result in results if result.unannounced]
    if lacking:
        names = sorted({name for result in lacking for name in result.unannounced})
        words = " ".join(f"--without {name}" for name in names)
        number = len(lacking)
        yield f"{number} FAIL need what the driver does not announce; if it lacks that: {words}"


def summary(target: Target, results: Sequence[Result], not_played: Sequence[str] = ()) -> str:
    """The last line of a run, which may have been interrupted."""
    counts = Counter(result.word for result in results)
    told = ", ".join(f"{counts[word]} {word}" for word in sorted(counts)) or "no check"
    if not_played:
        told += f", interrupted: {len(not_played)} not played"
    known = versions()
    return (
        f"{target.side} {target.name}: {told} (suite {known['suite']}, rules {known['rules']} "
        f"{known['rules_digest']})"
    )


def rule_lines(rule: Rule, checks: Iterable[Check]) -> Iterator[str]:
    """A rule, its source, and its checks, or why there is none."""
    yield f"{rule.id} ({rule.severity}, tier {rule.tier})"
    yield f"  {rule.text}"
    yield f"  {rule.source} of Xen {rule.release}: {rule.anchor}"
    if rule.unseen:
        yield f"  No peer can see whether it is kept: {rule.unseen}"
    for one in checks:
        if one.rule == rule.id:
            yield f"  {one.id}: {one.summary}"
            field = f", {one.field.name} is the hostile field" if one.field is not None else ""
            yield f"    accepted: {', '.join(sorted(one.accepts))}{field}"
