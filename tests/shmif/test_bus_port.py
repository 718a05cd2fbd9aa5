"""``shmif:FILE``: what is pushed to one place on a bus is pulled at the others."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shmif_samples import batch_of, made, words

from xennet.frames import UNBOUNDED, FrameBatch
from xennet.link.base_link import BaseLink
from xennet.port import PortError, open_port
from xennet.port.null import NullPort
from xennet.port.spec import open_ports
from xennet.pump import RealClock
from xennet.shmif import doorbell
from xennet.shmif.bus_port import ShmifPort
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import Bus, Station

MAC = bytes.fromhex("b2a000000001")
pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "bus")


@pytest.fixture
def pair(path: str) -> Iterator[tuple[ShmifPort, ShmifPort]]:
    one, other = ShmifPort(path), ShmifPort(path)
    yield one, other
    one.close()
    other.close()


def pull(port: ShmifPort, size: int = 1 << 20, frames: int = 1000) -> list[bytes]:
    batch = FrameBatch(memoryview(bytearray(size)), frames)
    count = port.pull(batch)
    assert count == batch.count
    return [bytes(frame) for frame in batch]


def some(first: int, count: int, length: int = 60) -> list[bytes]:
    return [made(index, length).data for index in range(first, first + count)]


def push(port: ShmifPort, first: int, count: int, length: int = 60) -> None:
    port.push(batch_of([made(index, length) for index in range(first, first + count)]))


def test_frames_reach_the_others_in_order_and_not_oneself(
    pair: tuple[ShmifPort, ShmifPort],
) -> None:
    one, other = pair
    push(one, 0, 200)
    push(other, 200, 3)
    assert pull(other) == some(0, 200)
    assert pull(one) == some(200, 3)
    assert pull(one) == pull(other) == []
    assert (one.counters.frames_out, one.counters.bytes_out) == (200, 12000)
    assert (other.counters.frames_in, other.counters.bytes_in) == (200, 12000)
    assert one.counters.faults == other.counters.faults == ()
    assert one.room == UNBOUNDED


def test_the_newest_frame_is_read_again_by_who_comes_later(
    pair: tuple[ShmifPort, ShmifPort], path: str
) -> None:
    one, _ = pair
    push(one, 0, 3)
    late = ShmifPort(path)
    assert pull(late) == some(2, 1)
    assert pull(late) == []
    late.up()
    assert pull(late) == some(2, 1)
    late.close()


def test_time_stamps_travel_and_others_count_from_boot(pair: tuple[ShmifPort, ShmifPort]) -> None:
    import time

    one, other = pair
    batch = batch_of([made(7, 60), made(8, 60)])
    batch.timestamp[1] = 0
    before = time.monotonic_ns() // 1000 * 1000
    one.push(batch)
    assert batch.timestamp[1] == 0
    batch.clear()
    assert other.pull(batch) == 2
    assert batch.timestamp[0] == made(7, 60).time * 1000
    assert before <= batch.timestamp[1] <= time.monotonic_ns()


def test_a_batch_that_is_full_leaves_the_rest_on_the_bus(pair: tuple[ShmifPort, ShmifPort]) -> None:
    one, other = pair
    push(one, 0, 10)
    assert pull(other, frames=4) == some(0, 4)
    assert pull(other, size=130) == some(4, 2)
    assert pull(other) == some(6, 4)
    push(one, 0, 1)
    with pytest.raises(IndexError, match="the batch is too small for the next frame"):
        pull(other, size=59)
    assert pull(other) == some(0, 1)


def test_who_is_too_slow_loses_frames_and_says_so(
    pair: tuple[ShmifPort, ShmifPort], path: str
) -> None:
    one, other = pair
    for first in range(0, 1000, 100):
        push(one, first, 100, 1514)
    kept = pull(other)
    assert kept == some(1000 - len(kept), len(kept), 1514)
    assert 600 < len(kept) < 1000
    assert other.counters.faults == (f"{path}: fell behind once, frames were lost (overrun)",)
    for first in range(0, 1000, 100):
        push(one, first, 100, 1514)
    pull(other)
    assert other.counters.faults == (f"{path}: fell behind 2 times, frames were lost (overrun)",)


def test_frames_are_taken_as_an_interface_takes_them(path: str) -> None:
    """In this order: not its own, its address, a group, everything if promiscuous."""
    sender = ShmifPort(path)
    card = ShmifPort(path, station=Station(1, MAC))
    batch = FrameBatch(memoryview(bytearray(1000)))
    frames = [to + bytes(54) for to in (MAC, b"\xff" * 6, b"\x01" + bytes(5), bytes(6))]
    frames += [MAC[:at] + b"\x02" + MAC[at + 1 :] + bytes(54) for at in range(6)]
    for frame in frames:
        batch.append(frame)
    sender.push(batch)
    assert pull(card) == frames[:3]
    card.push(batch)
    assert pull(card) == []
    assert pull(sender) == frames
    for port in sender, card:
        port.close()


def test_while_the_link_is_down_nothing_comes_or_goes(pair: tuple[ShmifPort, ShmifPort]) -> None:
    one, other = pair
    one.set_link(False)
    push(one, 0, 2)
    push(other, 2, 2)
    assert one.counters.frames_out == 2
    assert pull(other) == []
    assert pull(one) == []
    one.set_link(True)
    assert pull(one) == []  # dropped, not kept
    push(one, 4, 1)
    assert pull(other) == some(4, 1)


def test_a_frame_that_is_too_long_for_the_bus_is_refused(
    pair: tuple[ShmifPort, ShmifPort],
) -> None:
    one, other = pair
    push(one, 0, 1, 1514)
    with pytest.raises(BusError, match="frame 0 has 1515 bytes, the bus takes 1514"):
        push(one, 0, 1, 1515)
    assert pull(other) == some(0, 1, 1514)
    assert (one.carries.max_frame, one.carries.csum_v4, one.carries.gso_types) == (1514, False, 0)


def test_a_push_wakes_the_other_listener(pair: tuple[ShmifPort, ShmifPort]) -> None:
    one, other = pair
    woken: list[int] = []
    watched: dict[int, Callable[[], None] | None] = {}
    if other._doorbell.fileno < 0:
        pytest.skip("no inotify")
    other.watch_descriptors(lambda fd, readable, _: watched.update({fd: readable}))
    ((fd, ready),) = watched.items()
    assert ready is not None
    other.listen(lambda: woken.append(1))
    ready()
    woken.clear()
    assert not select.select([fd], [], [], 0)[0]
    ready()
    assert not woken
    push(one, 0, 3)
    assert select.select([fd], [], [], 60)[0]
    ready()
    assert woken == [1]
    assert not select.select([fd], [], [], 0)[0]
    other.wait(0.01)
    push(one, 0, 1)
    other.wait(60)
    assert words(other._bus.memory.whole)[1] == 3
    other.watch_descriptors(lambda fd, readable, _: watched.update({fd: readable and ready}))
    assert watched == {fd: ready}  # by the new one: the one before was ended
    other.close()
    other.close()
    assert watched == {fd: None}


def test_without_inotify_the_bus_is_looked_at(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell, "_watch", lambda fd: -1)
    port, other = ShmifPort(path), ShmifPort(path)
    watched: dict[int, Callable[[], None] | None] = {}
    port.watch_descriptors(lambda fd, readable, _: watched.update({fd: readable}))
    ((fd, ready),) = watched.items()
    assert ready is not None
    woken: list[int] = []
    port.listen(lambda: woken.append(1))
    for number in range(2):
        assert select.select([fd], [], [], 60)[0]
        ready()
        assert len(woken) == number + 1
    push(other, 0, 3)
    assert len(pull(port)) == 3
    port.wait(0.001)
    port.close()
    assert watched == {fd: None}
    assert not any(thread.name == "shmif polling" for thread in threading.enumerate())
    other.close()


def test_a_live_run_looks_at_a_bus_without_inotify(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_watch", lambda fd: -1)
    port, other, sink = ShmifPort(path), ShmifPort(path), NullPort()
    link = BaseLink(RealClock())
    link.join(port, sink)
    link.open()
    ends = threading.Timer(0.1, push, (other, 0, 3))
    ends.start()
    link.carry_live(60, lambda: sink.counters.frames_out == 3)
    assert sink.counters.frames_out == 3
    ends.join()
    link.destroy()
    for one in port, other:
        one.close()


def test_a_port_ends_when_it_is_told_and_there_is_nothing_more(
    pair: tuple[ShmifPort, ShmifPort],
) -> None:
    one, other = pair
    push(one, 0, 1)
    other.finish()
    assert not other.exhausted
    assert pull(other) == some(0, 1)
    assert not other.exhausted
    assert pull(other) == []
    assert other.exhausted
    other.close()
    other.close()


def test_it_is_opened_as_any_port(path: str) -> None:
    port = open_port(f"shmif:{path}")
    assert port.name == f"shmif:{path}"
    assert repr(port) == f"<ShmifPort shmif:{path}>"
    assert os.path.getsize(path) == 1 << 20
    port.close()
    with pytest.raises(PortError, match="no file name, wants shmif:FILE"):
        open_port("shmif:")
    with pytest.raises(PortError, match="a bus is a file, not standard input"):
        open_port("shmif:-")
    with pytest.raises(PortError, match="cannot be recorded to, the run reads it"):
        open_ports([f"shmif:{path}", f"record:{path}"])


def test_i386_processes_have_a_bus_of_their_own(path: str) -> None:
    one, other = ShmifPort(path, form="i386"), ShmifPort(path, form="i386")
    push(one, 0, 2)
    assert pull(other) == some(0, 2)
    assert words(one._bus.memory.whole)[4] == 20 + 80
    for port in one, other:
        port.close()


def test_a_bus_that_has_not_moved_is_looked_at_without_its_lock(
    pair: tuple[ShmifPort, ShmifPort],
) -> None:
    one, other = pair
    assert pull(other) == []
    one._bus.lock.acquire(writing=True)
    assert pull(other) == []
    one._bus.lock.release()
    one.push(batch_of([made(1, 60)]))
    assert pull(other) == [made(1, 60).data]
    other.up()  # reads the newest frame again
    assert pull(other) == [made(1, 60).data]
    assert pull(other) == []


def test_nothing_is_compiled_while_others_wait_for_the_lock(path: str, engine: str) -> None:
    """Each kernel has its code before the file is opened, and needs no other when it is used."""
    one = ShmifPort(path)
    bus, reader = one._bus, one._reader
    kernels: list[Any] = [bus._put, bus.lock._take, bus.lock._free, reader._take, reader._attach]
    compiled = [kernel for kernel in kernels if hasattr(kernel, "signatures")]
    assert len(compiled) == (5 if engine == "fast" else 0)
    versions = [len(kernel.signatures) for kernel in compiled]
    assert all(versions)
    other = ShmifPort(path)
    for port in one, other:
        port.push(batch_of([made(1, 60), made(2, 1514)]))
    assert len(pull(one)) == 2
    assert [len(kernel.signatures) for kernel in compiled] == versions
    one.close()
    other.close()


@pytest.mark.parametrize("option", ["promisc=off", "promisc=on"])
def test_an_option_of_the_link_is_no_name_of_a_new_bus(tmp_path: Path, option: str) -> None:
    path = tmp_path / f"bus?{option}"
    with pytest.raises(PortError) as raised:
        open_port(f"shmif:{path}")
    told = f"a port takes the frames for all addresses; ?{option} is an option of --link"
    assert str(raised.value) == f"{path}: {told} shmif:{tmp_path / 'bus'}"
    assert not path.exists()
    Bus(str(path), create=True).close()
    open_port(f"shmif:{path}").close()
