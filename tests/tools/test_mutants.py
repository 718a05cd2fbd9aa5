"""`make mutants`: the table is in step with the source, and the tool tells what becomes of each."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RING = "tests/ring/test_ring_macros.py::"


def mutant(name: str, before: str, after: str, killer: str) -> str:
    words = {"id": name, "rule": "a rule", "file": "xennet/ring.py"}
    words |= {"before": before, "after": after, "killer": killer}
    return "[[mutant]]\n" + "".join(f"{key} = {value!r}\n" for key, value in words.items())


def run(table: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/mutants.py", f"--table={table}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_source_and_the_killer_of_every_mutant_are_there(tool: ModuleType) -> None:
    mutants = tool.load(tool.TABLE)
    assert [f"{one.id}: {why}" for one in mutants if (why := one.problem())] == []
    assert len(mutants) >= 80


def test_a_mutant_is_killed_or_survives_or_has_lost_its_source(tmp_path: Path) -> None:
    table = tmp_path / "mutants.toml"
    slot = "(index & (self.nr_ents - 1)) * self.slot_size"
    wraps = RING + "test_slot_addresses_wrap_with_the_ring"
    table.write_text(
        mutant("broken", slot, "index * self.slot_size", wraps)
        + mutant("alike", slot, "(index % self.nr_ents) * self.slot_size", wraps)
        + mutant("moved", "no such source", "", wraps)
        + mutant("untested", slot, "0", RING + "test_x")
    )
    tried = run(table, "--reasons")
    *lines, last = tried.stdout.splitlines()
    assert lines[0] == "moved: NOT TRIED, xennet/ring.py has its source 0 times: 'no such source'"
    assert lines[1] == f"untested: NOT TRIED, there is no test {RING}test_x"
    assert lines[2] == "first, nothing is broken: 1 killers"
    assert lines[3].startswith("broken: killed by test_slot_addresses_wrap_with_the_ring (")
    assert lines[4] == f"alike: SURVIVED {wraps}"
    assert last == "4 mutants: 1 killed, 3 not"
    assert tried.returncode == 1

    tried = run(table, "brok*")
    assert tried.returncode == 0
    assert tried.stdout.endswith("1 mutants: 1 killed, 0 not\n")
    assert slot in (ROOT / "xennet" / "ring.py").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[mutant]]\nid = 'x'\n", "mutant x: "),
        ("[[mutant]]\nid = 'x'\ntarget = 'netfront linux'\n", "`make zoo ONLY=x` runs it"),
        ("[[mutants]]\nid = 'x'\n", "mutants.toml: it has no [[mutant]]"),
        ("[[mutant\n", "mutants.toml: "),
        (2 * mutant("x", "a", "b", "c"), "two mutants are called x"),
        (mutant("y", "a", "b", "c"), "no mutant is called x"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, text: str, why: str) -> None:
    table = tmp_path / "mutants.toml"
    table.write_text(text)
    refused = run(table, "x")
    assert refused.returncode == 2
    assert why in refused.stderr
