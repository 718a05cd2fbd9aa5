"""What SIGINT and SIGTERM make of a run: real processes, real signals, a real terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from terminal import Terminal, plain

from xennet.cli.signals import stopping
from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.run.stop import Stop
from xennet.xenstore import Client

SAMPLE = Path(__file__).parents[2] / "xennet" / "data" / "guest-and-host-tcp.pcap"
ENDLESS = "gen:1514x4000000000"
_SECONDS = 60


@contextmanager
def running(*args: str, **streams: object) -> Iterator[subprocess.Popen[str]]:
    """``xennet run`` as a process, which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xennet", "run", *args],
        env={**os.environ, "XENNET_ENGINE": "plain"},
        text=True,
        **{  # type: ignore[arg-type]
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # below nohup too
            **streams,
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], path: Path, size: int) -> None:
    """Until ``path`` has grown to ``size`` bytes."""
    deadline = time.monotonic() + _SECONDS
    while not (path.exists() and path.stat().st_size >= size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def frames_in(path: Path) -> int:
    batch, frames = FrameBatch(memoryview(bytearray(1 << 24)), 999), 0
    with closing(open_port(f"pcap:{path}")) as port:
        while pulled := port.pull(batch):
            frames += pulled
            batch.clear()
        assert port.counters.faults == ()
    return frames


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_in_order_and_reports_what_was_done(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.pcap"
    with running("--guest", ENDLESS, "--host", f"record:{out}", "--json") as run:
        wait_for(run, out, 1_000_000)
        run.send_signal(number)
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert (run.returncode, stderr) == (128 + number, "")
    report = json.loads(stdout)
    assert report["interrupted"] == number.name
    assert not report["verdict"]["good"]
    assert report["verdict"]["reasons"] == [
        f"interrupted by {number.name}: this is what was done until then",
        "every frame that was given arrived unchanged and in order",
        "teardown left no grant, port, mapping or page behind",
    ]
    up = report["directions"][0]
    assert up["frames_sent"] == up["frames_received"] == frames_in(out) > 0
    assert report["timeline"][-1]["kind"] == "rm", "the vif was unplugged"


@pytest.mark.parametrize(
    ("number", "again"), [(signal.SIGINT, "once more"), (signal.SIGHUP, "SIGTERM")]
)
def test_the_report_for_people_says_that_the_run_was_interrupted(
    tmp_path: Path, number: signal.Signals, again: str
) -> None:
    out = tmp_path / "out.pcap"
    with running("--guest", f"{ENDLESS}+record:{out}", "--host", "echo:") as run:
        wait_for(run, out, 1_000_000)
        run.send_signal(number)
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert (run.returncode, stderr) == (
        128 + number,
        f"xennet: {number.name}: the run ends, {again} ends it at once\n",
    )
    assert f"\nINTERRUPTED\n  interrupted by {number.name}: " in stdout
    assert re.search(r"^guest to host +[1-9]", stdout, re.MULTILINE)


def test_a_signal_that_the_shell_ignores_is_ignored(tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    ignoring = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_IGN)}
    with running("--guest", ENDLESS, "--host", f"record:{out}", "--json", **ignoring) as run:
        wait_for(run, out, 1_000_000)
        run.send_signal(signal.SIGINT)
        wait_for(run, out, out.stat().st_size + 1_000_000)
        run.send_signal(signal.SIGTERM)
        stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 143
    assert json.loads(stdout)["interrupted"] == "SIGTERM"


def test_through_a_switch_what_was_sent_still_arrives(tmp_path: Path) -> None:
    outs = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    guests = [arg for out in outs for arg in ("--guest", f"{ENDLESS}+record:{out}")]
    with running(*guests, "--guests", "2", "--switch", "--json") as run:
        for out in outs:
            wait_for(run, out, 100_000)
        run.send_signal(signal.SIGTERM)
        stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 143
    report = json.loads(stdout)
    assert report["verdict"]["reasons"][1:] == [
        "every frame that was given arrived where it should, unchanged and in order",
        "teardown left no grant, port, mapping or page behind",
    ]
    assert report["directions"][1]["frames_received"] == sum(map(frames_in, outs))


def test_a_port_that_waits_for_its_input_does_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    fifo, capture, piece = tmp_path / "fifo", SAMPLE.read_bytes(), 60_000
    os.mkfifo(fifo)
    with (
        running("--guest", f"pcap:{fifo}", "--host", "null:", "--json") as run,
        fifo.open("wb", buffering=0) as writer,
    ):
        # A pipe holds 65,536 bytes: the third piece fits when the run has asked for more than was
        # there when it opened its ports. All three are less than a batch.
        for start in range(0, 3 * piece, piece):
            writer.write(capture[start : start + piece])
        run.send_signal(signal.SIGINT)
        stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 130
    report = json.loads(stdout)
    assert report["interrupted"] == "SIGINT"
    sent = report["directions"][0]["frames_sent"]
    assert report["ports"][0]["counters"]["frames_in"] == sent > 0
    assert "every frame that was given arrived" in report["verdict"]["reasons"][1]


@pytest.mark.parametrize(
    ("second", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_second_signal_ends_a_run_at_once(
    second: signal.Signals, ends: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    stop, handlers = Stop(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with stopping(stop, silent=False):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "SIGTERM"
        told = capfd.readouterr().err
        assert told == "xennet: SIGTERM: the run ends, once more ends it at once\n"
        with pytest.raises(ends) as ended:
            os.kill(os.getpid(), second)
    assert ends is KeyboardInterrupt or ended.value.args == (143,)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run that serves its store and holds, before the vif is there; its socket."""
    path = str(tmp_path / "xs.sock")
    watched = ("--xenstore-socket", path, "--hold-before", "600")
    with running("--guest", "gen:60x3", "--host", "null:", *watched) as run:
        assert run.stderr is not None
        assert run.stderr.readline() == f"XenStore on {path}\n"
        assert run.stderr.readline() == "nothing is plugged in yet for 600 s\n"
        yield run, path


def test_a_hold_before_the_vif_is_there_can_be_interrupted(
    held: tuple[subprocess.Popen[str], str],
) -> None:
    run, path = held
    with Client.connect(path, timeout=_SECONDS) as client:
        assert not client.exists("/local/domain/1")
    run.send_signal(signal.SIGINT)
    stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 130
    assert "no port gave a frame" in stdout
    assert not os.path.exists(path)


def test_a_hold_that_is_interrupted_unplugs_the_vif_and_reports(tmp_path: Path) -> None:
    path = str(tmp_path / "xs.sock")
    watched = ("--xenstore-socket", path, "--hold", "600")
    with running("--guest", "gen:60x3", "--host", "null:", *watched) as run:
        assert run.stderr is not None
        run.stderr.readline()
        assert run.stderr.readline() == "the vif stays connected for 600 s\n"
        run.send_signal(signal.SIGINT)
        stdout, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 130
    assert "dom0       backend/state Closing → Closed" in stdout
    assert re.search(r"^guest to host +3 +3 ", stdout, re.MULTILINE)
    assert stdout.endswith(
        "INTERRUPTED\n"
        "  interrupted by SIGINT: this is what was done until then\n"
        "  every frame that was given arrived unchanged and in order\n"
        "  teardown left no grant, port, mapping or page behind\n"
    )


def test_control_c_on_a_terminal_shows_the_report_and_leaves_no_bar() -> None:
    args = ("-m", "xennet", "run", "--guest", ENDLESS, "--host", "null:")
    terminal = Terminal([sys.executable, *args], env={"XENNET_ENGINE": "plain"})
    try:
        terminal.until("guest to host")
        terminal.until("guest to host")  # the bar, twice: frames arrive
        terminal.type("\x03")
        shown = plain(terminal.rest())
    finally:
        terminal.close()
    assert terminal.process.returncode == 130
    report = shown[shown.index("Handshake") :]
    assert "━" not in report
    assert "\nINTERRUPTED\n  interrupted by SIGINT: " in report
    assert "Traceback" not in shown


def test_interrupt_while_the_command_is_imported_is_told_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    ended = subprocess.run(
        [sys.executable, "-m", "xennet", "info"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "xennet: interrupted\n")


def test_closed_terminal_hangs_up_twice_and_the_run_ends_in_order(tmp_path: Path) -> None:
    """The system sends SIGHUP, and so does the shell."""
    out = tmp_path / "out.pcap"
    with running("--guest", ENDLESS, "--host", f"record:{out}", "--json") as run:
        wait_for(run, out, 1_000_000)
        for _ in range(3):
            run.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        stdout, stderr = run.communicate(timeout=_SECONDS)
    assert (run.returncode, stderr) == (129, "")
    assert json.loads(stdout)["directions"][0]["frames_received"] == frames_in(out) > 0
