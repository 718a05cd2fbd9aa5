"""Results and lists of checks as JSON. Runs with the same verdicts differ in ``seconds`` only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xennet.check.check import Check
from xennet.check.profile import FEATURES
from xennet.check.rule_book import RULES_VERSION, Rule, rule_book, rules_digest
from xennet.check.runner import SUITE_VERSION, Result
from xennet.check.target import Target

#: The names of the layouts; each gets a new number when a key changes its meaning or is removed.
FORMAT, LIST_FORMAT = "xennet-check/1", "xennet-checks/1"

_EVIDENCE = ("ring", "queue", "index", "words", "path", "value", "hint")


def versions() -> dict[str, str]:
    """The versions by which a verdict can be told from another: of the suite, of its rules."""
    return {"suite": SUITE_VERSION, "rules": RULES_VERSION, "rules_digest": rules_digest()}


def results_json(
    target: Target, results: Sequence[Result], not_played: Sequence[str] = ()
) -> dict[str, Any]:
    """All results of a run, and the ids of checks that it was interrupted before."""
    words = [result.word for result in results]
    return {
        "format": FORMAT,
        "versions": versions(),
        "target": {
            "name": target.name,
            "side": target.side,
            "unsupported": dict(target.profile.unsupported),
        },
        "counts": {word: words.count(word) for word in sorted(set(words))},
        "good": not not_played and all(result.good for result in results),
        "not_played": list(not_played),
        "results": [result_json(result) for result in results],
    }


def result_json(result: Result) -> dict[str, Any]:
    """One result; of one that passes no evidence and no notes."""
    shown = result.play is not None and (not result.good or result.known is not None)
    return {
        "check": result.check.id,
        "rule": result.rule.id,
        "severity": result.rule.severity,
        "tier": result.rule.tier,
        "outcome": result.outcome,
        "good": result.good,
        "seen": result.seen,
        "accepts": sorted(result.check.accepts),
        "control": result.control,
        "problems": list(result.problems),
        "known": "" if result.known is None else result.known.reason,
        "evidence": dict.fromkeys(_EVIDENCE) | result.evidence if shown else None,
        "slot_diff": result.diff if shown else [],
        "notes": [str(note) for note in result.play.notes] if shown and result.play else [],
        "again": result.again,
        "choices": result.play.choices if shown and result.play else None,
        "seconds": round(result.seconds, 3),
    }


def list_json(checks: Iterable[Check]) -> dict[str, Any]:
    """All that a foreign runner needs to make a case of each check."""
    return {
        "format": LIST_FORMAT,
        "versions": versions(),
        "features": FEATURES,
        "checks": [_check(one, rule_book()[one.rule]) for one in checks],
    }


def _check(one: Check, rule: Rule) -> dict[str, Any]:
    return {
        "check": one.id,
        "side": one.side,
        "summary": one.summary,
        "rule": {
            "id": rule.id,
            "text": rule.text,
            "source": rule.source,
            "release": rule.release,
            "anchor": rule.anchor,
        },
        "severity": rule.severity,
        "tier": rule.tier,
        "accepts": sorted(one.accepts),
        "control_accepts": sorted(one.control_accepts) if one.field is not None else [],
        "field": None if one.field is None else one.field.name,
        "needs": sorted(one.needs),
        "queues": one.queues,
    }
