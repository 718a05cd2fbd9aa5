"""`make explore`: seeds, what is found, how it is kept and had again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = "tests/tools/tests_to_explore.py"
BOTH = [f"{TESTS}::TestAdding::runTest", f"{TESTS}::test_a_number_is_seen"]
MUCH_TIME = "--seconds=600"


def explore(out: Path, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/explore.py", *words, f"--out={out}", "--jobs=1", TESTS],
        cwd=ROOT,
        env={**os.environ, "XENNET_TESTS_FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )


def passes(command: str, fault: str) -> bool:
    """Whether a command of a report succeeds."""
    hash_seed, *words = shlex.split(command)
    name, _, value = hash_seed.partition("=")
    env = {**os.environ, name: value, "XENNET_TESTS_FAULT": fault}
    return not subprocess.run(words, cwd=ROOT, env=env, capture_output=True, check=False).returncode


def found(output: str) -> list[str]:
    return sorted(re.findall(r"FOUND (\S+):", output))


def test_without_a_seed_it_chooses_one_and_says_it_first(tmp_path: Path) -> None:
    first, second = (explore(tmp_path, "--seconds=0").stdout.splitlines()[0] for _ in range(2))
    assert re.match(r"explore: SEED=\d+ ", first)
    assert first != second


def test_a_round_runs_the_hypothesis_tests_alone_and_keeps_nothing_of_what_passes(
    tmp_path: Path,
) -> None:
    result = explore(tmp_path, MUCH_TIME, "--seed=1", "--rounds=1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("explore: SEED=1 ")
    assert int(re.findall(r"(\d+) runs of tests passed", result.stdout)[-1]) >= 2
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """What the explorer printed, and its reports, where two tests fail."""
    out = tmp_path_factory.mktemp("explored")
    result = explore(out, MUCH_TIME, "--seed=7", fault="sum")
    assert result.returncode == 1
    return result.stdout, sorted(out.iterdir())


def test_what_fails_is_kept_with_the_command_that_shows_it_again(
    kept: tuple[str, list[Path]],
) -> None:
    output, reports = kept
    assert found(output) == BOTH
    assert len(reports) == 2
    assert all(str(report) in output for report in reports)
    (again,) = re.findall(r"^  (PYTHONHASHSEED=.*)", reports[0].read_text(), flags=re.MULTILINE)
    assert not passes(again, fault="sum")
    assert passes(again, fault="")


def test_what_was_kept_is_tried_first_the_next_time(
    kept: tuple[str, list[Path]], tmp_path: Path
) -> None:
    report = tmp_path / kept[1][0].name
    report.write_text(kept[1][0].read_text())
    result = explore(tmp_path, MUCH_TIME, "--rounds=0", fault="sum")
    assert (result.returncode, found(result.stdout)) == (1, BOTH[:1])
    result = explore(tmp_path, MUCH_TIME, "--rounds=0")
    assert (result.returncode, found(result.stdout)) == (0, [])
    assert f"{BOTH[0]} does not fail any more; remove {report}" in result.stdout
    assert report.exists()


def test_the_same_seed_finds_the_same(kept: tuple[str, list[Path]], tmp_path: Path) -> None:
    _, reports = kept
    explore(tmp_path, MUCH_TIME, "--seed=7", fault="sum")
    assert examples(tmp_path.iterdir()) == examples(reports)


def examples(reports: Iterable[Path]) -> list[tuple[str, list[str]]]:
    return [(r.name, re.findall("reproduce_failure.*", r.read_text())) for r in sorted(reports)]


def test_a_run_that_is_not_over_in_time_is_ended(tmp_path: Path) -> None:
    result = explore(tmp_path, "--seconds=1", "--grace=1", "--seed=1", fault="hang")
    assert result.returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_run_that_hangs_is_found_with_where_it_hangs(tmp_path: Path) -> None:
    result = explore(tmp_path, MUCH_TIME, "--rounds=1", "--limit=12", "--seed=1", fault="hang")
    assert result.returncode == 1
    assert "no end in 12 s" in result.stdout
    assert found(result.stdout) == BOTH[1:]
    (report,) = tmp_path.iterdir()
    assert "in test_a_number_is_seen" in report.read_text()


def test_a_process_that_dies_is_found_with_the_test_that_ran(tmp_path: Path) -> None:
    result = explore(tmp_path, MUCH_TIME, "--rounds=1", "--seed=1", fault="crash")
    assert result.returncode == 1
    assert f"FOUND {BOTH[1]}: exit code 3" in result.stdout


def test_a_terminated_explorer_ends_what_it_runs_and_says_what_it_has_found(tmp_path: Path) -> None:
    command = [sys.executable, "tools/explore.py", f"--out={tmp_path}", TESTS]
    env = {**os.environ, "XENNET_TESTS_FAULT": "hang", "XENNET_TESTS_PID": f"{tmp_path}/pid"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        output, _ = process.communicate()
    assert process.returncode == 130
    assert output.splitlines()[-1].endswith("0 failed")
    for pid in (tmp_path / "pid").read_text().split():
        assert not Path("/proc", pid).exists()
