"""Passes that are joined leave everything as the run loop would have left it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest
from attrs import asdict
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.engine import choice
from xennet.frames import FrameBatch
from xennet.host.setup import Setup
from xennet.host.timeslices import TimeSlices
from xennet.link import joined
from xennet.link.joined import JoinedPasses, JoinedSlices
from xennet.link.vifs import Vifs
from xennet.netback.device import Vif
from xennet.netback.policy import VifOptions
from xennet.netfront.device import Netfront
from xennet.netfront.kinds import LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.observe import EventDelivered, EventSent, FramePassed, Hypercall, Notification
from xennet.port import open_port
from xennet.port.gen import GenPort
from xennet.port.null import NullPort
from xennet.runloop import RunLoop
from xennet.vif.ring_events import RingEvent
from xennet.wrap import OffloadEdge

PORTS = ("gen:60", "gen:1514", "gen:9014", "tcp:1514", "tcp:9000", "tcp:64000", "tcp6:64000")
FLOWS = {"gen": "", "tcp": "@7", "tcp6": ""}


class Joined(Vifs):
    """A link whose passes are joined when the test says so; ``count`` frames wait in the port of
    each guest."""

    def __init__(self, spec: str, count: int, setup: Setup) -> None:
        scheme, _, size = spec.partition(":")
        size, at, flows = size.partition("@")
        port = f"{scheme}:{size}x{count}{at}{flows}" + (not at) * FLOWS[scheme]
        super().__init__(setup)
        self.ends = [(open_port(port), NullPort()) for _ in range(setup.guests)]
        for source, sink in self.ends:
            assert isinstance(source, GenPort)
            self.join(source, sink)
        self.open()
        self.machine, self.slices = self.host.machine, self._slices
        self.passes = [
            JoinedPasses(self.machine, pair.plugged, pair.guest, pair.host, self.slices)
            for pair in self.pairs
        ]
        self.kick()

    @property
    def loop(self) -> RunLoop:
        return self.machine.run_loop

    @property
    def drivers(self) -> list[tuple[Netfront | None, Vif | None]]:
        return [(vif.netfront, vif.netback) for vif in self.vifs]

    def deliver(self, count: int) -> None:
        """Make ``count`` deliveries one by one."""
        assert self.loop.deliver(count) == count

    def turn(self, most: int) -> tuple[int, int]:
        """Make at most ``most`` deliveries in one turn, of the guest whose turn it is. Returns how
        many were made, those before the turn began included, and how many were joined."""
        number = 0 if self.slices is None else max(0, self.slices.guest - 1)
        passes = self.passes[number]
        steps, before, passes.most = self.loop.steps, passes.joined, most
        passes.turn()
        return self.loop.steps - steps, passes.joined - before

    def turns(self) -> int:
        """Slices of all guests, one after the other. Returns how many deliveries were made."""
        assert self.slices is not None
        before = self.loop.steps
        for passes in self.passes:
            passes.most = sys.maxsize
        JoinedSlices(self.machine, self.slices, self.passes).turn()
        return self.loop.steps - before


class Moved(Joined):
    """The backend of the first guest has moved to a driver domain."""

    def open(self) -> None:
        super().open()
        host, vif = self.host, self.vifs[0]
        owner = host.add_driver_domain()
        owner.load()
        host.settle()
        host.replace_backend(vif, owner)
        saved = host.save(vif.guest)
        host.restore(saved)
        host.settle()
        host.require_connected(vif)
        host.destroy_guest(saved.domid)
        host.settle()


def contents(link: Joined) -> dict[str, Any]:
    """All that anybody could see of a link, and what its drivers know."""
    machine, loop, memory = link.machine, link.loop, link.machine.memory
    fifo = [vars(table.bits) for table in machine.channels.tables.values()]
    return {
        "memory": bytes(memory.u8[: memory.used + 64 << 12]),
        "event tails": [(bits.get("_tails"), bits.get("_last_queue")) for bits in fifo],
        "copied": (asdict(machine.grant_tables.statistics), machine.grant_tables.copied_bytes(0)),
        "ready": loop.ready(),
        "calls": [getattr(call, "func", call).__qualname__ for call in loop.calls().values()],
        "steps": (loop.steps, loop.last_ident, loop.timers, loop.last),
        "recent": [delivery for delivery, _ in loop._recent],
        "slices": of_slices(link.slices),
        "vifs": [
            of_vif(*ends, *drivers, vif.errors)
            for ends, drivers, vif in zip(link.ends, link.drivers, link.vifs, strict=True)
        ],
    }


def of_slices(slices: TimeSlices | None) -> Any:
    """Whose turn it is, and what is ready."""
    if slices is None:
        return None
    guests = [(domid, list(queue)) for domid, queue in slices._guests.items()]
    return list(slices._host), guests, slices._burst, slices._running, slices._left


def of_vif(source: Any, sink: Any, front: Any, back: Any, errors: Any) -> dict[str, Any]:
    """What is known of a vif."""
    return {
        "counters": (asdict(front.counters), asdict(back.counters)),
        "ports": (asdict(source.counters), source.given, asdict(sink.counters)),
        "errors": [str(error) for error in errors],
        "middle": of_middle(front.steering and front.steering.middle),
        "front": [of_front(queue) for queue in front.queues],
        "back": [of_back(queue) for queue in back.queues],
    }


def of_middle(middle: Any) -> Any:
    """The frames that wait for their queues."""
    if middle is None:
        return None
    batch, chains = middle.batch, [list(each) for each in middle._chains]
    columns = [column[: batch.count] for column in (*batch.all_columns, middle._queue)]
    frames = hashlib.blake2b(batch.data[: batch.used]).hexdigest()
    heads, links = chains[0], chains[1][: batch.count]
    return middle.left, middle.hungry, batch.count, batch.used, columns, frames, heads, links


def of_front(queue: Any) -> Any:
    tx, batch = queue.tx, queue.tx.batch
    columns = [column[: batch.count] for column in batch.all_columns]
    frames = hashlib.blake2b(batch.data[: batch.used]).hexdigest()
    private = (list(queue.tx_ring.pvt), list(tx.ids), list(tx._pending), list(tx._state))
    eoi = (queue.tx_eoi.seen, queue.tx_eoi.spurious_cnt, queue.tx_eoi.delayed)
    return private, (tx.next, batch.count, batch.used), columns, frames, eoi, queue.scheduled


def of_back(queue: Any) -> Any:
    tx, batch = queue.tx, queue.tx.batch
    columns = [column[: batch.count] for column in batch.all_columns[:-1]]
    private = (list(queue.tx_ring.pvt), tx.credit, list(tx.config), batch.count, batch.used)
    eoi = (queue.tx_eoi.seen, queue.tx_eoi.spurious_cnt, queue.tx_eoi.delayed)
    return private, columns, eoi, queue.scheduled, queue.wanted, queue._stopped


def damage(link: Joined, seed: int) -> None:
    """Write something somewhere: into the ring, a grant entry, an event word, or what is in use."""
    random = Random(seed)
    number = random.randrange(len(link.pairs))
    front, back = link.drivers[number]
    assert front is not None
    assert back is not None
    if not front.queues or not back.queues:
        return
    ring = front.queues[0].tx_ring.sring.u32
    grants = front.queues[0].hv.grants
    shared_info = link.machine.domain(random.choice([0, 1 + number])).shared_info
    where: list[tuple[memoryview, int]] = [
        (ring, random.randrange(4)),
        (ring, 16 + random.randrange(256 * 3)),
        (grants.words, random.randrange(len(grants.words))),
        (shared_info.u32, random.randrange(1024)),
        (link.machine.memory.u32, random.randrange(link.machine.memory.used << 10)),
    ]
    words, at = where[random.randrange(len(where))]
    changes: tuple[Callable[[int], int], ...] = (
        lambda word: word + random.choice([1, 2, 255, 256, 257, -1]),
        lambda word: word ^ 1 << random.randrange(32),
        lambda word: random.getrandbits(32),
    )
    words[at] = random.choice(changes)(words[at]) & 0xFFFFFFFF


@pytest.fixture(autouse=True)
def _few_frames_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "MANY", 1)
    monkeypatch.setattr(joined, "FEW", 1)
    monkeypatch.setattr(choice, "COMPILED", {"fast", "plain"})


SETUPS = st.builds(
    Setup,
    guests=st.sampled_from([1, 1, 2, 3]),
    grant_version=st.sampled_from([1, 1, 2]),
    evtchn=st.sampled_from(["fifo", "2l"]),
    kind=st.sampled_from([LINUX, LINUX, WINDOWS]),
    front=st.builds(
        NetfrontOptions,
        queues=st.sampled_from([1, 1, 2, 3, 8]),
        sg=st.booleans(),
        gso=st.booleans(),
        csum=st.booleans(),
    ),
    back=st.just(VifOptions(max_queues=8)),
)
#: What observers see of a delivery.
OBSERVED = (RingEvent, Notification, EventSent, EventDelivered, Hypercall, FramePassed)
#: Turns of so many deliveries, or of all guests as often as that, one delivery more that is made by
#: the run loop, damage by a seed, an observer that comes and goes.
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.integers(1, 40)),
        st.tuples(st.just("turn"), st.just(400)),
        st.tuples(st.just("turns"), st.just(4)),
        st.tuples(st.just("steps"), st.integers(1, 5)),
        st.tuples(st.just("damage"), st.integers(0, 2**32)),
        st.tuples(st.just("watch"), st.sampled_from(OBSERVED)),
    ),
    min_size=2,
    max_size=8,
)


class Pair:
    """Two links of a ``kind`` that are alike; passes of the first are joined."""

    def __init__(
        self, spec: str, setup: Setup, count: int, kind: Callable[..., Joined] = Joined
    ) -> None:
        self.one, self.other = kind(spec, count, setup), kind(spec, count, setup)
        self.joined = 0

    def steps(self, count: int) -> None:
        """Let both make at most ``count`` deliveries, one by one."""
        assert self.one.loop.deliver(count) == self.other.loop.deliver(count)

    def turn(self, most: int) -> None:
        """A turn; with several guests as soon as one makes anything."""
        tries = 1 if self.one.slices is None else 4
        made, joined = self.one.turn(most)
        while not joined and (tries := tries - 1):
            self.other.deliver(made)
            self.steps(1)
            made, joined = self.one.turn(most)
        assert joined <= most
        self.other.deliver(made)
        self.joined += joined
        self.steps(1)  # what was not of the kind, or the turn would end there for ever

    def turns(self, count: int) -> None:
        """The turns of all guests, ``count`` times."""
        for _ in range(count if self.one.slices is not None else 0):
            made = self.one.turns()
            self.other.deliver(made)
            self.joined += made
            self.steps(1)

    def damage(self, seed: int) -> None:
        damage(self.one, seed)
        damage(self.other, seed)

    def watch(self, kind: type) -> None:
        """While somebody observes, nothing is joined; what is seen is the same."""
        seen: tuple[list[object], list[object]] = ([], [])
        leave = [
            link.machine.observers.subscribe(events.append, kind)
            for link, events in zip((self.one, self.other), seen, strict=True)
        ]
        assert self.one.turn(100) == (0, 0)
        self.steps(9)
        for end in leave:
            end()
        assert [repr(event) for event in seen[0]] == [repr(event) for event in seen[1]]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_error: object) -> None:
        self.one.destroy()
        self.other.destroy()


def run(spec: str, setup: Setup, actions: list[tuple[str, Any]], count: int = 5000) -> int:
    """Do ``actions`` with two links and compare them after each. Returns the number of deliveries
    that were joined."""
    with Pair(spec, setup, count) as pair:
        for name, argument in (("steps", 20), *actions):
            getattr(pair, name)(argument)
            one, other = contents(pair.one), contents(pair.other)
            assert {
                name: (one[name], other[name]) for name in one if one[name] != other[name]
            } == {}
        return pair.joined


@settings(max_examples=int(os.environ.get("XENNET_JOINED", "12")), deadline=None)
@given(spec=st.sampled_from(PORTS), setup=SETUPS, actions=ACTIONS)
def test_a_turn_is_as_many_deliveries(spec: str, setup: Setup, actions: Any) -> None:
    run(spec, setup, actions)


def test_ordinary_traffic_is_joined(engine: str) -> None:
    """On compiled kernels as on plain ones: turns that end anywhere."""
    turns: list[tuple[str, Any]] = [("turn", most) for most in (1, 2, 3, 4, 5, 7, 11, 400)]
    for spec in PORTS if engine == "fast" else PORTS[1::3]:
        assert run(spec, Setup(), turns) > 40


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("tcp:1514", LINUX),
        ("tcp:1514", WINDOWS),
        ("tcp:9000@300", WINDOWS),
        ("tcp:60000@50", LINUX),
    ],
    ids=["own hash", "Toeplitz", "more flows than fit in the middle", "large frames"],
)
def test_several_queues_are_joined(spec: str, kind: FrontendKind) -> None:
    front, back = NetfrontOptions(queues=8), VifOptions(max_queues=8)
    setup = Setup(kind=kind, front=front, back=back)
    turns: list[tuple[str, Any]] = [("turn", most) for most in (1, 2, 5, 30, 300)]
    turns.insert(0, ("steps", 100))
    assert run(spec, setup, turns, 20_000) > 100


def test_deliveries_are_made_one_by_one_until_no_event_is_under_way() -> None:
    setup = Setup(front=NetfrontOptions(queues=8), back=VifOptions(max_queues=8))
    with Pair("tcp:1514", setup, 20_000) as pair:
        pair.steps(100)
        while all(delivery.kind == "work" for delivery in pair.one.loop.ready()):
            pair.steps(1)
        made, joined = pair.one.turn(30)
        assert made > joined == 30
        pair.other.deliver(made)
        assert contents(pair.one) == contents(pair.other)


@pytest.mark.parametrize("guests", [2, 4])
def test_slices_of_several_guests_are_joined(engine: str, guests: int) -> None:
    turns: list[tuple[str, Any]] = [("turn", most) for most in (1, 2, 5, 30, 300)]
    turns += [("steps", 2), ("turns", 1)]
    for spec in PORTS[1::3]:
        assert run(spec, Setup(guests=guests), turns, 9000) > 200


@pytest.mark.parametrize("kind", OBSERVED, ids=lambda kind: kind.__name__)
def test_who_observes_sees_every_delivery(kind: type) -> None:
    turns: list[tuple[str, Any]] = [("watch", kind), *[("turn", 40)] * 4]
    assert run("gen:60", Setup(), turns) > 10


def test_a_slice_goes_on_after_a_turn_that_begins_while_its_guest_waits() -> None:
    turns: list[tuple[str, Any]] = [("turn", 1), ("turn", 1), ("turn", 40)]
    assert run("gen:60", Setup(guests=2), turns, 1500) > 10


def test_a_driver_domain_has_slices_of_its_own() -> None:
    with Pair("gen:60", Setup(guests=2), 5000, Moved) as pair:
        for _ in range(9):
            pair.turns(1)
            assert contents(pair.one) == contents(pair.other)
        assert pair.joined > 10


@pytest.mark.parametrize("guests", [1, 2])
def test_a_guest_that_is_gone_is_left_to_the_run_loop(guests: int) -> None:
    with Pair("gen:60", Setup(guests=guests), 5000) as pair:
        pair.steps(20)
        for link in (pair.one, pair.other):
            link.vifs[0].guest.kill()
        for passes in pair.one.passes:
            passes.turn()
        assert pair.one.loop.steps == pair.other.loop.steps
        pair.turns(2)
        pair.steps(50)
        assert pair.one.loop.ready() == pair.other.loop.ready()


def test_an_end_that_broke_the_protocol_stops_as_ever() -> None:
    """A fatal request, and a response that was never asked for, are met within a turn."""
    with Pair("gen:60", Setup(), 5000) as pair:
        pair.steps(20)
        for link in (pair.one, pair.other):
            ((_, netback),) = link.drivers
            assert netback is not None
            ring = netback.queues[0].tx_ring.sring.u32
            for slot in range(256):
                ring[16 + slot * 3] ^= 0x10000  # an id, in a response that is still to come
        pair.turn(400)
        assert contents(pair.one) == contents(pair.other)


def test_a_run_that_is_long_enough_joins_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is so for compiled kernels only; and less is enough once the kernel is there."""
    turns: list[int] = []
    join = JoinedPasses.join

    def noted(passes: JoinedPasses, ends: Any) -> int:
        made = join(passes, ends)
        turns.append(passes.joined)
        return made

    def carried(frames: int, queues: int = 1, guests: int = 1) -> bool:
        turns.clear()
        front, back = NetfrontOptions(queues=queues), VifOptions(max_queues=queues)
        link = Vifs(Setup(guests=guests, front=front, back=back))
        sinks = [open_port("null:") for _ in range(guests)]
        for sink in sinks:
            link.join(open_port(f"tcp:66x{frames}@8"), sink)
        link.open()
        link.carry()
        assert all(sink.counters.frames_out == frames for sink in sinks)
        assert link.host.pump.undisturbed
        link.close()
        assert not link.leaks()
        link.destroy()
        return max(turns, default=0) > 50

    monkeypatch.setattr(JoinedPasses, "join", noted)
    monkeypatch.setattr(joined, "MANY", 10_000)
    monkeypatch.setattr(joined, "FEW", 4096)
    monkeypatch.setattr(joined, "_loaded", set())
    monkeypatch.setattr(choice, "COMPILED", {"fast"})
    assert not carried(20_000)
    monkeypatch.setattr(choice, "COMPILED", {"plain"})
    assert [carried(frames) for frames in (9000, 20_000, 9000, 4000)] == [False, True, True, False]
    assert [carried(frames, guests=3) for frames in (4000, 9000)] == [False, True]
    assert not carried(9000, queues=2)
    assert carried(40_000, queues=2)


@pytest.mark.parametrize("other", ["port", "generator", "wrapper", "tap", "guests", "watcher"])
def test_whatever_else_is_there_is_left_to_the_run_loop(other: str) -> None:
    class Counting(NullPort):
        def push(self, batch: FrameBatch, /) -> None:
            super().push(batch)

    class Giving(GenPort):
        def pull(self, batch: FrameBatch) -> int:
            return super().pull(batch)

    source = Giving if other == "generator" else GenPort
    setup = Setup(guests=1 + (other == "guests"))
    sink = Counting() if other == "port" else NullPort()
    link = Vifs(setup)
    try:
        pairs = [
            link.join(source("60x5000"), OffloadEdge(sink) if other == "wrapper" else sink)
            for _ in range(setup.guests)
        ]
        pair = pairs[0]
        if other == "tap":
            pair.host.interface.taps.append(lambda batch: None)
        link.open()
        link.kick()
        link.host.machine.run_loop.deliver(20)
        if other == "watcher":
            link.host.machine.run_loop.watcher = Mock()
        passes = JoinedPasses(link.host.machine, pair.plugged, pair.guest, pair.host)
        for _ in range(12):
            passes.turn()
            link.host.machine.run_loop.deliver(1)
        assert passes.joined == 0
    finally:
        link.destroy()
