"""The switch of domain 0, alone: against a plain model, and rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xennet.frames import FrameBatch
from xennet.link.switch import AGEING, STALL, Switch, SwitchPort
from xennet.runloop import RunLoop

BROADCAST = 0xFFFFFFFFFFFF


class LoopClock:
    """Virtual time, as a domain sees it."""

    def __init__(self) -> None:
        self.loop = RunLoop()

    @property
    def now(self) -> int:
        return self.loop.now

    def call_after(self, delay, work):
        timer = self.loop.call_after(delay, 0, work)
        return lambda: self.loop.cancel_timer(timer)

    def pass_time(self, ns: int) -> None:
        self.loop.advance(ns)
        self.loop.run_until_idle()


def frame(destination: int, source: int, payload: bytes = b"") -> bytes:
    return destination.to_bytes(6) + source.to_bytes(6) + b"\x88\xb5" + payload


def batch_of(*frames: bytes) -> FrameBatch:
    batch = FrameBatch(memoryview(bytearray(1 << 20)), 1024)
    for one in frames:
        batch.append(one)
    return batch


def taken(port: SwitchPort) -> list[bytes]:
    batch = FrameBatch(memoryview(bytearray(1 << 20)), 1024)
    port.pull(batch)
    return [bytes(one) for one in batch]


def switch_of(ports: int, **options: int) -> tuple[Switch, list[SwitchPort], LoopClock]:
    clock = LoopClock()
    switch = Switch(clock, **options)
    return switch, [switch.add_port(f"port {i}") for i in range(ports)], clock


def test_an_unknown_address_is_flooded_to_all_others_and_a_known_one_is_not() -> None:
    switch, (a, b, c), _ = switch_of(3)
    a.push(batch_of(frame(2, 4)))
    assert (taken(a), len(taken(b)), len(taken(c))) == ([], 1, 1)
    b.push(batch_of(frame(4, 2)))
    assert (len(taken(a)), taken(b), taken(c)) == (1, [], [])
    assert (switch.counters.flooded, switch.counters.forwarded) == (1, 1)


def test_a_group_address_goes_to_all_others_even_if_it_was_a_source() -> None:
    switch, (a, b, c), _ = switch_of(3)
    a.push(batch_of(frame(BROADCAST, 4), frame(4, BROADCAST), frame(4, 0)))
    assert len(taken(b)) == len(taken(c)) == 1
    assert (switch.counters.group, switch.counters.invalid) == (1, 2)


def test_a_frame_for_an_address_behind_its_own_port_goes_nowhere() -> None:
    switch, (a, b), _ = switch_of(2)
    a.push(batch_of(frame(2, 4), frame(4, 2)))
    assert len(taken(b)) == 1
    assert switch.counters.filtered == 1
    assert taken(a) == []


def test_an_address_that_moves_is_followed() -> None:
    _, (a, b, c), _ = switch_of(3)
    a.push(batch_of(frame(BROADCAST, 4)))
    b.push(batch_of(frame(BROADCAST, 4)))
    for port in (a, b, c):
        taken(port)
    c.push(batch_of(frame(4, 6)))
    assert (len(taken(a)), len(taken(b))) == (0, 1)


def test_an_address_that_is_not_seen_for_300_seconds_is_forgotten() -> None:
    switch, (a, _b), clock = switch_of(2)
    a.push(batch_of(frame(BROADCAST, 4)))
    clock.pass_time(AGEING - 1)
    assert switch.where(4) is a
    a.push(batch_of(frame(BROADCAST, 4)))
    clock.pass_time(AGEING - 1)
    assert switch.where(4) is a
    clock.pass_time(1)
    assert switch.where(4) is None
    assert switch.learned == 0


def test_a_full_table_learns_no_more_until_an_entry_is_old() -> None:
    switch, (a, _b), clock = switch_of(2, addresses=2)
    a.push(batch_of(frame(BROADCAST, 4), frame(BROADCAST, 6), frame(BROADCAST, 8)))
    assert [switch.where(mac) is a for mac in (4, 6, 8)] == [True, True, False]
    clock.pass_time(AGEING)
    a.push(batch_of(frame(BROADCAST, 8)))
    assert switch.where(8) is a
    assert switch.learned <= 2


def test_a_static_entry_does_not_move() -> None:
    switch, (a, b), clock = switch_of(2)
    switch.fix(4, a)
    b.push(batch_of(frame(BROADCAST, 4)))
    clock.pass_time(2 * AGEING)
    assert switch.where(4) is a


def test_everything_that_travels_with_a_frame_comes_out_again() -> None:
    _, (a, b), _ = switch_of(2)
    batch = FrameBatch(memoryview(bytearray(100)))
    batch.append(frame(2, 4), timestamp=77, flags=3, gso_size=1448, gso_type=1)
    batch.hash_info[0], batch.hash_value[0] = 0x102, 0xDEADBEEF
    a.push(batch)
    out = batch_of(b"something before")
    b.pull(out)
    columns = ("flags", "gso_size", "gso_type", "hash_info", "hash_value", "timestamp")
    assert [getattr(out, name)[1] for name in columns] == [3, 1448, 1, 0x102, 0xDEADBEEF, 77]
    assert bytes(out.frame(1)) == frame(2, 4)


def test_who_finds_no_room_is_woken_when_there_is_some_and_nothing_is_lost() -> None:
    switch, (a, b), _ = switch_of(2, slots=4)
    woken: list[str] = []
    a.listen(lambda: woken.append("a"))
    b.listen(lambda: woken.append("b"))
    a.push(batch_of(*[frame(2, 4)] * 4))
    assert woken == ["b"]
    assert a.room == 0
    with pytest.raises(IndexError, match="port 0: 1 frames"):
        a.push(batch_of(frame(2, 4)))
    assert len(taken(b)) == 4
    assert woken == ["b", "a"]
    assert a.room == 4
    assert b.counters.dropped == 0
    assert switch.counters.flooded == 4


def test_a_full_queue_does_not_keep_its_own_port_from_sending() -> None:
    _, (a, b), _ = switch_of(2, slots=4)
    a.push(batch_of(*[frame(2, 4)] * 4))
    assert (a.room, b.room) == (0, 4)


def test_a_port_that_takes_nothing_is_given_up_and_blocks_nobody() -> None:
    _, (a, b, c), clock = switch_of(3, slots=4)
    woken: list[str] = []
    a.listen(lambda: woken.append("a"))
    b.push(batch_of(frame(BROADCAST, 2)))
    taken(c)
    a.push(batch_of(*[frame(2, 4)] * 4))
    assert a.room == 0
    clock.pass_time(STALL - 1)
    assert a.room == 0
    clock.pass_time(1)
    assert woken[-1] == "a"
    assert b.stalled
    assert a.room == 4
    a.push(batch_of(*[frame(2, 4)] * 3, frame(BROADCAST, 4)))
    assert b.counters.dropped == 4
    assert len(taken(c)) == 1
    assert len(taken(b)) == 4
    assert not b.stalled
    a.push(batch_of(frame(2, 4)))
    assert len(taken(b)) == 1


def test_a_slow_port_is_not_given_up() -> None:
    _, (a, b), clock = switch_of(2, slots=4)
    a.push(batch_of(*[frame(2, 4)] * 4))
    for _ in range(5):
        clock.pass_time(STALL // 2)
        one = FrameBatch(memoryview(bytearray(100)), 1)
        assert b.pull(one) == 1
        a.push(batch_of(frame(2, 4)))
    clock.pass_time(STALL // 2)
    assert not b.stalled
    assert b.counters.dropped == 0


def test_a_port_that_is_taken_away_blocks_nobody_and_is_forgotten() -> None:
    switch, (a, b, c), _ = switch_of(3, slots=4)
    switch.fix(8, b)
    b.push(batch_of(frame(4, 2)))
    taken(a), taken(c)
    a.push(batch_of(*[frame(2, 4)] * 4))
    assert a.room == 0
    assert switch.remove_port(b) == 4
    assert a.room == 4
    assert switch.where(2) is switch.where(8) is None
    a.push(batch_of(frame(2, 4)))
    assert len(taken(c)) == 1


class SwitchLife(RuleBasedStateMachine):
    """Random frames between random ports, against a dictionary and lists."""

    PORTS = 4
    MACS = (2, 4, 6, 8, BROADCAST, 0x010000000001, 0)

    @initialize()
    def power_on(self) -> None:
        self.switch, self.ports, self.clock = switch_of(self.PORTS, slots=16, addresses=3)
        self.queues: list[list[bytes]] = [[] for _ in self.ports]
        self.seen: dict[int, tuple[int, int]] = {}
        self.number = 0

    @rule(
        port=st.integers(0, PORTS - 1),
        macs=st.lists(st.tuples(st.sampled_from(MACS), st.sampled_from(MACS)), max_size=6),
    )
    def push(self, port: int, macs: list[tuple[int, int]]) -> None:
        room = 16 - max(len(queue) for i, queue in enumerate(self.queues) if i != port)
        assert self.ports[port].room == room
        frames = []
        for destination, source in macs[:room]:
            self.number += 1
            one = frame(destination, source, self.number.to_bytes(4))
            frames.append(one)
            self.model(port, destination, source, one)
        self.ports[port].push(batch_of(*frames))

    def model(self, port: int, destination: int, source: int, one: bytes) -> None:
        if source == 0 or source >> 40 & 1:
            return
        now = self.clock.now
        if source in self.seen or len(self.seen) < 3:
            self.seen[source] = (port, now + AGEING)
        else:
            oldest = min(self.seen, key=lambda mac: self.seen[mac][1])
            if self.seen[oldest][1] <= now:
                del self.seen[oldest]
                self.seen[source] = (port, now + AGEING)
        known = None if destination >> 40 & 1 else self.seen.get(destination)
        if known is not None and known[1] <= now:
            del self.seen[destination]
            known = None
        targets = range(self.PORTS) if known is None else [known[0]]
        for target in targets:
            if target != port:
                self.queues[target].append(one)

    @rule(port=st.integers(0, PORTS - 1), most=st.integers(1, 16))
    def pull(self, port: int, most: int) -> None:
        batch = FrameBatch(memoryview(bytearray(4096)), most)
        self.ports[port].pull(batch)
        assert [bytes(one) for one in batch] == self.queues[port][:most]
        del self.queues[port][:most]

    @rule(ns=st.sampled_from([1, AGEING // 3, AGEING]))
    def pass_time(self, ns: int) -> None:
        for port in range(self.PORTS):
            self.pull(port, 16)
        self.clock.pass_time(ns)

    @invariant()
    def nothing_is_dropped(self) -> None:
        assert sum(port.counters.dropped for port in self.ports) == 0
        assert [port.queue.count for port in self.ports] == [len(q) for q in self.queues]
        assert self.switch.learned <= 3


TestSwitchLife = SwitchLife.TestCase
TestSwitchLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
