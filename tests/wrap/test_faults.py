"""Injected faults: what goes in comes out but for what the counters say, and the same each time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scripted import Frame, Scripted, batch_of, frames_in, new_batch, numbered

from xennet import VifLink, open_port
from xennet.host import Setup
from xennet.netback.policy import VifOptions
from xennet.netfront.options import NetfrontOptions
from xennet.wrap import (
    FaultCounters,
    FaultInjector,
    Faults,
    Passed,
    Tracer,
    check_order,
    ip_flow,
)

CHANCES = st.sampled_from([0.0, 0.05, 0.3, 0.5, 1.0])
FAULTS = st.builds(
    Faults,
    drop=CHANCES,
    corrupt=CHANCES,
    duplicate=CHANCES,
    reorder=CHANCES,
    limit=st.sampled_from([0, 1, 2, 7]),
)


def wrong_bits(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left) ^ int.from_bytes(right)).bit_count()


def judged(sent: list[Frame], came: list[Frame]) -> FaultCounters:
    """What happened to frames on their way, found out from the two lists."""
    found = FaultCounters(len(sent))
    by_stamp = {frame[1]: frame for frame in sent}
    once = [frame for i, frame in enumerate(came) if not i or came[i - 1][1] != frame[1]]
    stamps = [frame[1] for frame in once]
    assert len(set(stamps)) == len(stamps), "the copies of a frame follow each other"
    found.dropped = len(sent) - len(stamps)
    found.duplicated = len(came) - len(once)
    found.reordered = sum(a > b for a, b in pairwise(stamps))
    for frame in came:
        assert frame[1:] == by_stamp[frame[1]][1:], "what travels with a frame is its own"
        assert len(frame[0]) == len(by_stamp[frame[1]][0])
    for frame in once:
        wrong = wrong_bits(frame[0], by_stamp[frame[1]][0])
        assert wrong in (0, 1)
        found.corrupted += wrong
    for one, other in pairwise(came):
        assert one[1] != other[1] or one[0] == other[0]
    return found


class BothWays(RuleBasedStateMachine):
    """Frames both ways, in batches and rooms of any size, against two lists."""

    @initialize(pulled=FAULTS, pushed=FAULTS, seed=st.integers(0, 9))
    def begin(self, pulled: Faults, pushed: Faults, seed: int) -> None:
        self.inner = Scripted(room=0)
        self.faulty = FaultInjector(self.inner, seed, pulled=pulled, pushed=pushed)
        self.pulled, self.pushed = pulled, pushed
        self.stamp = 0
        self.given: list[Frame] = []
        self.got: list[Frame] = []
        self.sent: list[Frame] = []

    def fresh(self, lengths: list[int]) -> list[Frame]:
        first, self.stamp = self.stamp + 1, self.stamp + len(lengths)
        return [numbered(first + i, length) for i, length in enumerate(lengths)]

    lengths = st.lists(st.sampled_from([14, 60, 1514]), min_size=1, max_size=9)

    @rule(lengths=lengths)
    def add_frames(self, lengths: list[int]) -> None:
        frames = self.fresh(lengths)
        self.inner.to_give += frames
        self.given += frames

    @rule(before=st.integers(0, 2), most=st.integers(1, 9), size=st.sampled_from([1600, 9000]))
    def pull(self, before: int, most: int, size: int) -> None:
        batch = new_batch(before + most, before * 14 + size)
        mine = [numbered(10**6 + i, 14) for i in range(before)]
        for frame in mine:
            batch.append(frame[0], timestamp=frame[1])
        count = self.faulty.pull(batch)
        assert [data for data, *_ in frames_in(batch)[:before]] == [data for data, *_ in mine]
        self.got += frames_in(batch, before)
        assert count == batch.count - before
        assert count or not self.inner.to_give, "0 means that there is none"
        if self.pulled.limit and not self.pulled.duplicate:
            assert count <= self.pulled.limit

    @precondition(lambda self: self.faulty.room)
    @rule(lengths=lengths)
    def push(self, lengths: list[int]) -> None:
        frames = self.fresh(lengths[: self.faulty.room])
        batch = batch_of(*frames)
        self.faulty.push(batch)
        assert frames_in(batch) == frames, "a push changes nothing"
        self.sent += frames

    @rule(more=st.integers(1, 9))
    def make_room(self, more: int) -> None:
        self.inner.room += more

    @invariant()
    def there_is_room_if_the_endpoint_has_any(self) -> None:
        room = self.faulty.room
        assert bool(room) == bool(self.inner.room)
        assert room <= self.inner.room
        assert not self.pushed.limit or room <= self.pushed.limit

    @invariant()
    def nothing_is_lost_or_invented_but_what_the_counters_say(self) -> None:
        left = len(self.inner.to_give)
        assert judged(self.given[: len(self.given) - left], self.got) == self.faulty.pulled
        assert judged(self.sent, self.inner.taken) == self.faulty.pushed


TestBothWays = BothWays.TestCase
TestBothWays.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def pulled_by(faulty: FaultInjector, most: int) -> list[Frame]:
    got: list[Frame] = []
    batch = new_batch(most)
    while faulty.pull(batch):
        got += frames_in(batch)
        batch.clear()
    return got


@given(
    seed=st.integers() | st.text(max_size=3),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 300)),
    chance=CHANCES,
)
def test_the_same_happens_to_the_same_frames_whatever_the_batches(
    seed: Any, sizes: tuple[int, int], chance: float
) -> None:
    faults = Faults(drop=chance, corrupt=0.4)
    frames = [numbered(i) for i in range(100)]
    one, other = (
        pulled_by(FaultInjector(Scripted(list(frames)), seed, pulled=faults), size)
        for size in sizes
    )
    assert one == other
    pushed = Scripted()
    faulty = FaultInjector(pushed, seed, pushed=faults)
    for at in range(0, 100, sizes[0]):
        faulty.push(batch_of(*frames[at : at + sizes[0]]))
    again = Scripted()
    FaultInjector(again, seed, pushed=faults).push(batch_of(*frames))
    assert pushed.taken == again.taken


def test_a_chance_has_no_influence_on_what_another_one_hits() -> None:
    def corrupted(**more: float) -> set[int]:
        port = Scripted([numbered(i) for i in range(500)])
        got = pulled_by(FaultInjector(port, 7, pulled=Faults(corrupt=0.2, **more)), 100)
        return {stamp for data, stamp, *_ in got if data != numbered(stamp)[0]}

    all_of_them = corrupted()
    assert 60 < len(all_of_them) < 140
    assert corrupted(reorder=0.5, duplicate=0.5) == all_of_them
    assert corrupted(drop=0.5) < all_of_them


def test_the_directions_and_seeds_are_independent() -> None:
    frames = [numbered(i) for i in range(200)]

    def lost(seed: int, direction: str) -> frozenset[int]:
        end = Scripted(list(frames))
        faulty = FaultInjector(end, seed, **{direction: Faults(drop=0.5)})
        faulty.push(batch_of(*frames))
        came = end.taken if direction == "pushed" else pulled_by(faulty, 50)
        return frozenset(range(200)) - {frame[1] for frame in came}

    assert len({lost(seed, way) for seed in (0, 1) for way in ("pulled", "pushed")}) == 4


def test_without_faults_a_batch_goes_on_as_it_is() -> None:
    taken = []
    end = Scripted([numbered(1)])
    end.push = taken.append  # type: ignore[method-assign]
    faulty, batch = FaultInjector(end), batch_of(numbered(2), numbered(3))
    faulty.push(batch)
    assert taken == [batch]
    assert faulty.room == end.room
    assert pulled_by(faulty, 1) == [numbered(1)]
    assert (faulty.pulled.came, faulty.pushed.came) == (1, 2)


def test_that_all_frames_of_a_call_are_dropped_does_not_end_them() -> None:
    end = Scripted([numbered(i) for i in range(1000)])
    faulty = FaultInjector(end, pulled=Faults(drop=0.99, limit=3))
    got = pulled_by(faulty, 256)
    assert 0 < len(got) < 40
    assert faulty.pulled == FaultCounters(1000, 1000 - len(got))


def test_a_limit_holds_for_a_call_in_either_direction() -> None:
    end, three = Scripted([numbered(i) for i in range(8)], room=5), Faults(limit=3)
    faulty = FaultInjector(end, pulled=three, pushed=three)
    batch = new_batch()
    assert [faulty.pull(batch) for _ in range(4)] == [3, 3, 2, 0]
    assert batch.max_frames == 256
    rooms = []
    while faulty.room:
        rooms.append(faulty.room)
        faulty.push(batch_of(*(numbered(i) for i in range(faulty.room))))
    assert rooms == [3, 2]


def test_a_batch_that_holds_no_frame_is_still_an_error() -> None:
    faulty = FaultInjector(Scripted([numbered(1, 1514)]), pulled=Faults(duplicate=1))
    with pytest.raises(IndexError, match="too small"):
        faulty.pull(new_batch(4, 1000))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"drop": 1.1}, "drop is a chance from 0 to 1, not 1.1"),
        ({"corrupt": -0.1}, "corrupt is a chance"),
        ({"duplicate": float("nan")}, "duplicate is a chance from 0 to 1, not nan"),
        ({"reorder": 30}, "reorder is a chance"),
        ({"limit": -1}, "limit is a number of frames, 0 for any, not -1"),
    ],
)
def test_what_is_no_chance_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Faults(**wrong)


def test_a_port_with_faults_is_a_port() -> None:
    port = FaultInjector(open_port("gen:60x10"), pulled=Faults(reorder=1))
    assert (port.name, port.expected, port.exhausted) == ("gen:60x10", 10, False)
    assert FaultInjector(open_port("gen:60x10"), pulled=Faults(drop=0.1)).expected is None
    assert repr(port) == "<FaultInjector <GenPort gen:60x10>>"
    assert len(pulled_by(port, 100)) == 10
    assert port.exhausted
    assert port.counters.frames_in == 10
    port.finish()
    port.close()


@pytest.mark.parametrize(
    ("port", "corrupt", "queues"), [("gen:60x600", 0.2, 1), ("tcp:1400x600@9", 0.0, 3)]
)
def test_a_vif_brings_all_that_is_left_of_the_frames(
    port: str, corrupt: float, queues: int
) -> None:
    faults = Faults(drop=0.2, corrupt=corrupt, duplicate=0.2, reorder=0.2, limit=11)
    seen: list[Passed] = []
    guest = FaultInjector(open_port(port), 3, pulled=faults)
    host = FaultInjector(Tracer(open_port("null:"), seen.append), 4, pushed=faults)
    ends = check_order(guest, host, ip_flow)
    front, back = NetfrontOptions(queues=queues), VifOptions(max_queues=queues)
    link = VifLink(*ends, setup=Setup(front=front, back=back))
    link.open()
    assert len(link.netback.queues) == queues
    link.carry()
    link.close()
    assert not link.leaks()
    link.destroy()
    given, taken = guest.pulled, host.pushed
    assert given.came == 600
    assert min(given.dropped, given.duplicated, given.reordered) > 50
    assert ends[0].outgoing.intact
    assert taken.came == 600 - given.dropped + given.duplicated
    assert len(seen) == taken.came - taken.dropped + taken.duplicated
