"""Events of /dev/xen/evtchn: read, held back, handled, written back. A socket is the device."""

from __future__ import annotations

import ctypes
import errno
import socket
from collections.abc import Iterator

import pytest

from xennet.interface import HypercallError
from xennet.pump import Pump
from xennet.runloop import RunLoop
from xennet.xen import event_channels
from xennet.xen.errors import XenError
from xennet.xen.event_channels import EventChannels


class Device:
    """The library and the kernel's side of the device; a port is its number."""

    def __init__(self) -> None:
        self.mine, self.theirs = socket.socketpair()
        self.mine.setblocking(False)
        self.bound: set[int] = set()
        self.sent: list[int] = []
        self.next = 5

    def xenevtchn_open(self, _logger: int, _flags: int) -> int:
        return 1

    def xenevtchn_fd(self, _handle: int) -> int:
        return self.theirs.fileno()

    def xenevtchn_bind_unbound_port(self, _handle: int, domid: int) -> int:
        if domid > 3:
            ctypes.set_errno(errno.ESRCH)
            return -1
        self.next += 1
        self.bound.add(self.next)
        return self.next

    def xenevtchn_bind_interdomain(self, _handle: int, domid: int, _port: int) -> int:
        return self.xenevtchn_bind_unbound_port(1, domid)

    def xenevtchn_notify(self, _handle: int, port: int) -> int:
        self.sent.append(port)
        return 0

    def xenevtchn_unbind(self, _handle: int, port: int) -> int:
        self.bound.remove(port)
        return 0

    def xenevtchn_close(self, _handle: int) -> int:
        return 0

    def event(self, *ports: int) -> None:
        for port in ports:
            self.mine.send(port.to_bytes(4, "little"))

    def unmasked(self) -> list[int]:
        """The ports that were written back since the last call."""
        try:
            return list(memoryview(self.mine.recv(4096)).cast("I"))
        except BlockingIOError:
            return []


class World:
    def __init__(self) -> None:
        self.device = Device()
        self.pump = Pump(RunLoop())
        self.events = EventChannels(self.pump.run_loop, 0, self.pump.watch)
        self.ran: list[int] = []

    def handle(self, port: int) -> None:
        self.events.on_event(port, lambda: self.ran.append(port))

    def step(self) -> list[int]:
        """Serve the device and make all deliveries. Returns the ports whose handlers ran."""
        self.pump.turn()
        self.pump.run()
        ran, self.ran = self.ran, []
        return ran


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setattr(event_channels, "library", lambda _soname: made.device)
    monkeypatch.setattr(event_channels, "quiet_logger", lambda: 0)
    yield made
    made.events.close()
    assert not made.device.bound
    made.pump.close()
    made.device.mine.close()
    made.device.theirs.close()


def test_an_event_is_handled_and_the_port_written_back_before(world: World) -> None:
    port = world.events.bind_interdomain(3, 9)
    seen: list[list[int]] = []
    world.events.on_event(port, lambda: seen.append(world.device.unmasked()))
    world.device.event(port)
    world.step()
    assert seen == [[port]]
    assert world.device.unmasked() == []
    world.step()
    assert len(seen) == 1


def test_events_of_several_ports_come_together(world: World) -> None:
    ports = [world.events.bind_unbound(3) for _ in range(3)]
    for port in ports:
        world.handle(port)
    world.device.event(ports[2], ports[0])
    assert world.step() == [ports[2], ports[0]]


def test_an_event_that_comes_before_its_handler_waits_for_it(world: World) -> None:
    port = world.events.bind_unbound(3)
    world.device.event(port)
    assert world.step() == []
    assert world.device.unmasked() == []
    world.handle(port)
    assert world.step() == [port]


def test_a_masked_port_is_not_written_back_until_it_is_unmasked(world: World) -> None:
    port = world.events.bind_unbound(3)
    world.handle(port)
    world.events.mask(port)
    world.device.event(port)
    assert world.step() == []
    assert world.device.unmasked() == []
    world.events.unmask(port)
    assert world.step() == [port]
    assert world.device.unmasked() == [port]
    world.events.unmask(port)
    assert world.step() == []


def test_a_port_that_is_masked_when_its_event_is_due_keeps_it(world: World) -> None:
    port = world.events.bind_unbound(3)
    world.handle(port)
    world.device.event(port)
    world.pump.turn()
    world.events.mask(port)
    assert world.step() == []
    world.events.unmask(port)
    assert world.step() == [port]


def test_events_of_closed_ports_are_nobody_s(world: World) -> None:
    port = world.events.bind_unbound(3)
    world.handle(port)
    world.device.event(port)
    world.pump.turn()
    world.events.unbind(port)
    world.device.event(port)
    assert world.step() == []
    assert len(world.events) == 0


def test_refusals_have_the_errno(world: World) -> None:
    with pytest.raises(HypercallError, match="ESRCH") as caught:
        world.events.bind_interdomain(4, 9)
    assert (caught.value.op, caught.value.status) == ("EVTCHNOP_bind_interdomain", -errno.ESRCH)
    for call in (world.events.notify, world.events.unbind, world.events.unmask):
        with pytest.raises(HypercallError, match="port 77 is not bound"):
            call(77)
    assert world.device.sent == []
    port = world.events.bind_unbound(3)
    world.events.notify(port)
    assert world.device.sent == [port]


def test_a_device_that_goes_is_an_error(world: World) -> None:
    world.events.open()
    world.device.mine.shutdown(socket.SHUT_WR)
    with pytest.raises(XenError, match="/dev/xen/evtchn: closed"):
        world.step()
