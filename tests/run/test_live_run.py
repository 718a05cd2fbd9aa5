"""A live run: a port has descriptors to wait for and no end, so time is real and the run sleeps."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from live_ports import BROKEN, SocketPort

from xennet.cli.signals import stopping
from xennet.errors import LinkError
from xennet.lifecycle.stack import Stack
from xennet.link.epair import EpairLink
from xennet.link.protocol import Link
from xennet.link.vif import VifLink
from xennet.link.vifs import Vifs
from xennet.port import Port, PortError, open_port
from xennet.port.base import Counters, is_live
from xennet.port.duplex import DuplexPort
from xennet.port.null import NullPort
from xennet.pump import RealClock
from xennet.run.links import run_ports
from xennet.run.options import RunOptions, Status
from xennet.run.over_vifs import setup_of
from xennet.run.progress import Shown, no_progress
from xennet.run.report import RunReport
from xennet.run.stop import Stop
from xennet.wrap import OffloadEdge, Tracer

FRAMES = [b"%060d" % number for number in range(3000)]
LINKS = pytest.mark.parametrize("link", ["vif", "epair"])
_SECONDS = 60
#: Of a run that is to carry frames before its time is up, also on a busy machine.
_ENOUGH = 1.5


def socket_port() -> Iterator[SocketPort]:
    port = SocketPort()
    yield port
    port.close()


port = pytest.fixture(socket_port, name="port")
other = pytest.fixture(socket_port, name="other")


def carry(
    guest: Port, host: Port, *, stop: Stop | None = None, link: str = "vif", **options: object
) -> RunReport:
    wanted = RunOptions(link=link, **options)  # type: ignore[arg-type]
    with no_progress() as progress:
        return run_ports([guest], [host], wanted, progress, stop=stop)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do ``work`` in another thread."""
    failed: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield
    finally:
        thread.join(_SECONDS)
    assert not thread.is_alive()
    assert failed == []


def receive(port: SocketPort, frames: int) -> list[bytes]:
    """The next ``frames`` frames that ``port`` has written to its peer."""
    received: list[bytes] = []
    deadline = time.monotonic() + _SECONDS
    while len(received) < frames:
        try:
            received.append(port.peer.recv(65536))
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    return received


def test_a_run_is_live_if_a_port_is(port: SocketPort) -> None:
    port.peer.close()
    assert carry(port, NullPort(), allow_empty=True).options.live
    assert not carry(open_port("gen:60x10"), NullPort()).options.live
    assert isinstance(RunOptions(live=True).clock(), RealClock)
    assert RunOptions().clock() is None


def test_wrappers_and_joined_ports_are_live_if_one_in_them_is(port: SocketPort) -> None:
    dead = NullPort()
    for one in (Tracer(port), OffloadEdge(Tracer(port)), DuplexPort(port, dead)):
        assert is_live(one)
    assert is_live(DuplexPort(dead, port))
    assert not is_live(DuplexPort(dead, dead))
    assert not is_live(OffloadEdge(dead))


@LINKS
def test_frames_cross_it_as_they_come_until_the_last_live_port_ends(
    port: SocketPort, other: SocketPort, link: str
) -> None:
    def work() -> None:
        for at in range(0, len(FRAMES), 500):
            for frame in FRAMES[at : at + 500]:
                port.peer.send(frame)
            assert receive(other, 500) == FRAMES[at : at + 500]
            other.peer.send(FRAMES[at])
            assert receive(port, 1) == [FRAMES[at]]
        port.peer.close()
        other.peer.close()

    with meanwhile(work):
        report = carry(port, other, link=link)
    assert report.verdict.good, report.verdict
    assert report.verdict.reasons[0] == "every frame arrived unchanged and in order"
    assert report.interrupted is None
    assert [way.frames_received for way in report.directions] == [3000, 6]
    # Asleep in between: it does not look again and again.
    assert 6 <= port.calls + other.calls < 1000


@LINKS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_that_is_no_fault(
    port: SocketPort, link: str, number: signal.Signals
) -> None:
    stop = Stop()

    def work() -> None:
        port.peer.send(FRAMES[0])
        assert receive(port, 1) == FRAMES[:1]
        os.kill(os.getpid(), number)

    with stopping(stop, silent=True), meanwhile(work):
        report = carry(port, open_port("echo:"), link=link, stop=stop)
    assert report.verdict.good, report.verdict
    assert report.verdict.reasons == (
        "every frame that was given arrived unchanged and in order",
        "teardown left no grant, port, mapping or page behind",
    )
    assert report.interrupted == number.name
    assert [way.frames_received for way in report.directions] == [1, 1]


@LINKS
def test_it_ends_when_its_time_is_up(port: SocketPort, link: str) -> None:
    port.peer.send(FRAMES[0])
    report = carry(port, NullPort(), link=link, seconds=_ENOUGH)
    assert report.verdict.good, report.verdict
    assert report.seconds >= _ENOUGH
    assert report.interrupted is None
    assert report.directions[0].frames_received == 1


def test_without_any_frame_it_has_shown_nothing(port: SocketPort) -> None:
    report = carry(port, NullPort(), seconds=0)
    assert not report.verdict.good
    assert "no port gave a frame" in report.verdict.reasons[0]
    port.peer.close()
    assert carry(port, NullPort(), seconds=0, allow_empty=True).verdict.good


def test_frames_that_never_stop_do_not_keep_it_from_its_end(port: SocketPort) -> None:
    over = False

    def work() -> None:
        while not over:
            try:
                port.peer.send(FRAMES[0])
            except BlockingIOError:
                time.sleep(0.001)

    with meanwhile(work):
        try:
            report = carry(port, NullPort(), seconds=_ENOUGH)
        finally:
            over = True
    assert report.verdict.good, report.verdict
    sent = report.directions[0].frames_sent
    assert report.directions[0].frames_received == sent == port.counters.frames_in > 100


@LINKS
def test_a_capture_is_played_once_while_the_other_end_goes_on(port: SocketPort, link: str) -> None:
    report = carry(open_port("gen:60x500"), port, link=link, seconds=_ENOUGH)
    assert report.verdict.good, report.verdict
    assert report.directions[0].frames_received == 500
    assert report.options.live


@LINKS
def test_a_port_that_fails_ends_it(port: SocketPort, other: SocketPort, link: str) -> None:
    port.peer.send(FRAMES[0])
    port.peer.send(BROKEN)
    with pytest.raises(PortError, match="socket:: broken"):
        carry(port, other, link=link)
    assert receive(other, 1) == FRAMES[:1]


def test_guests_at_a_switch_talk_live() -> None:
    ports = [SocketPort(f"socket:{number}") for number in range(3)]

    def work() -> None:
        for number, port in enumerate(ports):
            port.peer.send(FRAMES[number])
        for number in range(3):
            # The run gives each frame the addresses of its sender and of the next guest.
            assert receive(ports[(number + 1) % 3], 1)[0][12:] == FRAMES[number][12:]
        for port in ports:
            port.peer.close()

    with no_progress() as progress, meanwhile(work):
        report = run_ports(ports, [], RunOptions(guests=3, switch=True), progress)
    for port in ports:
        port.close()
    assert report.verdict.good, report.verdict
    assert report.switch is not None
    assert report.switch.learned == 3


def test_a_run_without_live_ports_may_be_given_a_time_too() -> None:
    report = carry(open_port("gen:60x4000000000"), NullPort(), seconds=0.5)
    assert report.verdict.good, report.verdict
    assert report.verdict.reasons[0] == "every frame that was given arrived unchanged and in order"
    assert not report.options.live
    assert report.seconds >= 0.5
    assert carry(open_port("gen:60x10"), NullPort(), seconds=3600).seconds < 600


# -- the links themselves


def of_vif(guest: Port, host: Port) -> Link:
    link = VifLink(guest, host, clock=RealClock())
    link.open()
    return link


def of_epair(guest: Port, host: Port) -> Link:
    link = EpairLink(clock=RealClock())
    link.join(guest, host)
    link.open()
    return link


@pytest.mark.parametrize("make", [of_vif, of_epair])
def test_while_nothing_comes_it_sleeps(
    make: Callable[[Port, Port], Link], port: SocketPort
) -> None:
    link = make(port, NullPort())
    looks = 0

    def over() -> bool:
        nonlocal looks
        looks += 1
        return False

    link.carry_live(0.05, over)  # what is compiled or made at first
    looks, used, began = 0, time.process_time(), time.monotonic()
    link.carry_live(1.0, over)
    assert time.monotonic() - began >= 1.0
    assert time.process_time() - used < 0.1
    assert looks < 20
    link.close()
    link.destroy()


@pytest.mark.parametrize("make", [of_vif, of_epair])
def test_it_looks_when_something_comes(
    make: Callable[[Port, Port], Link], port: SocketPort, other: SocketPort
) -> None:
    """A round trip through the link, there and back, takes milliseconds, unless the machine is
    busy: it does not wait for the next look by the clock."""
    link = make(port, other)
    times = []

    def work() -> None:
        for frame in FRAMES[:50]:
            began = time.perf_counter()
            port.peer.send(frame)
            other.peer.setblocking(True)
            other.peer.send(other.peer.recv(100))
            port.peer.setblocking(True)
            assert port.peer.recv(100) == frame
            times.append(time.perf_counter() - began)
        port.peer.send(FRAMES[0])  # wakes the link, so that it looks whether this is over

    with meanwhile(work):
        link.carry_live(_SECONDS, lambda: len(times) == 50)
    link.close()
    link.destroy()
    assert min(times) < 0.05


def test_an_end_that_broke_ends_it(port: SocketPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vifs, "_errors", lambda link: ["vif1.0: a bad response"])
    link = of_vif(port, NullPort())
    with pytest.raises(LinkError, match=r"vif1.0: a bad response"):
        link.carry_live(None, lambda: False)
    link.close()
    link.destroy()


@pytest.mark.parametrize("make", [of_vif, of_epair])
def test_a_link_is_held_for_its_time(make: Callable[[Port, Port], Link]) -> None:
    link = make(NullPort(), NullPort())
    began = time.monotonic()
    link.hold(0.1)
    assert time.monotonic() - began >= 0.1
    link.hold(60, lambda: True)
    link.close()
    link.destroy()


def test_a_vif_in_virtual_time_is_held_without_a_store_socket_too() -> None:
    link = VifLink(NullPort(), NullPort())
    link.open()
    now, began = link.machine.run_loop.now, time.monotonic()
    link.hold(0.1)
    assert time.monotonic() - began >= 0.1
    assert link.machine.run_loop.now == now
    link.close()
    link.destroy()


def test_what_does_not_arrive_is_given_up_after_two_seconds() -> None:
    link = of_vif(open_port("gen:60x10"), Stack(room=0))
    began = time.monotonic()
    link.carry(lambda: 0)
    # By the time limits of a run in virtual time it takes 40 seconds.
    assert 2 <= time.monotonic() - began < 30
    link.close()
    link.destroy()


# -- what it says of itself meanwhile


def test_its_status_has_rates_queues_and_drops(port: SocketPort, other: SocketPort) -> None:
    seen: list[Status] = []

    def work() -> None:
        port.peer.send(FRAMES[0])
        port.peer.send(bytes(3000))  # too long for the interface
        deadline = time.monotonic() + _SECONDS
        while (len(seen) < 3 or not seen[-1].dropped) and time.monotonic() < deadline:
            time.sleep(0.01)
        port.peer.close()
        other.peer.close()

    options = RunOptions(link="epair:taskqueue")
    with meanwhile(work):
        run_ports([port], [other], options, Shown(status=seen.append))
    # Twice a second: on a busy machine one may be late, and the next is not.
    assert all(status.seconds >= number / 2 for number, status in enumerate(seen))
    assert (seen[0].to_host, seen[0].dropped) == (0, 0)
    assert seen[-1].dropped == 1
    times = [0.0, *(status.seconds for status in seen)]
    passed = [after - before for before, after in pairwise(times)]
    frames = sum(one.to_host * seconds for one, seconds in zip(seen, passed, strict=True))
    assert frames == pytest.approx(1)
    assert all(status.to_guest == 0 for status in seen)


@pytest.mark.parametrize("queues", [1, 2])
def test_the_rings_of_a_vif_are_as_full_as_they_are(queues: int) -> None:
    link = VifLink(
        open_port("gen:60x1000"), Stack(room=0), setup=setup_of(RunOptions(queues=queues))
    )
    link.open()
    link.carry()
    tx, rx = link.status().queues
    size = 256 * queues
    assert (tx.name, tx.size, rx.name, rx.size) == ("tx", size, "rx", size)
    assert rx.used == size
    assert tx.used == 256, "one flow has one queue"
    link.close()
    assert [queue.used for queue in link.status().queues] == [0, 0]
    link.destroy()


def test_a_port_counts_what_it_has_lost() -> None:
    assert Counters(frames_in=7, refused_oversize=2, refused_time=3, truncated=9).lost == 5
