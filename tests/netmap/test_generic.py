"""The generic adapter on a driver that is slow, or takes nothing for a while."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, field
from netmap_clients import Client, opened

from xennet.netmap.device import Device
from xennet.netmap.net_interface import NetInterface

FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + b"x" * 46
N = 8


@define
class Driver:
    """A driver that sends when the test says so. ``room``: frames that it takes."""

    room: int = 100
    frames: list[bytes] = field(factory=list)
    on_wire: list[Callable[[], None]] = field(factory=list)

    def transmit(self, frame: bytes, sent: Callable[[], None]) -> bool:
        if len(self.on_wire) >= self.room:
            return False
        self.frames.append(frame)
        self.on_wire.append(sent)
        return True

    def send(self, number: int) -> None:
        for _ in range(number):
            self.on_wire.pop(0)()


def machine(room: int = 100) -> tuple[Client, Driver, list[str]]:
    device = Device()
    device.state.parameters.generic_ringsize = N
    driver = Driver(room)
    device.state.add_interface(NetInterface("eth0", transmit=driver.transmit))
    client = opened(device, "eth0")
    woken: list[str] = []
    client.ring(True).waiters.append(lambda: woken.append("tx"))
    client.ring(False).waiters.append(lambda: woken.append("rx"))
    return client, driver, woken


def test_slots_are_free_when_their_frames_are_sent_in_order() -> None:
    client, driver, _ = machine()
    client.send(*[FRAME + bytes([i]) for i in range(5)])
    assert driver.frames == [FRAME + bytes([i]) for i in range(5)]
    assert client.ring(True).shown() == (5, 5, 7)
    driver.on_wire.pop(1)()  # the second one first
    assert client.txsync() == 0
    assert client.ring(True).shown() == (5, 5, 7)
    driver.send(1)
    assert client.txsync() == 0
    assert client.ring(True).shown() == (5, 5, 1)
    driver.send(3)
    assert client.txsync() == 0
    assert client.ring(True).shown() == (5, 5, 4)


def test_a_client_is_told_when_half_is_sent() -> None:
    client, driver, woken = machine()
    client.send(*[FRAME] * 7)
    assert client.file.poll(4) == 0
    driver.send(3)
    assert woken == []
    driver.send(1)
    assert woken == ["tx"]
    assert client.file.poll(4) == 4


@pytest.mark.parametrize("kept", [0, 6], ids=["the oldest", "the newest"])
def test_a_client_is_told_by_a_frame_that_is_still_to_be_sent(kept: int) -> None:
    """The one in the middle is no frame, or was sent before the others."""
    for middle in (FRAME, b""):
        client, driver, woken = machine()
        client.send(*[FRAME] * 3, middle, *[FRAME] * 3)
        if middle:
            driver.on_wire.pop(3)()
        last = driver.on_wire.pop(kept and 5)
        woken.clear()
        assert client.file.poll(4) == 0
        driver.send(5)
        last()
        assert woken == ["tx"]
        assert client.file.poll(4) == 4
        assert client.ring(True).shown() == (7, 7, 6)


def test_a_driver_that_takes_nothing_leaves_the_rest_for_later() -> None:
    client, driver, woken = machine(room=3)
    client.send(*[FRAME + bytes([i]) for i in range(5)])
    kring = client.ring(True)
    assert (len(driver.frames), kring.hwcur, kring.shown()) == (3, 3, (5, 5, 7))
    driver.send(2)
    assert woken == ["tx"]
    assert client.txsync() == 0
    assert (len(driver.frames), kring.hwcur, kring.shown()) == (5, 5, (5, 5, 1))
    assert driver.frames == [FRAME + bytes([i]) for i in range(5)]


def test_what_is_no_frame_waits_for_nobody() -> None:
    client, driver, _ = machine()
    client.send(b"", b"x", FRAME[:13])
    assert driver.frames == []
    assert client.ring(True).shown() == (3, 3, 2)


def test_a_frame_that_is_sent_after_the_port_was_closed_harms_nobody() -> None:
    client, driver, woken = machine()
    client.send(*[FRAME] * 7)
    client.close()
    driver.send(7)
    assert "rx" not in woken


def test_arrivals_are_told_once_in_a_time() -> None:
    client, _, woken = machine()
    timers: list[Callable[[], None]] = []

    def after(delay: int, then: Callable[[], None]) -> None:
        assert delay == 100_000
        timers.append(then)

    state = client.device.state
    state.after = after
    interface = state.interfaces["eth0"]
    for _ in range(3):
        interface.arrives(FRAME)
    assert (woken, len(timers)) == (["rx"], 1)
    timers.pop()()
    assert (woken, len(timers)) == (["rx", "rx"], 1)
    timers.pop()()
    assert (woken, len(timers)) == (["rx", "rx"], 0)
    interface.arrives(FRAME)
    assert (woken, len(timers)) == (["rx"] * 3, 1)
    state.parameters.generic_mit_ns = 32767
    interface.arrives(FRAME)
    assert woken == ["rx"] * 4
    assert client.receive() == [FRAME] * 5


def test_no_more_wait_for_a_ring_than_it_has_slots_and_one() -> None:
    client, _, _ = machine()
    interface = client.device.state.interfaces["eth0"]
    for i in range(20):
        interface.arrives(FRAME + bytes([i]))
    frames = client.receive()
    frames += client.receive()
    assert frames == [FRAME + bytes([i]) for i in range(N + 1)]
