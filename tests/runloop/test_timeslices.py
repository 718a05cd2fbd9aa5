"""Time slices: domain 0 has a CPU of its own, guests share another; nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xennet.host.timeslices import BURST, SLICE, TimeSlices
from xennet.runloop import Delivery, RunLoop


@pytest.fixture
def loop() -> RunLoop:
    made = RunLoop()
    made.take_turns(TimeSlices())
    return made


def busy(loop: RunLoop, domid: int, made: list[int]) -> Callable[[Delivery], None]:
    """An action of a domain that always has more to do."""

    def again(delivery: Delivery) -> None:
        made.append(domid)
        loop.post(delivery, again)

    return again


def start(loop: RunLoop, *domids: int) -> list[int]:
    made: list[int] = []
    for domid in domids:
        loop.post(Delivery("evtchn", domid, 1), busy(loop, domid, made))
    return made


def steps(loop: RunLoop, count: int) -> None:
    for _ in range(count):
        loop.step()


def test_guests_that_always_have_work_get_a_slice_each_in_turn(loop: RunLoop) -> None:
    made = start(loop, 3, 1, 2)
    steps(loop, 4 * SLICE)
    turns = [(domid, len(list(run))) for domid, run in groupby(made)]
    assert turns == [(3, SLICE), (1, SLICE), (2, SLICE), (3, SLICE)]


def test_a_guest_that_is_alone_begins_one_slice_after_the_other(loop: RunLoop) -> None:
    made = start(loop, 1)
    steps(loop, 2 * SLICE + 1)
    loop.post(Delivery("evtchn", 2, 1), busy(loop, 2, made))
    steps(loop, SLICE)
    assert made == [1] * 3 * SLICE + [2]


def test_domain_0_runs_between_any_two_deliveries_of_guests(loop: RunLoop) -> None:
    made = start(loop, 1, 0)
    steps(loop, 3 * (BURST + 1))
    assert made == ([0] * BURST + [1]) * 3


def test_a_guest_that_waits_for_domain_0_keeps_its_slice(loop: RunLoop) -> None:
    made: list[int] = []

    def ask(delivery: Delivery) -> None:
        made.append(delivery.domid)
        loop.post(Delivery("evtchn", 0, delivery.domid), answer)

    def answer(delivery: Delivery) -> None:
        loop.post(Delivery("evtchn", delivery.ident, 1), ask)

    for domid in (1, 2):
        loop.post(Delivery("evtchn", domid, 1), ask)
    steps(loop, 6 * SLICE)
    assert made[: 3 * SLICE] == [1] * SLICE + [2] * SLICE + [1] * SLICE


def test_within_a_domain_the_oldest_is_next(loop: RunLoop) -> None:
    ready = [Delivery("evtchn", domid, port) for port in (9, 7, 8) for domid in (2, 0, 1)]
    made: list[Delivery] = []
    for delivery in ready:
        loop.post(delivery, made.append)
    loop.run_until_idle()
    for domid in range(3):
        assert [d.ident for d in made if d.domid == domid] == [9, 7, 8]


def test_what_was_ready_before_takes_its_turn_too() -> None:
    loop = RunLoop()
    made = start(loop, 1, 2)
    loop.take_turns(TimeSlices())
    steps(loop, 2 * SLICE)
    assert made == [1] * SLICE + [2] * SLICE


class TurnsMachine(RuleBasedStateMachine):
    """Post, cancel, choose, drop a domain, step, in any order: each delivery once, none lost."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = RunLoop()
        self.loop.take_turns(TimeSlices())
        self.waiting: set[Delivery] = set()

    def _made(self, delivery: Delivery) -> None:
        self.waiting.remove(delivery)

    deliveries = st.builds(Delivery, st.just("evtchn"), st.integers(0, 3), st.integers(0, 3))

    @rule(delivery=deliveries)
    def post(self, delivery: Delivery) -> None:
        assert self.loop.post(delivery, self._made) == (delivery not in self.waiting)
        self.waiting.add(delivery)

    @rule(delivery=deliveries)
    def cancel(self, delivery: Delivery) -> None:
        assert self.loop.cancel(delivery) == (delivery in self.waiting)
        self.waiting.discard(delivery)

    @rule(delivery=deliveries)
    def choose(self, delivery: Delivery) -> None:
        if delivery in self.waiting:
            assert self.loop.step(delivery) == delivery

    @rule(domid=st.integers(0, 3))
    def forget(self, domid: int) -> None:
        gone = {delivery for delivery in self.waiting if delivery.domid == domid}
        assert self.loop.forget(domid) == len(gone)
        self.waiting -= gone

    @rule()
    def step(self) -> None:
        before = set(self.waiting)
        made = self.loop.step()
        assert before - self.waiting == ({made} if made else set())
        assert bool(made) == bool(before)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert set(self.loop.ready()) == self.waiting

    def teardown(self) -> None:
        self.loop.run_until_idle()
        assert not self.waiting


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
