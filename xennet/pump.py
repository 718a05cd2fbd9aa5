"""The pump: the only place that moves time or waits.

A :class:`Pump` makes the deliveries of one run loop (:mod:`xennet.runloop`), lets its time go on
when nothing is ready, and calls others in between: callbacks of descriptors (:meth:`Pump.watch`)
and attendants (:meth:`Pump.attend`). How time goes on is the clock's business.

* :class:`VirtualClock`: time stands still while anything is ready, and then jumps to the next
  timer. A run is the same each time, and never waits.
* :class:`RealClock`: time follows the system's monotonic clock. Where nothing is ready the pump
  sleeps until a timer is due, a descriptor is ready, a signal comes, or another
  thread wakes it (:meth:`Pump.waker`).

An interrupt (SIGINT, where nobody else handles it) raises KeyboardInterrupt between two deliveries
of :meth:`Pump.run` and :meth:`Pump.hold`, so that nothing is lost and they may be called again. A
second one raises it at once, wherever the program is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, DefaultSelector
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Protocol

from attrs import define

from xennet.runloop import RunLoop

#: Time in ns that :meth:`Pump.run` lets pass without an arrival before it gives up: longer than
#: every timer of a driver or of the toolstack.
PATIENCE = 60_000_000_000
#: Deliveries between two turns of an attendant, unless it wants fewer, and of the descriptors.
TURN_STEPS = 32
#: Deliveries in turn, with watch events always waiting, after which all of these have to be
#: delivered before the next turn of descriptors and attendants.
BUSY_STEPS = 256
#: Deliveries between two looks at the real clock.
CLOCK_STEPS = 8
#: ns that time goes on at once while something is ready. A process that was stopped for a minute
#: does not find all its time limits over before it could do anything.
LEAP = 10_000_000
#: Seconds of one sleep at most (a C int of milliseconds is the limit of epoll and poll).
_LONGEST_SLEEP = 3600.0
_NS = 1_000_000_000
#: What the signal module is made of: its own functions look each handler up among the members of an
#: enum, which takes longer than a run of the pump.
_signals: Any = import_module("_signal")
_SIGINT = int(signal.SIGINT)


class Clock(Protocol):
    """The way in which the time of a run loop goes on. One clock serves one pump.

    ``real``: time goes on by itself. ``monotonic()`` returns the system's time in ns, by which
    :meth:`Pump.hold` counts.
    """

    real: bool
    monotonic: Callable[[], int]

    def resume(self, loop: RunLoop) -> None:
        """Go on from the loop's time: time that passed while no deliveries were made does not
        count."""

    def follow(self, loop: RunLoop) -> bool:
        """Move the loop's time to what the clock shows. Returns whether anything is ready then."""

    def idle(self, pump: Pump, until: int) -> bool:
        """Let time go on while nothing is ready, to the next timer or to ``until`` (ns of the
        loop's time). Returns False if nothing can happen until then."""

    def seconds_left(self, loop: RunLoop) -> float | None:
        """Seconds of sleep until the next timer is due; None if there is no timer, or sleep does
        not help."""


class VirtualClock:
    """Time jumps to the next timer when nothing is ready, and stands still otherwise."""

    real = False

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic

    def __repr__(self) -> str:
        return "<VirtualClock>"

    def resume(self, loop: RunLoop) -> None:
        pass

    def follow(self, loop: RunLoop) -> bool:
        return False

    def idle(self, pump: Pump, until: int) -> bool:
        return pump.run_loop.jump(until)

    def seconds_left(self, loop: RunLoop) -> float | None:
        return None


class RealClock:
    """Time follows ``monotonic`` (ns) while the pump runs or holds; in between, the machine and
    everything that is served for it are frozen.

    Slow work makes timers late and never changes their order: time catches up from one timer to the
    next, with all deliveries in between, and by :data:`LEAP` for each CLOCK_STEPS of them while
    deliveries do not end. If the loop's time was moved ahead by other means, time goes on from
    there.
    """

    real = True

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic
        self._origin = 0

    def __repr__(self) -> str:
        return "<RealClock>"

    def resume(self, loop: RunLoop) -> None:
        self._origin = self.monotonic() - loop.now

    def follow(self, loop: RunLoop) -> bool:
        shown = self._shown(loop)
        most = loop.next_timer if loop.idle else loop.now + LEAP
        loop.advance((shown if most is None else min(shown, most)) - loop.now)
        return not loop.idle

    def idle(self, pump: Pump, until: int) -> bool:
        loop = pump.run_loop
        left = self.seconds_left(loop)
        if loop.now >= until or (left is None and not pump.watching):
            return False
        rest = (until - self._shown(loop)) / _NS
        pump.sleep(rest if left is None else min(left, rest))
        return True

    def seconds_left(self, loop: RunLoop) -> float | None:
        due = loop.next_timer
        return None if due is None else max(0.0, (due - self._shown(loop)) / _NS)

    def _shown(self, loop: RunLoop) -> int:
        """The time that the clock shows, in ns of the loop's time; never less than the loop's
        time."""
        shown = self.monotonic() - self._origin
        if shown < loop.now:
            self._origin -= loop.now - shown
        return max(shown, loop.now)


@define(eq=False, repr=False)
class _Attendant:
    turn: Callable[[], None]
    every: int
    left: int


#: What is called when a descriptor can be read, and written.
_Calls = tuple[Callable[[], None] | None, Callable[[], None] | None]
_NOBODY: _Calls = (None, None)


class Pump:
    """Makes the deliveries of ``run_loop`` by ``clock`` (None: a virtual one).

    Only the pump moves the loop's time or waits, so the same machine lives in virtual time and in
    real time. Its methods are not called from inside a delivery. ``selector`` is what it waits with
    (None: the system's best, made when it is first needed).
    """

    def __init__(
        self,
        run_loop: RunLoop,
        clock: Clock | None = None,
        selector: BaseSelector | None = None,
    ) -> None:
        self.run_loop = run_loop
        self.clock = VirtualClock() if clock is None else clock
        self._selector = selector
        self._wake: tuple[int, int] | None = None
        self._watched: dict[int, _Calls] = {}
        self._attendants: list[_Attendant] = []
        self._in_turn = False
        self._depth = 0

    def __repr__(self) -> str:
        return f"<Pump of {self.run_loop!r}, {type(self.clock).__name__}>"

    # -- who else has a turn -----------------------------------------------------------------------

    def attend(self, turn: Callable[[], None], every: int = TURN_STEPS) -> Callable[[], None]:
        """Call ``turn()`` between deliveries, after every ``every`` of them; what it causes is
        delivered too, within bounds. Returns a function that ends this. Raises ValueError for
        ``every`` < 1."""
        if every < 1:
            raise ValueError(f"a turn after every {every} deliveries")
        attendant = _Attendant(turn, every, every)
        self._attendants.append(attendant)

        def leave() -> None:
            with suppress(ValueError):
                self._attendants.remove(attendant)

        return leave

    def watch(
        self,
        fd: int,
        readable: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None:
        """Call ``readable()`` between deliveries whenever ``fd`` can be read, or is at its end, and
        ``writable()`` whenever it can be written to. With neither, ``fd`` is left alone.

        What the calls cause is delivered. They are made again and again as long as ``fd`` is ready:
        the callback of an end that wants nothing more for now has to call this again without it, or
        the pump never sleeps. Raises OSError for a descriptor that cannot be waited for, such as a
        file on a disk.
        """
        if readable is None and writable is None:
            self.unwatch(fd)
            return
        events = EVENT_READ * (readable is not None) | EVENT_WRITE * (writable is not None)
        selector = self._the_selector()
        if fd in self._watched:
            selector.modify(fd, events)
        else:
            selector.register(fd, events)
        self._watched[fd] = readable, writable

    def unwatch(self, fd: int) -> None:
        """Leave ``fd`` alone from now on. Called before it is closed; may be repeated."""
        if self._watched.pop(fd, None) is not None:
            self._the_selector().unregister(fd)

    @property
    def watching(self) -> bool:
        """Whether any descriptor is watched."""
        return len(self._watched) > (self._wake is not None)

    @property
    def ready(self) -> bool:
        """Whether any watched descriptor is ready now."""
        return bool(self._watched) and bool(self._the_selector().select(0))

    @property
    def undisturbed(self) -> bool:
        """Whether time is virtual, and nobody has a turn between deliveries."""
        return not (self.clock.real or self._watched or self._attendants)

    def turn(self) -> None:
        """Call the callbacks of the descriptors that are ready now, then all attendants. Nothing is
        delivered. Inside a turn this does nothing."""
        self._give_turn(None)

    def waker(self) -> Callable[[], None]:
        """Returns a function for other threads that ends the pump's sleep, or its next one, so that
        it looks at everything again. A signal ends a sleep by itself."""
        wake = self._the_wake()[1]

        def call() -> None:
            with suppress(BlockingIOError):  # full: the pump will wake up anyway
                os.write(wake, b"\0")

        return call

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        waiting: Callable[[], int | None] | None = None,
        *,
        patience: int = PATIENCE,
        undisturbed: bool = False,
    ) -> None:
        """Make deliveries until nothing is ready.

        ``waiting()`` returns None when nothing is waited for, else the number of arrivals so far.
        While something is, time goes on, until nothing can happen any more or ``patience`` (ns) has
        passed without an arrival. With ``undisturbed``, descriptors and attendants have no turn
        meanwhile.
        """
        loop = self.run_loop
        with self.whole(), self._live() if self.clock.real else nullcontext():
            self._deliver(None, undisturbed)
            last, since = None, loop.now
            while waiting is not None and (arrived := waiting()) is not None:
                if arrived != last:
                    last, since = arrived, loop.now
                if not self.clock.idle(self, since + patience):
                    return
                self._deliver(None, undisturbed)

    def hold(self, seconds: float | None = None, over: Callable[[], bool] = lambda: False) -> None:
        """Keep everything going for ``seconds`` of real time (None: without end), or until
        ``over()`` returns True; it is called after each event and after each TURN_STEPS deliveries.

        On the virtual clock time stands still meanwhile: only what descriptors and attendants cause
        is delivered.
        """
        loop, clock, monotonic = self.run_loop, self.clock, self.clock.monotonic
        end = None if seconds is None else monotonic() + round(seconds * _NS)
        done = over if end is None else lambda: over() or monotonic() >= end
        with self.whole(), self._live():
            while not done():
                due = not loop.idle or clock.follow(loop)
                if due and (self._deliver(done) or done()):
                    return
                left = clock.seconds_left(loop)
                if end is not None:
                    rest = (end - monotonic()) / _NS
                    left = rest if left is None else min(left, rest)
                self.sleep(left)

    def serve(self, seconds: float) -> None:
        """Serve descriptors for ``seconds`` of real time. Nothing is delivered."""
        monotonic = self.clock.monotonic
        end = monotonic() + round(seconds * _NS)
        while (left := end - monotonic()) > 0:
            self.sleep(left / _NS)

    def sleep(self, seconds: float | None = None) -> None:
        """Sleep until a descriptor is ready, the pump is woken, or ``seconds`` of real time are
        over (None: however long that takes; at most an hour), and serve the descriptors. Called by
        clocks."""
        if seconds is None or seconds > _LONGEST_SLEEP:
            seconds = _LONGEST_SLEEP
        self._the_wake()
        self._serve(max(0.0, seconds))
        self.heed()

    def pass_time(self, ns: int) -> None:
        """Let ``ns`` of the loop's time pass at once, with all deliveries that are due in it."""
        loop = self.run_loop
        end = loop.now + ns
        self.run()
        while (due := loop.next_timer) is not None and due <= end:
            loop.advance(due - loop.now)
            self.run()
        loop.advance(max(0, end - loop.now))
        self.run()

    def run_out(self, limit: int = 1_000_000) -> None:
        """Let time go on at once until no timer is left that is worth waiting for. Descriptors and
        attendants have no turn. Raises LivelockError if something is ready after ``limit``
        deliveries."""
        self.run_loop.run_until_idle(limit=limit, advance_timers=True)

    def close(self) -> None:
        """Let go of all descriptors. May be repeated."""
        self._watched.clear()
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._wake is not None:
            for fd in self._wake:
                os.close(fd)
            self._wake = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A context in which an interrupt waits for its end, for :meth:`heed`, or for the end of a
        delivery or a turn in :meth:`run` and :meth:`hold`, which are such contexts themselves."""
        others = _signals.getsignal(_SIGINT) is not _signals.default_int_handler
        if others or current_thread() is not main_thread():
            yield
            return
        self.run_loop.interrupted = False
        _signals.signal(_SIGINT, self._interrupt)
        try:
            yield
        finally:
            try:
                if _signals.getsignal(_SIGINT) == self._interrupt:
                    _signals.signal(_SIGINT, _signals.default_int_handler)
            finally:
                self.heed()

    def heed(self) -> None:
        """Raise KeyboardInterrupt if there was an interrupt in a context of :meth:`whole`."""
        if self.run_loop.interrupted:
            self.run_loop.interrupted = False
            raise KeyboardInterrupt

    # -- inside ------------------------------------------------------------------------------------

    def _deliver(self, over: Callable[[], bool] | None, undisturbed: bool = False) -> bool:
        """Make deliveries until nothing is ready, or until ``over()``. Returns whether ``over()``
        ended it."""
        loop, clock = self.run_loop, self.clock
        unread = unclocked = 0
        while True:
            steps = self._steps(over, undisturbed)
            made = loop.deliver(steps)
            self.heed()
            unclocked += made
            if made != steps or unclocked >= CLOCK_STEPS:  # turns may come more often than looks
                unclocked = 0
                if not clock.follow(loop) and made != steps:
                    return False  # deliveries that become ready from now on are for the next call
            if over is not None:
                if over():
                    return True
                self._give_turn(made)
            elif not undisturbed:
                busy = any(kind == "xenstore" for kind, _, _ in loop.ready())
                unread = unread + made if busy else 0
                # A client that writes without end must not keep the machine from coming to rest.
                if unread <= BUSY_STEPS:
                    self._give_turn(made)

    def _steps(self, over: Callable[[], bool] | None, undisturbed: bool) -> int | None:
        """The number of deliveries before the next turn of descriptors or attendants; None if there
        is none."""
        if over is None and self.undisturbed:
            return None
        wanted = [CLOCK_STEPS] if self.clock.real else []
        if over is not None or (self.watching and not undisturbed):
            wanted.append(TURN_STEPS)
        if not undisturbed:
            wanted += [attendant.left for attendant in self._attendants]
        return min(wanted, default=None)

    def _give_turn(self, steps: int | None) -> None:
        """Give the descriptors a turn, and the attendants whose turn it is after ``steps`` more
        deliveries (None: all)."""
        if self._in_turn:
            return
        self._in_turn = True
        try:
            if self.watching:
                self._serve(0)
            for attendant in tuple(self._attendants):
                attendant.left -= attendant.left if steps is None else steps
                if attendant.left <= 0:
                    attendant.left = attendant.every
                    attendant.turn()
        finally:
            self._in_turn = False

    def _serve(self, seconds: float) -> None:
        ready = self._the_selector().select(seconds)
        if seconds:
            self.clock.follow(self.run_loop)
        for key, events in ready:
            # Each callback may end the watch of any descriptor.
            if events & EVENT_READ and (call := self._watched.get(key.fd, _NOBODY)[0]) is not None:
                call()
            if events & EVENT_WRITE and (call := self._watched.get(key.fd, _NOBODY)[1]) is not None:
                call()

    def _woken(self) -> None:
        assert self._wake is not None
        with suppress(BlockingIOError):
            os.read(self._wake[0], 4096)

    def _the_selector(self) -> BaseSelector:
        if self._selector is None:
            self._selector = DefaultSelector()
        return self._selector

    def _the_wake(self) -> tuple[int, int]:
        """The two ends of the pipe that ends a sleep, to read and to write."""
        if self._wake is None:
            self._wake = os.pipe()
            for fd in self._wake:
                os.set_blocking(fd, False)
            self.watch(self._wake[0], self._woken)
        return self._wake

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        loop = self.run_loop
        if loop.interrupted:
            self.heed()
        loop.interrupted = True

    @contextmanager
    def _live(self) -> Iterator[None]:
        """A context in which time goes on by the clock and any signal ends a sleep, also one
        that comes between the last look at the loop and the sleep and whose handler only takes a
        note."""
        if not self._depth:
            self.clock.resume(self.run_loop)
        self._depth += 1
        before = None
        with suppress(ValueError):  # signals are the main thread's
            before = signal.set_wakeup_fd(self._the_wake()[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._depth -= 1
            if before is not None:
                signal.set_wakeup_fd(before)
