"""``xennet xs`` as its user sees it: output, exit codes, errors on one line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xenstore_servers import HANG_UP, PATIENCE, Script, frame, tool_environment

from xennet.cli import main
from xennet.xenstore import Client

Xs = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["our_socket", "real_socket"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A server with /t/a = "hello" and /t/b/c = "x\\0y"."""
    path: Path = request.getfixturevalue(request.param)
    with Client.connect(str(path), timeout=PATIENCE) as client:
        client.rm("/t")
        client.write("/t/a", "hello")
        client.write("/t/b/c", b"x\0y")
        yield path
        client.rm("/t")


@pytest.fixture
def xs(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Xs:
    """Run a command: (exit code, stdout, stderr)."""
    monkeypatch.setenv("XENSTORED_PATH", str(path))

    def run(*args: str) -> tuple[int, str, str]:
        code = main(["xs", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def start(path: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "xennet", "xs", *args],
        env=tool_environment(path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ls_shows_the_tree(xs: Xs) -> None:
    assert xs("ls", "/t") == (0, 'a = "hello"\nb = ""\n c = "x\\000y"\n', "")
    assert xs("ls", "-f", "/t")[1] == '/t/a = "hello"\n/t/b = ""\n/t/b/c = "x\\000y"\n'
    assert "\n/t/b/c = " in xs("ls", "-fp")[1]


def test_read_shows_values(xs: Xs) -> None:
    assert xs("read", "/t/a", "/t/b/c") == (0, "hello\nx\\000y\n", "")
    assert xs("read", "-p", "/t/a")[1] == "/t/a: hello\n"
    assert xs("read", "-R", "/t/b/c")[1] == "x\0y"


def test_list_shows_children(xs: Xs) -> None:
    assert xs("list", "/t") == (0, "a\nb\n", "")
    assert xs("list", "-p", "/t")[1] == "/t/a\n/t/b\n"


def test_exists_is_an_exit_code(xs: Xs) -> None:
    assert xs("exists", "/t", "/t/a") == (0, "", "")
    assert xs("exists", "/t", "/t/none") == (1, "", "")


def test_write_understands_escapes_unless_raw(xs: Xs) -> None:
    assert xs("write", "/t/v", r"\x41\n", "/t/w", "2") == (0, "", "")
    assert xs("read", "-R", "/t/v", "/t/w")[1] == "A\n2"
    xs("write", "-R", "/t/v", r"\n")
    assert xs("read", "-R", "/t/v")[1] == r"\n"


def test_write_is_all_or_none(xs: Xs) -> None:
    code, out, err = xs("write", "/t/v", "1", "/t//w", "2")
    assert (code, out) == (1, "")
    assert err == "xennet: /t//w: Invalid argument (EINVAL, WRITE refused)\n"
    assert xs("exists", "/t/v")[0] == 1


def test_rm_takes_all_below_and_with_t_parents_left_empty(xs: Xs) -> None:
    assert xs("rm", "/t/a") == (0, "", "")
    xs("rm", "-t", "/t/b/c")
    assert xs("exists", "/t/b")[0] == 1
    assert xs("exists", "/")[0] == 0


def test_chmod_up_and_down(xs: Xs) -> None:
    assert xs("chmod", "-r", "-u", "/t/b", "n0", "r7") == (0, "", "")
    assert xs("ls", "-fp", "/t")[1] == (
        '/t/a = "hello"   (n0)\n/t/b = ""   (n0,r7)\n/t/b/c = "x\\000y"   (n0,r7)\n'
    )
    with Client.connect() as client:
        assert client.get_perms("/t") == ["n0", "r7"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("read", "/t/none"), "/t/none: No such file or directory (ENOENT, READ refused)"),
        (("ls", "/t/none"), "/t/none: No such file or directory (ENOENT, DIRECTORY refused)"),
        (("list", "bad path"), "bad path: Invalid argument (EINVAL, DIRECTORY refused)"),
        (("rm", "/"), "/: Invalid argument (EINVAL, RM refused)"),
        (("rm", "/t/x\x1b/y"), r"/t/x\x1b/y: Invalid argument (EINVAL, RM refused)"),
        (("exists", "/t//"), "/t//: Invalid argument (EINVAL, READ refused)"),
        (("chmod", "/t", "n0", "x7"), "x7: Invalid argument (EINVAL, permission must start with "),
        (("chmod", "/t/none", "n0"), "/t/none: No such file or directory (ENOENT, SET_PERMS "),
        (("write", "/t/v", "v" * 5000), "/t/v: Argument list too long (E2BIG, WRITE of 5005 "),
        (("watch", "/t", "/t"), "/t: File exists (EEXIST, already watched with token '/t'"),
    ],
)
def test_refusal_is_one_line_and_exit_code_1(xs: Xs, args: tuple[str, ...], message: str) -> None:
    code, _, err = xs(*args)
    assert code == 1
    assert err.startswith(f"xennet: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("write", "/t/v"), "PATH '/t/v' without a VALUE"),
        (("read",), "Missing argument 'PATH...'."),
        (("watch", "-n", "0", "/t"), "0 is not in the range"),
        (("--timeout", "0", "ls"), "'0' is not in the range 0<x<=1000000"),
        (("--socket", "/none/socket", "ls"), "/none/socket: No such file or directory (ENOENT, "),
        (("--socket", "/dev", "exists", "/"), "/dev: Socket operation on non-socket (ENOTSOCK, "),
    ],
)
def test_bad_usage_or_no_server_is_exit_code_2(xs: Xs, args: tuple[str, ...], message: str) -> None:
    code, out, err = xs(*args)
    assert (code, out) == (2, "")
    first, *hint = err.splitlines()
    assert message in first
    assert [line.startswith("Try 'xennet xs") for line in hint] in ([], [True])


def test_values_that_were_read_before_an_error_are_shown(xs: Xs) -> None:
    code, out, err = xs("read", "/t/a", "/t/none", "/t/b/c")
    assert (code, out) == (1, "hello\n")
    assert "/t/none" in err


@pytest.mark.parametrize(
    ("answer", "errno", "seconds"),
    [
        (HANG_UP, "ECONNRESET", PATIENCE),
        (b"\xff" * 16, "EPROTO", PATIENCE),
        (b"\0", "ETIMEDOUT", 0.1),
    ],
)
def test_server_that_fails_is_exit_code_2(
    answer: bytes,
    errno: str,
    seconds: float,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from xennet.xenstore.client import socket as client_socket
    from xennet.xenstore.client.channel import FdChannel

    script = Script(answer)
    monkeypatch.setattr(client_socket, "open_channel", lambda *_: FdChannel(script.fd()))
    assert main(["xs", "--timeout", str(seconds), "read", "/a"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xennet: /a: ")
    assert f"({errno}, " in err


def test_hostile_server_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from xennet.xenstore.client import socket as client_socket
    from xennet.xenstore.client.channel import FdChannel

    script = Script(frame(6, 1, 0, b"1\0"), frame(1, 2, 1, b"\x1b[2J\0"), frame(7, 3, 1, b"OK\0"))
    monkeypatch.setattr(client_socket, "open_channel", lambda *_: FdChannel(script.fd()))
    assert main(["xs", "list", "/a"]) == 0
    assert capsys.readouterr().out == "\\x1b[2J\n"


def test_watch_shows_n_changes_as_they_come(path: Path) -> None:
    watching = start(path, "watch", "-n", "4", "/t/a", "/t/b")
    assert watching.stdout is not None
    assert [watching.stdout.readline() for _ in range(2)] == [b"/t/a\n", b"/t/b\n"]
    with Client.connect(str(path)) as client:
        client.write("/t/b/new", 1)
        assert watching.stdout.readline() == b"/t/b/new\n"
        client.write("/t/other", 1)
        client.rm("/t/a")
    out, err = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, out, err) == (0, b"/t/a\n", b"")


def test_watch_can_show_the_values_that_are_there_then(path: Path) -> None:
    watching = start(path, "watch", "-v", "-n", "5", "/t", "@releaseDomain")
    assert watching.stdout is not None
    assert watching.stdout.readline() == b'/t = ""\n'
    assert watching.stdout.readline() == b"@releaseDomain\n"
    with Client.connect(str(path)) as client:
        client.write("/t/b/c", "4\n")
        assert watching.stdout.readline() == b'/t/b/c = "4\\n"\n'
        client.rm("/t/a")
        assert watching.stdout.readline() == b"/t/a: gone\n"
        client.write("/t/d", "")
    out, err = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, out, err) == (0, b'/t/d = ""\n', b"")


def test_watch_is_ended_by_control_c(path: Path) -> None:
    watching = start(path, "watch", "/t")
    assert watching.stdout is not None
    assert watching.stdout.readline() == b"/t\n"
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=PATIENCE) == (b"", b"xennet: interrupted\n")
    assert watching.returncode == 130


def test_reader_that_leaves_early_is_no_error_message(path: Path) -> None:
    listing = start(path, "ls", "-f")
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    with listing.stderr:
        assert listing.stderr.read() == b""
    assert listing.wait(timeout=PATIENCE) == 0
