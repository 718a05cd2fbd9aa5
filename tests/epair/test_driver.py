"""What becomes of a frame that an epair sends, counter by counter (if_epair.c, two generations)."""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENETDOWN, ENOBUFS, ENXIO

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xennet.epair.cloner import Cloner, Epair
from xennet.epair.driver import DRIVERS, NetisrDriver, TaskqueueDriver
from xennet.epair.netisr import MAXQLEN
from xennet.frames import FrameBatch
from xennet.ifnet import DrvFlags, IfCounters, Interface, Interfaces
from xennet.runloop import RunLoop

GROUP = bytes.fromhex("01005e000001") + bytes(54)
GENERATIONS = pytest.mark.parametrize("generation", DRIVERS)


def batch(*frames: bytes) -> FrameBatch:
    made = FrameBatch(memoryview(bytearray(sum(map(len, frames)))), len(frames))
    for frame in frames:
        made.append(frame)
    return made


class Pair:
    """An epair that is up on both sides, and what came in at each."""

    def __init__(self, generation: str = "netisr", limit: int = MAXQLEN) -> None:
        self.loop = RunLoop()
        self.driver = DRIVERS[generation](self.loop)
        if isinstance(self.driver, NetisrDriver):
            self.driver.netisr.limit = limit
        self.cloner = Cloner(Interfaces(), self.driver, hostid=1)
        self.sides: Epair = self.cloner.create()
        self.a, self.b = self.sides.a, self.sides.b
        self.came: dict[str, list[bytes]] = {}
        for side in (self.a, self.b):
            side.up = True
            self.listen(side)

    def listen(self, side: Interface) -> None:
        came = self.came[side.name] = []
        side.input = lambda frames: came.extend(map(bytes, frames))

    def send(self, *frames: bytes) -> int:
        return self.driver.transmit(self.a, batch(*frames))

    def deliver(self) -> list[bytes]:
        """Everything comes in; what came at b so far."""
        self.loop.run_until_idle()
        return self.came[self.b.name]


@GENERATIONS
def test_a_frame_comes_in_at_the_other_side(generation: str) -> None:
    pair = Pair(generation)
    assert pair.send(bytes(60), GROUP) == 0
    assert pair.came[pair.b.name] == []
    # The receiver's packets are counted before it has them, its bytes never.
    assert pair.a.counters == IfCounters(opackets=2, obytes=120, omcasts=1)
    assert pair.b.counters == IfCounters(ipackets=2)
    assert pair.deliver() == [bytes(60), GROUP]
    assert pair.b.counters == IfCounters(ipackets=2)


@GENERATIONS
def test_nothing_to_send_is_no_error(generation: str) -> None:
    pair = Pair(generation)
    assert pair.driver.transmit(pair.a, None) == 0


@pytest.mark.parametrize(("generation", "errors"), [("netisr", 0), ("taskqueue", 1)])
def test_an_interface_that_does_not_run_is_enxio(generation: str, errors: int) -> None:
    pair = Pair(generation)
    pair.a.drv_flags &= ~DrvFlags.RUNNING
    assert pair.send(bytes(60)) == ENXIO
    assert pair.a.counters == IfCounters(oerrors=errors)


@pytest.mark.parametrize(("generation", "errors"), [("netisr", 0), ("taskqueue", 1)])
def test_an_interface_that_is_not_up_is_enetdown(generation: str, errors: int) -> None:
    pair = Pair(generation)
    pair.a.up = False
    assert pair.send(bytes(60)) == ENETDOWN
    assert pair.a.counters == IfCounters(oerrors=errors)


@GENERATIONS
@pytest.mark.parametrize("what", ["up", "running"])
def test_a_peer_that_is_down_is_an_output_error_that_nobody_is_told(
    generation: str, what: str
) -> None:
    pair = Pair(generation)
    if what == "up":
        pair.b.up = False
    else:
        pair.b.drv_flags &= ~DrvFlags.RUNNING
    assert pair.send(bytes(60)) == 0
    assert pair.a.counters == IfCounters(oerrors=1)
    assert pair.deliver() == []


@GENERATIONS
def test_who_listens_sees_frames_for_a_peer_that_is_down_too(generation: str) -> None:
    pair = Pair(generation)
    seen: list[bytes] = []
    pair.a.taps.append(lambda frames: seen.extend(map(bytes, frames)))
    pair.b.up = False
    pair.send(bytes(60))
    pair.a.up = False
    pair.send(GROUP)
    assert seen == [bytes(60)]


def test_the_seed_takes_frames_of_any_length_and_the_later_one_refuses_long_ones() -> None:
    seed, later = Pair("netisr"), Pair("taskqueue")
    assert seed.send(bytes(9000)) == 0
    assert later.send(bytes(1518)) == 0
    assert later.send(bytes(1519)) == E2BIG
    assert later.a.counters == IfCounters(opackets=1, obytes=1518, oerrors=1)
    assert later.send(bytes(1519), bytes(60)) == E2BIG
    assert later.deliver() == [bytes(1518), bytes(60)]


def test_a_full_netisr_queue_stops_the_cpu_and_frees_the_frame() -> None:
    pair = Pair(limit=3)
    assert pair.send(*[bytes(60)] * 3) == 0
    assert pair.send(GROUP) == ENOBUFS
    assert pair.a.drv_flags == DrvFlags.RUNNING | DrvFlags.OACTIVE
    assert pair.a.counters == IfCounters(opackets=3, obytes=180, oerrors=1)
    assert not pair.a.send_queue


def test_behind_a_full_queue_frames_wait_in_the_send_queue_and_are_not_counted() -> None:
    pair = Pair(limit=1)
    assert pair.send(bytes(60), bytes(61)) == ENOBUFS
    assert [pair.send(bytes([n] * 60)) for n in range(52)] == [0] * 50 + [ENOBUFS] * 2
    assert len(pair.a.send_queue) == 50
    assert pair.a.counters == IfCounters(opackets=1, obytes=60, oerrors=1)


def test_when_the_queue_has_run_empty_what_waits_is_sent_without_counting_bytes() -> None:
    pair = Pair(limit=2)
    pair.send(bytes(60), bytes(60), bytes(61))
    pair.send(GROUP, bytes(62))
    assert pair.deliver() == [bytes(60), bytes(60), GROUP, bytes(62)]
    assert pair.a.counters == IfCounters(opackets=4, obytes=120, oerrors=1)
    assert pair.b.counters == IfCounters(ipackets=4)
    assert not pair.a.drv_flags & DrvFlags.OACTIVE


def test_a_drain_that_overflows_frees_that_frame_and_goes_on_next_time() -> None:
    pair = Pair(limit=1)
    pair.send(bytes(60), bytes(61))
    for n in range(4):
        pair.send(bytes([n] * 60))
    pair.deliver()
    # Each drain sends one frame and loses the rest of what it takes out, one after the other.
    assert pair.came[pair.b.name] == [bytes(60), bytes([0] * 60)]
    assert pair.a.counters == IfCounters(opackets=2, obytes=60, oerrors=4)


def test_a_busy_pair_stops_others_that_send_on_its_cpu() -> None:
    pair = Pair(limit=1)
    other = pair.cloner.create()
    other.a.up = other.b.up = True
    pair.listen(other.b)
    pair.send(bytes(60), bytes(61))
    assert pair.driver.transmit(other.a, batch(GROUP)) == 0
    assert len(other.a.send_queue) == 1
    assert other.a.counters == IfCounters()
    pair.loop.run_until_idle()
    assert pair.came[other.b.name] == [GROUP]


def test_frames_that_wait_while_their_side_is_down_stay_there_and_are_overtaken() -> None:
    pair = Pair(limit=1)
    pair.send(bytes(60), bytes(61))
    pair.send(GROUP)
    pair.a.up = False
    assert pair.deliver() == [bytes(60)]
    # epair_start_locked returns at once, but epair_nh_drainedcpu has cleared the mark.
    assert len(pair.a.send_queue) == 1
    assert not pair.a.drv_flags & DrvFlags.OACTIVE
    pair.a.up = True
    assert pair.send(bytes(62)) == 0
    assert pair.deliver() == [bytes(60), bytes(62), GROUP]


def test_qflush_frees_what_waits_and_leaves_the_drain_list() -> None:
    pair = Pair(limit=1)
    pair.send(bytes(60), bytes(61))
    pair.send(GROUP)
    pair.driver.qflush(pair.a)
    assert not pair.a.send_queue
    assert pair.deliver() == [bytes(60)]
    # Nobody is left whose turn would clear the mark: the cpu stays stopped, as in the seed.
    assert pair.send(GROUP) == 0
    assert len(pair.a.send_queue) == 1


def test_the_limit_of_the_queue_is_42_times_ifqmaxlen_and_at_least_1() -> None:
    driver = NetisrDriver(RunLoop())
    assert driver.netisr.limit == 2100
    assert driver.netisr.set_limit(0) == EINVAL
    assert driver.netisr.set_limit(1) == 0
    assert driver.netisr.limit == 1


def test_a_full_queue_of_the_later_generation_drops_and_says_nothing() -> None:
    pair = Pair("taskqueue")
    assert isinstance(pair.driver, TaskqueueDriver)
    assert pair.send(*[bytes(60)] * 4000) == 0
    assert pair.send(*[bytes(60)] * 100) == 0
    assert pair.a.counters == IfCounters(opackets=4096, obytes=4096 * 60, oqdrops=4)
    assert len(pair.deliver()) == 4096
    assert pair.driver.room(pair.a) == 4096


@GENERATIONS
def test_frames_for_a_pair_that_is_destroyed_are_freed(generation: str) -> None:
    pair = Pair(generation)
    pair.send(bytes(60))
    pair.cloner.destroy(pair.a)
    assert pair.deliver() == []
    assert pair.send(bytes(60)) == ENXIO


class Traffic(RuleBasedStateMachine):
    """Frames are sent both ways, sides go down and up, the queue is short: each frame comes in
    once, in order, or a counter or an errno says where it stayed. What waited when its side was
    down may be overtaken, by nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(limit=5)
        self.sent: dict[str, list[bytes]] = {self.pair.a.name: [], self.pair.b.name: []}
        self.refused = {self.pair.a.name: 0, self.pair.b.name: 0}
        self.overtaken: set[bytes] = set()
        self.number = 0

    @rule(side=st.sampled_from("ab"), count=st.integers(1, 12))
    def send(self, side: str, count: int) -> None:
        interface = getattr(self.pair, side)
        waiting = len(interface.send_queue)
        before = interface.counters.opackets + interface.counters.oerrors + waiting
        frames = []
        for _ in range(count):
            self.number += 1
            frames.append(self.number.to_bytes(4, "big") * 15)
        error = self.pair.driver.transmit(interface, batch(*frames))
        after = interface.counters.opackets + interface.counters.oerrors
        taken = after + len(interface.send_queue) - before
        assert 0 <= taken <= count
        assert (taken == count) or error in (ENETDOWN, ENOBUFS)
        self.sent[interface.name] += frames
        self.refused[interface.name] += count - taken

    @rule(side=st.sampled_from("ab"), up=st.booleans())
    def bring(self, side: str, up: bool) -> None:
        getattr(self.pair, side).up = up

    @rule()
    def run(self) -> None:
        for side in (self.pair.a, self.pair.b):
            if not side.up:
                self.overtaken.update(bytes(frame) for one in side.send_queue for frame in one)
        self.pair.loop.run_until_idle()

    @rule(side=st.sampled_from("ab"))
    def qflush(self, side: str) -> None:
        interface = getattr(self.pair, side)
        self.refused[interface.name] += len(interface.send_queue)
        self.pair.driver.qflush(interface)

    @invariant()
    def frames_come_in_once_and_in_order(self) -> None:
        for sender, receiver in ((self.pair.a, self.pair.b), (self.pair.b, self.pair.a)):
            came = self.pair.came[receiver.name]
            for overtaken in (False, True):
                rest = iter(self.sent[sender.name])
                assert all(
                    frame in rest for frame in came if (frame in self.overtaken) == overtaken
                )
            lost = sender.counters.oerrors + self.refused[sender.name]
            on_the_way = sender.counters.opackets - len(came)
            waiting = len(sender.send_queue)
            assert len(came) + on_the_way + waiting + lost == len(self.sent[sender.name])
            assert receiver.counters.ipackets == sender.counters.opackets


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30)
