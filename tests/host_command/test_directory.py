"""Whose a directory is, what a dead host left in it, and how commands find it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from live_hosts import die_with_parent

from xennet.hostd.control_client import NoHostError, RefusedError, find_host, request
from xennet.hostd.host_directory import (
    DirectoryError,
    HostDirectory,
    control_socket,
    known_directories,
    runtime_directory,
)
from xennet.xenstore.daemon import listen

HOLD = """
import os, sys, time
from xennet.hostd.host_directory import HostDirectory, control_socket, store_socket
from xennet.xenstore.daemon import listen
directory = HostDirectory.at(sys.argv[1])
directory.take()
sockets = [listen(control_socket(directory.path)), listen(store_socket(directory.path, 0))]
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _own_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    above = tmp_path / "run"
    above.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(above))
    monkeypatch.delenv("XENNET_HOST", raising=False)
    return above


def test_a_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    directory = HostDirectory.at(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert directory.take() == []
    assert stat.S_IMODE((path / "lock").stat().st_mode) == 0o600
    assert (path / "lock").read_text() == f"{os.getpid()}\n"
    directory.leave()
    directory.leave()
    assert os.listdir(path) == []


def test_a_fresh_one_goes_with_its_host() -> None:
    directory = HostDirectory.at(None)
    assert directory.path.startswith(f"{runtime_directory()}/xennet-host-")
    assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
    directory.take()
    directory.leave()
    assert not os.path.exists(directory.path)


def test_two_hosts_cannot_have_one_directory(tmp_path: Path) -> None:
    first = HostDirectory.at(str(tmp_path))
    first.take()
    with pytest.raises(
        DirectoryError, match=rf"{tmp_path}: a host runs there \(process {os.getpid()}"
    ):
        HostDirectory.at(str(tmp_path)).take()
    first.leave()
    second = HostDirectory.at(str(tmp_path))
    second.take()
    second.leave()


def test_a_lock_that_its_host_takes_away_in_between_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = HostDirectory.at(str(tmp_path)), HostDirectory.at(str(tmp_path))
    first.take()
    really_open, opened = os.open, []

    def opening(name, *rest, **options):
        fd = really_open(name, *rest, **options)
        if not opened:
            opened.append(fd)
            first.leave()
        return fd

    monkeypatch.setattr(os, "open", opening)
    second.take()
    monkeypatch.undo()
    with pytest.raises(DirectoryError, match="a host runs there"):
        HostDirectory.at(str(tmp_path)).take()
    second.leave()


def test_what_a_killed_host_left_is_taken_over(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with pytest.raises(DirectoryError, match=f"process {process.pid}"):
            HostDirectory.at(str(tmp_path)).take()
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / "notes.sock").write_text("mine, and no socket")
    (tmp_path / "notes").write_text("mine")
    directory = HostDirectory.at(str(tmp_path))
    assert directory.take() == ["control.sock", "xenstored-0.sock"]
    directory.leave()
    assert sorted(os.listdir(tmp_path)) == ["notes", "notes.sock", "run"]


def test_a_host_removes_what_dead_ones_made_for_themselves() -> None:
    above = Path(runtime_directory())
    for name in ("xennet-host-dead", "xennet-host-alive"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(above / name)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            if name.endswith("alive"):
                (above / "xennet-host-new").mkdir()
                (above / "xennet-host-new" / "lock").touch()  # its host is about to take it
                (above / "notes").mkdir()
                one = HostDirectory.at(None)
                one.take()
                one.leave()
                assert sorted(os.listdir(above)) == [
                    "notes",
                    "xennet-host-alive",
                    "xennet-host-new",
                ]
                assert "control.sock" in os.listdir(above / name)
            process.kill()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file", "is no directory"), ("file/x", "Not a directory"), ("x" * 90, "sockets in it would")],
)
def test_what_cannot_be_a_directory_of_a_host_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match=reason):
        HostDirectory.at(str(tmp_path / name))


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(DirectoryError, match="lock: "):
        HostDirectory.at(str(tmp_path)).take()
    assert (tmp_path / "target").read_text() == "precious"


# -- commands find their host ----------------------------------------------------------------------


def test_the_only_host_that_lives_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoHostError, match="no host runs"):
        find_host(None)
    alive, dead = HostDirectory.at(None), HostDirectory.at(None)
    with listen(control_socket(dead.path)):
        pass
    with listen(control_socket(alive.path)):
        assert sorted(known_directories()) == sorted([alive.path, dead.path])
        assert find_host(None) == alive.path
        other = HostDirectory.at(None)
        with listen(control_socket(other.path)):
            with pytest.raises(NoHostError, match="2 hosts run, name one with --host"):
                find_host(None)
            monkeypatch.setenv("XENNET_HOST", "/there")
            assert (find_host(None), find_host("/here")) == ("/there", "/here")


def test_where_no_host_answers_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoHostError, match=r"control.sock: no host answers: No such file"):
        request(str(tmp_path), "list", {})
    with listen(control_socket(str(tmp_path))):
        pass
    with pytest.raises(NoHostError, match=r"no host answers: Connection refused"):
        request(str(tmp_path), "list", {})
    with pytest.raises(NoHostError, match="too long"):
        request("/x" * 100, "list", {})


def test_a_host_that_hangs_up_or_answers_nonsense_is_said(tmp_path: Path) -> None:
    with listen(control_socket(str(tmp_path))) as listening:
        for answer in (b"", b"hello\n", b"[]\n"):
            child = Thread(target=answer_once, args=(listening, answer), daemon=True)
            child.start()
            with pytest.raises(NoHostError, match="the host has hung up"):
                request(str(tmp_path), "list", {})
            child.join()
        for answer, said in ((b"{}\n", "without a result"), (b'{"error": "no"}\n', "no")):
            child = Thread(target=answer_once, args=(listening, answer), daemon=True)
            child.start()
            with pytest.raises(RefusedError, match=said):
                request(str(tmp_path), "list", {})
            child.join()


def answer_once(listening: socket.socket, answer: bytes) -> None:
    with listening.accept()[0] as connected:
        connected.recv(4096)
        connected.sendall(answer)
