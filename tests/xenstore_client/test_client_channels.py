"""Sockets and streams: waiting, giving up, and servers that go away or talk nonsense."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from xenstore_servers import HANG_UP, PATIENCE, Script, frame, session_client

from xennet.xenstore import (
    Client,
    Store,
    XsConnectionError,
    XsError,
    XsReplyError,
    XsTimeoutError,
)
from xennet.xenstore.client.channel import FdChannel
from xennet.xenstore.client.socket import open_channel, socket_path

READ, DIRECTORY, START, WRITE, EVENT, ERROR, PART = 2, 1, 6, 11, 15, 16, 22


def client_of(script: Script, timeout: float = PATIENCE) -> Client:
    return Client.over(FdChannel(script.fd()), timeout=timeout)


# --- time -----------------------------------------------------------------------------------------


def test_timeout_names_the_request_and_the_path_and_the_client_goes_on() -> None:
    script = Script(b"", frame(READ, 1, 0, b"late") + frame(READ, 2, 0, b"v"))
    with client_of(script, timeout=0.1) as client:
        with pytest.raises(TimeoutError) as caught:
            client.read("/slow")
        assert isinstance(caught.value, XsTimeoutError)
        assert str(caught.value) == "ETIMEDOUT '/slow': no answer to READ within 0.1 s"
        script.wait_for(1)
        client._connection.timeout = PATIENCE
        assert client.read("/t") == b"v"


def test_events_without_end_do_not_postpone_the_timeout() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()
    end = time.monotonic() + 60  # where the timeout is postponed, the answer is a hang-up

    def babble() -> None:
        with suppress(OSError):
            while not stop.is_set() and time.monotonic() < end:
                ours.send(frame(EVENT, 0, 0, b"/a\0t\0"))
        ours.close()

    thread = threading.Thread(target=babble)
    thread.start()
    try:
        with (
            Client.over(FdChannel(theirs.detach()), timeout=0.2) as client,
            pytest.raises(XsTimeoutError),
        ):
            client.read("/slow")
    finally:
        stop.set()
        thread.join()


def test_server_that_does_not_read_times_out() -> None:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, Client.over(FdChannel(theirs.detach()), timeout=0.05) as client:

        def write_much() -> None:
            for _ in range(100):
                client.write("/x", b"v" * 4000)

        with pytest.raises(XsTimeoutError, match="'/x': no answer to WRITE"):
            write_much()
        assert client.pending is False


def test_poll_does_not_wait() -> None:
    with client_of(Script()) as client:
        assert client.poll() == 0
        assert client.poll_one() is False


def test_timeout_of_a_watch_holds_while_another_watch_keeps_talking() -> None:
    script = Script(
        frame(4, 1, 0, b"OK\0"), frame(4, 2, 0, b"OK\0") + frame(EVENT, 0, 0, b"/b\0t\0") * 50
    )
    heard: list[str] = []
    with client_of(script) as client:
        events = client.watch("/a")
        client.watch("/b", "t", lambda path, token: heard.append(path))
        with pytest.raises(XsTimeoutError, match=r"'/a': no watch event within 0.05 s"):
            events.next(0.05)
        assert heard == ["/b"] * 50


def test_ring_that_brings_nothing_is_not_waited_for() -> None:
    class Deaf:
        def send(self, data: bytes | memoryview) -> int:
            return len(data)

        def receive(self) -> bytes:
            return b""

        def deadline(self, timeout: float | None) -> float:
            return 0.0

        def wait(self, deadline: float, sending: bool) -> bool:
            return False

        def close(self) -> None:
            pass

    with pytest.raises(XsTimeoutError, match=r"ETIMEDOUT '/a': no answer to READ$"):
        Client.over(Deaf()).read("/a")


# --- the end --------------------------------------------------------------------------------------


def test_server_that_hangs_up_is_a_lost_connection_from_then_on() -> None:
    with client_of(Script(HANG_UP)) as client:
        for path in ("/a", "/b"):
            with pytest.raises(ConnectionError) as caught:
                client.read(path)
            assert isinstance(caught.value, XsConnectionError)
            assert (caught.value.errno, caught.value.path) == ("ECONNRESET", path)


def test_what_came_before_the_end_is_still_delivered() -> None:
    answer = frame(EVENT, 0, 0, b"/a\0t\0") + frame(4, 1, 0, b"OK\0")
    script = Script(answer, HANG_UP)
    heard: list[str] = []
    with client_of(script) as client:
        client.watch("/a", "t", lambda path, token: heard.append(path))
        with pytest.raises(XsConnectionError):
            client.read("/a")
        assert client.poll_one()
        assert heard == ["/a"]
        with pytest.raises(XsConnectionError):
            client.poll_one()


def test_watch_of_a_server_that_goes_away_ends_with_an_error() -> None:
    script = Script(frame(4, 1, 0, b"OK\0") + frame(EVENT, 0, 0, b"/a\0watch-1\0"), HANG_UP)
    with client_of(script) as client:
        events = client.watch("/a")
        assert next(events).path == "/a"
        with pytest.raises(XsConnectionError):
            client.read("/a")
        with pytest.raises(XsConnectionError):
            next(events)


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (frame(READ, 99, 0, b"v"), "READ with req_id 99, which no request waits for"),
        (frame(WRITE, 1, 0, b"OK\0"), "'/a': READ answered by XS_WRITE"),
        (frame(READ, 1, 4, b"v"), "'/a': READ in transaction 0 answered in 4"),
        (b"\xff" * 16, "len 4294967295 > 4096"),
    ],
)
def test_server_that_talks_nonsense_is_left(answer: bytes, evidence: str) -> None:
    with client_of(Script(answer)) as client:
        with pytest.raises(XsReplyError, match="EPROTO '/a'") as caught:
            client.read("/a")
        assert evidence in str(caught.value).replace("XS_READ", "READ")
        with pytest.raises(XsConnectionError, match="EPROTO '/b'"):
            client.read("/b")


@pytest.mark.parametrize(
    ("kind", "answer", "request_"),
    [
        (WRITE, b"KO\0", lambda c: c.write("/a", 1)),
        (DIRECTORY, b"a\0b", lambda c: c.directory("/a")),
        (3, b"x0\0", lambda c: c.get_perms("/a")),
        (3, b"n0", lambda c: c.get_perms("/a")),
        (START, b"0\0", lambda c: c.transaction().__enter__()),
        (START, b"4294967296\0", lambda c: c.transaction().__enter__()),
        (START, b"-1\0", lambda c: c.transaction().__enter__()),
        (START, b"9" * 4000 + b"\0", lambda c: c.transaction().__enter__()),
        (17, b"maybe\0", lambda c: c.is_domain_introduced(1)),
        (10, b"", lambda c: c.get_domain_path(1)),
        (ERROR, b"oh dear\0", lambda c: c.read("/a")),
    ],
)
def test_reply_that_makes_no_sense_is_a_typed_error(kind: int, answer: bytes, request_) -> None:
    with client_of(Script(frame(kind, 1, 0, answer))) as client, pytest.raises(XsReplyError):
        request_(client)


# --- directories in parts -------------------------------------------------------------------------

TOO_BIG = frame(ERROR, 1, 0, b"E2BIG\0")


def parts(*answers: bytes) -> Script:
    return Script(TOO_BIG, *(frame(PART, 2 + n, 0, part) for n, part in enumerate(answers)))


def test_parts_are_put_together() -> None:
    script = parts(b"7\0a\0b\0", b"7\0c\0\0")
    with client_of(script) as client:
        assert client.directory("/d") == ["a", "b", "c"]
    assert [request[16:] for request in script.requests[1:3]] == [b"/d\x000\0", b"/d\x004\0"]


def test_parts_may_end_with_nothing() -> None:
    with client_of(parts(b"7\0a\0", b"7\0\0")) as client:
        assert client.directory("/d") == ["a"]


def test_parts_start_again_if_the_generation_changes() -> None:
    script = parts(b"7\0a\0b\0", b"8\0c\0\0", b"8\0x\0", b"8\0c\0\0")
    with client_of(script) as client:
        assert client.directory("/d") == ["x", "c"]
    assert [request[16:] for request in script.requests[1:5]] == [
        b"/d\x000\0",
        b"/d\x004\0",
        b"/d\x000\0",
        b"/d\x002\0",
    ]


def test_directory_that_never_stands_still_is_given_up() -> None:
    script = parts(*(b"%d\0a\0" % n for n in range(300)))
    with client_of(script) as client, pytest.raises(XsError, match=r"EAGAIN '/d'.*changed"):
        client.directory("/d")


def test_server_without_parts_leaves_the_first_answer() -> None:
    script = Script(TOO_BIG, frame(ERROR, 2, 0, b"ENOSYS\0"))
    with client_of(script) as client, pytest.raises(XsError, match="E2BIG '/d'"):
        client.directory("/d")


@pytest.mark.parametrize("part", [b"", b"7", b"7\0", b"x\0a\0\0"])
def test_part_without_generation_or_progress_is_an_error(part: bytes) -> None:
    with client_of(parts(part)) as client, pytest.raises(XsReplyError, match="EPROTO '/d'"):
        client.directory("/d")


# --- the way in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({}, "/var/run/xenstored/socket"),
        ({"XENSTORED_RUNDIR": "/tmp/xs"}, "/tmp/xs/socket"),
        ({"XENSTORED_RUNDIR": "/tmp/xs", "XENSTORED_PATH": "/a/b"}, "/a/b"),
    ],
)
def test_socket_is_where_libxenstore_looks(environment: dict[str, str], path: str) -> None:
    assert socket_path(environment) == path


def test_nobody_there_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(XsError) as caught:
        Client.connect(str(tmp_path / "none"))
    assert (caught.value.errno, caught.value.path) == ("ENOENT", str(tmp_path / "none"))


def test_stale_socket_file_refuses(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
    with pytest.raises(XsError, match="ECONNREFUSED"):
        Client.connect(str(tmp_path / "socket"))


def test_plain_file_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(XsError, match=r"ENOTSOCK .*neither a socket nor a device"):
        Client.connect(str(tmp_path / "file"))


def test_path_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(XsError):
        Client.connect(str(tmp_path / ("x" * 200)))


def test_environment_names_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        monkeypatch.delenv("XENSTORED_PATH", raising=False)
        monkeypatch.setenv("XENSTORED_RUNDIR", str(tmp_path))
        open_channel().close()
        monkeypatch.setenv("XENSTORED_PATH", str(tmp_path / "none"))
        with pytest.raises(XsError, match="none"):
            open_channel()


@pytest.fixture
def full_backlog(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        first.connect(str(tmp_path / "socket"))
        yield tmp_path / "socket", listener


def test_busy_server_is_waited_for(full_backlog: tuple[Path, socket.socket]) -> None:
    path, listener = full_backlog
    accepting = threading.Timer(0.1, lambda: listener.accept()[0].close())
    accepting.start()
    open_channel(str(path), timeout=PATIENCE).close()
    accepting.join()


def test_busy_server_is_not_waited_for_for_ever(full_backlog: tuple[Path, socket.socket]) -> None:
    path, _ = full_backlog
    with pytest.raises(XsError, match="EAGAIN"):
        open_channel(str(path), timeout=0.05)


def test_device_is_spoken_to_like_a_socket() -> None:
    import tty

    master, device = os.openpty()
    tty.setraw(device)
    os.write(master, frame(READ, 1, 0, b"hello"))
    try:
        with Client.connect(os.ttyname(device), timeout=PATIENCE) as client:
            assert client.read("/a") == b"hello"
        assert os.read(master, 100) == frame(READ, 1, 0, b"/a\0")
    finally:
        os.close(master)
        os.close(device)


def test_closed_client_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with client_of(Script(frame(READ, 1, 0, b"v"))) as client:
        client.read("/a")
    with pytest.raises(XsError):
        Client.connect(str(tmp_path / "none"))
    # The script's own end may close a moment later.
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# --- a guest over messages ------------------------------------------------------------------------


def test_guest_has_its_own_identity_over_messages() -> None:
    store = Store()
    store.introduce(5)
    host, guest = session_client(store), session_client(store, 5, piece=11)
    host.write("/secret", 1)
    with pytest.raises(XsError, match="EACCES '/secret': READ refused"):
        guest.read("/secret")
    with pytest.raises(XsError, match="EACCES"):
        guest.is_domain_introduced(5)
    host.mkdir("/local/domain/5")
    host.set_perms("/local/domain/5", ["n5"])
    guest.write("device/vif/0", "x")
    assert host.read("/local/domain/5/device/vif/0") == b"x"


def test_arrival_of_events_is_told_to_on_pending() -> None:
    store = Store()
    host, other = session_client(store), session_client(store)
    heard: list[str] = []
    told: list[bool] = []
    host.watch("/a", "t", lambda path, token: heard.append(path))
    host.poll()
    host.on_pending = lambda: told.append(True)
    other.write("/a", 1)
    assert told == []
    connection = host._connection
    connection.arrived()
    assert told == [True]
    connection.arrived()
    assert told == [True]
    host.poll()
    assert heard == ["/a", "/a"]
