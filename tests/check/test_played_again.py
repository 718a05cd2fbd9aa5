"""The commands that a failing check prints, run as they are printed, come to the same place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xennet.check.check import Side, all_checks
from xennet.check.matrix import CASES, Cell
from xennet.check.program_target import ProgramTarget
from xennet.check.runner import words_of
from xennet.cli import group, main
from xennet.cli.run import run as run_command
from xennet.run.options import RunOptions
from xennet.trace.stream import read

FAILS = ("check", "netback", "--builtin", "xnb", "--only", "netback.tx.slot-in-page")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 1
    return capsys.readouterr().out


@pytest.mark.parametrize("choices", [(), ("--choices", "13a")])
def test_a_check_that_fails_is_played_in_the_same_way(
    choices: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = printed(capsys, *FAILS, *choices, "--evidence", str(tmp_path / "first"))
    (again,) = [line.split()[1:] for line in first.splitlines() if line.startswith("    again: ")]
    assert again == ["xennet", *FAILS, *choices]
    assert printed(capsys, *again[1:], "--evidence", str(tmp_path / "second")) == first
    traces = [
        (tmp_path / name / FAILS[-1] / "trace.jsonl").read_text() for name in ("first", "second")
    ]
    assert traces[0] == traces[1]
    header, events = read(tmp_path / "first" / FAILS[-1] / "trace.jsonl")
    assert header["run"]["command"] == [*FAILS, *choices]
    chosen = [event["choice"] for event in events if event["kind"] == "begin"]
    assert ("a" in header["run"]["choices"]) is (1 in chosen) is bool(choices)


def test_the_choices_of_a_play_are_in_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FAILS, "--choices", "4a", "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["choices"].startswith("4a")
    assert result["again"].endswith("--choices 4a")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--choices", "9999a"), "step 10000 is choice 1; ready was: nothing"),
        (("--choices", "a", "--only", "netback.tx.*"), "--choices are those of one check"),
        (("--choices", "A"), "character 1: 'A' is neither a number"),
    ],
)
def test_choices_that_the_play_does_not_have_are_bad_input(
    words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FAILS, *words]) == 2
    assert why in capsys.readouterr().err


def test_of_a_program_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    one = all_checks(Side.NETBACK)[0]
    assert words_of(ProgramTarget(("true",), Side.NETBACK), one) == ()
    words = ["check", "netback", "--only", one.id, "--choices", "a", "--", "true"]
    assert main(words) == 2
    assert "a program has an order of its own" in capsys.readouterr().err


def test_a_cell_of_the_matrix_is_a_run_of_the_same_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = printed(capsys, "check", "matrix", "--only", "no-features", "--evidence", str(tmp_path))
    lines = iter(out.splitlines())
    reasons = {}
    for line in lines:
        if ": no-features: " in line:
            reasons[next(lines).removeprefix("  again: ")] = line.split(": no-features: ")[1]
    assert reasons
    for again, reason in reasons.items():
        assert main(again.split()[1:]) == 0
        verdict, end = capsys.readouterr().out.splitlines()[-2:]
        assert verdict.startswith("BAD: ")
        assert reason in verdict
        recorded, *_ = tmp_path.glob("windows-xnb-*") if "windows" in again else [None]
        if recorded is not None:
            header, _events = read(recorded / "trace.jsonl")
            assert end == f"end of the run: choices {header['run']['choices']}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_words_of_a_cell_ask_for_its_options(case: object) -> None:
    one = next(each for each in CASES if each is case)
    words = [*Cell("freebsd", "xnb", one, ()).words]
    # With its parent: click keeps the options of help that the first context asked for.
    with (
        group.make_context("xennet", [], resilient_parsing=True) as parent,
        run_command.make_context("run", words, parent=parent) as context,
    ):
        given = context.params
    assert (given["guest"], given["host"]) == ((one.guest,), (one.host,))
    assert (given["frontend"], given["backend"]) == ("freebsd", "xnb")
    asked = {name: given[name] for name in ("queues", "split_channels", "grant_version")}
    asked |= {name: not given[f"no_{name}"] for name in ("sg", "gso", "csum")}
    options = RunOptions(**one.options)
    assert asked == {name: getattr(options, name) for name in asked}
