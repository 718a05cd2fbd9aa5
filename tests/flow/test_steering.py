"""Steering: every frame once, in order within its queue, whoever pulls when."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from packets import ARP, frame, ipv4, tcp
from rss_vectors import KEY, V4

from xennet.engine.choice import using
from xennet.flow.hash_config import ALL_TYPES, HashConfig
from xennet.flow.steering import SCRATCH_FRAMES, QueueEnd, Steering
from xennet.frames import NOTHING, BaseEndpoint, FrameBatch, Offload

TCP4 = 1 << 8 | 2


class Source(BaseEndpoint):
    """An endpoint that gives ``frames`` and takes what is pushed."""

    room = 17

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, int]] = []
        self.pushed: list[FrameBatch] = []
        self.offloads: list[Offload] = []

    def pull(self, batch: FrameBatch) -> int:
        before = batch.count
        while self.frames and batch.has_room(len(self.frames[0][0])):
            content, stamp = self.frames.pop(0)
            batch.append(content, timestamp=stamp, flags=stamp & 3, gso_size=stamp + 1, gso_type=1)
        return batch.count - before

    def push(self, batch: FrameBatch) -> None:
        self.pushed.append(batch)

    def negotiated(self, offload: Offload) -> None:
        self.offloads.append(offload)


def toeplitz() -> HashConfig:
    config = HashConfig()
    config.set_algorithm(1)
    config.set_types(ALL_TYPES)
    config.set_key(KEY)
    return config


def flow(port: int, size: int = 60) -> bytes:
    return frame(ipv4("10.0.0.1", "10.0.0.2", tcp(port, 80))).ljust(size, b"\0")


def fresh(max_frames: int = 256, size: int = 1 << 19) -> FrameBatch:
    return FrameBatch(memoryview(bytearray(size)), max_frames)


def by_port(config: HashConfig, queues: int, queue: int) -> bytes:
    """A frame that ``config`` steers to ``queue``."""
    for port in range(1, 1000):
        source = Source()
        source.frames = [(flow(port), 0)]
        steering = Steering(source, queues, config, lambda _: None)
        if steering.ends[queue].pull(fresh()):
            return flow(port)
    raise AssertionError(f"no flow leads to queue {queue}")


def test_the_frames_of_a_flow_come_out_of_the_queue_of_its_hash() -> None:
    source, config = Source(), toeplitz()
    source.frames = [
        (frame(ipv4(row[0], row[2], tcp(row[1], row[3]))), stamp) for stamp, row in enumerate(V4)
    ]
    sent = list(source.frames)
    steering = Steering(source, 3, config, lambda _: None)
    for q, end in enumerate(steering.ends):
        batch = fresh()
        wanted = [i for i, row in enumerate(V4) if row[5] % 3 == q]
        assert end.pull(batch) == len(wanted)
        assert [bytes(content) for content in batch] == [sent[i][0] for i in wanted]
        assert batch.hash_info[: batch.count].tolist() == [TCP4] * len(wanted)
        assert batch.hash_value[: batch.count].tolist() == [V4[i][5] for i in wanted]
        assert batch.timestamp[: batch.count].tolist() == wanted
        assert batch.flags[: batch.count].tolist() == [i & 3 for i in wanted]
        assert batch.gso_size[: batch.count].tolist() == [i + 1 for i in wanted]
        assert batch.gso_type[: batch.count].tolist() == [1] * len(wanted)
    assert steering.waiting == 0


def test_with_one_queue_frames_are_hashed_where_they_are() -> None:
    source, batch = Source(), fresh()
    batch.append(ARP)
    source.frames = [(frame(ipv4(V4[0][0], V4[0][2], tcp(V4[0][1], V4[0][3]))), 0), (ARP, 0)]
    (end,) = Steering(source, 1, toeplitz(), lambda _: None).ends
    assert end.pull(batch) == 2
    assert batch.hash_info[:3].tolist() == [0, TCP4, 0]
    assert batch.hash_value[1] == V4[0][5]


@pytest.mark.parametrize("queues", [1, 2])
def test_without_an_algorithm_frames_carry_no_hash(queues: int) -> None:
    source, batch = Source(), fresh()
    batch.hash_info[:] = array("I", [TCP4] * batch.max_frames)
    config = HashConfig()
    source.frames = [(flow(1), 0)] * 2
    steering = Steering(source, queues, config, lambda _: None)
    pulled = sum(end.pull(batch) for end in steering.ends)
    assert pulled == 2
    assert batch.hash_info[:2].tolist() == [0, 0]


def test_everything_but_pull_is_the_endpoints() -> None:
    source = Source()
    for queues in (1, 2):
        end = Steering(source, queues, toeplitz(), lambda _: None).ends[-1]
        batch = fresh()
        end.push(batch)
        end.negotiated(NOTHING)
        assert end.room == 17
        assert source.pushed.pop() is batch
        assert source.offloads.pop() == NOTHING


def test_those_for_whom_something_came_are_kicked_and_the_one_who_asked_is_not() -> None:
    source, config, kicks = Source(), toeplitz(), list[int]()
    source.frames = [(by_port(config, 4, q), 0) for q in (0, 2, 3)]
    steering = Steering(source, 4, config, kicks.append)
    assert steering.ends[0].pull(fresh()) == 1
    assert kicks == [2, 3]


def test_a_queue_that_found_the_middle_taken_is_kicked_once_it_is_empty() -> None:
    source, config, kicks = Source(), toeplitz(), list[int]()
    source.frames = [(by_port(config, 2, 1), 0)]
    steering = Steering(source, 2, config, kicks.append)
    assert steering.ends[0].pull(fresh()) == 0
    assert kicks == [1]
    source.frames = [(by_port(config, 2, 0), 0)]
    assert steering.ends[0].pull(fresh()) == 0  # may not overtake: the middle is not empty
    assert steering.ends[1].pull(fresh()) == 1
    assert kicks == [1, 0]
    assert steering.ends[0].pull(fresh()) == 1


def test_memory_is_bounded_by_one_batch_in_the_middle() -> None:
    source, config = Source(), toeplitz()
    source.frames = [(by_port(config, 2, 1), 0)] * 1000
    steering = Steering(source, 2, config, lambda _: None)
    for _ in range(5):
        steering.ends[0].pull(fresh())
    assert (steering.waiting, len(source.frames)) == (2 * SCRATCH_FRAMES, 1000 - 2 * SCRATCH_FRAMES)


def test_of_eight_queues_plain_code_pulls_more_at_once(engine: str) -> None:
    source, config = Source(), toeplitz()
    source.frames = [(by_port(config, 8, 1), 0)] * 3000
    steering = Steering(source, 8, config, lambda _: None)
    steering.ends[0].pull(fresh())
    assert steering.waiting == {"plain": 8, "fast": 2}[engine] * SCRATCH_FRAMES


def test_one_queue_after_the_other_is_woken_to_fill_the_middle() -> None:
    source, config, kicks = Source(), toeplitz(), list[int]()
    source.frames = [(by_port(config, 4, 3), 0)]
    steering = Steering(source, 4, config, kicks.append)
    for q in range(3):
        assert steering.ends[q].pull(fresh()) == 0
    assert steering.ends[3].pull(fresh()) == 1
    assert kicks == [3, 0]
    source.frames = [(by_port(config, 4, 2), 0)]
    assert steering.ends[0].pull(fresh()) == 0
    assert kicks == [3, 0, 2]


def test_dropping_what_waits_says_how_much_and_goes_on_with_the_endpoint() -> None:
    source, config = Source(), toeplitz()
    source.frames = [(by_port(config, 2, 1), 0)] * 3
    steering = Steering(source, 2, config, lambda _: None)
    steering.ends[0].pull(fresh())
    assert (steering.drop_all(), steering.waiting) == (3, 0)
    source.frames = [(by_port(config, 2, 1), 8)]
    batch = fresh()
    assert steering.ends[1].pull(batch) == 1
    assert batch.timestamp[0] == 8


def test_an_empty_batch_that_is_too_small_is_an_error() -> None:
    source = Source()
    source.frames = [(ARP, 0)]
    steering = Steering(source, 2, toeplitz(), lambda _: None)
    with pytest.raises(IndexError, match="60 bytes"):
        steering.ends[0].pull(fresh(size=59))
    assert steering.ends[0].pull(fresh(size=60)) == 1


def test_no_queue_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 queues"):
        Steering(Source(), 0, HashConfig(), lambda _: None)


def test_compiled_as_plain(engine: str) -> None:
    source, config = Source(), toeplitz()
    source.frames = [(flow(1 + i % 50, 60 + i), i) for i in range(600)]
    whole = list(source.frames)
    steering = Steering(source, 3, config, lambda _: None)
    out: list[tuple[bytes, int]] = []
    batches = [fresh(40, 1 << 16) for _ in range(3)]
    while sum(batch.count for batch in batches) or not out:
        for batch, end in zip(batches, steering.ends, strict=True):
            batch.clear()
            end.pull(batch)
            out += [(bytes(batch.frame(i)), batch.timestamp[i]) for i in range(batch.count)]
    assert sorted(out, key=lambda pair: pair[1]) == whole


def give_back(borrowed: dict[int, tuple[FrameBatch, list[bytes]]], q: int) -> None:
    """Others may take the place of what queue ``q`` has borrowed, which is as it was."""
    batch, contents = borrowed.pop(q, (fresh(), []))
    assert [*map(bytes, batch)] == contents


@given(
    queues=st.integers(2, 4),
    hashing=st.booleans(),
    gso=st.booleans(),
    frames=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([60, 61, 9000])), max_size=40),
    pulls=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.sampled_from([50, 9000, 40000])),
        max_size=40,
    ),
    lent=st.integers(0, 2**40 - 1),
)
@example(2, True, False, [(1, 60), (2, 60), (1, 61), (2, 61)], [(0, 9, 9000), (1, 9, 9000)], 3)
def test_what_is_lent_is_what_would_be_copied(
    queues: int,
    hashing: bool,
    gso: bool,
    frames: list[tuple[int, int]],
    pulls: list[tuple[int, int, int]],
    lent: int,
) -> None:
    sides = []
    for lending in (0, lent):
        source, happened = Source(), list[object]()
        borrowed: dict[int, tuple[FrameBatch, list[bytes]]] = {}
        source.frames = [
            (flow(port, size), i if gso else -1) for i, (port, size) in enumerate(frames)
        ]
        with using("plain"):
            config = toeplitz() if hashing else HashConfig()
            steering = Steering(source, queues, config, happened.append)
        for number, (n, most, size) in enumerate(pulls):
            end, batch = steering.ends[n % queues], fresh(most, size)
            assert isinstance(end, QueueEnd)
            assert end.lends
            pull: Callable[[FrameBatch], int] = end.pull
            if lending >> number & 1:
                pull = partial(end.borrow, keep=partial(give_back, borrowed, n % queues))
            try:
                happened.append((pull(batch), batch.used))
            except IndexError as error:
                happened.append(str(error))
                continue
            if lending >> number & 1:
                borrowed[n % queues] = batch, [*map(bytes, batch)]
            columns = batch.length, batch.flags, batch.gso_size, batch.hash_info
            rows = list(zip(*(column[: batch.count] for column in columns), strict=True))
            happened.append([*zip(map(bytes, batch), rows, strict=True), steering.waiting])
            for i in range(batch.count):
                if batch.gso_size[i]:
                    happened.append(batch.gso_type[i])
                if batch.hash_info[i]:
                    happened.append(batch.hash_value[i])
        for q in list(borrowed):
            give_back(borrowed, q)
        sides.append(happened)
    assert sides[0] == sides[1]


class SteeringModel(RuleBasedStateMachine):
    """Against a list for each queue; ``kicked`` are the queues that would pull by themselves."""

    @initialize(queues=st.integers(1, 4), hashing=st.booleans())
    def start(self, queues: int, hashing: bool) -> None:
        self.source = Source()
        self.config = toeplitz() if hashing else HashConfig()
        self.kicked: set[int] = set()
        self.steering = Steering(self.source, queues, self.config, self.kicked.add)
        self.sent = 0
        self.out: list[list[tuple[int, int]]] = [[] for _ in range(queues)]

    @rule(
        ports=st.lists(st.integers(1, 9), min_size=1, max_size=12), size=st.sampled_from([60, 9000])
    )
    def frames_come(self, ports: list[int], size: int) -> None:
        for port in ports:
            self.source.frames.append((flow(port, size), self.sent))
            self.sent += 1
        self.kicked |= set(range(len(self.out)))

    @rule(n=st.integers(0, 3), frames=st.integers(1, 5), size=st.sampled_from([9000, 20000]))
    def a_queue_pulls(self, n: int, frames: int, size: int) -> None:
        q = n % len(self.out)
        batch = fresh(frames, size)
        first = min(frames - 1, 1)
        for _ in range(first):
            batch.append(bytes(14))
        before = batch.count
        pulled = self.steering.ends[q].pull(batch)
        assert batch.count == before + pulled
        self.keep(q, batch, before)
        # A queue asks again after it got something, or when its batch was full.
        if pulled or (before and not batch.has_room(9000)):
            self.kicked.add(q)
        else:
            self.kicked.discard(q)

    @rule()
    def those_that_were_kicked_pull_until_it_is_quiet(self) -> None:
        while self.kicked:
            q = self.kicked.pop()
            batch = fresh(3, 20000)
            while self.steering.ends[q].pull(batch):
                self.keep(q, batch, 0)
                batch.clear()
        assert not self.source.frames
        assert self.steering.waiting == 0
        assert sorted(stamp for queue in self.out for _, stamp in queue) == list(range(self.sent))

    def keep(self, q: int, batch: FrameBatch, first: int) -> None:
        for i in range(first, batch.count):
            content = bytes(batch.frame(i))
            self.out[q].append((int.from_bytes(content[34:36], "big"), batch.timestamp[i]))
            assert bool(batch.hash_info[i]) == self.config.active

    @precondition(lambda self: hasattr(self, "out"))
    @invariant()
    def each_queue_has_its_own_flows_in_order(self) -> None:
        flows = [{port for port, _ in queue} for queue in self.out]
        assert sum(map(len, flows)) == len(set().union(*flows))
        for queue in self.out:
            stamps = [stamp for _, stamp in queue]
            assert stamps == sorted(stamps)

    @precondition(lambda self: hasattr(self, "out"))
    @invariant()
    def nothing_is_lost_and_the_middle_is_bounded(self) -> None:
        out = sum(map(len, self.out))
        assert out + self.steering.waiting + len(self.source.frames) == self.sent
        assert self.steering.waiting <= 4 * SCRATCH_FRAMES


TestSteeringModel = SteeringModel.TestCase
TestSteeringModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
