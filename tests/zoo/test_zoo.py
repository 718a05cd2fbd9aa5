"""Each mutant of the zoo fails the checks that it should, or the test that sees it, and no others.

Here each one plays some of its own checks and a part of the others; ``make zoo`` plays all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from row_inputs import INPUTS
from zoo import (
    HERE,
    TARGETS,
    Exhibit,
    control_failed,
    exhibits,
    expected,
    failing,
    table,
)

from xennet import XnbPoller
from xennet.check.check import all_checks
from xennet.netback.xnb.known import FIXED
from xennet.netback.xnb.oracle import rows_met
from xennet.testing.mutated import function_with

ROOT = HERE.parent.parent
SEEN = [one for one in exhibits().values() if one.target]
UNSEEN = [one for one in exhibits().values() if one.killer and one.mutant]
#: Defects of xnb that no peer sees: but the oracle of a fuzzer does (xennet.netback.xnb.oracle), or
#: a test of its life.
XNB_UNSEEN = [one for one in exhibits().values() if one.unseen and not one.mutant]
BY_ORACLE = [one for one in XNB_UNSEEN if one.row.removeprefix("xnb ") in INPUTS]
UNSEEN_LIVES = [one for one in XNB_UNSEEN if one not in BY_ORACLE and one.killer]
#: So many of its own checks does a mutant play here, and so many of the others.
OWN, OTHERS = 2, 2


def ids(some: list[Exhibit]) -> list[str]:
    return [one.id for one in some]


def spread(names: list[str], count: int, begin: int = 0) -> list[str]:
    """At most ``count`` of ``names``, evenly, from the one numbered ``begin`` on."""
    if len(names) <= count:
        return names
    return [names[(begin + i * len(names) // count) % len(names)] for i in range(count)]


def test_every_bug_of_the_lists_is_in_the_zoo() -> None:
    rows = {one.row for one in exhibits().values()}
    assert {f"field {number}" for number in range(1, 28)} <= rows
    assert {f"xnb {row}" for row in FIXED} <= rows
    assert {"XSA-155", "MSA02", "order"} <= rows


def test_every_mutation_has_its_place() -> None:
    for exhibit in exhibits().values():
        for mutation in exhibit.mutant.mutations if exhibit.mutant else ():
            function_with(mutation.file, mutation.before)


def test_every_check_fails_on_some_mutant() -> None:
    rows = expected()
    named = {check for row in rows["mutants"].values() for check in row["fails"]}
    every = {one.id for one in all_checks()}
    assert named == every, "make zoo ARGS=--write"


def test_every_mutant_fails_something_and_controls_only_if_it_is_blunt() -> None:
    rows = expected()
    assert set(ids(SEEN)) == rows["mutants"].keys()
    for exhibit in SEEN:
        row = rows["mutants"][exhibit.id]
        assert row["fails"], exhibit
        new = set(row["controls"]) - set(rows["targets"][exhibit.target])
        assert bool(new) == bool(exhibit.blunt), exhibit


@pytest.mark.parametrize("exhibit", SEEN, ids=ids(SEEN))
def test_a_mutant_fails_its_checks_and_no_others(exhibit: Exhibit) -> None:
    row = expected()["mutants"][exhibit.id]
    base = set(expected()["targets"][exhibit.target])
    number = SEEN.index(exhibit)
    checks = {one.id: one for one in all_checks(TARGETS[exhibit.target].side)}
    fails = [one for one in row["fails"] if one in checks]
    own = spread([one for one in fails if one not in base] or fails, OWN)
    others = spread([one for one in checks if one not in row["fails"]], OTHERS, number * OTHERS)
    with exhibit.applied() as target:
        found = failing(target, [checks[one] for one in (*own, *others)])
    assert sorted(found) == sorted(own)
    for name, result in found.items():
        assert control_failed(result) == (name in row["controls"]), name


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of each mutant that a test has killed, where that failed."""
    results = tmp_path_factory.mktemp("zoo") / "killed.json"
    killers = sorted({one.killer for one in UNSEEN})
    plain = ("-p", "unseen", "-p", "no:cacheprovider", "-q", "-n0")
    path = os.pathsep.join(filter(None, (str(ROOT), str(HERE), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *killers],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "XENNET_ZOO_KILLED": str(results)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert results.exists(), ran.stdout + ran.stderr
    found: dict[str, str] = json.loads(results.read_text())
    return found


@pytest.mark.parametrize("exhibit", UNSEEN, ids=ids(UNSEEN))
def test_a_bug_that_no_peer_sees_fails_its_test(exhibit: Exhibit, killed: dict[str, str]) -> None:
    assert exhibit.unseen
    assert exhibit.id in killed


@pytest.mark.parametrize("exhibit", BY_ORACLE, ids=ids(BY_ORACLE))
def test_a_defect_that_no_peer_sees_is_named_by_the_oracle(exhibit: Exhibit) -> None:
    row = exhibit.row.removeprefix("xnb ")
    poller = XnbPoller()
    assert list(rows_met(poller, INPUTS[row], known=FIXED.keys() - {row})) == [row]
    poller.close()


@pytest.mark.parametrize("exhibit", UNSEEN_LIVES, ids=ids(UNSEEN_LIVES))
def test_a_defect_of_a_life_that_no_peer_sees_names_a_test_that_there_is(exhibit: Exhibit) -> None:
    file, _, name = exhibit.killer.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()


def test_two_defects_of_a_life_have_no_effect_here() -> None:
    assert {one.row for one in XNB_UNSEEN if not one.killer} == {"xnb C6", "xnb C9"}


def test_the_table_of_the_zoo_is_in_the_docs() -> None:
    assert table() in (ROOT / "docs" / "zoo.md").read_text(), "make zoo ARGS=--write"
