"""`xennet check` on programs: drivers in C, and programs that crash, loop, or never connect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xennet.check.check import Side, all_checks
from xennet.check.peers import new_peer
from xennet.check.program_target import ProgramTarget
from xennet.check.runner import run_checks
from xennet.check.target import DriverEndedError, Liveness
from xennet.cli import main

#: Seconds that only a hang reaches.
PATIENCE = 60.0
CHECK = {"netback": "netback.tx.slot-in-page", "netfront": "netfront.rx.slot-in-page"}


def python(source: str) -> tuple[str, ...]:
    return sys.executable, "-c", source


def in_session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(name))
    return found


def wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def life(side: Side, *argv: str, cpu: float = 0.3) -> tuple[str, Liveness, str]:
    """Connect to a program and send a probe. Returns what is missing of its answer, what became of
    the program, and why."""
    session = ProgramTarget(argv, side, cpu=cpu).open({}, 1)
    leader = session.process
    try:
        peer = new_peer(session, side)
        missing = "" if peer.enter(1) else "it does not connect"
        missing = missing or peer.probe(0)
        peer.close()
    except DriverEndedError:
        missing = "it has ended"
    finally:
        held = session.close()
    assert not held
    wait(lambda: not in_session(leader))  # what is killed takes a moment to end
    return missing, session.liveness, session.reason


SIDES = [(Side.NETBACK, "check_netback"), (Side.NETFRONT, "check_netfront")]


@pytest.mark.parametrize(("side", "name"), SIDES)
def test_a_driver_in_c_answers(programs: dict[str, str], side: Side, name: str) -> None:
    assert life(side, programs[name]) == ("", Liveness.RESTS, "")


def test_a_driver_that_polls_is_judged_as_one_that_waits(programs: dict[str, str]) -> None:
    """Its work takes several turns, with requests to the store in between."""
    wanted = {"netback.event.behind-short", "netback.life.new-start", CHECK["netback"]}
    chosen = [one for one in all_checks(Side.NETBACK) if one.id in wanted]
    target = ProgramTarget((programs["check_netback"], "-p"), Side.NETBACK)
    results = run_checks(target, chosen)
    assert len(results) == len(wanted)
    assert not [problem for one in results for problem in one.problems]


def test_a_program_may_be_started_by_another_one(programs: dict[str, str]) -> None:
    words = "sh", "-c", f"{programs['check_netback']} -d 1; echo over"
    assert life(Side.NETBACK, *words) == ("", Liveness.RESTS, "")


@pytest.mark.parametrize(
    ("source", "liveness", "reason"),
    [
        ("raise SystemExit(3)", Liveness.DEAD, "the program ended with exit code 3"),
        ("raise SystemExit", Liveness.DEAD, "the program ended with exit code 0"),
        ("os.kill(os.getpid(), 11)", Liveness.DEAD, "the program was ended by SIGSEGV"),
        ("while True: pass", Liveness.BUSY, "it does not come to rest within 0.3 s of its own"),
        ("while True: print('x')", Liveness.BUSY, "it does not come to rest within 0.3 s of its"),
        (
            "while True: os.close(os.open('/dev/xen/evtchn', 0))",
            Liveness.BUSY,
            "it does not come to rest",
        ),
        (
            "while True: os.write(1, b'x' * 65536)",
            Liveness.BUSY,
            "it does not come to rest within 16 MiB of output",
        ),
        ("os.kill(os.getpid(), 19)", Liveness.BUSY, "it is stopped (SIGSTOP)"),
    ],
)
@pytest.mark.usefixtures("programs")
def test_a_program_that_ends_or_works_on_gets_its_verdict(
    source: str, liveness: Liveness, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xennet.check.program_session._MOST_DONE", 1000)
    missing, found, why = life(Side.NETBACK, *python(f"import os\n{source}"))
    assert missing == "it has ended"
    assert (found, why[: len(reason)]) == (liveness, reason)


@pytest.mark.parametrize(
    "source",
    [
        "time.sleep(3600)",
        "while True: time.sleep(0.01)",
        "os.read(os.pipe()[0], 1)",
        "os.fork() or time.sleep(3600)\nos.wait()",
    ],
)
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.usefixtures("programs")
def test_a_program_that_never_connects_rests(side: Side, source: str) -> None:
    missing, liveness, _ = life(side, *python(f"import os, time\n{source}"))
    assert (missing, liveness) == ("it does not connect", Liveness.RESTS)


@pytest.mark.usefixtures("programs")
def test_its_output_is_kept_apart_without_the_middle() -> None:
    source = "import sys\nsys.stderr.write('first\\n' + 'x' * 100_000 + '\\nlast')"
    session = ProgramTarget(python(source), Side.NETBACK).open({}, 1)
    session.close()
    assert session.output.startswith("first\nxxx")
    assert session.output.endswith("xxx\nlast")
    assert " bytes ...]" in session.output
    assert len(session.output) < 10_000


def test_what_a_program_holds_while_its_vif_is_gone_is_told(programs: dict[str, str]) -> None:
    session = ProgramTarget((programs["check_netback-8"],), Side.NETBACK).open({}, 1)
    peer = new_peer(session, Side.NETBACK)
    assert peer.enter(1)
    refs = peer.queues[0].tx_ref, peer.queues[0].rx_ref  # type: ignore[union-attr]
    peer.set_state(5)
    peer.rest()
    used = [session.host.machine.grant_tables.grant(1, ref) for ref in refs]
    session.close()
    assert all(grant is not None and grant.pin for grant in used)


@pytest.mark.parametrize(("side", "name"), SIDES)
def test_the_command_judges_a_program(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str], side: Side, name: str
) -> None:
    words = ["check", side, "--only", CHECK[side], "--json", "--", programs[name]]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"]["name"] == programs[name]
    assert "virtual-time" in told["target"]["unsupported"]


def test_a_failure_shows_what_the_program_has_written(
    programs: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = f"{programs['check_netback']} & echo it crashes >&2; read line <&1; kill -SEGV $$"
    options = "--only", CHECK["netback"], "--evidence", str(tmp_path)
    words = ["check", "netback", *options, "--", "sh", "-c", f"exec 2>&1; {program}"]
    assert main(words) == 1
    assert "    its output: it crashes\n" in capsys.readouterr().out
    assert (tmp_path / CHECK["netback"] / "output.txt").read_text() == "it crashes\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("netback", "--", "/nonexistent"), "/nonexistent: no such program"),
        (("netback", "--builtin", "linux", "--", "true"), "Name one driver"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], line: str
) -> None:
    assert main(["check", *words]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.usefixtures("programs")
def test_no_program_outlives_a_check_that_is_killed() -> None:
    """Nor do those that it has started."""
    shell = "sleep 3600 & echo $! $$ > /proc/self/fd/3; wait"
    reading, writing = os.pipe()
    suite = f"""
import subprocess
from xennet.check.check import Side, all_checks
from xennet.check.program_target import ProgramTarget
from xennet.check.runner import run_checks
from xennet.exec import launch
inner = subprocess.Popen
subprocess.Popen = lambda *args, **options: inner(*args, pass_fds=[3], **options)
import os
os.dup2({writing}, 3)
ProgramTarget(("sh", "-c", {shell!r}), Side.NETBACK).open({{}}, 1)
print("up", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", suite],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[writing],
    )
    os.close(writing)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        pids = [int(word) for word in os.read(reading, 100).split()]
        assert len(pids) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert os.read(reading, 100) == b""  # nobody has it open any more
        wait(lambda: not in_session(pids[1]))
    finally:
        process.kill()
        process.communicate()
        os.close(reading)
