"""A driver that refuses everything passes no check of a refusal: it fails every control twin."""

from __future__ import annotations

import mock_drivers as mocks
from example_check import target

from xennet.check.check import Side, all_checks
from xennet.check.outcome import Outcome
from xennet.check.runner import run_checks


def test_a_netback_that_refuses_everything_fails_all_controls() -> None:
    wanted = [
        one
        for one in all_checks(Side.NETBACK)
        if one.field is not None and Outcome.REFUSED in one.accepts and not one.needs
    ]
    results = run_checks(target(mocks.RefusesAll), wanted[::4])
    assert len(results) > 10
    passed = [result.check.id for result in results if result.good]
    assert passed == []
    for result in results:
        controls = [one for one in result.problems if one.startswith("the control twin: ")]
        assert controls, result.check.id
