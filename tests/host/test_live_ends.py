"""Ends whose frames come by descriptors: a host in real time sleeps until there are some."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from xennet.frames import BaseEndpoint, FrameBatch, HasDescriptors, Watch
from xennet.host import Host
from xennet.lifecycle.stack import Stack
from xennet.port.duplex import DuplexPort
from xennet.port.null import NullPort
from xennet.pump import RealClock
from xennet.wrap import OffloadEdge, Tracer

FRAMES = [i.to_bytes(2) * 30 for i in range(3000)]


class SocketEnd(BaseEndpoint):
    """Gives what can be read of ``ours`` and writes what it gets there."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        ours.setblocking(False)
        self.readable = 0
        self.watch: Watch = lambda fd, readable, writable: None

    def watch_descriptors(self, watch: Watch) -> None:
        self.watch(self.socket.fileno(), None, None)
        self.watch = watch
        self._wait()

    def _wait(self) -> None:
        self.watch(self.socket.fileno(), self._woken, None)

    def _woken(self) -> None:
        self.readable += 1
        self.watch(self.socket.fileno(), None, None)
        self.wake()

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        while batch.has_room(60):
            try:
                batch.append(self.socket.recv(60))
            except BlockingIOError:
                self._wait()
                break
        return batch.count - first

    def push(self, batch: FrameBatch) -> None:
        for frame in batch:
            self.socket.send(frame)

    def close(self) -> None:
        self.watch(self.socket.fileno(), None, None)
        self.socket.close()


@pytest.fixture
def wires() -> Iterator[list[socket.socket]]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for pair in pairs:
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            end.setblocking(False)
    yield [end for pair in pairs for end in pair]
    for pair in pairs:
        for end in pair:
            end.close()


def received(wire: socket.socket) -> Callable[[], int]:
    """Counts what can be read of ``wire``, which has to be FRAMES in order."""
    came = 0

    def count() -> int:
        nonlocal came
        while True:
            try:
                frame = wire.recv(60)
            except BlockingIOError:
                return came
            assert frame == FRAMES[came]
            came += 1

    return count


def test_frames_cross_a_vif_from_socket_to_socket(wires: list[socket.socket]) -> None:
    guest_wire, guest_socket, host_wire, host_socket = wires
    guest, outside = SocketEnd(guest_socket), SocketEnd(host_socket)
    host = Host(clock=RealClock())
    host.plug(host.add_guest(), 0, OffloadEdge(Tracer(guest)), outside)
    host.boot()
    host.settle()
    came = received(host_wire)
    for at in range(0, len(FRAMES), 100):
        for frame in FRAMES[at : at + 100]:
            guest_wire.send(frame)
        host.pump.hold(60, lambda at=at: came() >= at + 100)
        assert came() == at + 100
    # One call or two for a hundred frames: it does not look again and again.
    assert guest.readable < 100
    back = received(guest_wire)
    host_wire.send(FRAMES[0])
    host.pump.hold(60, lambda: bool(back()))
    assert back() == 1
    guest.close()
    outside.close()
    assert not host.pump.watching
    host.destroy()


def test_a_driver_that_takes_nothing_leaves_the_pump_asleep(wires: list[socket.socket]) -> None:
    guest_wire, guest_socket, *_ = wires
    guest, outside = SocketEnd(guest_socket), Stack(room=0)
    host = Host(clock=RealClock())
    host.plug(host.add_guest(), 0, guest, outside)
    host.boot()
    host.settle()
    for frame in FRAMES:
        guest_wire.send(frame)
    host.pump.hold(60, lambda: bool(guest.readable))
    host.pump.hold(0.2)
    assert 0 < guest.readable < 10
    assert outside.received == 0
    outside.room = 1 << 30
    outside.wake()
    host.pump.hold(60, lambda: outside.received == len(FRAMES))
    assert outside.received == len(FRAMES)
    guest.close()
    host.destroy()


def test_wrappers_and_joined_ports_hand_on_what_has_descriptors() -> None:
    asked: list[Watch] = []

    class Asks(NullPort):
        def watch_descriptors(self, watch: Watch) -> None:
            asked.append(watch)

    def watch(
        fd: int, readable: Callable[[], None] | None, writable: Callable[[], None] | None
    ) -> None:
        raise AssertionError("nobody has one")

    joined = OffloadEdge(Tracer(DuplexPort(Asks(), Asks())))
    assert isinstance(joined, HasDescriptors)
    joined.watch_descriptors(watch)
    assert asked == [watch, watch]
    Tracer(NullPort()).watch_descriptors(watch)
    DuplexPort(NullPort(), NullPort()).watch_descriptors(watch)
