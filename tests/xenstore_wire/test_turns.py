"""Whose turn it is: clients that send many requests ahead, read slowly, or not at all."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wire_talk import Talk, message

from xennet.pump import Pump
from xennet.runloop import RunLoop
from xennet.xenstore import Store, StoreOp
from xennet.xenstore.daemon import TURN, Daemon
from xennet.xenstore.epoll_loop import EpollLoop
from xennet.xenstore.handlers import Server

READ_ROOT = message("READ", b"/\0")
ROOT = message("READ", b"")
#: Bytes of replies that are kept for a client that does not read: in its session and for its
#: socket, and what one turn adds to each.
BUFFERS = 4 * (64 << 10)


class CountingSocket(socket.socket):
    """The server's end of a connection, which counts how often it is written to."""

    sends = 0

    def send(self, data, flags=0):
        self.sends += 1
        return super().send(data, flags)


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump(RunLoop())
    yield pump
    pump.close()


@pytest.fixture
def daemon(tmp_path: Path, pump: Pump) -> Iterator[Daemon]:
    daemon = Daemon(Server(Store()), str(tmp_path / "socket"), pump)
    yield daemon
    daemon.stop()


@pytest.fixture
def connect(daemon: Daemon) -> Iterator[Callable[[], tuple[socket.socket, CountingSocket]]]:
    opened = []

    def pair() -> tuple[socket.socket, CountingSocket]:
        mine, other = socket.socketpair()
        mine.setblocking(False)
        served = CountingSocket(fileno=other.detach())
        daemon.adopt(served)
        opened.append(mine)
        return mine, served

    yield pair
    for mine in opened:
        mine.close()


# -- fairness --------------------------------------------------------------------------------------


def test_lone_request_is_answered_in_one_turn_beside_clients_that_send_thousands_ahead(
    daemon: Daemon, pump: Pump, connect
) -> None:
    handled: Counter[str] = Counter()

    def count(op: StoreOp) -> None:
        handled[op.who] += 1

    daemon._server.store.observer = count
    for client in [connect()[0] for _ in range(4)]:
        client.send(READ_ROOT * 2000)
    lone = connect()[0]
    for _ in range(20):
        handled.clear()
        lone.send(READ_ROOT)
        pump.turn()
        assert lone.recv(100) == ROOT
        assert handled.pop("socket5") == 1
        most = TURN // len(READ_ROOT)
        assert len(handled) == 4
        assert set(handled.values()) <= {most, most + 1}


def test_replies_of_a_turn_are_sent_together(pump: Pump, connect) -> None:
    client, served = connect()
    client.send(READ_ROOT * 1000)
    turns = 0
    received = b""
    while len(received) < 1000 * len(ROOT):
        pump.turn()
        turns += 1
        assert served.sends == turns
        received += client.recv(1 << 16)
    assert received == ROOT * 1000
    assert turns >= 1000 * len(READ_ROOT) // TURN


def test_long_request_is_not_read_in_small_pieces(pump: Pump, connect) -> None:
    client, served = connect()
    client.send(message("WRITE", b"/long\0" + b"x" * 4000))
    pump.turn()
    assert served.sends == 0
    pump.turn()
    assert client.recv(100) == message("WRITE", b"OK\0")


def test_asker_is_answered_before_others_hear_of_it_also_when_it_sends_ahead(
    daemon: Daemon, pump: Pump, connect
) -> None:
    order = []
    watcher, watching = connect()
    watcher.send(message("WATCH", b"/w\0t\0"))
    pump.turn()
    asker, served = connect()
    for name, end in (("watcher", watching), ("asker", served)):
        peer = next(p for p in daemon.peers if p._socket is end)
        send = peer._send_bytes
        peer._send_bytes = lambda data, name=name, send=send: order.append(name) or send(data)
    asker.send(READ_ROOT + message("WRITE", b"/w\0x") * 2)
    pump.turn()
    assert order == ["asker", "watcher", "asker", "watcher"]


def test_events_of_a_turn_are_sent_together_behind_all_replies(
    daemon: Daemon, pump: Pump, connect
) -> None:
    watcher, served = connect()
    watcher.send(message("WATCH", b"/w\0t\0"))
    pump.turn()
    watcher.recv(100)
    daemon.tell_events()
    sends = served.sends
    askers = [connect()[0] for _ in range(3)]
    for i, asker in enumerate(askers):
        asker.send(message("WRITE", b"/w/%d\0" % i))
    pump.turn()
    assert [asker.recv(100) for asker in askers] == [message("WRITE", b"OK\0")] * 3
    assert served.sends == sends
    daemon.tell_events()
    assert served.sends == sends + 1
    assert watcher.recv(1000) == b"".join(
        message("WATCH_EVENT", b"/w/%d\0t\0" % i) for i in range(3)
    )
    askers[0].send(message("WRITE", b"/w\0"))
    pump.turn()
    assert served.sends == sends + 1


# -- clients that do not read, or are gone ---------------------------------------------------------


def test_hostile_clients_that_never_read_cost_no_more_than_their_buffers(
    daemon: Daemon, pump: Pump, connect
) -> None:
    polite = connect()[0]
    polite.send(message("WRITE", b"/big\0" + b"x" * 4000))
    hostile = [connect()[0] for _ in range(4)]
    for _ in range(200):
        for client in hostile:
            with suppress(BlockingIOError):
                client.send(message("READ", b"/big\0") * 100)
        pump.turn()
    for peer in daemon.peers:
        session = peer.session
        assert len(peer._unsent) + sum(map(len, session._out)) < BUFFERS
        assert len(session._decoder._data) <= 4112 + TURN
    polite.recv(100)
    polite.send(READ_ROOT)
    pump.turn()
    assert polite.recv(100) == ROOT


def test_events_for_watchers_that_are_gone_disturb_nobody(
    daemon: Daemon, pump: Pump, connect, capfd
) -> None:
    watchers = [connect()[0] for _ in range(20)]
    for watcher in watchers:
        watcher.send(message("WATCH", b"/w\0t\0"))
    pump.turn()
    asker = connect()[0]
    for watcher in watchers:
        watcher.close()
    asker.send(message("WRITE", b"/w/x\0"))
    while daemon.clients > 1:
        pump.turn()
    assert asker.recv(100) == message("WRITE", b"OK\0")
    assert daemon._server.store.watches_of(0) == 0
    assert capfd.readouterr() == ("", "")


# -- bytes in any pieces ---------------------------------------------------------------------------


class Wire:
    """A socket in memory, whose other end is the test: it takes ``room`` bytes at most."""

    def __init__(self) -> None:
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.piece = 1 << 20
        self.room = 0

    def setblocking(self, flag: bool) -> None:
        pass

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        pass

    def recv(self, size: int) -> bytes:
        taken = bytes(self.to_server[: min(size, self.piece)])
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        del self.to_server[: len(taken)]
        return taken

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        size = min(len(data), self.room)
        self.room -= size
        self.to_client += data[:size]
        return size


class Watched:
    """What the server waits for at the one descriptor."""

    readable = writable = None

    def watch(self, fd: int, readable=None, writable=None) -> None:
        self.readable, self.writable = readable, writable


_SIZES = st.integers(1, 5000)
_REQUESTS = st.one_of(
    st.builds(lambda size: message("WRITE", b"/n\0" + b"v" * size), st.integers(0, 3000)),
    st.sampled_from(
        [
            message("READ", b"/n\0"),
            message("READ", b"/missing\0"),
            message("WATCH", b"/n\0t\0"),
            message("DIRECTORY", b"/\0"),
            message(99, b""),
        ]
    ),
)


class BufferMachine(RuleBasedStateMachine):
    """However the bytes of both directions are cut, the client gets what a session answers that
    has all of them at once, and the server keeps no more than its buffers.

    The store is like oxenstored: whether others leave an event out that equals one that waits
    depends on when that is sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wire, self.watched = Wire(), Watched()
        self.daemon = Daemon(Server(Store(like="oxenstored")), "unused", self.watched)
        self.daemon.adopt(self.wire)
        (self.peer,) = self.daemon.peers
        self.model = Talk(Server(Store(like="oxenstored")))
        self.expected = bytearray()
        self.serial = 0

    @rule(request=_REQUESTS, times=st.integers(1, 40))
    def ask(self, request: bytes, times: int) -> None:
        self.serial += 1
        request = request[:4] + self.serial.to_bytes(4, "little") + request[8:]
        session = self.model.session
        for _ in range(times):
            self.wire.to_server += request
            session.receive(request)
            while session.pending:
                self.expected += session.take()

    @precondition(lambda self: self.watched.readable and self.wire.to_server)
    @rule(piece=_SIZES)
    def read(self, piece: int) -> None:
        self.wire.piece = piece
        self.watched.readable()

    @precondition(lambda self: self.watched.writable)
    @rule(room=_SIZES)
    def write(self, room: int) -> None:
        self.wire.room = room
        self.watched.writable()

    @rule(room=st.integers(0, 100_000))
    def make_room(self, room: int) -> None:
        self.wire.room = room

    @invariant()
    def client_got_a_beginning_of_what_is_expected(self) -> None:
        assert self.expected.startswith(self.wire.to_client)

    @invariant()
    def what_waits_is_waited_for(self) -> None:
        assert bool(self.peer._unsent) == bool(self.watched.writable)
        assert self.watched.readable or self.watched.writable

    @invariant()
    def buffers_are_bounded(self) -> None:
        session = self.peer.session
        assert len(self.peer._unsent) + sum(map(len, session._out)) < BUFFERS
        assert len(session._decoder._data) < 5000

    def teardown(self) -> None:
        self.wire.room, self.wire.piece = 1 << 30, 1 << 20
        while self.watched.writable or self.wire.to_server:
            if self.watched.writable:
                self.watched.writable()
            else:
                assert self.watched.readable
                self.watched.readable()
        assert self.wire.to_client == self.expected
        self.daemon.stop()


TestBuffers = BufferMachine.TestCase
TestBuffers.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


# -- the loop of the command -----------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[EpollLoop]:
    loop = EpollLoop()
    yield loop
    loop.close()
    loop.close()


def test_loop_calls_who_is_ready_and_ends_when_it_is_told_to(loop: EpollLoop) -> None:
    seen = []
    mine, other = socket.socketpair()
    with mine, other:
        loop.watch(mine.fileno(), writable=lambda: seen.append("writable") or loop.stop())
        loop.run(lambda: seen.append("turned"))
        assert seen == ["writable", "turned"]
        loop.watch(mine.fileno())
        loop.watch(mine.fileno())


def test_loop_calls_both_at_the_end_of_a_connection_unless_the_first_ends_the_watch(
    loop: EpollLoop,
) -> None:
    seen = []
    ours, other = socket.socketpair()
    other.close()
    with ours:
        fd = ours.fileno()
        loop.watch(fd, lambda: seen.append("read"), lambda: seen.append("write") or loop.stop())
        loop.run()
        assert seen == ["read", "write"]
    again = EpollLoop()
    ours, other = socket.socketpair()
    other.close()
    with ours:
        fd = ours.fileno()
        again.watch(fd, lambda: again.watch(fd) or again.stop(), lambda: seen.append("late"))
        again.run()
    again.close()
    assert seen == ["read", "write"]


def test_loop_stopped_by_another_thread_wakes_up(loop: EpollLoop) -> None:
    thread = threading.Thread(target=loop.stop)
    thread.start()
    loop.run()
    thread.join()


def test_loop_keeps_no_descriptor(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    EpollLoop().close()
    assert set(os.listdir("/proc/self/fd")) == before
