"""Drivers in C under the conformance suite: they keep every rule, and with one bug of the field
compiled in, just the checks that should fail do (bugs.toml).

A few checks for each bug are played here; with XENNET_WHOLE_SUITE=1 the whole suite is, against
every program, which takes half an hour.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from xennet.check.check import Check, Side, all_checks
from xennet.check.outcome import Outcome
from xennet.check.profile import Profile
from xennet.check.program_target import ProgramTarget
from xennet.check.runner import Result, run_checks

TABLE = tomllib.loads((Path(__file__).parent / "bugs.toml").read_text())
WHOLE = bool(os.environ.get("XENNET_WHOLE_SUITE"))
#: Checks that are played for a bug of which more fail.
MOST = 2
BUGS = [pytest.param(bug, id=f"{bug['program']}-{bug['number']}") for bug in TABLE["bug"]]
DRIVERS = [pytest.param(driver, id=driver["program"]) for driver in TABLE["driver"]]


def of_driver(program: str) -> dict[str, Any]:
    (driver,) = (one for one in TABLE["driver"] if one["program"] == program)
    return dict(driver)


def checks_of(bug: dict[str, Any]) -> list[str]:
    """A few of the checks that fail, from all over the list."""
    checks = bug["checks"]
    return list(checks[:: -(-len(checks) // MOST)])


def play(programs: dict[str, str], name: str, ids: Iterable[str] | None) -> dict[str, Result]:
    """The results of the checks ``ids`` (None: of all) against a program, by id."""
    driver = of_driver(name.partition("-")[0])
    side, wanted = Side(driver["side"]), None if ids is None else set(ids)
    chosen: list[Check] = [one for one in all_checks(side) if wanted is None or one.id in wanted]
    target = ProgramTarget((programs[name], *driver["words"]), side, Profile(driver["lacks"]))
    return {result.check.id: result for result in run_checks(target, chosen)}


def told(results: Iterable[Result]) -> str:
    """What is wrong, for a test that fails."""
    return "\n".join(
        f"{one.check.id} {one.outcome}: {'; '.join(one.problems)}"
        for one in results
        if not one.good
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_in_c_keeps_every_rule(programs: dict[str, str], driver: dict[str, Any]) -> None:
    mine = [bug for bug in TABLE["bug"] if bug["program"] == driver["program"]]
    few = {*driver["sample"], *(name for bug in mine for name in checks_of(bug))}
    results = play(programs, driver["program"], None if WHOLE else few)
    assert not told(results.values())
    played = [one for one in results.values() if one.outcome is not Outcome.UNSUPPORTED]
    assert len(played) >= len(few)


@pytest.mark.parametrize("bug", BUGS)
def test_with_a_bug_compiled_in_its_checks_fail(
    programs: dict[str, str], bug: dict[str, Any]
) -> None:
    broad = bug.get("broad", False)
    others = [] if broad else of_driver(bug["program"])["sample"][:2]
    few = [*checks_of(bug), *others]
    results = play(programs, f"{bug['program']}-{bug['number']}", None if WHOLE else few)
    failed = {name for name, one in results.items() if not one.good}
    expected = {*bug["checks"], *bug.get("twins", ())} & set(results)
    assert (failed & expected if broad else failed) == expected
    for name in set(bug["checks"]) & failed:
        assert results[name].twin is None or not any(
            problem.startswith("the control twin") for problem in results[name].problems
        )


def test_at_least_ten_bugs_of_the_field_are_there() -> None:
    assert len({bug["number"] for bug in TABLE["bug"]}) >= 14
