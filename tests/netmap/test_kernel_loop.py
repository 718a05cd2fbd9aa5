"""The kernel loop: a request that is answered when the loop ends, and rounds that are deliveries.

Rules: netmap_kloop.c; what the module itself did is in data/netmap/csb_kloop.json.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from errno import EBUSY, EINVAL
from itertools import product

import pytest
from netmap_clients import Client, all_free, opened

import xennet.netmap
from xennet.netmap import NetmapError, Port
from xennet.netmap.device import Device
from xennet.netmap.loop_events import LoopEvents
from xennet.netmap.user.kernel_loop import KernelLoop
from xennet.netmap.user.mapped_ring import Ring
from xennet.pump import Pump, RealClock
from xennet.runloop import RunLoop

SOON = 1_000_000


@pytest.fixture
def device() -> Device:
    return Device()


def ports(device: Device) -> tuple[Port, Port]:
    """A port with 16 slots that is held exclusively, and another one on its switch."""
    counts = {"nr_tx_slots": 16, "nr_rx_slots": 16}
    names = ("vale0:k/x", "vale0:z")
    one, other = (xennet.netmap.open(name, device=device, **counts) for name in names)
    return one, other


def frame(tag: int, source: int = 1) -> bytes:
    return bytes.fromhex(f"ffffffffffff0200000000{source:02x}88b5") + bytes([tag]) * 46


def send(ring: Ring, *tags: int, source: int = 1) -> None:
    for tag in tags:
        ring[ring.head].put(frame(tag, source))
        ring.hand_over()


def tags(ring: Ring) -> list[int]:
    found = [slot.data[20] for slot in ring.owned()]
    ring.hand_over(len(found))
    return found


def received(port: Port) -> list[int]:
    port.rxsync()
    return tags(port.rx_rings[0])


@pytest.fixture
def pair(device: Device) -> Iterator[tuple[Port, Port]]:
    one, other = ports(device)
    with one, other:
        yield one, other
    assert not device.state.switches.find("vale0:z")
    assert list(device.state.regions.by_id) == [1]


def test_the_request_is_answered_when_the_loop_ends(pair: tuple[Port, Port]) -> None:
    port, other = pair
    loop = port.kernel_loop(sleep_us=100)
    tx, rx = loop.tx_rings[0], loop.rx_rings[0]
    loop.go_on(SOON)
    assert loop.running
    assert (tx.tail, rx.tail, tx.need_kick) == (15, 0, False)
    send(tx, 5, 6)
    assert received(other) == []
    loop.go_on(99_000)
    assert received(other) == []  # it still sleeps
    loop.go_on(2_000)
    assert received(other) == [5, 6]
    assert (tx.hwcur, tx.tail) == (2, 1)
    send(other.tx_rings[0], 7)
    other.txsync()
    loop.go_on(100_000)
    assert tags(rx) == [7]
    for call in (port.txsync, port.rxsync, lambda: port.kernel_loop()):
        with pytest.raises(NetmapError) as told:
            call()
        assert told.value.errno == EBUSY
    assert port.poll(5) == 8
    loop.stop()
    assert (loop.running, loop.answer) == (False, 0)
    with port.kernel_loop() as again:
        again.go_on(SOON)
        assert again.tx_rings[0].tail == 1


def test_a_loop_that_waits_for_nothing_lets_the_machine_rest(pair: tuple[Port, Port]) -> None:
    port, _ = pair
    with port.kernel_loop(sleep_us=0):
        pump = port.device.state.pump
        pump.run()
        pump.run_out()
        assert pump.run_loop.idle


def test_a_head_out_of_range_is_not_taken(pair: tuple[Port, Port]) -> None:
    port, other = pair
    with port.kernel_loop() as loop:
        tx = loop.tx_rings[0]
        send(tx, 1, 2)
        loop.go_on(SOON)
        tx.head = tx.cur = 99
        loop.go_on(SOON)
        assert (tx.hwcur, tx.tail) == (2, 1)
        tx.head = tx.cur = 2
        loop.go_on(SOON)
        send(tx, 3)
        loop.go_on(SOON)
        assert received(other) == [1, 2, 3]


@pytest.mark.parametrize(("direct_tx", "direct_rx"), list(product((False, True), repeat=2)))
def test_eventfds_kick_the_loop_and_tell_of_news(
    pair: tuple[Port, Port], direct_tx: bool, direct_rx: bool
) -> None:
    port, other = pair
    with port.kernel_loop(events=True, direct_tx=direct_tx, direct_rx=direct_rx) as loop:
        tx, rx = loop.tx_rings[0], loop.rx_rings[0]
        loop.go_on()
        assert tx.need_kick
        assert rx.need_kick == direct_rx  # frames wake it, until its ring is full
        send(tx, 1)
        loop.go_on(SOON)
        assert received(other) == []  # nobody has kicked
        assert tx.kick()
        loop.go_on()
        assert received(other) == [1]
        assert tx.interrupts() == (not direct_tx)  # the tail has moved
        assert tx.need_kick
        send(other.tx_rings[0], 2, 3)
        other.txsync()
        loop.go_on()
        assert rx.interrupts() == 1
        if direct_rx:  # it was told of frames, and has them after a kick
            assert tags(rx) == []
            assert rx.kick()
            loop.go_on()
            assert rx.interrupts() == 0
        assert tags(rx) == [2, 3]
        rx.wants_interrupt = False
        send(other.tx_rings[0], 4)
        other.txsync()
        loop.go_on()
        assert rx.interrupts() == direct_rx  # which is not asked whether it wants to know
    assert loop.answer == 0


def test_a_full_ring_asks_for_a_kick(pair: tuple[Port, Port]) -> None:
    port, other = pair
    with port.kernel_loop(events=True) as loop:
        rx = loop.rx_rings[0]
        send(other.tx_rings[0], *range(15))
        other.txsync()
        loop.go_on()
        assert rx.space == 15
        assert rx.need_kick
        assert tags(rx) == list(range(15))
        assert rx.kick()
        loop.go_on()
        assert not rx.need_kick
        assert rx.hwcur == 15


def test_a_loop_with_events_looks_after_three_seconds(pair: tuple[Port, Port]) -> None:
    port, other = pair
    with port.kernel_loop(events=True) as loop:
        loop.go_on()
        send(loop.tx_rings[0], 1)
        loop.go_on(2_999_000_000)
        assert received(other) == []
        loop.go_on(2_000_000)
        assert received(other) == [1]


def test_a_ring_without_a_descriptor_makes_it_sleep(device: Device) -> None:
    """One ioeventfd of -1: the loop sleeps, and still interrupts."""
    client = opened(device, "vale0:k", nr_flags=0x800)
    blocks = [client.memory.map(bytearray(128)) for _ in range(2)]
    assert ask(client, 15, (3, 16, words(*blocks, size=8))) == 0
    interrupt = os.eventfd(0, os.EFD_NONBLOCK)
    kick = os.eventfd(0, os.EFD_NONBLOCK)
    assert ask(client, 13, (2, 40, words(kick, interrupt, -1, -1))) == -1
    other = opened(device, "vale0:z")
    other.send(frame(1))
    client.put(0, frame(2))
    client.memory.write(blocks[0], words(1, 1))
    device.state.pump.pass_time(SOON)
    assert other.receive() == [frame(2)]
    assert os.eventfd_read(interrupt) == 1
    assert client.memory.read(blocks[1] + 8, 4) == bytes(4)  # nobody has to kick
    os.close(interrupt)
    os.close(kick)
    client.close()
    other.close()


def test_a_full_counter_holds_nobody_up(device: Device) -> None:
    """It is counted up as the kernel's eventfd_signal() does, which ends where write() waits."""
    client = opened(device, "vale0:k")
    full = os.eventfd(2, 0)
    events = LoopEvents.of(client.memory, words(-1, full, -1, -1))
    for _ in range(500):  # more than the kernel keeps answers of
        events.interrupt(0)
    assert os.eventfd_read(full) == 502
    os.eventfd_write(full, 2**64 - 2)
    for _ in range(2):
        events.interrupt(0)
    events.interrupt(1)
    assert os.eventfd_read(full) == 2**64 - 1
    assert os.get_blocking(full)
    events.close()
    os.close(full)
    client.close()


def words(*values: int, size: int = 4) -> bytes:
    return b"".join(value.to_bytes(size, "little", signed=size == 4) for value in values)


def ask(client: Client, reqtype: int, *options: tuple[int, int, bytes]) -> int:
    """A request with a body of eight zeros if it is a START. Returns the errno."""
    following = 0
    for kind, size, body in options:
        head = words(following, size=8) + words(kind, 0) + words(size, size=8)
        following = client.memory.map(bytearray(head + body))
    body_at = client.memory.map(bytearray(8)) if reqtype == 13 else 0
    raw = (14).to_bytes(2, "little") + reqtype.to_bytes(2, "little") + bytes(4 + 64)
    header = client.memory.map(bytearray(raw + words(following, body_at, size=8)))
    return client.device.ioctl(client.file, 0xC0586997, header)


def events_and_epolls() -> int:
    """Number of the process's descriptors that are eventfds or epolls."""
    gc.collect()  # those of the devices of other tests
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of listdir
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("anon_inode:")
    return found


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("how", ["stop", "close", "control blocks go", "fault"])
def test_a_loop_ends_and_returns_everything(device: Device, events: bool, how: str) -> None:
    shared = device.state.regions.shared
    before = events_and_epolls()
    port = xennet.netmap.open("netmap:a{1/x", device=device)
    reader = xennet.netmap.open("netmap:a}1", device=device)
    loop = port.kernel_loop(events=events)
    loop.go_on(SOON)
    send(loop.tx_rings[0], 1, 2)
    loop.go_on(SOON)
    if how == "stop":
        loop.stop()
    elif how == "close":
        port.close()
    else:
        for address in tuple(port.memory._mappings):
            if how == "fault" or len(port.memory._mappings[address]) == 128:
                port.memory.unmap(address)
        loop.go_on(4_000_000_000)
    assert loop.answer == (14 if how == "fault" else 0)
    reader.close()
    port.close()
    loop.stop()
    device.state.pump.close()
    assert events_and_epolls() == before
    assert device.state.pump.run_loop.idle
    assert all_free(shared)


def test_direct_mode_needs_events(pair: tuple[Port, Port]) -> None:
    with pytest.raises(NetmapError) as told:
        pair[0].kernel_loop(direct_tx=True)
    assert told.value.errno == EINVAL


def test_direct_mode_without_the_option_syncs_nothing(device: Device) -> None:
    client = opened(device, "vale0:k", nr_flags=0x800)
    blocks = [client.memory.map(bytearray(128)) for _ in range(2)]
    assert ask(client, 15, (3, 16, words(*blocks, size=8))) == 0
    assert ask(client, 13, (4, 8, words(3, size=8))) == -1
    client.memory.write(blocks[0], words(1, 1))
    device.state.pump.pass_time(SOON)
    assert client.memory.read(blocks[1], 4) == bytes(4)
    client.close()


def test_a_client_that_never_stops_writing_does_not_hold_the_machine(
    pair: tuple[Port, Port],
) -> None:
    """Each look finds one more slot: other deliveries have their turn in between."""
    port, _ = pair
    with port.kernel_loop(events=True) as loop:
        loop.go_on()
        blocks = port.file.csb
        written = type(blocks).written
        seen = []

        def more(self: object, index: int) -> object:
            loop.tx_rings[0].head = loop.tx_rings[0].cur = (loop.tx_rings[0].hwcur + 1) % 16
            seen.append(index)
            return written(self, index)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(blocks), "written", more)
            loop.tx_rings[0].kick()
            pump = port.device.state.pump
            pump.turn()
            turns = []
            pump.run_loop.defer(1, lambda: turns.append(len(seen)))
            assert pump.run_loop.deliver(2) == 2
            assert turns
            assert turns[0] < 100
            assert not pump.run_loop.idle
        loop.go_on()


def test_on_the_real_clock_a_program_in_another_thread_is_served() -> None:
    """The program's side is a thread of its own; the pump sleeps until it is kicked."""
    pump = Pump(RunLoop(), RealClock())
    device = Device()
    device.state.pump = pump
    port, other = ports(device)
    loop = port.kernel_loop(events=True)
    wake = pump.waker()
    told: list[int] = []

    def program(loop: KernelLoop) -> None:
        tx = loop.tx_rings[0]
        for tag in range(50):
            send(tx, tag)
            while tx.hwcur != tx.head:
                tx.kick()
        told.append(1)
        wake()

    found: list[int] = []

    def over() -> bool:
        found.extend(received(other))
        return bool(told)

    thread = threading.Thread(target=program, args=(loop,), daemon=True)
    thread.start()
    pump.hold(60, over)
    thread.join(60)
    found.extend(received(other))
    assert found == list(range(50))
    loop.stop()
    port.close()
    other.close()
    pump.close()
