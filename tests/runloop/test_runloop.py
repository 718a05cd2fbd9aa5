"""The run loop: each delivery once, in the order in which it became due or any order one likes."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.runloop import MOST_WAITING, Delivery, LivelockError, RunLoop

A, B, C = (Delivery("evtchn", 1, port) for port in (8, 9, 10))


class Log(list):
    """An action that remembers what was delivered."""

    def __call__(self, delivery: Delivery) -> None:
        self.append(delivery)


@pytest.fixture
def loop() -> RunLoop:
    return RunLoop()


@pytest.fixture
def log() -> Log:
    return Log()


def test_an_idle_loop_steps_nowhere(loop: RunLoop) -> None:
    assert loop.idle
    assert loop.step() is None
    assert loop.run_until_idle() == 0


def test_deliveries_happen_oldest_first(loop: RunLoop, log: Log) -> None:
    for delivery in (B, A, C):
        loop.post(delivery, log)
    assert loop.ready() == (B, A, C)
    assert loop.run_until_idle() == 3
    assert log == [B, A, C]


def test_a_delivery_is_queued_once_and_keeps_its_place(loop: RunLoop, log: Log) -> None:
    assert loop.post(A, log)
    assert loop.post(B, log)
    assert not loop.post(A, log)
    loop.run_until_idle()
    assert log == [A, B]


def test_an_action_can_post_its_own_delivery_again(loop: RunLoop) -> None:
    left = [3]

    def action(delivery: Delivery) -> None:
        left[0] -= 1
        if left[0]:
            assert loop.post(delivery, action)

    loop.post(A, action)
    assert loop.run_until_idle() == 3


def test_the_caller_can_choose_by_index_or_by_delivery(loop: RunLoop, log: Log) -> None:
    for delivery in (A, B, C):
        loop.post(delivery, log)
    assert loop.step(1) == B
    assert loop.step(C) == C
    assert loop.ready() == (A,)


@pytest.mark.parametrize(("choice", "error"), [(1, IndexError), (-1, IndexError), (B, KeyError)])
def test_a_choice_that_is_not_ready_changes_nothing(loop, log, choice, error) -> None:
    loop.post(A, log)
    with pytest.raises(error):
        loop.step(choice)
    assert loop.ready() == (A,)
    assert log == []


def test_a_cancelled_delivery_does_not_happen(loop: RunLoop, log: Log) -> None:
    loop.post(A, log)
    loop.post(B, log)
    assert loop.cancel(A)
    assert not loop.cancel(A)
    loop.run_until_idle()
    assert log == [B]


def test_work_items_are_deliveries_of_their_own(loop: RunLoop) -> None:
    done = []
    first = loop.defer(1, lambda: done.append("first"))
    second = loop.defer(1, lambda: done.append("second"))
    assert first != second
    assert (first.kind, first.domid) == ("work", 1)
    loop.step(second)
    loop.step(first)
    assert done == ["second", "first"]


def test_a_cancelled_work_item_is_not_done(loop: RunLoop) -> None:
    done = []
    loop.cancel(loop.defer(1, lambda: done.append(1)))
    loop.run_until_idle()
    assert done == []


def test_an_exception_names_the_delivery_and_leaves_the_loop_usable(loop, log) -> None:
    def action(delivery: Delivery) -> None:
        raise ValueError("handler is broken")

    loop.post(A, action)
    loop.post(B, log)
    with pytest.raises(ValueError, match="handler is broken") as raised:
        loop.run_until_idle()
    assert raised.value.__notes__ == ["while delivering evtchn 8 of domain 1 (step 1)"]
    assert loop.ready() == (B,)
    loop.post(A, log)
    loop.run_until_idle()
    assert log == [B, A]


def test_a_delivery_cannot_step_the_loop(loop: RunLoop) -> None:
    loop.post(A, lambda delivery: loop.step())
    with pytest.raises(RuntimeError, match=r"inside a delivery \(evtchn 8 of domain 1\)"):
        loop.step()


def test_a_livelock_is_reported_with_the_last_deliveries(loop: RunLoop) -> None:
    def ping(delivery: Delivery) -> None:
        loop.post(B if delivery == A else A, ping)

    loop.post(A, ping)
    with pytest.raises(
        LivelockError, match=r"after 100 deliveries.*evtchn 9 of domain 1"
    ) as raised:
        loop.run_until_idle(limit=100)
    assert set(raised.value.recent) == {A, B}
    assert raised.value.recent[-1] == B
    assert loop.steps == 100


class Worker:
    def fail(self, *_: object) -> None:
        raise ValueError("no")


def test_an_error_tells_what_the_work_item_or_the_timer_was(loop: RunLoop) -> None:
    loop.defer(1, Worker().fail)
    loop.call_after(10, 2, partial(partial(Worker().fail, 1), 2), background=True)
    with pytest.raises(ValueError, match="no") as raised:
        loop.step()
    assert raised.value.__notes__ == ["while delivering work 1 of domain 1, Worker.fail (step 1)"]
    loop.advance(10)
    with pytest.raises(ValueError, match="no") as raised:
        loop.step()
    assert raised.value.__notes__ == ["while delivering timer 2 of domain 2, Worker.fail (step 2)"]


def test_a_livelock_tells_what_the_work_items_were(loop: RunLoop) -> None:
    class Again:
        def __call__(self) -> None:
            loop.defer(1, self)

    Again()()
    with pytest.raises(LivelockError, match=r"domain 1, .*Again; work \d+ of domain 1, ") as raised:
        loop.run_until_idle(limit=20)
    assert [delivery.ident for delivery in raised.value.recent] == [*range(5, 21)]


def test_exactly_the_limit_is_no_livelock(loop: RunLoop, log: Log) -> None:
    loop.post(A, log)
    loop.post(B, log)
    assert loop.run_until_idle(limit=2) == 2


def test_what_was_due_for_a_domain_that_is_gone_is_dropped(loop: RunLoop, log: Log) -> None:
    other = Delivery("evtchn", 2, 8)
    done = []
    loop.post(A, log)
    loop.post(other, log)
    loop.defer(1, lambda: done.append("work"))
    loop.call_after(5, 1, lambda: done.append("timer"))
    loop.call_after(5, 2, lambda: done.append("timer of 2"))
    assert loop.forget(1) == 3
    loop.run_until_idle(advance_timers=True)
    assert log == [other]
    assert done == ["timer of 2"]


# Virtual time


def test_time_stands_still_while_deliveries_are_made(loop: RunLoop, log: Log) -> None:
    loop.post(A, log)
    loop.call_after(10, 1, lambda: log.append("timer"))
    loop.run_until_idle()
    assert loop.now == 0
    assert log == [A]


def test_a_timer_becomes_a_delivery_when_its_time_has_come(loop: RunLoop) -> None:
    done = []
    loop.call_after(10, 1, lambda: done.append(loop.now))
    assert loop.advance(9) == 0
    assert loop.idle
    assert loop.advance(1) == 1
    assert [(d.kind, d.domid) for d in loop.ready()] == [("timer", 1)]
    loop.run_until_idle()
    assert done == [10]


def test_timers_become_ready_in_the_order_of_their_times(loop: RunLoop) -> None:
    done = []
    for when in (30, 10, 20, 10):
        loop.call_at(when, 1, lambda when=when: done.append(when))
    loop.advance(100)
    loop.run_until_idle()
    assert done == [10, 10, 20, 30]


def test_a_timer_in_the_past_is_ready_at_once(loop: RunLoop) -> None:
    loop.advance(50)
    loop.call_at(50, 1, lambda: None)
    loop.call_at(20, 1, lambda: None)
    assert len(loop.ready()) == 2


def test_an_idle_machine_can_wait_for_its_timers(loop: RunLoop) -> None:
    done = []

    def tick() -> None:
        done.append(loop.now)
        if len(done) < 3:
            loop.call_after(7, 1, tick)

    loop.call_after(7, 1, tick)
    assert loop.run_until_idle(advance_timers=True) == 3
    assert done == [7, 14, 21]


def test_a_cancelled_timer_neither_runs_nor_moves_time(loop: RunLoop) -> None:
    done = []
    timer = loop.call_after(1000, 1, lambda: done.append(1))
    loop.call_after(10, 1, lambda: done.append(2))
    assert loop.cancel_timer(timer)
    assert not loop.cancel_timer(timer)
    loop.run_until_idle(advance_timers=True)
    assert done == [2]
    assert loop.now == 10


def test_a_timer_can_be_cancelled_while_it_waits_to_be_delivered(loop: RunLoop) -> None:
    done = []
    timer = loop.call_after(10, 1, lambda: done.append(1))
    loop.advance(10)
    assert loop.cancel_timer(timer)
    loop.run_until_idle()
    assert done == []


def test_time_does_not_go_on_for_a_background_timer_unless_something_else_happened(
    loop: RunLoop,
) -> None:
    looks: list[tuple[int, int]] = []

    def look(domid: int) -> None:
        looks.append((domid, loop.now))
        loop.call_after(10, domid, partial(look, domid), background=True)

    look(1)
    look(2)
    assert (loop.next_timer, loop.next_due) == (10, None)
    assert loop.run_until_idle(advance_timers=True) == 0
    loop.defer(3, lambda: None)
    assert loop.run_until_idle(advance_timers=True) == 3
    assert looks[2:] == [(1, 10), (2, 10)]
    loop.call_after(100, 3, lambda: None)
    assert loop.next_due == 110
    assert loop.run_until_idle(advance_timers=True) == 5
    assert looks[4:] == [(1, 110), (2, 110), (1, 120), (2, 120)]
    loop.advance(1000)
    loop.run_until_idle()
    assert looks[8:] == [(1, 1120), (2, 1120)]
    assert loop.forget(1) == 1


def test_a_background_timer_that_finds_something_to_do_is_waited_for_again(loop: RunLoop) -> None:
    todo, done = [1, 2, 3], []

    def look() -> None:
        if todo:
            loop.defer(1, lambda: done.append((todo.pop(), loop.now)))
        loop.call_after(10, 1, look, background=True)

    loop.defer(1, look)
    loop.run_until_idle(advance_timers=True)
    assert (done, loop.now) == ([(3, 0), (2, 10), (1, 20)], 30)


def test_a_cancelled_background_timer_is_gone(loop: RunLoop) -> None:
    timer = loop.call_after(10, 1, lambda: None, background=True)
    loop.defer(1, lambda: None)
    loop.deliver()
    assert loop.next_due == 10
    assert loop.cancel_timer(timer)
    assert (loop.next_due, loop.next_timer) == (None, None)


def test_time_does_not_go_back(loop: RunLoop) -> None:
    with pytest.raises(ValueError, match="does not go back by 1 ns"):
        loop.advance(-1)


@settings(max_examples=50, deadline=None)
@given(
    chains=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    data=st.data(),
)
def test_independent_deliveries_end_the_same_in_any_order(chains: list[int], data) -> None:
    """Each domain counts its own chain of deliveries down; the interleaving must not matter."""

    def run(choose) -> tuple[dict[int, list[int]], int]:
        loop, seen = RunLoop(), {}

        def action(delivery: Delivery) -> None:
            seen.setdefault(delivery.domid, []).append(delivery.ident)
            if delivery.ident:
                loop.post(delivery._replace(ident=delivery.ident - 1), action)

        for domid, length in enumerate(chains):
            loop.post(Delivery("evtchn", domid, length), action)
        return seen, loop.run_until_idle(choose)

    chosen = run(lambda ready: data.draw(st.integers(0, len(ready) - 1)))
    assert chosen == run(None)
    assert chosen[0] == {d: list(range(n, -1, -1)) for d, n in enumerate(chains)}


def test_a_step_costs_the_same_however_much_is_ready() -> None:
    """Oldest first must not walk over the places of what was delivered before."""
    loop = RunLoop()
    log = []
    for port in range(50_000):
        loop.post(Delivery("evtchn", 1, port), log.append)
    assert loop.run_until_idle() == 50_000
    assert [delivery.ident for delivery in log] == list(range(50_000))


# While a domain waits


def test_while_a_domain_waits_only_others_go_on(loop: RunLoop, log: Log) -> None:
    other = Delivery("evtchn", 2, 8)

    def wait(_: Delivery) -> None:
        assert loop.step_meanwhile(1) == other
        assert loop.step_meanwhile(1) is None

    for delivery, action in ((A, wait), (B, log), (other, log)):
        loop.post(delivery, action)
    loop.step()
    assert log == [other]
    assert loop.ready() == (B,)


def test_domains_that_wait_inside_each_other_all_stand_still_and_domain_0_goes_on(
    loop: RunLoop,
) -> None:
    depth = 0
    deepest: list[int] = []
    served: list[Delivery] = []

    def wait(delivery: Delivery) -> None:
        nonlocal depth
        depth += 1
        deepest.append(depth)
        while not served and loop.step_meanwhile(delivery.domid) is not None:
            loop.post(Delivery("evtchn", delivery.domid, 9), wait)  # never while it waits
        depth -= 1

    for domid in range(1, 10):
        loop.post(Delivery("evtchn", domid, 8), wait)
    loop.post(Delivery("evtchn", 0, 8), served.append)
    loop.step()
    assert served
    assert max(deepest) == MOST_WAITING


def test_a_chooser_picks_what_happens_meanwhile_and_time_stands_still(
    loop: RunLoop, log: Log
) -> None:
    late, early = Delivery("evtchn", 0, 9), Delivery("evtchn", 0, 8)
    loop.call_after(5, 0, lambda: None)
    loop.post(A, lambda _: log.append(loop.step_meanwhile(1)))
    loop.post(early, log)
    loop.post(late, log)
    loop.run_until_idle(lambda ready: 0 if A in ready else len(ready) - 1)
    assert log == [late, late, early]
    assert (loop.now, loop.meanwhile) == (0, None)


def test_a_fault_of_another_domain_is_not_the_waiting_ones(loop: RunLoop, log: Log) -> None:
    def fail(_: Delivery) -> None:
        raise ValueError("of domain 0")

    def wait(delivery: Delivery) -> None:
        loop.step_meanwhile(1)
        log(delivery)

    loop.post(A, wait)
    loop.post(Delivery("evtchn", 0, 8), fail)
    with pytest.raises(ValueError, match="of domain 0"):
        loop.step()
    assert log == [A]
    assert loop.step() is None


def test_outside_of_all_deliveries_the_fault_comes_out_at_once(loop: RunLoop) -> None:
    def fail(_: Delivery) -> None:
        raise ValueError("of domain 0")

    loop.post(Delivery("evtchn", 0, 8), fail)
    with pytest.raises(ValueError, match="of domain 0"):
        loop.step_meanwhile(1)


def test_what_the_code_of_a_domain_raises_that_ended_while_it_waited_is_dropped(
    loop: RunLoop,
) -> None:
    def wait(_: Delivery) -> None:
        loop.step_meanwhile(1)
        raise ValueError("nobody runs this")

    def fail(_: Delivery) -> None:
        raise ValueError("a later domain 1")

    loop.post(A, wait)
    loop.post(Delivery("evtchn", 0, 8), lambda _: loop.forget(1))
    loop.step()
    loop.post(A, fail)
    with pytest.raises(ValueError, match="a later"):
        loop.step()
