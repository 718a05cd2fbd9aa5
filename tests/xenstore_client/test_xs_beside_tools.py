"""``xennet xs`` beside Debian's tools: same output, same exit codes, same store afterwards, on our
daemon and on the real one."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xenstore_servers import PATIENCE, tool_environment

from xennet.cli import main
from xennet.dumps.store_dump import read_store_dump
from xennet.xenstore import Client
from xennet.xenstore.value_text import parse_value, show_value

pytestmark = pytest.mark.skipif(
    shutil.which("xenstore-ls") is None, reason="Debian's xenstore-utils is not installed"
)

Outcome = tuple[int, bytes]
Run = Callable[[str, list[str]], Outcome]

SCRIPTS = {
    "write and read": ["write /t/a hello /t/b 2", "read /t/a", "read /t/a /t/b", "read -p /t/b"],
    "escapes": [
        r"write /t/v x\000y\t\n\r\\\101\7\1234\q\x41\x4\xg\777\8",
        "read /t/v",
        "read -R /t/v",
        "ls /t",
        r"write -R /t/v \x41",
        "read -R -p /t/v",
    ],
    "missing": ["read /t/none", "list /t/none", "ls /t/none", "exists /t/none", "rm /none/x"],
    "fails in the middle": ["write /t/a 1", "read /t/a /t/none", "list /t /t/none"],
    "all or none": ["write /t/a 1 /t//b 2", "exists /t/a", "rm /t /none/x", "exists /t"],
    "list": ["write /t/b 1 /t/a/c 2", "list /t", "list -p /t /t/a", "list /t/b", "list /t/"],
    "exists": ["exists /t", "exists /t /", "exists /t /t/none", "exists /t//x"],
    "rm": ["write /t/a/b 1", "rm /t/a", "rm /t/a", "rm /", "rm /t/x/y"],
    "rm tidy": ["write /t/a/b/c 1 /t/v/w 2 /t/v 3", "rm -t /t/a/b/c", "rm -t /t/v/w", "ls -f /t"],
    "rm tidy to the top": ["rm -t /t", "write /t/a/b 1", "rm -t /t/a/b", "exists /t", "exists /"],
    "chmod": ["write /t/a/b 1", "chmod /t/a n0 r5 b7", "ls -p /t", "ls -fp /t", "chmod /t x0"],
    "chmod up": ["write /t/a/b/c 1", "chmod -u /t/a/b n0 r1", "ls -fp /t", "ls -fp /"],
    "chmod down": ["write /t/a/b 1 /t/a/c/d 2", "chmod -r /t/a n0 r1", "ls -fp /t"],
    "chmod both": ["write /t/a/b 1", "chmod -r -u /t/a w3", "chmod -u /t/none r5", "ls -fp /t"],
    "ls": ["write /t/a/b 1 /t/c 2", "ls /t", "ls -p /t", "ls -f /t", "ls -fp /t", "ls /t /t/a"],
    "ls deep": ["write /t" + "/d" * 90 + " " + "v" * 90, "ls /t", "ls -p /t", "ls -f /t"],
    "ls wide": [f"write /t/{'n' * n} {'v' * 40}" for n in (30, 31, 32, 33, 70, 72, 73)]
    + [f"write /t/{'u' * n} {'v' * 6}" for n in (66, 67, 65)]
    + ["ls -p /t"],
    "ls unprintable": [rf"write /t/a {chr(92)}001{'v' * n}" for n in (69, 70)] + ["ls -p /t"],
    "relative": ["write rel/x 1", "read rel/x", "ls -fp rel", "list -p rel", "rm -t rel/x"],
    "watch": ["write /t/a 1", "watch -n 2 /t /t/a", "watch /t//a", "watch -n 1 @introduceDomain"],
}


def debian(path: Path) -> Run:
    def run(command: str, args: list[str]) -> Outcome:
        done = subprocess.run(
            [f"xenstore-{command}", *args],
            env=tool_environment(path),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def ours(path: Path, captured: pytest.CaptureFixture[bytes]) -> Run:
    def run(command: str, args: list[str]) -> Outcome:
        code = main(["xs", "--socket", str(path), command, *args])
        return code, captured.readouterr().out

    return run


def play(path: Path, script: list[str], run: Run) -> list[tuple[str, Outcome]]:
    with Client.connect(str(path)) as client:
        client.rm("/t")
        client.mkdir("/t")
        client.set_perms("/t", ["n0"])
        seen = []
        for line in script:
            command, *args = line.split(" ")
            seen.append((line, run(command, args)))
        client.rm("/t")
        client.rm("/local")
    return seen


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_same_as_debians_tools(
    our_socket: Path,
    real_socket: Path,
    script: list[str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    expected = play(real_socket, script, debian(real_socket))
    for path in (real_socket, our_socket):
        assert play(path, script, ours(path, capfdbinary)) == expected
    assert play(our_socket, script, debian(our_socket)) == expected


def on_terminal(columns: int, command: list[str], path: Path) -> bytes:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, env=tool_environment(path), stdout=terminal) as process:
        os.close(terminal)
        output = b""
        try:
            while data := os.read(master, 65536):
                output += data
        except OSError:
            pass
        finally:
            os.close(master)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize("options", [["-p"], ["-f"]])
def test_ls_on_a_terminal_fits_into_it(our_socket: Path, options: list[str]) -> None:
    with Client.connect(str(our_socket)) as client:
        client.write("/t/long", "y" * 50)
        client.write("/t/" + "n" * 40, "v")
        xs = [sys.executable, "-m", "xennet", "xs", "ls", *options, "/t"]
        output = on_terminal(40, xs, our_socket)
        assert output == on_terminal(40, ["xenstore-ls", *options, "/t"], our_socket)
        assert b'yyyy\\..."' in output
        client.rm("/t")


@given(
    texts=st.lists(
        st.text(st.sampled_from("\\\\xxX01278agntr\n -+"), max_size=12).filter(
            lambda t: t[:1] != "-"
        ),
        min_size=1,
        max_size=40,
    )
)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_escapes_mean_what_they_mean_to_xenstore_write(
    our_socket: Path, texts: list[str]
) -> None:
    pairs = [word for n, text in enumerate(texts) for word in (f"/t/{n}", text)]
    assert debian(our_socket)("write", pairs)[0] == 0
    with Client.connect(str(our_socket)) as client:
        for n, text in enumerate(texts):
            assert client.read(f"/t/{n}") == parse_value(text.encode())
        client.rm("/t")


def test_every_byte_is_shown_as_xenstore_read_shows_it(our_socket: Path) -> None:
    value = bytes(range(256))
    with Client.connect(str(our_socket)) as client:
        client.write("/t/v", value)
        assert debian(our_socket)("read", ["/t/v"]) == (0, show_value(value).encode() + b"\n")
        client.rm("/t")


def test_what_xenstore_ls_prints_can_be_read_as_a_dump(our_socket: Path) -> None:
    nodes = {"/t": b"", "/t/a": bytes(range(256)), "/t/a/b": b'"   (n0)', "/t/c": b'" = "\\'}
    with Client.connect(str(our_socket)) as client:
        for path, value in nodes.items():
            client.write(path, value)
        client.set_perms("/t/c", ["n0", "r7"])
        code, text = debian(our_socket)("ls", ["-fp", "/"])
        client.rm("/t")
    assert code == 0
    dump = read_store_dump(text.splitlines(keepends=True))
    assert {path: dump.read(path) for path in nodes} == nodes
    assert dump.directory("/t") == ["a", "c"]
    assert [dump.may_read("/t/c", domid) for domid in (0, 5, 7)] == [True, False, True]
