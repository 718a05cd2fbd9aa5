"""The server on its socket, in this process's event loop and as a command."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from wire_talk import message

from xennet.cli.xenstored import DAEMONS
from xennet.pump import Pump
from xennet.runloop import RunLoop
from xennet.xenstore import Store
from xennet.xenstore.daemon import Daemon, listen
from xennet.xenstore.errors import SocketError
from xennet.xenstore.handlers import Server
from xennet.xenstore.likeness import LIKENESSES
from xennet.xenstore.session import Limits
from xennet.xenstore.wire import HEADER, Message

#: Seconds until a thing that has to happen counts as one that does not.
_SECONDS = 60
Scenario = Callable[[Daemon], Awaitable[None]]


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, daemon: Daemon) -> Peer:
        return cls(*await asyncio.open_unix_connection(daemon.path))

    async def message(self) -> Message:
        kind, req, tx, size = HEADER.unpack(await self.reader.readexactly(16))
        return Message(kind, req, tx, await self.reader.readexactly(size))

    async def ask(self, kind: str, payload: bytes, tx: int = 0) -> bytes:
        self.writer.write(message(kind, payload, tx))
        return (await self.message()).payload

    def kill(self) -> None:
        self.writer.transport.abort()


def store_of(daemon: Daemon) -> Store:
    return daemon._server.store


@contextmanager
def serving(path: Path, limits: Limits | None = None, domid: int = 0) -> Iterator[Daemon]:
    """A daemon that is served by the event loop that its clients live in."""
    with selectors.DefaultSelector() as selector:
        pump = Pump(RunLoop(), selector=selector)
        daemon = Daemon(Server(Store()), str(path / "socket"), pump, limits, domid)
        daemon.start()
        loop = asyncio.get_running_loop()
        loop.add_reader(selector.fileno(), pump.turn)
        try:
            yield daemon
        finally:
            loop.remove_reader(selector.fileno())
            daemon.stop()
            daemon.stop()
        assert not pump.watching


def run(path: Path, scenario: Scenario, limits: Limits | None = None, domid: int = 0) -> None:
    async def main() -> None:
        with serving(path, limits, domid) as daemon:
            async with asyncio.timeout(_SECONDS):
                await scenario(daemon)
        assert daemon.clients == 0
        assert store_of(daemon).connections_of(domid) == 0

    asyncio.run(main())
    assert not (path / "socket").exists()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_killed_client_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        store = store_of(daemon)
        observer = await Peer.connect(daemon)
        victim = await Peer.connect(daemon)
        for i in range(128):
            victim.writer.write(message("WATCH", b"/w\0%d\0" % i))
        for _ in range(256):
            await victim.message()
        assert await victim.ask("TRANSACTION_START", b"\0") == b"1\0"
        await victim.ask("WRITE", b"/half\0x", 1)
        victim.writer.write(message("WRITE", b"/half\0x")[:20])
        await until(lambda: store.watches_of(0) == 128)
        assert (store.transactions_of(0), daemon.clients) == (1, 2)
        victim.kill()
        await until(lambda: daemon.clients == 1)
        assert (store.watches_of(0), store.transactions_of(0)) == (0, 0)
        assert await observer.ask("READ", b"/half\0") == b"ENOENT\0"
        assert await observer.ask("WRITE", b"/w\0x") == b"OK\0"
        observer.kill()

    run(tmp_path, scenario)


def test_clients_of_a_socket_of_another_domain_have_its_rights_until_it_dies(
    tmp_path: Path,
) -> None:
    async def scenario(daemon: Daemon) -> None:
        store = store_of(daemon)
        early = await Peer.connect(daemon)
        assert await early.reader.read() == b""  # it is not introduced yet
        store.domain_created(5)
        store.introduce(5)
        peer = await Peer.connect(daemon)
        assert await peer.ask("GET_DOMAIN_PATH", b"5\0") == b"/local/domain/5\0"
        assert await peer.ask("WRITE", b"/elsewhere\0x") == b"EACCES\0"
        assert await peer.ask("RELEASE", b"5\0") == b"EACCES\0"
        assert await peer.ask("WATCH", b"@releaseDomain\0t\0") == b"OK\0"
        store.domain_died(5)
        while await peer.reader.read(4096):
            pass  # what it was told before
        for one in (early, peer):
            one.kill()
        await until(lambda: daemon.clients == 0)

    run(tmp_path, scenario, domid=5)


def test_oversized_message_closes_the_socket_after_the_answers_before_it(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        peer = await Peer.connect(daemon)
        peer.writer.write(message("READ", b"/\0") + HEADER.pack(2, 0, 0, 4097))
        assert await peer.reader.read() == message("READ", b"")
        peer.kill()

    run(tmp_path, scenario)


def test_client_that_reads_nothing_delays_nobody_and_is_bounded(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        lazy, busy = await Peer.connect(daemon), await Peer.connect(daemon)
        await busy.ask("WRITE", b"/big\0" + b"x" * 4000)
        lazy.reader._transport.pause_reading()
        lazy.writer.write(message("READ", b"/big\0") * 20_000)
        for i in range(300):
            assert await busy.ask("WRITE", b"/n\0%d" % i) == b"OK\0"
        (session,) = [peer.session for peer in daemon.peers if peer.session.pending]
        assert session.blocked
        assert sum(map(len, session._out)) < 100_000
        lazy.reader._transport.resume_reading()
        for _ in range(20_000):
            assert len((await lazy.message()).payload) == 4000
        lazy.kill()
        busy.kill()

    run(tmp_path, scenario)


def test_replies_that_had_to_wait_come_in_order_beside_another_watcher(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        watcher, lazy = await Peer.connect(daemon), await Peer.connect(daemon)
        await watcher.ask("WATCH", b"/w\0t\0")
        await lazy.ask("WRITE", b"/big\0" + b"x" * 4000)
        lazy.reader._transport.pause_reading()
        for number in range(500):
            kind, payload = ("READ", b"/big\0") if number % 3 else ("WRITE", b"/w\0x")
            lazy.writer.write(message(kind, payload, req=number))
        await until(lambda: any(peer.session.blocked for peer in daemon.peers))
        lazy.reader._transport.resume_reading()
        for number in range(500):
            assert (await lazy.message()).req_id == number
        watcher.kill()
        lazy.kill()

    run(tmp_path, scenario)


def test_client_that_sends_no_more_still_gets_its_answers(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        peer = await Peer.connect(daemon)
        await peer.ask("WRITE", b"/big\0" + b"x" * 4000)
        peer.reader._transport.pause_reading()
        peer.writer.write(message("READ", b"/big\0") * 75)  # more than the system keeps
        peer.writer.write_eof()
        await until(lambda: store_of(daemon).connections_of(0) == 0)
        assert daemon.clients == 1
        peer.reader._transport.resume_reading()
        for _ in range(75):
            assert len((await peer.message()).payload) == 4000
        assert await peer.reader.read() == b""
        await until(lambda: daemon.clients == 0)
        peer.kill()

    run(tmp_path, scenario)


def test_client_that_sends_no_more_and_reads_nothing_is_forgotten_when_it_goes(
    tmp_path: Path,
) -> None:
    async def scenario(daemon: Daemon) -> None:
        peer = await Peer.connect(daemon)
        await peer.ask("WRITE", b"/big\0" + b"x" * 4000)
        peer.reader._transport.pause_reading()
        peer.writer.write(message("READ", b"/big\0") * 75)
        peer.writer.write_eof()
        await until(lambda: store_of(daemon).connections_of(0) == 0)
        peer.kill()
        await until(lambda: daemon.clients == 0)

    run(tmp_path, scenario)


def test_client_waits_until_another_goes_where_there_is_no_descriptor_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Full(socket.socket):
        def accept(self):
            calls.append(self)
            if len(calls) > 1 and daemons[0].clients:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    daemons: list[Daemon] = []
    monkeypatch.setattr(socket, "socket", Full)

    async def scenario(daemon: Daemon) -> None:
        daemons.append(daemon)
        first = await Peer.connect(daemon)
        assert await first.ask("READ", b"/\0") == b""
        second = await Peer.connect(daemon)
        second.writer.write(message("READ", b"/\0"))
        for _ in range(10):
            assert await first.ask("READ", b"/\0") == b""
        assert (len(calls), daemon.clients) == (2, 1)
        first.kill()
        assert (await second.message()).payload == b""
        second.kill()

    run(tmp_path, scenario)


def test_watcher_that_reads_nothing_is_cut_off(tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        lazy, busy = await Peer.connect(daemon), await Peer.connect(daemon)
        await lazy.ask("WATCH", b"/w\0t\0")
        lazy.reader._transport.pause_reading()
        path = b"/w/" + b"x" * 1000
        for i in range(3000):
            assert await busy.ask("MKDIR", b"%s%d\0" % (path, i)) == b"OK\0"
            if daemon.clients == 1:
                break
        assert 100 < i < 2999
        assert store_of(daemon).watches_of(0) == 0
        lazy.kill()
        busy.kill()

    run(tmp_path, scenario, Limits(events=100_000))


def test_many_clients_at_once_are_all_served(tmp_path: Path) -> None:
    async def client(daemon: Daemon, number: int) -> None:
        peer = await Peer.connect(daemon)
        for i in range(20):
            assert await peer.ask("WRITE", b"/c/%d\0%d" % (number, i)) == b"OK\0"
            assert await peer.ask("READ", b"/c/%d\0" % number) == b"%d" % i
        peer.kill()

    async def scenario(daemon: Daemon) -> None:
        await asyncio.gather(*(client(daemon, number) for number in range(64)))

    run(tmp_path, scenario)


def test_stop_leaves_a_socket_that_another_server_made(tmp_path: Path) -> None:
    async def main() -> None:
        with serving(tmp_path) as daemon:
            os.unlink(daemon.path)
            with listen(daemon.path):
                daemon.stop()
                assert os.path.exists(daemon.path)

    asyncio.run(main())


# -- the socket file -----------------------------------------------------------------------------


def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    with listen(str(tmp_path / "new" / "socket")):
        mode = (tmp_path / "new" / "socket").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


def test_socket_has_its_name_only_once_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    seen = []

    class Watched(socket.socket):
        def listen(self, backlog: int = 1) -> None:
            seen.append(path.exists())
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    with listen(str(path)):
        assert seen == [False]
        assert list(tmp_path.iterdir()) == [path]


def test_socket_that_nobody_serves_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    listen(path).close()
    assert os.path.exists(path)
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_socket_that_somebody_serves_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listen(path), pytest.raises(SocketError, match=f"{path}: another XenStore server"):
        listen(path)


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(SocketError, match="exists and is no socket"):
        listen(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["/none/none/socket", "/proc/socket", "x" * 200])
def test_path_that_cannot_be_listened_on_is_named(path: str) -> None:
    with pytest.raises(SocketError, match=path):
        listen(path)


# -- the command -----------------------------------------------------------------------------------


def command(*args: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xennet", "xenstored", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # below nohup too
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_server_and_removes_the_socket(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "socket"
    server = command("--socket", str(path))
    assert server.stdout is not None
    assert server.stdout.readline() == f"XenStore on {path}\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(message("READ", b"/\0"))
        assert client.recv(100) == message("READ", b"")
        server.send_signal(number)
        assert client.recv(100) == b""
    output, errors = server.communicate(timeout=_SECONDS)
    assert (server.returncode, output, errors) == (0, "", "")
    assert not path.exists()


def test_second_server_on_a_path_refuses_with_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = command(XENSTORED_RUNDIR=str(tmp_path), XENSTORED_PATH="")
    assert first.stdout is not None
    assert first.stdout.readline() == f"XenStore on {path}\n"
    second = command("--socket", str(path))
    output, errors = second.communicate(timeout=_SECONDS)
    assert (second.returncode, output) == (2, "")
    told, hint = errors.splitlines()
    assert told == f"xennet: {path}: another XenStore server answers there"
    assert hint == "Try 'xennet xenstored --help'."
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.terminate()
    first.communicate(timeout=_SECONDS)


def test_an_observer_of_a_request_finds_it_answered(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = command("--socket", str(path))
    assert server.stdout is not None
    server.stdout.readline()
    with socket.socket(socket.AF_UNIX) as watcher, socket.socket(socket.AF_UNIX) as asker:
        for client in (watcher, asker):
            client.connect(str(path))
            client.settimeout(_SECONDS)
        watcher.sendall(message("WATCH", b"/w\0t\0"))
        first = message("WATCH", b"OK\0") + message("WATCH_EVENT", b"/w\0t\0")
        assert watcher.recv(len(first), socket.MSG_WAITALL) == first
        for _ in range(50):
            asker.sendall(message("WRITE", b"/w\0x"))
            assert watcher.recv(100) == message("WATCH_EVENT", b"/w\0t\0")
            assert asker.recv(100, socket.MSG_DONTWAIT) == message("WRITE", b"OK\0")
    server.terminate()
    server.communicate(timeout=_SECONDS)


def test_death_of_a_watcher_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = command("--socket", str(path))
    assert server.stdout is not None
    server.stdout.readline()
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(path))
        asker.settimeout(_SECONDS)
        stream = b"".join(message("WRITE", b"/w/%d\0" % i) for i in range(100))
        answers = message("WRITE", b"OK\0") * 100
        for _ in range(10):
            watchers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
            for watcher in watchers:
                watcher.connect(str(path))
                watcher.sendall(message("WATCH", b"/w\0t\0"))
                watcher.recv(1)
            for watcher in watchers:
                watcher.close()
            asker.sendall(stream)
            received = b""
            while len(received) < len(answers):
                received += asker.recv(1 << 16)
            assert received == answers
    server.terminate()
    _, errors = server.communicate(timeout=_SECONDS)
    assert (server.returncode, errors) == (0, "")


@pytest.mark.parametrize(("args", "like"), [((), "4.20"), (("--like", "4.17"), "4.17")])
def test_option_like_chooses_the_daemon(tmp_path: Path, args: tuple[str, ...], like: str) -> None:
    path = tmp_path / "socket"
    server = command("--socket", str(path), *args)
    assert server.stdout is not None
    server.stdout.readline()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(message("GET_PERMS", b"@releaseDomain\0"))
        answers = {"4.17": message("ERROR", b"EINVAL\0"), "4.20": message("GET_PERMS", b"n0\0")}
        assert client.recv(100) == answers[like]
    server.terminate()
    server.communicate(timeout=_SECONDS)


def test_option_like_knows_every_daemon_and_no_other(tmp_path: Path) -> None:
    assert set(DAEMONS) == set(LIKENESSES)
    server = command("--socket", str(tmp_path / "socket"), "--like", "4.18")
    _, errors = server.communicate(timeout=_SECONDS)
    assert server.returncode == 2
    assert "--like" in errors
    assert all(name in errors for name in LIKENESSES)
    with pytest.raises(ValueError, match=r"no XenStore daemon '4\.18' is known"):
        Store(like="4.18")


def test_limits_are_those_of_the_daemon_unless_an_option_sets_them(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = command(
        "--socket", str(path), "--like", "oxenstored", "--quota-watches", "7", "--newer"
    )
    assert server.stdout is not None
    server.stdout.readline()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        for name, value in ((b"path-max", b"1024"), (b"watches", b"7"), (b"node-size", b"0")):
            client.sendall(message("GET_QUOTA", name + b"\0"))
            assert client.recv(100) == message("GET_QUOTA", value + b"\0")
    server.terminate()
    server.communicate(timeout=_SECONDS)


def test_options_set_quotas_and_newer_messages(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    trace = tmp_path / "trace"
    args = ["--quota-nodes", "5", "--quota-watches", "0", "--newer", "--trace-file", str(trace)]
    server = command("--socket", str(path), *args)
    assert server.stdout is not None
    server.stdout.readline()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        for name, value in ((b"nodes", b"5"), (b"watches", b"0"), (b"path-max", b"2048")):
            client.sendall(message("GET_QUOTA", name + b"\0"))
            assert client.recv(100) == message("GET_QUOTA", value + b"\0")
        client.sendall(message("MKDIR", b"/x\0"))
        assert client.recv(100) == message("MKDIR", b"OK\0")
    server.terminate()
    server.communicate(timeout=_SECONDS)
    assert "MKDIR tx=0 '/x'" in trace.read_text()


def test_trace_file_that_cannot_be_opened_is_bad_usage(tmp_path: Path) -> None:
    server = command("--socket", str(tmp_path / "socket"), "--trace-file", "/none/none")
    _, errors = server.communicate(timeout=_SECONDS)
    assert server.returncode == 2
    assert "--trace-file /none/none: cannot be opened" in errors


def test_command_imports_nothing_of_clients_and_machines() -> None:
    script = (
        "import sys; from xennet.cli import main;"
        "main(['xenstored', '--socket', '/none/none/socket']);"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    imported = set(done.stdout.split())
    unused = {"xennet.pump", "xennet.runloop", "xennet.hypervisor", "xennet.xenstore.client.client"}
    assert "xennet.xenstore.daemon" in imported
    assert not imported & {*unused, "rich", "asyncio", "numba", "construct"}
