"""The pump in virtual time and by a real clock; the real clock's time and sleeps are made up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from selectors import BaseSelector, SelectorKey

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xennet.pump import BUSY_STEPS, CLOCK_STEPS, LEAP, PATIENCE, TURN_STEPS, Pump, RealClock
from xennet.runloop import Delivery, LivelockError, RunLoop

SECOND = 1_000_000_000


class World(BaseSelector):
    """A system whose time passes only in sleeps, and in deliveries that take long; ``sleeps`` are
    the ns that were asked for. Descriptor ``fd`` of ``will_be_ready`` can be read from that time
    (ns) on."""

    def __init__(self) -> None:
        self.time = 5_000 * SECOND
        self.sleeps: list[int] = []
        self.will_be_ready: dict[int, int] = {}
        self._keys: dict[int, SelectorKey] = {}

    def takes(self, ns: int) -> Callable[[], None]:
        """Work that takes so long."""

        def work() -> None:
            self.time += ns

        return work

    def register(self, fileobj, events, data=None) -> SelectorKey:
        assert fileobj not in self._keys
        self._keys[fileobj] = SelectorKey(fileobj, fileobj, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj) -> SelectorKey:
        return self._keys.pop(fileobj)

    def modify(self, fileobj, events, data=None) -> SelectorKey:
        self.unregister(fileobj)
        return self.register(fileobj, events, data)

    def select(self, timeout=None) -> list[tuple[SelectorKey, int]]:
        assert timeout is not None, "a sleep without end"
        times = [when for fd, when in self.will_be_ready.items() if fd in self._keys]
        end = self.time + round(timeout * SECOND)
        if timeout:
            self.sleeps.append(round(timeout * SECOND))
            self.time = max(self.time, min([end, *times]))
        return [
            (self._keys[fd], self._keys[fd].events)
            for fd, when in self.will_be_ready.items()
            if fd in self._keys and when <= self.time
        ]

    def get_map(self):
        return self._keys


@pytest.fixture
def loop() -> RunLoop:
    return RunLoop()


@pytest.fixture
def virtual(loop: RunLoop) -> Iterator[Pump]:
    pump = Pump(loop)
    yield pump
    pump.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def real(loop: RunLoop, world: World) -> Iterator[Pump]:
    pump = Pump(loop, RealClock(lambda: world.time), world)
    yield pump
    pump.close()


def chatter(loop: RunLoop, kind: str = "work") -> Callable[[Delivery], None]:
    """A delivery that is due again as soon as it is made, for ever."""

    def again(delivery: Delivery) -> None:
        loop.post(delivery, again)

    loop.post(Delivery(kind, 0, 1), again)
    return again


# Both clocks


@pytest.fixture(params=["virtual", "real"])
def pump(request: pytest.FixtureRequest) -> Pump:
    return request.getfixturevalue(request.param)


def test_all_that_is_due_is_delivered_and_no_timer_is_waited_for(pump: Pump) -> None:
    done: list[str] = []
    pump.run_loop.defer(0, lambda: pump.run_loop.defer(1, lambda: done.append("second")))
    pump.run_loop.call_after(1, 0, lambda: done.append("timer"))
    pump.run()
    assert done == ["second"]


def test_time_goes_on_while_something_is_waited_for(pump: Pump) -> None:
    arrived: list[int] = []
    for second in (2, 50, 100):
        pump.run_loop.call_after(second * SECOND, 0, lambda: arrived.append(pump.run_loop.now))
    pump.run(lambda: None if len(arrived) == 3 else len(arrived))
    assert arrived == [2 * SECOND, 50 * SECOND, 100 * SECOND]


def test_patience_ends_when_nothing_arrives(pump: Pump) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(pump.run_loop.now)
        pump.run_loop.call_after(SECOND, 0, tick)

    tick()
    pump.run(lambda: min(len(ticks), 10))
    last = 9 * SECOND
    assert ticks[-1] == last + PATIENCE
    assert pump.run_loop.now == last + PATIENCE


def test_where_nothing_can_happen_any_more_nothing_is_waited_for(pump: Pump, world: World) -> None:
    pump.run(lambda: 0)
    assert (pump.run_loop.now, world.sleeps) == (0, [])


def test_time_that_passes_passes_for_background_timers_too(pump: Pump) -> None:
    loop, looks = pump.run_loop, []

    def look() -> None:
        looks.append(loop.now)
        loop.call_after(10, 0, look, background=True)

    look()
    pump.run_out()
    assert loop.now == 0
    pump.pass_time(25)
    assert (looks, loop.now) == ([0, 10, 20], 25)


def test_an_attendant_has_its_turn_after_so_many_deliveries_until_it_leaves(pump: Pump) -> None:
    loop, turns = pump.run_loop, []
    leave = pump.attend(lambda: turns.append(loop.steps))
    often = pump.attend(lambda: turns.append(-loop.steps), every=CLOCK_STEPS * 3)
    for _ in range(2 * TURN_STEPS + 1):
        loop.defer(0, lambda: None)
    pump.run()
    assert turns == [-24, 32, -48, 64]
    leave()
    leave()
    often()
    for _ in range(2 * TURN_STEPS):
        loop.defer(0, lambda: None)
    pump.run()
    assert len(turns) == 4
    with pytest.raises(ValueError, match="after every 0 deliveries"):
        pump.attend(lambda: None, every=0)


def test_an_attendant_who_writes_without_end_does_not_keep_the_machine_from_rest(
    pump: Pump,
) -> None:
    loop, turns = pump.run_loop, []

    def write_much() -> None:
        turns.append(loop.steps)
        assert len(turns) < 1000, "it never comes to rest"
        for number in range(100):
            loop.post(Delivery("xenstore", 0, loop.steps * 100 + number), lambda _: None)

    pump.attend(write_much)
    for _ in range(TURN_STEPS):
        loop.defer(0, lambda: None)
    pump.run()
    assert loop.idle
    assert turns[-1] <= BUSY_STEPS + TURN_STEPS


def test_nobody_else_has_a_turn_in_a_run_that_is_not_to_be_disturbed(pump: Pump) -> None:
    pump.attend(lambda: pytest.fail("a turn"), every=1)
    with closing_pipe() as (there, here):
        os.write(here, b"x")
        pump.watch(there, lambda: pytest.fail("a call"))
        for _ in range(100):
            pump.run_loop.defer(0, lambda: None)
        pump.run(undisturbed=True)
        pump.unwatch(there)
    assert pump.run_loop.steps == 100


def test_who_has_a_turn_may_run_the_machine_and_gets_no_turn_meanwhile(pump: Pump) -> None:
    loop, depth = pump.run_loop, [0]

    def turn() -> None:
        depth[0] += 1
        assert depth == [1]
        loop.defer(0, lambda: None)
        pump.run()
        pump.turn()
        depth[0] -= 1

    pump.attend(turn, every=1)
    loop.defer(0, lambda: None)
    pump.run()
    assert loop.idle


def test_what_an_attendant_raises_comes_out_and_the_pump_goes_on(pump: Pump) -> None:
    def fail() -> None:
        leave()
        raise OSError("gone")

    leave = pump.attend(fail, every=1)
    for _ in range(CLOCK_STEPS + 1):
        pump.run_loop.defer(0, lambda: None)
    with pytest.raises(OSError, match="gone"):
        pump.run()
    pump.attend(lambda: None, every=1)
    pump.run()
    assert pump.run_loop.idle


def test_time_can_be_made_to_pass_at_once(pump: Pump, world: World) -> None:
    loop, done = pump.run_loop, []
    loop.call_after(3, 0, lambda: loop.call_after(4, 0, lambda: done.append(loop.now)))
    loop.call_after(20, 0, lambda: done.append(loop.now))
    pump.pass_time(10)
    assert (done, loop.now, world.sleeps) == ([7], 10, [])
    pump.run_out()
    assert (done, loop.now) == ([7, 20], 20)
    chatter(loop)
    with pytest.raises(LivelockError):
        pump.run_out(limit=50)


def test_a_run_for_a_while_ends_also_if_the_machine_never_rests(pump: Pump, world: World) -> None:
    chatter(pump.run_loop)
    pump.clock.monotonic = lambda: world.time
    pump.attend(lambda: setattr(world, "time", world.time + SECOND // 10), every=100)
    pump.hold(1)
    assert pump.run_loop.steps == pytest.approx(1000, abs=100)
    asked: list[int] = []

    def over() -> bool:
        asked.append(pump.run_loop.steps)
        return len(asked) == 5

    before = pump.run_loop.steps
    pump.hold(None, over)
    assert pump.run_loop.steps - before <= 4 * TURN_STEPS


# By the real clock


def test_a_sleep_ends_when_the_next_timer_is_due(real: Pump, world: World, loop: RunLoop) -> None:
    done: list[tuple[int, int]] = []
    for seconds in (1, 3):
        loop.call_after(seconds * SECOND, 0, lambda: done.append((loop.now, world.time)))
    began = world.time
    real.hold(5)
    assert done == [(SECOND, began + SECOND), (3 * SECOND, began + 3 * SECOND)]
    assert world.sleeps == [SECOND, 2 * SECOND, 2 * SECOND]
    assert (loop.now, world.time) == (5 * SECOND, began + 5 * SECOND)


def test_a_background_timer_is_a_timer_like_any_other_in_real_time(
    real: Pump, world: World, loop: RunLoop
) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(loop.now)
        loop.call_after(SECOND, 0, look, background=True)

    look()
    real.hold(3)
    assert looks == [0, SECOND, 2 * SECOND]
    real.run(lambda: None if len(looks) == 5 else 0)
    assert looks[3:] == [3 * SECOND, 4 * SECOND]


def test_a_descriptor_ends_a_sleep(real: Pump, world: World, loop: RunLoop) -> None:
    done: list[int] = []

    def read() -> None:
        real.unwatch(9)
        loop.defer(0, lambda: done.append(loop.now))

    real.watch(9, read)
    world.will_be_ready[9] = world.time + 2 * SECOND
    real.hold(3)
    assert done == [2 * SECOND]
    assert world.sleeps == [3 * SECOND, SECOND]


def test_what_is_waited_for_may_come_from_a_descriptor(
    real: Pump, world: World, loop: RunLoop
) -> None:
    real.watch(9, lambda: loop.defer(0, lambda: real.unwatch(9)))
    world.will_be_ready[9] = world.time + 2 * SECOND
    real.run(lambda: 0 if real.watching else None)
    assert loop.now == 2 * SECOND
    real.watch(10, lambda: None)
    real.run(lambda: 0, patience=7 * SECOND)
    assert loop.now == 9 * SECOND


def test_descriptors_are_served_while_there_is_no_end_of_deliveries(
    real: Pump, world: World, loop: RunLoop
) -> None:
    chatter(loop)
    served: list[int] = []
    real.watch(9, lambda: served.append(loop.steps))
    world.will_be_ready[9] = world.time
    real.hold(None, lambda: len(served) == 3)
    assert served == [CLOCK_STEPS, 2 * CLOCK_STEPS, 3 * CLOCK_STEPS]


def test_timers_that_are_late_run_in_order_with_what_comes_of_each_before_the_next(
    real: Pump, world: World, loop: RunLoop
) -> None:
    done: list[tuple[str, int]] = []

    def note(what: str, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
        def call() -> None:
            done.append((what, loop.now))
            then()

        return call

    loop.call_after(30, 0, note("last"))
    loop.call_after(10, 0, note("first", lambda: loop.call_after(5, 0, note("from first"))))
    loop.call_after(20, 0, note("second", lambda: loop.defer(0, note("from second"))))
    loop.defer(0, world.takes(100))
    real.run()
    assert done == [
        ("first", 10),
        ("from first", 15),
        ("second", 20),
        ("from second", 20),
        ("last", 30),
    ]
    assert loop.now == 100


def test_a_machine_that_was_stopped_and_has_much_to_do_does_not_see_all_limits_end_at_once(
    real: Pump, world: World, loop: RunLoop
) -> None:
    fired: list[int] = []
    loop.call_after(LEAP * 10, 0, lambda: fired.append(loop.steps))
    loop.defer(0, world.takes(3600 * SECOND))
    chatter(loop)
    real.hold(None, lambda: bool(fired))
    assert 9 * CLOCK_STEPS <= fired[0] <= 12 * CLOCK_STEPS


def test_a_machine_that_never_catches_up_with_its_timers_still_gives_turns_and_ends(
    real: Pump, world: World, loop: RunLoop
) -> None:
    def tick() -> None:
        world.time += 10 * SECOND
        loop.call_after(SECOND, 0, tick)

    turns: list[int] = []

    def read() -> None:
        turns.append(loop.steps)
        world.time += SECOND // 1000

    real.watch(9, read)
    world.will_be_ready[9] = world.time
    tick()
    real.hold(2000)
    assert turns[-1] >= 100
    real.hold(None, lambda: len(turns) > 1000)


def test_time_that_somebody_moved_ahead_goes_on_from_there(
    real: Pump, world: World, loop: RunLoop
) -> None:
    def moved() -> None:
        leave()
        loop.defer(0, world.takes(5))
        real.pass_time(1000)

    leave = real.attend(moved, every=1)
    loop.defer(0, lambda: None)
    real.run()
    assert loop.now == 1000
    loop.defer(0, world.takes(7))
    real.run()
    assert loop.now == 1007


def test_the_machine_is_frozen_while_nobody_runs_the_pump(
    real: Pump, world: World, loop: RunLoop
) -> None:
    """So a time limit that is set then, or right after, is no shorter than it should be."""
    done: list[str] = []
    real.hold(1)
    world.time += 3600 * SECOND
    loop.call_after(10 * SECOND, 0, lambda: done.append("outside"))
    loop.defer(0, lambda: loop.call_after(9 * SECOND, 0, lambda: done.append("inside")))
    real.run()
    assert (done, loop.now) == ([], SECOND)
    real.hold(9.5)
    assert done == ["inside"]
    real.hold(1)
    assert done == ["inside", "outside"]


def test_time_goes_on_while_somebody_else_has_a_turn_and_runs_the_machine(
    real: Pump, world: World, loop: RunLoop
) -> None:
    def turn() -> None:
        leave()
        world.time += SECOND
        real.run()

    leave = real.attend(turn, every=1)
    loop.defer(0, lambda: None)
    real.hold(3)
    assert (loop.now, sum(world.sleeps)) == (3 * SECOND, 2 * SECOND)


class Timers:
    """Timers in ``loop`` that set timers: number n of ``timers``, (delay, times), is called after
    ``delay`` ns and then so often again, each ``delay`` + 1 ns after the last. Each call takes the
    time that ``long()`` lets pass and then defers a work item; ``seen`` has (n, calls left, or -1
    for the work item, time), ``called`` (when it was due, number of setting, time)."""

    def __init__(
        self, loop: RunLoop, timers: list[tuple[int, int]], long: Callable[[], None]
    ) -> None:
        self.loop, self.long = loop, long
        self.seen: list[tuple[int, int, int]] = []
        self.called: list[tuple[int, int, int]] = []
        self.left = sum(times + 1 for _, times in timers)
        for number, (delay, times) in enumerate(timers):
            self.set(number, delay, delay, times)

    def set(self, number: int, delay: int, after: int, left: int) -> None:
        def call() -> None:
            loop = self.loop
            self.left -= 1
            self.called.append((timer.when, timer.ident, loop.now))
            self.seen.append((number, left, loop.now))
            self.long()
            loop.defer(0, lambda: self.seen.append((number, -1, loop.now)))
            if left:
                self.set(number, delay, delay + 1, left - 1)

        timer = self.loop.call_after(after, 0, call)

    def run(self, pump: Pump) -> None:
        pump.run(lambda: self.left or None)
        pump.close()


@settings(max_examples=200, deadline=None)
@given(
    timers=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1, max_size=CLOCK_STEPS // 2
    ),
    took=st.lists(st.integers(0, 30), max_size=10),
)
def test_the_order_of_events_is_that_of_virtual_time_however_long_deliveries_take(
    timers: list[tuple[int, int]], took: list[int]
) -> None:
    """Where no more than CLOCK_STEPS deliveries are due at once; ``took`` is their time."""
    world, lengths, loop = World(), iter(took), RunLoop()
    real = Timers(loop, timers, lambda: setattr(world, "time", world.time + next(lengths, 0)))
    real.run(Pump(loop, RealClock(lambda: world.time), world))
    loop = RunLoop()
    virtual = Timers(loop, timers, lambda: None)
    virtual.run(Pump(loop))
    assert real.seen == virtual.seen
    assert all(0 < sleep <= 51 for sleep in world.sleeps)
    assert len(world.sleeps) <= len(real.seen)


class StepsOfTime(RunLoop):
    """A loop that keeps (deliveries since the last one, ns) of each step of its time that came
    while something was ready."""

    def __init__(self) -> None:
        super().__init__()
        self.while_ready: list[tuple[int, int]] = []
        self.stood_since = 0

    def advance(self, ns: int) -> int:
        if ns:
            if not self.idle:
                self.while_ready.append((self.steps - self.stood_since, ns))
            self.stood_since = self.steps
        return super().advance(ns)


@settings(deadline=None)
@given(
    timers=st.lists(
        st.tuples(st.integers(0, 9) | st.integers(0, 3 * LEAP), st.integers(0, 2)),
        min_size=1,
        max_size=2 * CLOCK_STEPS,
    ),
    took=st.lists(st.integers(0, 30) | st.integers(0, 3 * LEAP), max_size=10),
    turns=st.lists(st.integers(1, 3 * CLOCK_STEPS), max_size=2),
)
@example(timers=[(1, 0)] * 5, took=[1], turns=[])
@example(timers=[(1, 0)] * 5 + [(LEAP + 2, 0)], took=[3 * LEAP], turns=[])
@example(timers=[(1, 0)] * 5 + [(LEAP + 2, 0)], took=[3 * LEAP], turns=[1])
def test_more_deliveries_at_once_than_between_two_looks_at_the_clock_keep_timers_in_order(
    timers: list[tuple[int, int]], took: list[int], turns: list[int]
) -> None:
    """Time goes on among them, so what they set is due later than in virtual time; however often
    attendants have ``turns``."""
    world, lengths, loop = World(), iter(took), StepsOfTime()
    real = Timers(loop, timers, lambda: setattr(world, "time", world.time + next(lengths, 0)))
    pump = Pump(loop, RealClock(lambda: world.time), world)
    for every in turns:
        pump.attend(lambda: None, every=every)
    real.run(pump)
    assert sorted(real.called) == real.called
    assert all(due <= now for due, _, now in real.called)
    assert all(steps >= CLOCK_STEPS and ns <= LEAP for steps, ns in loop.while_ready)
    assert sum(left < 0 for _, left, _ in real.seen) == len(real.called)


# With the system's own clock and descriptors


class closing_pipe:
    """Both ends of a pipe, closed afterwards."""

    def __enter__(self) -> tuple[int, int]:
        self.ends = os.pipe()
        return self.ends

    def __exit__(self, *exc: object) -> None:
        for fd in self.ends:
            os.close(fd)


@pytest.fixture
def live(loop: RunLoop) -> Iterator[Pump]:
    pump = Pump(loop, RealClock())
    yield pump
    pump.close()


def test_time_follows_the_system(live: Pump, loop: RunLoop) -> None:
    done: list[int] = []
    loop.call_after(SECOND // 50, 0, lambda: done.append(loop.now))
    live.run(lambda: None if done else 0)
    assert done == [SECOND // 50]
    due = loop.now + SECOND // 100
    loop.call_after(SECOND // 100, 0, lambda: done.append(loop.now))
    live.hold(60, lambda: len(done) == 2)
    assert done[1] == due


def test_a_descriptor_is_read_and_written_when_it_can_be(live: Pump) -> None:
    with closing_pipe() as (there, here):
        got: list[bytes] = []
        live.watch(there, lambda: got.append(os.read(there, 100)))

        def write() -> None:
            os.write(here, b"hello")
            live.watch(here)

        live.watch(here, writable=write)
        live.hold(60, lambda: bool(got))
        assert got == [b"hello"]
        live.unwatch(there)
        live.unwatch(there)
        assert not live.watching


def test_the_watch_of_a_descriptor_may_end_in_the_call_of_another(live: Pump) -> None:
    with closing_pipe() as (one, to_one), closing_pipe() as (two, to_two):
        for fd in (to_one, to_two):
            os.write(fd, b"x")
        calls: list[int] = []

        def read(fd: int) -> Callable[[], None]:
            def call() -> None:
                calls.append(fd)
                live.unwatch(one)
                live.unwatch(two)

            return call

        live.watch(one, read(one))
        live.watch(two, read(two))
        live.turn()
        assert len(calls) == 1


def test_what_cannot_be_waited_for_is_refused(live: Pump, tmp_path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(OSError, match="not permitted"):
        live.watch(file.fileno(), writable=lambda: None)
    assert not live.watching


def test_another_thread_can_wake_the_pump(live: Pump) -> None:
    over: list[bool] = []
    wake = live.waker()

    def end() -> None:
        over.append(True)
        for _ in range(100_000):  # more than a pipe takes
            wake()

    thread = threading.Thread(target=end)
    thread.start()
    live.hold(None, lambda: bool(over))
    thread.join()


@pytest.mark.parametrize("clock", [None, RealClock()], ids=["virtual", "real"])
def test_a_signal_ends_a_sleep_wherever_it_comes(loop: RunLoop, clock: RealClock | None) -> None:
    """The handler only takes a note; here the signal comes right before the sleep, when the look
    around is over: nothing but the descriptor that the interpreter writes to can end that sleep."""
    pump, noted, asleep = Pump(loop, clock), [], []
    before = signal.signal(signal.SIGUSR1, lambda *_: noted.append(1))
    sleep = pump.sleep

    def interrupted(seconds: float | None = None) -> None:
        asleep.append(seconds)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert noted
        sleep(seconds)

    pump.sleep = interrupted
    try:
        pump.hold(None, lambda: bool(noted))
        assert asleep == [None]
        noted.clear()
        if clock is not None:
            loop.call_after(3000 * SECOND, 0, lambda: None)
            pump.run(lambda: None if noted else 0, patience=4000 * SECOND)
            assert len(asleep) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
        pump.close()
    assert signal.set_wakeup_fd(-1) == -1


# Interrupts


def interrupt() -> None:
    """An interrupt, as of a Control-C, right now."""
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(params=["run", "hold"])
def kept_going(request: pytest.FixtureRequest, pump: Pump) -> Callable[[], None]:
    """Keeps the machine going until it rests, or without end."""
    return pump.run if request.param == "run" else pump.hold


def test_an_interrupt_waits_for_the_end_of_a_delivery(
    pump: Pump, kept_going: Callable[[], None]
) -> None:
    done: list[str] = []

    def work() -> None:
        interrupt()
        done.append("whole")

    pump.run_loop.defer(0, work)
    pump.run_loop.defer(0, lambda: done.append("next"))
    with pytest.raises(KeyboardInterrupt):
        kept_going()
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    pump.run()
    assert done == ["whole", "next"]


def test_a_second_interrupt_does_not_wait(pump: Pump, kept_going: Callable[[], None]) -> None:
    done: list[str] = []

    def work() -> None:
        interrupt()
        done.append("goes on")
        interrupt()
        done.append("whole")

    pump.run_loop.defer(0, work)
    pump.run_loop.defer(0, lambda: done.append("next"))
    with pytest.raises(KeyboardInterrupt):
        kept_going()
    assert done == ["goes on"]
    pump.run()
    assert done == ["goes on", "next"]


def test_an_interrupt_waits_for_the_end_of_a_turn(pump: Pump) -> None:
    turns: list[int] = []

    def turn() -> None:
        interrupt()
        pump.run_loop.run_until_idle()
        turns.append(pump.run_loop.steps)

    pump.attend(turn, every=1)
    pump.run_loop.defer(0, lambda: None)
    pump.run_loop.defer(0, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        pump.run()
    assert turns == [1]


def test_an_interrupt_ends_a_sleep(live: Pump) -> None:
    sleep = live.sleep

    def interrupted(seconds: float | None = None) -> None:
        interrupt()
        sleep(seconds)

    live.sleep = interrupted
    with pytest.raises(KeyboardInterrupt):
        live.hold()


def test_an_interrupt_that_comes_in_the_end_is_not_forgotten(pump: Pump) -> None:
    def over() -> bool:
        interrupt()
        return True

    with pytest.raises(KeyboardInterrupt):
        pump.hold(None, over)


def test_who_handles_interrupts_himself_gets_them_at_once(
    pump: Pump, kept_going: Callable[[], None]
) -> None:
    def asked(*_: object) -> None:
        raise InterruptedError

    done: list[str] = []

    def work() -> None:
        with pytest.raises(InterruptedError):
            interrupt()
        done.append("at once")
        interrupt()

    before = signal.signal(signal.SIGINT, asked)
    try:
        pump.run_loop.defer(0, work)
        with pytest.raises(InterruptedError):
            kept_going()
        assert done == ["at once"]
        assert signal.getsignal(signal.SIGINT) is asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_pump_can_sleep_in_a_thread_that_gets_no_signals(loop: RunLoop) -> None:
    pump = Pump(loop, RealClock())
    thread = threading.Thread(target=pump.hold, args=(0.01,))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    pump.close()
    pump.close()
