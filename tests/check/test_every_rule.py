"""Each rule has a check or a reason why there is none; what has to be refused has a twin."""

from __future__ import annotations

import pytest

from xennet.check.check import Check, all_checks
from xennet.check.outcome import Outcome, Severity
from xennet.check.rule_book import Rule, rule_book

CHECKS = all_checks()
OF_RULE: dict[str, list[str]] = {}
for one in CHECKS:
    OF_RULE.setdefault(one.rule, []).append(one.id)


def untold(rules: dict[str, Rule], checked: set[str]) -> list[str]:
    """Rules without a check and without a reason, and rules with both."""
    return [
        f"{rule.id}: {'no check and no reason' if not rule.unseen else 'a check, and a reason'}"
        for rule in rules.values()
        if bool(rule.unseen) == (rule.id in checked)
    ]


def test_each_rule_has_a_check_or_a_reason_why_no_peer_sees_it() -> None:
    assert untold(dict(rule_book()), set(OF_RULE)) == []


def test_a_check_that_is_taken_away_is_missed() -> None:
    gone = "netif.tx.slot-in-page"
    assert untold(dict(rule_book()), set(OF_RULE) - {gone}) == [f"{gone}: no check and no reason"]


def test_each_check_is_of_a_rule_there_is() -> None:
    assert [one.id for one in CHECKS if one.rule not in rule_book()] == []


def has_to_be_refused(one: Check) -> bool:
    """Whether a driver that refuses everything would pass."""
    return Outcome.REFUSED in one.accepts and Outcome.ANSWERED not in one.accepts


@pytest.mark.parametrize("severity", Severity)
def test_each_move_that_has_to_be_refused_has_a_control_twin(severity: Severity) -> None:
    book = rule_book()
    hostile = [
        one for one in CHECKS if book[one.rule].severity is severity and has_to_be_refused(one)
    ]
    assert [one.id for one in hostile if one.field is None] == []


def test_a_twin_is_no_second_hostile_move() -> None:
    same = [one.id for one in CHECKS if one.field and one.field.hostile == one.field.control]
    assert same == []


def test_hints_and_summaries_are_single_lines() -> None:
    for one in CHECKS:
        assert one.summary.endswith("."), one.id
        assert "\n" not in one.hint, one.id
