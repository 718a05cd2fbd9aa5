"""``xennet exec``: signals, exit codes, and what cannot be."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from exec_world import PATIENCE, World

from xennet.cli import main
from xennet.exec import shim
from xennet.exec.errors import ExecError
from xennet.exec.launch import environment, socket_paths

_EXEC = [sys.executable, "-m", "xennet", "exec"]
#: Tells of each SIGINT and SIGHUP, and ends with 7 at SIGTERM.
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: print("int", flush=True))
signal.signal(signal.SIGHUP, lambda *_: print("hup", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""

#: Takes standard input as the terminal of its session, and becomes the command that it is given.
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_signals_are_the_programs_on_a_host_too(world: World) -> None:
    # In a session without a terminal.
    command = subprocess.Popen(
        [*_EXEC, "--host", world.directory, "--domain", "2", "--", sys.executable, "-c", _PROGRAM],
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # below nohup too
    )
    try:
        assert command.stdout is not None
        out = command.stdout.fileno()
        told: list[bytes] = []

        def read() -> None:
            told.append(os.read(out, 64))

        world.hold(lambda: b"".join(told) == b"ready\n", out, read)
        command.send_signal(signal.SIGINT)
        world.hold(lambda: b"".join(told) == b"ready\nint\n", out, read)
        command.send_signal(signal.SIGHUP)
        world.hold(lambda: b"".join(told) == b"ready\nint\nhup\n", out, read)
        command.send_signal(signal.SIGTERM)
        world.hold(lambda: told[-1] == b"", out, read)
        assert command.wait(PATIENCE) == 7
    finally:
        command.kill()
        command.communicate()


def test_a_control_c_reaches_the_program_once(caller: str) -> None:
    terminal, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *_EXEC, "--", sys.executable, "-c", _PROGRAM],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        told = b""

        def read_until(word: bytes) -> None:
            nonlocal told
            while word not in told:
                assert select.select([terminal], [], [], PATIENCE)[0], told
                told += os.read(terminal, 256)

        read_until(b"ready")
        os.write(terminal, b"\x03")
        read_until(b"int")
        command.send_signal(signal.SIGTERM)  # comes behind whatever has been passed on
        with suppress(OSError):  # EIO: nobody has the terminal any more
            read_until(b"nothing more")
        assert told.count(b"int") == 1
        assert command.wait(PATIENCE) == 7
    finally:
        os.close(terminal)
        command.kill()
        command.wait()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that is not to be."""
    assert main(["exec", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", ["with space", "with:colon"])
def test_a_cache_directory_that_cannot_be_preloaded_from_is_one_line(
    caller: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path / name))
    assert f"{name}: LD_PRELOAD takes no path" in refusal(capsys, "true")


def test_a_shim_without_a_byte_is_built_again(
    caller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    path = shim.shim_path()
    os.truncate(path, 0)
    assert shim.shim_path() == path
    assert path.stat().st_size


def test_a_cache_directory_that_is_closed_is_named(
    caller: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))

    def closed(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))  # root may enter any

    monkeypatch.setattr(Path, "stat", closed)
    line = refusal(capsys, "true")
    assert f"the cache directory {tmp_path}: Permission denied" in line


def test_a_compiler_that_is_no_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", '"')
    assert 'the variable CC is no command: ": No closing quotation' in refusal(capsys, "true")


def test_paths_of_sockets_are_absolute(
    caller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = environment(*socket_paths("host", 1))
    assert env["XENNET_EXEC"] == f"{tmp_path}/host/exec-1.sock"
    assert env["XENSTORED_PATH"] == f"{tmp_path}/host/xenstored-1.sock"


def test_a_path_that_no_socket_has_is_one_line(
    caller: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(ExecError, match="longer than the 107 bytes"):
        environment(f"{long}/exec-1.sock", None)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert "too long" in refusal(capsys, "true")
    assert not list(long.iterdir())


def test_a_host_that_is_gone_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--host", str(tmp_path), "true"
    assert "no domain 1 is served there" in refusal(capsys, *words)
    for path, kind in zip(
        socket_paths(tmp_path, 1), (socket.SOCK_SEQPACKET, socket.SOCK_STREAM), strict=True
    ):
        with socket.socket(socket.AF_UNIX, kind) as left:
            left.bind(path)
    assert f"{tmp_path}/xenstored-1.sock: no host answers there" in refusal(capsys, *words)
    (tmp_path / "file").touch()
    line = refusal(capsys, "--host", f"{tmp_path}/file", "true")
    assert line.endswith(f"{tmp_path}/file: Not a directory")
