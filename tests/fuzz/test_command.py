"""``xennet fuzz``: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from toy_target import NAME

from xennet.cli import main
from xennet.cli.fuzz import fuzz
from xennet.fuzz.corpus import Corpus

SHORT = ("--rounds", "2", "--seeds", "2")


def test_a_campaign_that_finds_nothing_returns_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "tx", "--rounds", "1", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tx: 512 executions in ")
    assert "stability 100.0 %" in out
    assert out.endswith("  nothing was found\n")


def test_findings_are_told_and_kept_and_the_exit_code_is_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report, statistics = tmp_path / "report.json", tmp_path / "statistics"
    options = ["--corpus", str(tmp_path), "--json", str(report), "--statistics", str(statistics)]
    assert main(["fuzz", NAME, *SHORT, *options]) == 1
    out = capsys.readouterr().out
    document = json.loads(report.read_text())
    assert document["format"] == "xennet-fuzz/1"
    assert [finding["rule"] for finding in document["findings"]] == ["T1", "T1", "T2"]
    for finding in document["findings"]:
        assert f"  {finding['rule']}: {finding['count']} times, {finding['where']}\n" in out
        assert f"    {finding['file']}\n    again: {finding['again']}\n" in out
        assert finding["again"].split() == ["xennet", "fuzz", "replay", finding["file"]]
        assert main(finding["again"].split()[1:]) == 0  # the same finding
        assert Path(finding["file"]).is_relative_to(tmp_path)
    corpus = Corpus(tmp_path, NAME)
    assert len(list(corpus.load())) == document["statistics"]["corpus"]
    assert len(list(corpus.recorded_findings())) == 3
    (line,) = statistics.read_text().splitlines()
    assert set(json.loads(line)) == set(document["statistics"])


def test_the_report_alone_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", NAME, *SHORT, "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["target"] == NAME


def findings(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    main(["fuzz", NAME, *SHORT, "--json", "-", *options])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return found


def test_jobs_find_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(capsys, "--jobs", "2") == findings(capsys)
    assert findings(capsys, "--seed", "9") != findings(capsys)


def test_seeds_are_four_however_many_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["fuzz", NAME, "--rounds", "1", "--json", "-"]
    documents = []
    for jobs in ("1", "5"):
        assert main([*args, "--jobs", jobs]) == 1
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0]["seeds"] == documents[1]["seeds"] == [0, 1, 2, 3]
    assert documents[0]["findings"] == documents[1]["findings"]


def test_known_rules_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert {each["rule"] for each in findings(capsys, "--known", "T1,A1")} == {"T2"}
    assert findings(capsys, "--known", "T1,T2") == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("ty", "There is no target or command 'ty'."),
        ("nowhere:Target", "there is no target 'nowhere:Target': No module named 'nowhere'"),
        ("toy_target:Other", "there is no target 'toy_target:Other': module 'toy_target' has no"),
        (
            "json:loads",
            "xennet: json:loads makes no target: TypeError: the JSON object must be str",
        ),
        ("builtins:dict", "xennet: builtins:dict makes no target, but a dict"),
        ("json:__name__", "xennet: json:__name__ makes no target: TypeError: 'str' object is not"),
        ("tx --rounds 0", "Invalid value for '--rounds': 0 is not in the range x>=1."),
        ("tx --corpus pyproject.toml", "is a file"),
    ],
)
def test_bad_usage_is_told_in_a_line(
    args: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["fuzz", *args.split()]) == 2
    assert message in capsys.readouterr().err.splitlines()[0]


def test_a_cluster_needs_dask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["fuzz", "tx", "--dask", "tcp://127.0.0.1:1"]) == 2
    assert "not installed: pip install 'xennet[campaign]'" in capsys.readouterr().err


def test_a_damaged_corpus_is_told_with_file_and_offset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    corpus = Corpus(tmp_path, "tx")
    corpus.inputs.mkdir(parents=True)
    damaged = corpus.inputs / "a.xenfuzz"
    damaged.write_bytes(b"xenfuzz\0")
    assert main(["fuzz", "tx", "--corpus", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"xennet: {damaged}: offset 0: the head has 12")


def test_the_help_lists_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search("  tx +the hardened backend takes requests", out)
    assert "2 bad usage, 130 after Control-C." in " ".join(out.split())


def test_targets_and_commands_are_completed() -> None:
    items = fuzz.shell_complete(click.Context(fuzz), "")
    assert {"tx", "xnb-tx", "replay", "corpus"} <= {item.value for item in items}
    assert {item.value for item in fuzz.shell_complete(click.Context(fuzz), "xnb-t")} == {"xnb-tx"}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_ends_it_with_a_report(tmp_path: Path, jobs: str) -> None:
    statistics = tmp_path / "statistics"
    options = ["--statistics", str(statistics), "--json", "-", "--jobs", jobs]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "xennet", "fuzz", NAME, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (statistics.exists() and statistics.stat().st_size):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    document = json.loads(out)
    assert process.returncode == 130
    assert document["interrupted"] == "SIGINT"
    assert document["statistics"]["executions"] > 0
