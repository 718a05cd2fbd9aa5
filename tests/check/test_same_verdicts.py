"""Verdicts depend on the driver only: not on the run, the order of hashes, or who judges."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xennet.check.check import Side, all_checks
from xennet.cli import main

RUNNER = Path(__file__).with_name("foreign_runner.py")
#: Of each side a few checks, spread over all topics.
PLAYED = {side: [one.id for one in all_checks(side)][::60] for side in Side}

#: What a foreign runner plays: checks that FreeBSD's netback lacks the feature for, and others.
OF_THE_FOREIGN = "netback.*.start-0x[17]*"


#: xnb fails some of them: 1.
CODES = {(Side.NETBACK, "xnb"): 1, (Side.NETFRONT, "linux"): 0}


def command(side: Side, kind: str) -> list[str]:
    only = [word for name in PLAYED[side] for word in ("--only", name)]
    return ["check", side, "--builtin", kind, *only, "--json"]


def without_times(printed: str) -> str:
    """The JSON of all checks played, but for durations, byte for byte."""
    document = json.loads(printed)
    played = [one["check"] for one in document["results"]]
    assert played == sorted(PLAYED[Side(document["target"]["side"])])
    assert len(played) > 2
    return re.sub(r'"seconds": [0-9.]+', '"seconds": 0', printed)


@pytest.mark.parametrize(("side", "kind"), CODES)
def test_each_run_prints_the_same_bytes(
    side: Side, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(side, kind)) == CODES[side, kind]
    first = without_times(capsys.readouterr().out)
    assert main(command(side, kind)) == CODES[side, kind]
    assert without_times(capsys.readouterr().out) == first
    other = subprocess.run(
        [sys.executable, "-m", "xennet", *command(side, kind)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert other.returncode == CODES[side, kind], other.stderr
    assert without_times(other.stdout) == first


def test_several_processes_come_to_the_same_verdicts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = CODES[Side.NETBACK, "xnb"]
    assert main(command(Side.NETBACK, "xnb")) == code
    first = without_times(capsys.readouterr().out)
    assert main([*command(Side.NETBACK, "xnb"), "--jobs", "2"]) == code
    assert without_times(capsys.readouterr().out) == first


def test_a_runner_of_60_lines_that_reads_the_list_comes_to_the_same_verdicts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(RUNNER.read_text().splitlines()) <= 60
    target = ["--builtin", "xnb"]
    main(["check", "netback", *target, "--only", OF_THE_FOREIGN, "--json"])
    own = json.loads(capsys.readouterr().out)
    lacks = ",".join(own["target"]["unsupported"])
    foreign = subprocess.run(
        [sys.executable, RUNNER, "", lacks, OF_THE_FOREIGN, "netback", *target],
        capture_output=True,
        text=True,
        check=True,
    )
    words = {"unsupported": "unsupported"}
    mine = [
        (one["check"], words.get(one["outcome"], "pass" if one["good"] else "FAIL"))
        for one in own["results"]
    ]
    assert [tuple(line.split()) for line in foreign.stdout.splitlines()] == mine
    assert {word for _, word in mine} > {"unsupported"}
