"""Programs that were not written for this server: Debian's tools, libxenstore, pyxs."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = ("ls", "read", "write", "list", "exists", "rm", "chmod", "watch")
#: Seconds until a thing that has to happen counts as one that does not.
_SECONDS = 60


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """The socket of a server in a process of its own."""
    socket = str(tmp_path / "socket")
    server = subprocess.Popen(
        [sys.executable, "-m", "xennet", "xenstored", "--socket", socket],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == f"XenStore on {socket}\n"
    yield socket
    server.terminate()
    server.communicate(timeout=_SECONDS)
    assert server.returncode == 0


def tool(path: str, name: str, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [f"xenstore-{name}", *args],
        env={**os.environ, "XENSTORED_PATH": path},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    return done.returncode, done.stdout + done.stderr


needs_tools = pytest.mark.skipif(
    any(shutil.which(f"xenstore-{name}") is None for name in TOOLS),
    reason="xenstore-* tools are missing (Debian package xenstore-utils)",
)


@needs_tools
def test_debian_tools_work_unchanged(path: str) -> None:
    assert tool(path, "write", "/t/a", "hello", "/t/b", r"x\x00y") == (0, "")
    assert tool(path, "read", "/t/a", "/t/b") == (0, "hello\nx\\000y\n")
    assert tool(path, "read", "-p", "/t/a") == (0, "/t/a: hello\n")
    assert tool(path, "read", "/nope") == (1, "xenstore-read: couldn't read path /nope\n")
    assert tool(path, "list", "/t") == (0, "a\nb\n")
    assert tool(path, "exists", "/t/a") == (0, "")
    assert tool(path, "exists", "/none") == (1, "")
    assert tool(path, "chmod", "/t/a", "n0", "r3") == (0, "")
    assert tool(path, "ls", "-fp", "/") == (
        0,
        '/tool = ""   (n0)\n'
        '/tool/xenstored = ""   (n0)\n'
        '/t = ""   (n0)\n'
        '/t/a = "hello"   (n0,r3)\n'
        '/t/b = "x\\000y"   (n0)\n',
    )
    assert tool(path, "rm", "-t", "/t/a") == (0, "")
    assert tool(path, "rm", "/t") == (0, "")
    assert tool(path, "ls", "/t")[0] == 1
    assert tool(path, "write", "rel/x", "1") == (0, "")
    assert tool(path, "read", "/local/domain/0/rel/x") == (0, "1\n")


@needs_tools
def test_xenstore_watch_prints_what_changes(path: str) -> None:
    watching = subprocess.Popen(
        ["stdbuf", "-oL", "xenstore-watch", "-n", "3", "/w"],
        env={**os.environ, "XENSTORED_PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert watching.stdout.readline() == "/w\n"
    tool(path, "write", "/w/a", "1")
    assert watching.stdout.readline() == "/w/a\n"
    tool(path, "rm", "/w/a")
    assert watching.communicate(timeout=_SECONDS)[0] == "/w/a\n"
    assert watching.returncode == 0


@needs_tools
def test_tools_list_a_directory_of_more_than_4096_bytes(path: str) -> None:
    names = [f"a-rather-long-name-for-a-node-{i}" for i in range(300)]
    assert tool(path, "write", *(word for n in names for word in (f"/big/{n}", "v"))) == (0, "")
    assert tool(path, "list", "/big") == (0, "".join(f"{n}\n" for n in names))


@needs_tools
def test_many_tools_at_once(path: str) -> None:
    env = {**os.environ, "XENSTORED_PATH": path}
    running = [
        subprocess.Popen(["xenstore-write", f"/many/{i}", f"{i}"], env=env) for i in range(40)
    ]
    # Each one retries its transaction until nobody else made a sibling meanwhile.
    assert [p.wait(timeout=_SECONDS) for p in running] == [0] * 40
    listed = tool(path, "list", "/many")[1].split()
    assert sorted(map(int, listed)) == list(range(40))


def libxenstore() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libxenstore.so.4", use_errno=True)
    except OSError:
        pytest.skip("libxenstore.so.4 is missing (Debian package libxenstore4)")
    library.xs_open.restype = library.xs_read.restype = ctypes.c_void_p
    library.xs_directory.restype = library.xs_read_watch.restype = ctypes.POINTER(ctypes.c_char_p)
    return library


def test_c_library_reads_writes_commits_and_watches(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    xs = libxenstore()
    monkeypatch.setenv("XENSTORED_PATH", path)
    handle = ctypes.c_void_p(xs.xs_open(0))
    assert handle.value is not None
    size = ctypes.c_uint()

    def read(tx: int, node: bytes) -> bytes | None:
        value = xs.xs_read(handle, tx, node, ctypes.byref(size))
        return ctypes.string_at(value, size.value) if value else None

    transaction = xs.xs_transaction_start(handle)
    assert xs.xs_write(handle, transaction, b"/lib/a", b"x\0y", 3)
    assert read(transaction, b"/lib/a") == b"x\0y"
    assert read(0, b"/lib/a") is None
    assert ctypes.get_errno() == 2
    assert xs.xs_transaction_end(handle, transaction, False)
    assert read(0, b"/lib/a") == b"x\0y"
    assert xs.xs_mkdir(handle, 0, b"/lib/b")
    listed = xs.xs_directory(handle, 0, b"/lib", ctypes.byref(size))
    assert [listed[i] for i in range(size.value)] == [b"a", b"b"]
    assert xs.xs_watch(handle, b"/lib", b"token")
    for expected in ([b"/lib", b"token"], [b"/lib/b", b"token"]):
        event = xs.xs_read_watch(handle, ctypes.byref(size))
        assert [event[i] for i in range(size.value)] == expected
        xs.xs_rm(handle, 0, b"/lib/b")
    assert xs.xs_unwatch(handle, b"/lib", b"token")
    xs.xs_close(handle)


@pytest.mark.skipif(
    importlib.util.find_spec("pyxs") is None, reason="the Python package pyxs is not installed"
)
def test_pyxs_works_unchanged(path: str) -> None:
    import pyxs

    with pyxs.Client(unix_socket_path=path) as client:
        client[b"/p/x"] = b"1"
        assert client.list(b"/p") == [b"x"]
        assert client.get_perms(b"/p/x") == [b"n0"]
        client.set_perms(b"/p/x", [b"n0", b"r3"])
        assert client.get_perms(b"/p/x") == [b"n0", b"r3"]
        with client.monitor() as monitor:
            monitor.watch(b"/p", b"token")
            events = monitor.wait()
            assert tuple(next(events)) == (b"/p", b"token")
            client.write(b"/p/y", b"2")
            assert tuple(next(events)) == (b"/p/y", b"token")
        client.transaction()
        client.write(b"/p/x", b"3")
        assert client.commit()
        assert client.read(b"/p/x") == b"3"
        client.delete(b"/p")
        with pytest.raises(pyxs.PyXSError):
            client.read(b"/p/x")


def test_server_survives_clients_that_are_killed_all_the_time(path: str) -> None:
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(bytes.fromhex('0600000000000000000000000100000000') * 3 + bytes(7));"
        "s.recv(1); print('in'); sys.stdout.flush(); s.recv(1 << 20); s.recv(1)"
    )
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == "in\n"
        victim.kill()
        victim.communicate()
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_SECONDS)
        client.connect(path)
        deadline = time.monotonic() + _SECONDS
        while True:
            client.sendall(bytes.fromhex("0000000000000000000000000800000071756f7461003000"))
            answer = client.recv(4096)
            if b"transactions     :        0 " in answer or time.monotonic() > deadline:
                break
        assert b"transactions     :        0 " in answer
