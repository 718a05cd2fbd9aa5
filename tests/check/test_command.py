"""``xennet check``: exit codes, files, and what it lists."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from xennet.check.check import all_checks
from xennet.check.rule_book import rule_book
from xennet.cli import main

#: A check that xnb fails and linux passes.
CHECK = "netback.tx.slot-in-page"
KNOWN = f"""
[[known]]
check = "{CHECK}"
outcome = "crashed"
text = "A12/A13"
reason = "FreeBSD's netback panics"
"""


def run(*args: str) -> int:
    return main(["check", *args])


def test_the_exit_code_is_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("netback", "--builtin", "linux", "--only", CHECK) == 0
    assert run("netback", "--builtin", "xnb", "--only", CHECK) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"pass        {CHECK}  shut down"
    assert told[1].startswith("netback linux: 1 pass (suite ")
    assert told[2] == f"FAIL        {CHECK}  crashed"


def test_a_known_failure_is_green_and_one_that_is_gone_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "known.toml").write_text(KNOWN)
    known = ("--known", str(tmp_path / "known.toml"), "--only", CHECK)
    assert run("netback", "--builtin", "xnb", *known) == 0
    assert run("netback", "--builtin", "linux", *known) == 1
    assert "XPASS" in capsys.readouterr().out


def test_the_known_failures_of_a_built_in_driver_come_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = ("--known", "builtin", "--only", CHECK)
    assert run("netback", "--builtin", "xnb", *known) == 0
    assert run("netback", "--builtin", "linux", *known) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"xfail       {CHECK}  crashed"
    assert told[2] == f"pass        {CHECK}  shut down"
    # A driver without a list has no known failures.
    slots = ("--only", "netfront.event.spurious")
    assert run("netfront", "--builtin", "windows", "--known", "builtin", *slots) == 0


def test_a_file_of_that_name_is_named_with_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builtin").write_text("")
    monkeypatch.chdir(tmp_path)
    args = ("netback", "--builtin", "xnb", "--only", CHECK, "--known")
    assert run(*args, "builtin") == 0
    assert run(*args, "./builtin") == 1


def test_reports_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--junit", str(tmp_path / "j.xml"), "--html", str(tmp_path / "h.html"))
    out = ("--evidence", str(tmp_path / "evidence"), "--json")
    assert run("netback", "--builtin", "xnb", "--only", CHECK, *files, *out) == 1
    assert json.loads(capsys.readouterr().out)["results"][0]["outcome"] == "crashed"
    ElementTree.parse(tmp_path / "j.xml")
    ElementTree.parse(tmp_path / "h.html")
    trace = tmp_path / "evidence" / CHECK / "trace.jsonl"
    assert main(["trace", "show", str(trace), "--kind", "check"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "crashed: " in line


def test_a_feature_can_be_declared_not_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.toml").write_text('[unsupported]\nsg = "one slot"\n')
    options = ("--profile", str(tmp_path / "profile.toml"), "--without", "rate=no", "--json")
    assert run("netback", "--builtin", "linux", "--only", CHECK, *options) == 0
    declared = json.loads(capsys.readouterr().out)["target"]["unsupported"]
    assert declared == {"sg": "one slot", "rate": "no"}


MOCK = "tests.check.mock_drivers:EchoNetback"


def test_what_fails_for_a_feature_that_is_not_announced_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the check connects by itself; nothing is said of a driver that has the feature,
    fails without any, or declares that it lacks it."""
    only = ("--only", "netback.ctrl.unknown-type-0xb", "--only", "netback.tx.short-0")
    page = tmp_path / "page.html"
    assert run("netback", "--python", MOCK, *only, "--html", str(page)) == 1
    told = capsys.readouterr().out.splitlines()
    assert told.count("    not announced by the driver: ctrl-ring") == 1
    assert told[-2] == (
        "1 FAIL need what the driver does not announce; if it lacks that: --without ctrl-ring"
    )
    assert f"<p>{told[-2]}</p>" in page.read_text()
    assert run("netback", "--python", MOCK, *only, "--without", "ctrl-ring") == 1
    assert run("netback", "--builtin", "xnb", "--only", CHECK) == 1
    assert "announce" not in capsys.readouterr().out


def test_checks_are_chosen_by_their_rule_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("netback", "--builtin", "linux", "--only", "netif.tx.short-packet", "--json") == 0
    played = {one["check"] for one in json.loads(capsys.readouterr().out)["results"]}
    assert played == {one.id for one in all_checks() if one.rule == "netif.tx.short-packet"}


def test_checks_are_listed_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "netback.tx.short-*", "netif.tx.slot-in-page") == 0
    told = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {one for one in told if "short" in one} == {
        one.id for one in all_checks() if one.id.startswith("netback.tx.short-")
    }
    assert CHECK in told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("list", "netback.tx.shrt-0"), "Did you mean 'netback.tx.short-0'"),
        (("netback", "--builtin", "xnb", "--only", "netif.tx.slot-in-pag"), "slot-in-page'"),
        (("netback", "--python", "./here/drv.py:make"), "in its directory it is drv:make"),
    ],
)
def test_what_is_nearly_right_is_told(
    words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert why in capsys.readouterr().err


def test_checks_of_weaker_rules_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    weak = [one for one in all_checks() if rule_book()[one.rule].severity == "SHOULD"]
    side, name = weak[0].side, weak[0].id
    args = (side, "--builtin", "linux", "--only", name, "--only", f"{side}.*.slot-in-page")
    assert run(*args, "--json") == 0
    played = {one["check"] for one in json.loads(capsys.readouterr().out)["results"]}
    assert run(*args, "--severity", "MUST", "--json") == 0
    bound = {one["check"] for one in json.loads(capsys.readouterr().out)["results"]}
    assert played - bound == {name}


def test_a_driver_in_python_is_named_by_its_factory(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("netback", "--python", "mock_drivers:Refuses", "--only", CHECK) == 0
    assert run("netback", "--python", "mock_drivers:Crashes", "--only", CHECK) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("netback",), "Name one driver"),
        (("netback", "--builtin", "lunix"), "Did you mean 'linux'?"),
        (("netfront", "--builtin", "xnb"), "There are linux, freebsd, windows"),
        (("netback", "--python", "mock_drivers"), "'mock_drivers' is not module:factory"),
        (("netback", "--python", "no_such:driver"), "no_such:driver: ModuleNotFoundError"),
        (("netback", "--python", "mock_drivers:NASTY"), "is a str and cannot be called"),
        (("netback", "--builtin", "linux", "--only", "tx.*"), "No check is like tx.*"),
        (
            ("netback", "--builtin", "linux", "--only", "*.empty-first", "--severity", "MUST"),
            "No check like *.empty-first is of a rule that binds as MUST.",
        ),
        (("netback", "--python", "mock_drivers:Refuses", "--known", "builtin"), "is for --builtin"),
        (("netback", "--builtin", "xnb", "--known", "no.toml"), "'no.toml' does not exist"),
        (("netback", "--builtin", "linux", "--without", "wings"), "there is no feature 'wings'"),
        (("netback", "--builtin", "linux", "--only", CHECK, "--junit", "/"), "is a directory"),
        (("explain", "netif.tx.slot-in-pages"), "Did you mean 'netif.tx.slot-in-page'"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("xennet: ")
    assert said in first


def test_a_program_that_is_none_is_not_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "driver"
    program.write_bytes(b"\0 no program")
    program.chmod(0o755)
    assert run("netback", "--only", CHECK, "--", str(program)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"xennet: {CHECK}: ExecError: ")


def test_a_report_that_cannot_be_written_names_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "no" / "j.xml")
    assert run("netback", "--builtin", "linux", "--only", CHECK, "--junit", place) == 2
    assert f"{place}: No such file" in capsys.readouterr().err


def test_the_list_has_all_that_a_foreign_runner_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "xennet-checks/1"
    assert [one["check"] for one in document["checks"]] == [one.id for one in all_checks()]
    for one in document["checks"]:
        assert set(one) == {
            *("check", "side", "summary", "rule", "severity", "tier", "accepts"),
            *("control_accepts", "field", "needs", "queues"),
        }
    assert run("list") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(all_checks())


def test_a_rule_is_told_with_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "netif.tx.slot-in-page") == 0
    by_rule = capsys.readouterr().out
    assert run("explain", CHECK) == 0
    assert capsys.readouterr().out == by_rule
    assert CHECK in by_rule
    assert rule_book()["netif.tx.slot-in-page"].text in by_rule


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_no_verdict_and_tells_what_was_not_played(
    tmp_path: Path, number: signal.Signals
) -> None:
    junit, page = tmp_path / "junit.xml", tmp_path / "page.html"
    command = ["check", "netback", "--builtin", "linux", "--junit", str(junit)]
    process = subprocess.Popen(
        [sys.executable, "-m", "xennet", *command, "--html", str(page)],
        env={**os.environ, "XENNET_ENGINE": "plain"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (128 + number, "")
    *verdicts, last = [first, *rest.splitlines()]
    suite = ElementTree.parse(junit).getroot()[0]
    errors = [case.get("name") for case in suite.iter("testcase") if len(case.findall("error"))]
    assert f", interrupted: {len(errors)} not played (suite " in last
    assert len(errors) == int(suite.get("errors", "")) > 0
    played = len(suite.findall("testcase")) - len(errors)
    assert played > 0
    assert played - len(verdicts) in (0, 1), "the signal may come between a verdict and its line"
    assert f"The run was interrupted before {errors[0]}, " in page.read_text()
