"""Live runs as a user has them: processes that share a bus, ended by signals or by their time."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from terminal import Terminal, plain

from xennet.cli import main
from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.xenstore import Client

_SECONDS = 60
#: In a pcap file, before the frames and before each frame.
FILE_HEADER, FRAME_HEADER = 24, 16


@contextmanager
def running(*args: str, stderr: int | TextIO = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """``xennet run`` as a process, which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xennet", "run", *args],
        env={**os.environ, "XENNET_ENGINE": "plain"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(path: Path, frames: int = 0) -> None:
    """Until ``path`` has ``frames`` frames of 60 bytes; ports that record open last."""
    deadline = time.monotonic() + _SECONDS
    while not path.exists() or path.stat().st_size < frames * (FRAME_HEADER + 60) + FILE_HEADER:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def bus(tmp_path: Path) -> str:
    return str(tmp_path / "bus")


@pytest.mark.parametrize("link", ["vif", "epair"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_runs_share_a_bus_until_they_are_told_to_end(
    bus: str, tmp_path: Path, link: str, number: signal.Signals
) -> None:
    sent, back, copy = (tmp_path / f"{name}.pcap" for name in ("sent", "back", "copy"))
    here = ("--guest", f"record:{sent}", "--host", f"shmif:{bus}")
    there = ("--guest", f"gen:60x300+record:{back}", "--host", f"shmif:{bus}")
    with running("--link", link, *here, "--json") as receiver:
        wait_for(sent)
        with running("--link", link, *there, "--json") as sender:
            wait_for(sent, 300)
            shutil.copy(sent, copy)  # the receiver goes on recording
            assert main(["shmif", "inject", bus, str(copy)]) == 0
            wait_for(sent, 600)
            wait_for(back, 300)
            for run in (sender, receiver):
                run.send_signal(number)
            reports = [run.communicate(timeout=_SECONDS) for run in (sender, receiver)]
    assert [run.returncode for run in (sender, receiver)] == [128 + number] * 2
    for stdout, stderr in reports:
        assert stderr == ""
        report = json.loads(stdout)
        assert report["verdict"]["good"], report["verdict"]
        assert report["interrupted"] == number.name
        assert report["options"]["live"]
    ways = [json.loads(stdout)["directions"] for stdout, _ in reports]
    assert [way["frames_received"] for way in ways[0]] == [300, 300]
    # Injected frames reach both, and each end of a bus reads the newest frame again.
    assert 600 <= ways[1][1]["frames_received"] <= 601


def test_it_ends_by_its_time_and_its_code_is_the_verdicts(bus: str) -> None:
    words = ["--guest", "gen:60x10", "--host", f"shmif:{bus}", "--for", "1.5"]
    with running(*words) as run:
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert (run.returncode, stderr) == (0, "frames are carried from now on\n")
    assert "\nGOOD\n  every frame that was given arrived unchanged and in order\n" in stdout


def test_the_report_of_an_interrupted_live_run_has_its_verdict(bus: str, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    with running("--guest", f"gen:60x7+record:{out}", "--host", f"shmif:{bus}") as run:
        wait_for(out)
        with closing(open_port(f"shmif:{bus}")) as port:
            batch = FrameBatch(memoryview(bytearray(1 << 16)))
            batch.append(b"\xff" * 6 + bytes(54))
            deadline = time.monotonic() + _SECONDS
            while out.stat().st_size <= FILE_HEADER:
                assert time.monotonic() < deadline
                port.push(batch)
                time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert run.returncode == 130
    assert stderr == (
        "frames are carried from now on\nxennet: SIGINT: the run ends, once more ends it at once\n"
    )
    assert "\nGOOD\n  every frame that was given arrived unchanged and in order\n" in stdout


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc/PID/stat")
def test_while_nothing_comes_it_uses_no_processor(bus: str) -> None:
    with running("--guest", "null:", "--host", f"shmif:{bus}") as run:
        assert run.stderr is not None
        assert run.stderr.readline() == "frames are carried from now on\n"
        deadline = time.monotonic() + _SECONDS
        while used_in_a_second(run.pid) >= 0.1:  # on a busy machine it begins slowly
            assert time.monotonic() < deadline


def used_in_a_second(pid: int) -> float:
    """The seconds that a process uses of the next one."""
    before = ticks(pid)
    time.sleep(1)
    return (ticks(pid) - before) / os.sysconf("SC_CLK_TCK")


def ticks(pid: int) -> int:
    """The time that a process has used, user's and system's (proc_pid_stat(5), fields 14, 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_what_a_killed_run_leaves_is_in_nobodys_way(bus: str, tmp_path: Path) -> None:
    out, path = tmp_path / "out.pcap", str(tmp_path / "xs.sock")
    words = ("--guest", f"gen:60x10+record:{out}", "--host", f"shmif:{bus}")
    words += ("--xenstore-socket", path, "--quiet")
    with running(*words) as run:
        deadline = time.monotonic() + _SECONDS
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with Client.connect(path, timeout=_SECONDS) as client:
            assert client.exists("/local/domain/0")
        run.kill()
        run.wait(_SECONDS)
    with running(*words, "--for", "1.5") as again:
        stdout, _ = again.communicate(timeout=_SECONDS)
    assert again.returncode == 0, stdout
    assert not os.path.exists(path)


def test_on_a_terminal_a_line_says_how_it_is_doing_and_goes(bus: str) -> None:
    command = [sys.executable, "-m", "xennet", "run", "--guest", "gen:60x1000000000"]
    command += ["--host", f"shmif:{bus}"]
    terminal = Terminal(command, env={"XENNET_ENGINE": "plain"})
    try:
        terminal.until("0 s  to host 0/s  to guest 0/s  tx ")
        terminal.until("to host ")
        line = terminal.until("dropped 0")
        assert re.fullmatch(r"[1-9][\d,]*/s  to guest \d+/s  tx \d+/256  rx \d+/256  ", line)
        terminal.type("\x03")
        shown = terminal.rest()
    finally:
        terminal.close()
    assert terminal.process.returncode == 130
    shown, _, report = shown.partition("Handshake")
    assert re.search(r"\r {60,79}\r[^\r ]*$", shown), "the line has been erased"
    assert "s  to host" not in report
    assert "\nGOOD\n" in plain(report)


def test_lines_are_told_above_it_and_it_fits_the_terminal(bus: str, tmp_path: Path) -> None:
    path = tmp_path / "xs.sock"
    command = [sys.executable, "-m", "xennet", "run", "--guest", "gen:60x10"]
    command += ["--host", f"shmif:{bus}", "--xenstore-socket", str(path), "--hold", "0.1"]
    command += ["--for", "0.1", "--allow-empty"]
    terminal = Terminal(command, env={"XENNET_ENGINE": "plain"}, columns=30)
    try:
        shown = terminal.rest()
    finally:
        terminal.close()
    assert terminal.process.returncode == 0
    assert f"XenStore on {path}\r\n" in shown
    assert "\r0 s  to host 0/s  to guest 0/\r" in shown
    assert "\rthe vif stays connected for 0.1 s\r\n" in shown


def test_in_silence_a_terminal_shows_no_line(bus: str) -> None:
    command = [sys.executable, "-m", "xennet", "run", "--guest", "gen:60x10"]
    command += ["--host", f"shmif:{bus}", "--for", "0.1", "--allow-empty"]
    for option in ("--json", "--quiet"):
        terminal = Terminal([*command, option], env={"XENNET_ENGINE": "plain"})
        try:
            assert "to host" not in terminal.rest().replace("guest to host", "")
        finally:
            terminal.close()
        assert terminal.process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("link", ["vif", "epair"])
@pytest.mark.parametrize("option", ["--guest", "--tap-file"])
def test_a_full_disk_ends_it_with_one_line(
    link: str, option: str, bus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--quiet", "--link", link, "--host", f"shmif:{bus}"]
    words += ["--guest", "record:/dev/full"] if option == "--guest" else ["--guest", "gen:60x9"]
    words += ["--tap-file", "host=/dev/full"] if option == "--tap-file" else []
    assert main(words) == 2
    said = capsys.readouterr()
    full = "/dev/full: cannot be written after 0 frames: No space left on device"
    assert (said.out, said.err) == ("", f"xennet: {full}\n")


@pytest.mark.parametrize("silence_at", ["the start", "the end"])
def test_messages_whose_reader_has_left_do_not_end_it(
    bus: str, tmp_path: Path, silence_at: str
) -> None:
    read, write = os.pipe()
    with open(read) as messages, open(write, "w") as stderr:
        if silence_at == "the start":
            messages.close()
        with carrying(bus, tmp_path, stderr) as run:
            messages.close()
            stderr.close()
            run.send_signal(signal.SIGTERM)
            stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 143
    assert "\nGOOD\n  every frame that was given arrived unchanged and in order\n" in stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_messages_that_fit_nowhere_do_not_end_it(bus: str, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, carrying(bus, tmp_path, full) as run:
        run.send_signal(signal.SIGINT)
        stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 130
    assert "\nGOOD\n  every frame that was given arrived unchanged and in order\n" in stdout


@contextmanager
def carrying(bus: str, tmp_path: Path, stderr: TextIO) -> Iterator[subprocess.Popen[str]]:
    """A live run, from when it has carried its 10 frames."""
    seen = tmp_path / "seen.pcap"
    words = ("--guest", "gen:60x10", "--host", f"shmif:{bus}", "--tap-file", f"host={seen}")
    with running(*words, stderr=stderr) as run:
        wait_for(seen, 10)
        yield run


def test_a_terminal_that_is_gone_does_not_end_it(bus: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"trap '' HUP; exec {sys.executable} -m xennet run --guest gen:60x10"
    command += f" --host shmif:{bus} --for 1 >{out}"
    terminal = Terminal(["sh", "-c", command], env={"XENNET_ENGINE": "plain"})
    terminal.until("dropped 0")
    terminal.hang_up()
    assert terminal.process.wait(_SECONDS) == 0
    assert "\nGOOD\n" in out.read_text()


@pytest.mark.parametrize("link", ["vif", "epair"])
def test_a_bus_that_is_overwritten_ends_it_with_one_line(
    link: str, bus: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.pcap"
    with running("--link", link, "--guest", f"record:{out}", "--host", f"shmif:{bus}") as run:
        assert run.stderr is not None
        assert run.stderr.readline() == "frames are carried from now on\n"
        with open(bus, "r+b", buffering=0) as file:
            file.seek(4)
            file.write(b"\xff" * 20)
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert run.returncode == 2
    assert stderr.startswith(f"xennet: {bus}: ")
    assert stderr.count("\n") == 1
    assert stdout == ""
