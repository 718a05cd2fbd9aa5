"""``xennet run --host exec:COMMAND`` and ``--guest exec:COMMAND``: a program is a vif's driver."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from xennet.cli import main
from xennet.host.domains import Guest
from xennet.port import PortError, open_port
from xennet.run.options import RunOptions
from xennet.run.stop import Stop
from xennet.run.with_program import ProgramRun


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """The exit code of a run, and its report."""
    code = main(["run", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_a_backend_takes_what_the_guest_gives_and_answers(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    end = f"exec:{programs['netback']} -e"
    code, report = ran(capsys, "--guest", "gen:600x300", "--host", end)
    assert (code, report["verdict"]["good"]) == (0, True), report["verdict"]["reasons"]
    assert report["verdict"]["reasons"][0] == (
        f"300 frames were given to {end}, which took them all, and 300 came from it"
    )
    assert [one["frames_received"] for one in report["directions"]] == [300, 300]
    assert [port["spec"] for port in report["ports"]] == ["gen:600x300", end]


def test_a_frontend_gives_and_takes(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    end = f"exec:{programs['netfront']} -g 100 -c 60 -n 50"
    code, report = ran(capsys, "--host", "gen:600x50", "--guest", end)
    assert (code, report["verdict"]["good"]) == (0, True), report["verdict"]["reasons"]
    assert [one["frames_received"] for one in report["directions"]] == [60, 50]


@pytest.mark.parametrize("side", ["--guest", "--host"])
def test_a_program_that_ends_at_once_is_told_of(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str], side: str
) -> None:
    other = "--host" if side == "--guest" else "--guest"
    code, report = ran(capsys, side, "exec:sh -c 'exit 3'", other, "gen:600x10")
    assert code == 1
    reasons = report["verdict"]["reasons"]
    assert reasons[0].startswith("exec:sh -c 'exit 3' did not connect: ")
    assert "exec:sh -c 'exit 3' ended with exit code 3" in reasons


@pytest.mark.usefixtures("programs")
def test_a_program_does_not_outlive_a_run_that_cannot_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def boot(_: Guest) -> None:
        raise MemoryError("no guest")

    monkeypatch.setattr(Guest, "boot", boot)
    run = ProgramRun(open_port("null:"), open_port("exec:sleep 1000"), RunOptions(), Stop())
    try:
        with pytest.raises(MemoryError, match="no guest"):
            run.carry_out()
        assert run.program is not None
        assert run.program.returncode == -signal.SIGKILL
    finally:
        run.machine.destroy()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--guest", "exec:a", "--host", "exec:b"], "one end of the vif is xennet's"),
        (["--guest", "exec:a", "--host", "null:", "--link", "epair"], "one end of one vif"),
        (["--guest", "exec:a", "--host", "null:", "--guests", "2"], "one end of one vif"),
        (["--guest", "exec:", "--host", "null:"], "no command"),
        (
            ["--guest", "exec:a", "--host", "null:", "--tap-file", "host=/dev/null"],
            "no --tap-file",
        ),
    ],
)
def test_where_a_program_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["run", *words]) == 2
    assert line in capsys.readouterr().err.splitlines()[0]


def test_a_program_that_is_not_there_is_one_line(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--guest", "exec:/nonexistent", "--host", "null:"]) == 2
    assert "/nonexistent: No such file" in capsys.readouterr().err.splitlines()[0]


def test_a_command_is_divided_as_a_shell_does() -> None:
    assert open_port("exec:a 'b c'").words == ["a", "b c"]  # type: ignore[attr-defined]
    with pytest.raises(PortError, match="No closing quotation"):
        open_port("exec:a 'b")


@pytest.mark.usefixtures("programs")
def test_the_time_of_a_run_counts_while_a_program_does_not_connect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xennet.run.with_program._CONNECT", 3600.0)
    words = "--guest", "gen:600x10", "--host", "exec:sleep 3600", "--for", "0.2"
    code, report = ran(capsys, *words)
    assert code == 1
    assert report["verdict"]["reasons"][0].startswith("exec:sleep 3600 did not connect: ")
