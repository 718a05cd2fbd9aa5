"""The deterministic run loop: what happens next is a choice, and the caller can make it.

Everything that happens "later" in the machine (an event upcall, a work item, a watch event, a timer
that has run out) is a :class:`Delivery` in one queue. Nothing runs by itself: :meth:`RunLoop.step`
makes one delivery, the oldest or one that the caller names, so a test or a fuzzer can try any
interleaving and replay it. Time is virtual and moves only when it is moved, by the pump
(:mod:`xennet.pump`) or by a test.

A domain whose code waits in the middle of a delivery (for an answer of the store, say) calls
:meth:`RunLoop.step_meanwhile`, which makes deliveries of other domains.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice, starmap
from typing import NamedTuple, Protocol, cast

from attrs import define


class Delivery(NamedTuple):
    """One thing that is due in a domain.

    ``kind`` is "evtchn", "work", "xenstore" or "timer"; ``ident`` is the port, or a number of that
    kind. It is a named tuple and no attrs class: it is the key of the loop's dictionary, and hashed
    at every event.
    """

    kind: str
    domid: int
    ident: int

    def __str__(self) -> str:
        return f"{self.kind} {self.ident} of domain {self.domid}"


#: A Delivery of its three members, without the Python function that named tuples are made by: for
#: those who make one at every event.
new_delivery = cast("Callable[[tuple[str, int, int]], Delivery]", partial(tuple.__new__, Delivery))

#: Domains that may wait inside each other's deliveries; while so many do, only domain 0, which
#: waits for nobody, goes on. This bounds the depth of the Python stack.
MOST_WAITING = 4

#: Called with a delivery to make it.
Action = Callable[[Delivery], None]
#: What is called to make one delivery: an action with it, or what a work item or a timer calls.
Call = Callable[[], None]
#: (ready deliveries) -> the index of the next one.
Chooser = Callable[[Sequence[Delivery]], int]


class Order(Protocol):
    """The order of deliveries in a loop that does not always take the oldest."""

    def add(self, delivery: Delivery) -> None:
        """Add a delivery that has become ready."""

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery that was chosen or cancelled."""

    def next(self) -> Delivery:
        """Remove and return the next delivery; there is one."""


class LoopWatcher(Protocol):
    """Who is told what a loop does, at once."""

    def posted(self, delivery: Delivery, call: Call) -> None:
        """``delivery``, which calls ``call()``, has become ready."""

    def begins(self, delivery: Delivery, call: Call, ready: Sequence[Delivery], at: int) -> None:
        """``delivery`` is being made; it was number ``at`` of those that were ``ready``."""

    def ends(self, delivery: Delivery) -> None:
        """``delivery`` was made, also if it raised."""


class LivelockError(Exception):
    """The machine did not become idle; ``recent`` are the last deliveries, newest last. ``words``
    are the same for the message (None: as they are)."""

    def __init__(
        self, limit: int, recent: tuple[Delivery, ...], words: Iterable[str] | None = None
    ) -> None:
        tail = "; ".join(map(str, recent) if words is None else words)
        super().__init__(f"not idle after {limit} deliveries, the last ones were: {tail}")
        self.limit = limit
        self.recent = recent


def _background_work(loop: RunLoop, call: Call) -> None:
    """The call of a background timer, which calls ``call()``."""
    loop.background_steps += 1
    call()


def _in_words(delivery: Delivery, call: Call) -> str:
    """The delivery, with the name of what a work item or a timer calls."""
    what: object = call
    while isinstance(what, partial):
        if what.args == (delivery,):
            return str(delivery)  # it has an action
        what = what.args[1] if what.func is _background_work else what.func
    return f"{delivery}, {getattr(what, '__qualname__', type(what).__qualname__)}"


@define(eq=False, repr=False)
class Timer:
    """A call that is due at ``when`` (ns of virtual time). :meth:`RunLoop.cancel_timer` ends it.

    ``since`` of a background timer: the number of deliveries, other than of background timers, when
    it was set. None: an ordinary timer.
    """

    when: int
    ident: int
    domid: int
    call: Callable[[], None] | None
    since: int | None = None

    def __lt__(self, other: Timer) -> bool:
        """Whether it is due before ``other``, or was set before it for the same time."""
        return (self.when, self.ident) < (other.when, other.ident)


class RunLoop:
    """The ready deliveries, each at most once, in the order in which they became due.

    ``steps`` counts the deliveries so far, ``background_steps`` those of background timers among
    them. ``meanwhile`` picks the deliveries that are made while a domain waits (None: the oldest).
    An ``order`` (:meth:`take_turns`) decides which delivery is next; without one it is the oldest.
    ``watcher`` is told of everything, None: nobody. While it is ``interrupted``, which a signal
    handler may set, :meth:`deliver` makes no further delivery.
    """

    def __init__(self) -> None:
        self.watcher: LoopWatcher | None = None
        self.interrupted = False
        self.steps = self.background_steps = 0
        self.meanwhile: Chooser | None = None
        self._ready: OrderedDict[Delivery, Call] = OrderedDict()
        self._order: Order | None = None
        self._recent: deque[tuple[Delivery, Call]] = deque(maxlen=16)
        self._timers: list[Timer] = []
        self._next_ident = 0
        self._now = 0
        self._current: Delivery | None = None
        self._waiting: list[int] = []
        self._ended: set[int] = set()
        self._faults: list[Exception] = []

    def __repr__(self) -> str:
        return f"<RunLoop {self.steps} deliveries made, {len(self._ready)} ready>"

    @property
    def now(self) -> int:
        """Virtual time in ns since the machine was made."""
        return self._now

    @property
    def idle(self) -> bool:
        """Whether nothing is ready (timers may still be waiting)."""
        return not self._ready

    @property
    def last(self) -> Delivery | None:
        """The delivery that was made last, or is being made; None before the first."""
        return self._recent[-1][0] if self._recent else None

    @property
    def timers(self) -> int:
        """Number of timers: those that wait, and cancelled ones that are not cleared away yet."""
        return len(self._timers)

    def ready(self) -> tuple[Delivery, ...]:
        """The ready deliveries, oldest first."""
        return tuple(self._ready)

    def calls(self, some: Iterable[Delivery] | None = None) -> dict[Delivery, Call]:
        """The ready deliveries, oldest first, or ``some`` of them, with what each calls."""
        return dict(self._ready) if some is None else {each: self._ready[each] for each in some}

    def pending(self) -> list[tuple[Timer, bool]]:
        """The timers that run, in the order in which they are due, and whether time may jump to
        each (:attr:`next_due`)."""
        return [(timer, self._awaited(timer)) for timer in sorted(self._timers) if timer.call]

    def post(self, delivery: Delivery, action: Action) -> bool:
        """Make ``delivery`` ready. Returns False, with nothing changed, if it is ready already.

        ``action(delivery)`` is called when its turn comes. The delivery is not in the queue then,
        so the action may post it again.
        """
        return delivery not in self._ready and self.post_call(delivery, partial(action, delivery))

    def post_call(self, delivery: Delivery, call: Call) -> bool:
        """:meth:`post` with ``call``, which is an action with its delivery, made once."""
        ready = self._ready
        if delivery in ready:
            return False
        ready[delivery] = call
        if self._order is not None:
            self._order.add(delivery)
        if self.watcher is not None:
            self.watcher.posted(delivery, call)
        return True

    def take_turns(self, order: Order) -> None:
        """Let ``order`` decide from now on; the ready deliveries are added to it."""
        for delivery in self._ready:
            order.add(delivery)
        self._order = order

    def defer(self, domid: int, work: Callable[[], None]) -> Delivery:
        """Make a work item ready that calls ``work()`` in ``domid``. Returns its delivery."""
        self._next_ident += 1
        delivery = new_delivery(("work", domid, self._next_ident))
        self._ready[delivery] = work
        if self._order is not None:
            self._order.add(delivery)
        if self.watcher is not None:
            self.watcher.posted(delivery, work)
        return delivery

    def cancel(self, delivery: Delivery) -> bool:
        """Cancel a delivery. Returns False if it was not ready."""
        if delivery not in self._ready:
            return False
        self._take(delivery)
        return True

    def cancel_all(self, deliveries: Iterable[Delivery]) -> None:
        """Cancel those of ``deliveries`` that are ready."""
        ready = self._ready
        for delivery in deliveries:
            if delivery in ready:
                self._take(delivery)

    def forget(self, domid: int) -> int:
        """Drop all deliveries and timers of a domain that is gone. Returns their number.

        Walks the whole queue: this is for the destruction of a domain. If the domain waits, its
        code goes on only to be told of that; what it raises then is dropped.
        """
        if domid in self._waiting:
            self._ended.add(domid)
        gone = [delivery for delivery in self._ready if delivery.domid == domid]
        self.cancel_all(gone)
        kept = [timer for timer in self._timers if timer.domid != domid]
        dropped = sum(timer.call is not None for timer in self._timers if timer.domid == domid)
        heapq.heapify(kept)
        self._timers = kept
        return len(gone) + dropped

    def call_at(
        self, when: int, domid: int, call: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``call()`` in ``domid`` when virtual time has reached ``when`` (ns). Returns the
        timer.

        A ``background`` timer looks whether anything has changed: nobody waits for it
        (:attr:`next_due`) before something else was delivered since it was set. So it may set
        itself again and again, and the machine still comes to rest.
        """
        since = self.steps - self.background_steps if background else None
        timer = Timer(when, self._new_ident(), domid, call, since)
        heapq.heappush(self._timers, timer)
        self._fire()
        return timer

    def call_after(
        self, delay: int, domid: int, call: Callable[[], None], *, background: bool = False
    ) -> Timer:
        """Call ``call()`` in ``domid`` in ``delay`` ns, as :meth:`call_at`. Returns the timer."""
        return self.call_at(self._now + delay, domid, call, background=background)

    def cancel_timer(self, timer: Timer) -> bool:
        """End a timer, also one that is due and not delivered yet. Returns False if it has run."""
        if timer.call is not None:
            timer.call = None  # its place in the heap is cleared when it comes to the top
            return True
        return self.cancel(Delivery("timer", timer.domid, timer.ident))

    def advance(self, ns: int) -> int:
        """Let ``ns`` >= 0 of virtual time pass. Returns the number of timers that became ready."""
        if ns < 0:
            raise ValueError(f"time does not go back by {-ns} ns")
        self._now += ns
        return self._fire()

    def jump(self, until: int | None = None) -> bool:
        """Let time pass up to the next timer that is worth waiting for. Returns False, and time
        stands still, if there is none, or it is due later than ``until`` (ns of virtual time)."""
        due = self.next_due
        if due is None or (until is not None and due > until):
            return False
        self.advance(due - self._now)
        return True

    def step(self, choice: int | Delivery | None = None) -> Delivery | None:
        """Make one delivery. Returns it; None if nothing is ready.

        ``choice`` is an index into :meth:`ready`, or one of its members; None stands for the
        oldest, or for the one that the order decides on. Raises IndexError or KeyError if there is
        no such delivery, RuntimeError inside a delivery. An exception of the action is passed on,
        with a note that names the delivery; the delivery counts as made and the loop can go on. The
        same is so for an exception of another domain's delivery that was made while this one
        waited, and for one that it was to :meth:`keep`.
        """
        if self._current is not None:
            raise RuntimeError(f"step() inside a delivery ({self._current})")
        watcher = self.watcher
        if watcher is not None:
            ready = tuple(self._ready)
        if choice is None:
            if not self._ready:
                return None
            if self._order is None:
                delivery, call = self._ready.popitem(last=False)
            else:
                delivery = self._order.next()
                call = self._ready.pop(delivery)
        else:
            delivery = self._pick(choice)
            call = self._take(delivery)
        self.steps += 1
        self._recent.append((delivery, call))
        self._current = delivery
        if watcher is not None:
            watcher.begins(delivery, call, ready, ready.index(delivery))
        try:
            call()
        except Exception as error:
            if delivery.domid not in self._ended:
                what = _in_words(delivery, call)
                error.add_note(f"while delivering {what} (step {self.steps})")
                raise
        finally:
            self._current = None
            if self._ended:
                self._ended.discard(delivery.domid)
            if watcher is not None:
                watcher.ends(delivery)
        if self._faults and not self._waiting:
            raise self._faults.pop(0)
        return delivery

    def keep(self, error: Exception) -> bool:
        """Keep what an observer has raised until the delivery that is under way has been made: then
        :meth:`step` raises it; the next one does if the delivery raises something itself. Of
        several it does so with the first. Returns False, and keeps nothing, outside of all
        deliveries."""
        if self._current is None:
            return False
        if not self._faults:
            error.add_note(f"while delivering {self._current} (step {self.steps})")
            self._faults.append(error)
        return True

    def step_meanwhile(self, domid: int) -> Delivery | None:
        """Make one delivery of another domain while code of ``domid`` waits. Returns it; None if
        there is none.

        It may be called inside a delivery and outside of all. Domains that wait themselves get no
        deliveries, and when MOST_WAITING domains wait, only domain 0 gets any. ``meanwhile`` picks
        the delivery. It may act itself: if the delivery that it picks is not due any more
        afterwards, none is made. Time stands still. An exception of the delivery does not concern
        the waiting domain: the :meth:`step` that is under way raises it at its end. Outside of all
        deliveries it is raised at once.
        """
        outer = self._current
        waiting = {domid, *self._waiting}
        if outer is not None:
            waiting.add(outer.domid)
        if len(self._waiting) + 1 < MOST_WAITING:
            able = [delivery for delivery in self._ready if delivery.domid not in waiting]
        else:
            able = [d for d in self._ready if d.domid == 0 and 0 not in waiting]
        if not able:
            return None
        delivery = able[0]
        nested = outer is not None or bool(self._waiting)
        self._waiting.append(domid)
        self._current = None
        try:
            if self.meanwhile is not None:
                delivery = able[self.meanwhile(able)]
            if delivery in self._ready:
                self.step(delivery)
        except Exception as error:
            if not nested:
                raise
            self._faults.append(error)
        finally:
            self._current = outer
            self._waiting.pop()
            if outer is None:
                self._ended.discard(domid)
        if self._faults and not nested:
            raise self._faults.pop(0)
        return delivery

    def deliver(self, most: int | None = None, choose: Chooser | None = None) -> int:
        """Make deliveries until nothing is ready, or ``most`` of them. Returns their number.

        ``choose`` picks from the ready deliveries each time (None: as :meth:`step` does).
        """
        made = 0
        while self._ready and made != most and not self.interrupted:
            self.step(None if choose is None else choose(self.ready()))
            made += 1
        return made

    # -- deliveries that are made elsewhere (xennet.link.joined) -----------------------------------

    def only_ordered(self, order: Order | None) -> bool:
        """Whether ``order`` (None: the oldest first) alone decides which delivery is next, and
        nobody watches."""
        return self._order is order and self.watcher is None and self.meanwhile is None

    @property
    def last_ident(self) -> int:
        """The number of the newest work item or timer."""
        return self._next_ident

    def made(
        self,
        steps: int,
        gone: Iterable[Delivery],
        last: Iterable[tuple[Delivery, Call]],
        last_ident: int,
    ) -> None:
        """Note that ``steps`` deliveries were made elsewhere, the newest of them ``last``.

        ``gone`` were ready before, and work items up to number ``last_ident`` were deferred.
        """
        for delivery in gone:
            self._take(delivery)
        self.steps += steps
        self._recent.extend(last)
        self._next_ident = last_ident

    def ready_again(self, delivery: Delivery, call: Call) -> None:
        """Put a delivery that became ready elsewhere behind the others."""
        self._ready[delivery] = call
        if self._order is not None:
            self._order.add(delivery)

    def run_until_idle(
        self,
        choose: Chooser | None = None,
        limit: int = 1_000_000,
        *,
        advance_timers: bool = False,
    ) -> int:
        """Make deliveries until nothing is ready. Returns their number.

        ``choose`` picks from the ready deliveries each time (None: the oldest), also while a domain
        waits. With ``advance_timers`` time jumps to the next timer whenever nothing else is ready,
        until there is no timer either. Raises LivelockError if something is ready after ``limit``
        deliveries.
        """
        left = limit
        before = self.meanwhile
        self.meanwhile = before if choose is None else choose
        try:
            while True:
                left -= self.deliver(left, choose)
                if self._ready and not self.interrupted:
                    last = tuple(delivery for delivery, _ in self._recent)
                    raise LivelockError(limit, last, starmap(_in_words, self._recent))
                if self.interrupted or not advance_timers or not self.jump():
                    return limit - left
        finally:
            self.meanwhile = before

    def _take(self, delivery: Delivery) -> Call:
        if self._order is not None:
            self._order.remove(delivery)
        return self._ready.pop(delivery)

    def _pick(self, choice: int | Delivery) -> Delivery:
        if isinstance(choice, Delivery):
            if choice not in self._ready:
                raise KeyError(f"{choice} is not ready")
            return choice
        if not 0 <= choice < len(self._ready):
            raise IndexError(f"choice {choice} of {len(self._ready)} ready deliveries")
        return next(islice(self._ready, choice, None))

    @property
    def next_timer(self) -> int | None:
        """The time at which the next timer is due; None without a timer."""
        # Cancelled timers at the top are dropped.
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return self._timers[0].when if self._timers else None

    @property
    def next_due(self) -> int | None:
        """The time at which the next timer is due that is worth waiting for: any but a background
        timer since which nothing else was delivered. None without such a timer."""
        due = self.next_timer
        if due is None or self._awaited(self._timers[0]):
            return due
        awaited = (timer for timer in self._timers if timer.call and self._awaited(timer))
        return min((timer.when for timer in awaited), default=None)

    def _awaited(self, timer: Timer) -> bool:
        return timer.since is None or timer.since != self.steps - self.background_steps

    def _fire(self) -> int:
        fired = 0
        while (due := self.next_timer) is not None and due <= self._now:
            timer = heapq.heappop(self._timers)
            assert timer.call is not None
            call = timer.call
            if timer.since is not None:
                call = partial(_background_work, self, call)
            delivery = Delivery("timer", timer.domid, timer.ident)
            self._ready[delivery] = call
            if self._order is not None:
                self._order.add(delivery)
            if self.watcher is not None:
                self.watcher.posted(delivery, call)
            timer.call = None
            fired += 1
        return fired

    def _new_ident(self) -> int:
        self._next_ident += 1
        return self._next_ident
