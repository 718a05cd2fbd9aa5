"""The conformance suite: checks of netfronts and netbacks, each for a rule of the protocol.

A driver under test, in whichever language, is at one end of a vif; a hand-driven peer
(xennet.testing) is at the other, and plays the checks. docs/conformance.md is the guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.check.check import Check, Field, Side, Violation, all_checks
    from xennet.check.outcome import Outcome, Severity, Tier
    from xennet.check.rule_book import Rule
    from xennet.check.runner import Result, run_checks

__all__ = [
    "Check",
    "Field",
    "Outcome",
    "Result",
    "Rule",
    "Severity",
    "Side",
    "Tier",
    "Violation",
    "all_checks",
    "run_checks",
]

_HOMES = {
    "Check": "xennet.check.check",
    "Field": "xennet.check.check",
    "Outcome": "xennet.check.outcome",
    "Result": "xennet.check.runner",
    "Rule": "xennet.check.rule_book",
    "Severity": "xennet.check.outcome",
    "Side": "xennet.check.check",
    "Tier": "xennet.check.outcome",
    "Violation": "xennet.check.check",
    "all_checks": "xennet.check.check",
    "run_checks": "xennet.check.runner",
}

if not TYPE_CHECKING:  # a type checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
