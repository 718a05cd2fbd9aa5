"""A finding explains itself: fewest slots, which fields matter and how, a test that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_target import COPY, MORE, NAME, ODD, ToyTarget, page

from xennet.fuzz.field_map import MappedField, Role
from xennet.fuzz.finding_file import Recorded
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.minimise import GoneError, Minimised, minimised
from xennet.fuzz.pytest_text import pytest_text
from xennet.fuzz.target import Finding

CROSSING = page((3, 0, 1, 1, 7), (COPY, 0, 4000, 200, 99), (2, 0, 0, 0, 0))


def explained(fuzz_input: FuzzInput, target: ToyTarget | None = None) -> Minimised:
    return minimised(Recorded(fuzz_input), target or ToyTarget())


def fields(small: Minimised) -> dict[str, MappedField]:
    return {mapped.name: mapped for mapped in small.fields}


def test_a_fragment_that_crosses_a_page_has_offset_and_size_bound_and_a_free_id() -> None:
    small = explained(CROSSING)
    assert small.recorded.fuzz_input == page((COPY, 0, 4000, 200, 0))
    assert small.slots == (3, 1)
    assert small.recorded.finding == Finding("T1", "slot 0: a copy of 200 bytes at 4000")
    mapped = fields(small)
    assert {name: each.says for name, each in mapped.items()} == {
        "slots": "constrained: 1 to 65535",
        "slot 0 op": "essential",
        "slot 0 flags": "free: 64 values tried",
        "slot 0 offset": "constrained: 3897 to 65535, bound to slot 0 size",
        "slot 0 size": "constrained: 97 to 65535, bound to slot 0 offset",
        "slot 0 id": "free: 64 values tried",
    }


def test_a_bit_that_matters_is_told_as_a_bit() -> None:
    mapped = fields(explained(page((7, ODD, 0, 0, 0))))
    assert mapped["slot 0 flags"].says == "constrained: 128 to 255"
    assert mapped["slot 0 op"].role is Role.ESSENTIAL
    mapped = fields(explained(page((0, MORE, 0, 0, 0))))
    assert mapped["slot 0 flags"].says == "constrained: bits 0x1 = 0x1"


def test_fields_that_can_change_only_together_are_bound() -> None:
    class Equal(ToyTarget):
        def execute(self, fuzz_input: FuzzInput) -> Finding | None:
            slots = self._slots(fuzz_input)
            good = len(slots) == 1 and slots[0][2] == slots[0][3] + 8 > 8
            return Finding("T3", "") if good else None

    mapped = fields(explained(page((0, 0, 208, 200, 0)), Equal()))
    assert mapped["slot 0 offset"].says == "essential, bound to slot 0 size"
    assert mapped["slot 0 size"].says == "essential, bound to slot 0 offset"
    assert mapped["slots"].says == "essential"


def test_the_map_is_told_in_lines_and_as_a_document() -> None:
    small = explained(CROSSING)
    assert list(small.lines())[:4] == [
        f"{NAME}, T1: slot 0: a copy of 200 bytes at 4000",
        f"1 of 3 slots and 7 of 19 bytes are left, after {small.executions} executions",
        "  slots             1  constrained: 1 to 65535",
        "  slot 0 op         1  essential",
    ]
    document = small.to_json()
    assert document["slots"] == {"before": 3, "after": 1}
    assert document["fields"][3] == {
        "name": "offset",
        "slot": 0,
        "section": "page",
        "offset": 4,
        "size": 2,
        "value": 4000,
        "role": "constrained",
        "low": 3897,
        "high": 65535,
        "others": False,
        "bits": 0,
        "bound": ["slot 0 size"],
    }


def test_an_input_without_a_finding_cannot_be_minimised() -> None:
    with pytest.raises(GoneError, match="the input has no finding any more"):
        explained(page())


def test_a_finding_that_comes_and_goes_is_told() -> None:
    class Unsteady(ToyTarget):
        executions = 0

        def execute(self, fuzz_input: FuzzInput) -> Finding | None:
            self.executions += 1
            return Finding("T1", "") if self.executions == 1 else None

    with pytest.raises(GoneError, match="each time"):
        explained(CROSSING, Unsteady())


def run_pytest(path: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    return subprocess.run(
        command, cwd=path.parent, env=env, capture_output=True, text=True, check=False
    )


def test_the_test_runs_as_it_stands_and_fails_until_the_finding_is_gone(tmp_path: Path) -> None:
    small = explained(CROSSING)
    path = tmp_path / "test_finding.py"
    path.write_text(small.test)
    failed = run_pytest(path)
    assert failed.returncode == 1, failed.stderr
    assert "Finding(rule='T1', where='slot 0: a copy of 200 bytes at 4000')" in failed.stdout
    assert "def test_toy_target_toytarget_t1():" in small.test
    assert '0: "0100",  # slots=1' in small.test
    assert '2: "0100a00fc8000000",  # slot 0: op=1 flags=0 offset=4000 size=200 id=0' in small.test
    path.write_text(small.test.replace("known=frozenset([])", "known=frozenset(['T1'])"))
    assert run_pytest(path).returncode == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_text_of_a_test_has_the_input_whole(seed: int) -> None:
    import random

    source = random.Random(seed)
    content = b"".join(
        bytes(source.randrange(40)) + source.randbytes(source.randrange(40)) for _ in range(6)
    )
    fuzz_input = FuzzInput(NAME, (("page", content[:258]), ("limit", b"\1\0")))
    nasty = Finding("T1", 'a "quoted" \\ line\n\x1b[0m"""')
    text = pytest_text(Recorded(fuzz_input, nasty, frozenset({"A1"})), ToyTarget())
    names: dict[str, object] = {}
    exec(compile(text, "test_finding.py", "exec"), names)
    assert names["INPUT"] == fuzz_input
