"""`xennet xenstored --trace-pcap`: what passed between clients and server, message by message."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from captures import columns, needs_tshark, packets
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi import xs_wire as xs
from xennet.host import Host
from xennet.observe import StoreOperation
from xennet.port.null import NullPort
from xennet.trace.record_decoder import CUT, decode
from xennet.trace.records import HEADER, Role
from xennet.trace.xenstore_capture import XenStoreCapture
from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Session
from xennet.xenstore.tapped_session import open_session
from xennet.xenstore.wire import encode

#: Seconds that only a process that hangs takes.
LIMIT_S = 60
needs_tools = pytest.mark.skipif(
    shutil.which("xenstore-write") is None, reason="there are no xenstore-* tools"
)


def failed(text: str) -> None:
    raise AssertionError(text)


@contextmanager
def daemon(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A server on ``path``, which is killed in the end."""
    command = [sys.executable, "-m", "xennet", "xenstored", "--socket", str(path), *options]
    prctl = ctypes.CDLL(None).prctl
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"XenStore on {path}\n"
        yield server
    finally:
        server.kill()
        server.communicate(timeout=LIMIT_S)


def tool(path: Path, name: str, *arguments: str) -> None:
    subprocess.run(
        [f"xenstore-{name}", *arguments],
        env={**os.environ, "XENSTORED_PATH": str(path)},
        capture_output=True,
        timeout=LIMIT_S,
        check=name != "read",
    )


@needs_tools
@needs_tshark
def test_what_tools_did_is_in_the_file_of_a_server_that_was_killed(tmp_path: Path) -> None:
    path, file = tmp_path / "socket", tmp_path / "store.pcapng"
    with daemon(path, "--trace-pcap", str(file)):
        tool(path, "write", "/t/a", "hello", "/t/b", r"x\x00y")
        tool(path, "read", "/t/a")
        tool(path, "read", "/none")
        tool(path, "chmod", "/t/a", "n0", "r3")
        tool(path, "list", "/t")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    names = ("type", "path", "value", "error", "perm", "name", "response_in", "response_to")
    shown = columns(
        file, "", "xennet.index", "xennet.role", *(f"xennet.xs.{name}" for name in names), passes=2
    )
    asked = {number: line for number, line in enumerate(shown, 1) if line[1] == "1"}
    done = []
    for number, line in enumerate(shown, 1):
        connection, role, kind, *_, response_to = line
        if role == "1":
            continue
        request = asked.pop(int(response_to))
        assert request[0] == connection
        assert request[-2] == str(number)
        assert kind in (request[2], str(xs.XS_ERROR))
        name = xs.XS_NAMES[int(request[2])].removeprefix("XS_")
        # Path, value and rights of the request; value, error, names of the answer.
        done.append([name, request[3], request[4] or line[4], request[6], line[5], line[7]])
    assert not asked  # each has its answer
    done = [one for one in done if one[0] not in ("TRANSACTION_START", "TRANSACTION_END")]
    assert done == [
        ["WRITE", "/t/a", "hello", "", "", ""],
        ["WRITE", "/t/b", r"x\x00y", "", "", ""],
        ["READ", "/t/a", "hello", "", "", ""],
        ["READ", "/none", "", "", "ENOENT", ""],
        ["SET_PERMS", "/t/a", "", "n0,r3", "", ""],
        ["DIRECTORY", "/t", "", "", "", "a,b"],
    ]
    assert {line[0] for line in shown} == {"1", "2", "3", "4", "5"}  # a connection for each tool
    comments = columns(file, 'frame.comment contains "READ"', "frame.comment")
    assert comments[0] == ["socket2: READ"]


def ask(path: Path, requests: int) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(str(path))
        for number in range(requests):
            client.sendall(encode(xs.XS_WRITE, number, 0, b"/a\0" + b"x" * 300))
            answer = b""
            while len(answer) < 19:
                answer += client.recv(19 - len(answer))
            assert answer == encode(xs.XS_WRITE, number, 0, b"OK\0")


def test_a_full_disk_ends_the_file_and_not_the_server(tmp_path: Path) -> None:
    path, file = tmp_path / "socket", tmp_path / "store.pcapng"
    with daemon(path, "--trace-pcap", str(file)) as server:
        ask(path, 3)
        limit = file.stat().st_size + 1000
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, limit))
        ask(path, 20)
        assert server.stderr is not None
        assert server.stderr.readline() == (
            f"{file}: the file takes no more; nothing more is written there\n"
        )
        ask(path, 3)
    whole = packets(file)
    assert limit - 500 < file.stat().st_size <= limit
    assert [HEADER.unpack_from(data)[HEADER.fields.index("sequence")] for data in whole] == [
        *range(1, len(whole) + 1)
    ]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(parents=True), "Is a directory"),
        (lambda path: (path.parent.mkdir(), os.mkfifo(path)), "No such device or address"),
    ],
)
def test_a_file_that_cannot_be_written_is_bad_usage(
    tmp_path: Path, make: object, reason: str
) -> None:
    from click.testing import CliRunner

    from xennet.cli.xenstored import xenstored

    file = tmp_path / "in" / "store.pcapng"
    assert callable(make)
    make(file)
    result = CliRunner().invoke(
        xenstored, ["--socket", str(tmp_path / "socket"), "--trace-pcap", str(file)]
    )
    assert result.exit_code == 2
    assert f"--trace-pcap {file}: {reason}" in result.output
    assert not (tmp_path / "socket").exists()


def test_a_fifo_with_a_reader_is_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ValueError, match="is no regular file"):
        XenStoreCapture(fifo, failed)
    os.close(reader)


def test_without_a_tap_a_session_is_as_it_always_is() -> None:
    assert type(open_session(Server(Store()))) is Session


_KINDS = st.sampled_from([xs.XS_READ, xs.XS_WRITE, xs.XS_WATCH, xs.XS_TRANSACTION_START, 99])
_REQUESTS = st.lists(
    st.tuples(_KINDS, st.integers(0, 3), st.binary(max_size=30)), min_size=1, max_size=8
)


@given(_REQUESTS, st.lists(st.integers(1, 40)), st.booleans(), st.binary(max_size=15))
def test_every_byte_of_a_session_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[tuple[int, int, bytes]],
    cuts: list[int],
    too_long: bool,
    rest: bytes,
) -> None:
    file = tmp_path_factory.mktemp("capture") / "a.pcapng"
    capture = XenStoreCapture(file, failed, clock=lambda: 7)
    server = Server(Store())
    server.tap = capture
    session = open_session(server, name="one")
    data = b"".join(encode(kind, ident, 0, payload) for kind, ident, payload in requests)
    end = encode(xs.XS_READ, 9, 0, b"")[:12] + (4097).to_bytes(4, "little") if too_long else rest
    sent, taken = data + end, b""
    at = 0
    for size in [*cuts, len(sent)]:
        session.receive(sent[at : at + size])
        at += size
        taken += session.take(size)
        session.resume()
    taken += session.take()
    assert session.closed == too_long
    session.close()
    session.close()
    capture.close()
    shown = [decode(data) for data in packets(file)]
    for role, passed in ((Role.TO_STORE, sent), (Role.FROM_STORE, taken)):
        mine = [p for p in packets(file) if decode(p)["xennet.role"] == [role]]
        texts = [len(decode(p)["xennet.text"][0]) for p in mine]
        bodies = [p[HEADER.size + length :] for p, length in zip(mine, texts, strict=True)]
        assert b"".join(bodies) == passed
    whole = [one for one in shown if CUT not in one]
    asked = [one for one in whole if one["xennet.role"] == [Role.TO_STORE]]
    assert len(asked) == len(requests)
    # Each answer names its request, and each request has one.
    by_number = {one["xennet.sequence"][0]: one for one in asked}
    answers = [
        one
        for one in whole
        if one["xennet.role"] == [Role.FROM_STORE] and one["xennet.xs.type"] != [xs.XS_WATCH_EVENT]
    ]
    assert [one["xennet.cause"][0] for one in answers] == sorted(by_number)
    for one in answers:
        assert by_number[one["xennet.cause"][0]]["xennet.xs.req_id"] == one["xennet.xs.req_id"]


def test_requests_of_a_guests_ring_are_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    capture = XenStoreCapture(file, failed, clock=lambda: 7)
    host = Host()
    host.service.server.tap = capture
    done: list[StoreOperation] = []
    host.machine.observers.subscribe(
        lambda event: done.append(event) if isinstance(event, StoreOperation) else None
    )
    host.dom0.load()
    guest = host.add_guest()
    guest.boot()
    host.plug(guest, 0, NullPort(), NullPort())
    host.settle()
    capture.close()
    shown = [decode(data) for data in packets(file)]
    asked = [one for one in shown if one["xennet.role"] == [Role.TO_STORE]]
    assert {one["xennet.domid"][0] for one in shown} == {1}
    told = [
        (xs.XS_NAMES[int(one["xennet.xs.type"][0])].removeprefix("XS_"), *one["xennet.xs.path"])
        for one in asked
        if "xennet.xs.path" in one
    ]
    mine = [(op.op, op.path) for op in done if op.domid == 1 and op.path]
    assert len(told) > 20
    assert told == mine
