"""The deterministic run loop: what happens next is a choice, and the caller can make it.

Everything that happens "later" in the machine (an event upcall, a work item, a watch event, a timer
that has run out) is a :class:`Delivery` in one queue. Nothing runs by itself: :meth:`RunLoop.step`
makes one delivery, the oldest or the one that the caller names, so a test or a fuzzer can try and
replay any interleaving. Time is virtual and stands still until the caller moves it.

A domain whose code waits in the middle of a delivery (for an answer of the store, say) calls
:meth:`RunLoop.step_meanwhile`, which makes deliveries of other domains.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from attrs import define, field


class Delivery(NamedTuple):
    """One thing that is due: its ``kind`` ("evtchn", "work", "xenstore", "timer"), the domain in
    which it happens, and ``ident`` (the port, or a number of the kind's own).

    A named tuple, not an attrs class: it is the key of the loop's dictionary and is hashed on
    every event.
    """

    kind: str
    domid: int
    ident: int

    def __str__(self) -> str:
        return f"{self.kind} {self.ident} of domain {self.domid}"


#: Domains that may wait inside each other's deliveries; while so many do, only domain 0, which
#: waits for nobody, goes on. This bounds the depth of the Python stack.
MOST_WAITING = 4

#: What makes a delivery happen.
Action = Callable[[Delivery], None]
#: Picks the index of the next delivery out of the ready ones.
Chooser = Callable[[Sequence[Delivery]], int]


class Order(Protocol):
    """Whose turn it is, for a loop that does not always take the oldest."""

    def add(self, delivery: Delivery) -> None:
        """It became ready."""

    def remove(self, delivery: Delivery) -> None:
        """It was made by choice, or taken back."""

    def next(self) -> Delivery:
        """Take the next one out; there is one."""


class LivelockError(Exception):
    """The machine did not come to rest; ``recent`` are the last deliveries, newest last."""

    def __init__(self, limit: int, recent: tuple[Delivery, ...]) -> None:
        tail = "; ".join(map(str, recent))
        super().__init__(f"not idle after {limit} deliveries, the last ones were: {tail}")
        self.limit = limit
        self.recent = recent


@define(order=True)
class Timer:
    """A call that is due at ``when`` (ns of virtual time); :meth:`RunLoop.cancel_timer` ends it."""

    when: int
    ident: int
    domid: int = field(order=False)
    call: Callable[[], None] | None = field(order=False)


class RunLoop:
    """Ready deliveries, each at most once, in the order in which they became due.

    ``steps`` counts the deliveries made so far. ``meanwhile`` picks what happens while a domain
    waits (None: the oldest delivery). With an ``order`` (:meth:`take_turns`) that one says what is
    next, instead of the oldest being it.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.meanwhile: Chooser | None = None
        self._ready: OrderedDict[Delivery, Action] = OrderedDict()
        self._order: Order | None = None
        self._recent: deque[Delivery] = deque(maxlen=16)
        self._timers: list[Timer] = []
        self._work: dict[Delivery, Callable[[], None]] = {}
        self._next_ident = 0
        self._now = 0
        self._current: Delivery | None = None
        self._waiting: list[int] = []
        self._ended: set[int] = set()
        self._faults: list[Exception] = []

    @property
    def now(self) -> int:
        """Virtual time in ns since the machine was made."""
        return self._now

    @property
    def idle(self) -> bool:
        """Whether nothing is ready (timers may still be waiting)."""
        return not self._ready

    @property
    def timers(self) -> int:
        """How many timers are kept: those that wait, and cancelled ones not cleared away yet."""
        return len(self._timers)

    def ready(self) -> tuple[Delivery, ...]:
        """What could happen next, oldest first."""
        return tuple(self._ready)

    def post(self, delivery: Delivery, action: Action) -> bool:
        """Make ``delivery`` ready; False, and nothing changed, when it already is.

        ``action`` is called with the delivery when its turn comes. The delivery is out of the
        queue by then, so the action may post it again.
        """
        if delivery in self._ready:
            return False
        self._ready[delivery] = action
        if self._order is not None:
            self._order.add(delivery)
        return True

    def take_turns(self, order: Order) -> None:
        """From now on ``order`` says what is next; it is told what is ready already."""
        for delivery in self._ready:
            order.add(delivery)
        self._order = order

    def defer(self, domid: int, work: Callable[[], None]) -> Delivery:
        """Make ``work`` ready as a work item of its own."""
        return self._post_call("work", domid, self._new_ident(), work)

    def cancel(self, delivery: Delivery) -> bool:
        """Take a delivery back; False when it was not ready (any more)."""
        self._work.pop(delivery, None)
        if delivery not in self._ready:
            return False
        self._take(delivery)
        return True

    def forget(self, domid: int) -> int:
        """Drop what is ready or timed for a domain that is gone; returns how many things that were.

        Walks the whole queue: it is for domain destruction. If the domain waits, its code goes on
        only to be told so: what that raises is dropped.
        """
        if domid in self._waiting:
            self._ended.add(domid)
        gone = [delivery for delivery in self._ready if delivery.domid == domid]
        for delivery in gone:
            self.cancel(delivery)
        kept = [timer for timer in self._timers if timer.domid != domid]
        dropped = sum(timer.call is not None for timer in self._timers if timer.domid == domid)
        heapq.heapify(kept)
        self._timers = kept
        return len(gone) + dropped

    def call_at(self, when: int, domid: int, call: Callable[[], None]) -> Timer:
        """Run ``call`` in ``domid`` once virtual time has reached ``when`` (ns)."""
        timer = Timer(when, self._new_ident(), domid, call)
        heapq.heappush(self._timers, timer)
        self._fire()
        return timer

    def call_after(self, delay: int, domid: int, call: Callable[[], None]) -> Timer:
        """Run ``call`` in ``domid`` ``delay`` ns from now."""
        return self.call_at(self._now + delay, domid, call)

    def cancel_timer(self, timer: Timer) -> bool:
        """End a timer, also one that is due but not delivered yet; False when it has run."""
        if timer.call is not None:
            timer.call = None  # its place in the heap is cleared when it comes to the top
            return True
        return self.cancel(Delivery("timer", timer.domid, timer.ident))

    def advance(self, ns: int) -> int:
        """Let ``ns`` >= 0 of virtual time pass; returns how many timers became ready."""
        if ns < 0:
            raise ValueError(f"time does not go back by {-ns} ns")
        self._now += ns
        return self._fire()

    def step(self, choice: int | Delivery | None = None) -> Delivery | None:
        """Make one delivery and return it; None when nothing is ready.

        ``choice`` is an index into :meth:`ready`, one of its members, or None for the oldest, or
        whichever the order says.
        IndexError or KeyError when there is no such delivery; RuntimeError inside a delivery. An
        exception of the action comes out as it is, with a note that names the delivery; the
        delivery counts as made and the loop can go on. So does one that another domain's delivery
        raised while this one waited.
        """
        if self._current is not None:
            raise RuntimeError(f"step() inside a delivery ({self._current})")
        if choice is None:
            if not self._ready:
                return None
            if self._order is None:
                delivery, action = self._ready.popitem(last=False)
            else:
                delivery = self._order.next()
                action = self._ready.pop(delivery)
        else:
            delivery = self._pick(choice)
            action = self._take(delivery)
        self.steps += 1
        self._recent.append(delivery)
        self._current = delivery
        try:
            action(delivery)
        except Exception as error:
            if delivery.domid not in self._ended:
                error.add_note(f"while delivering {delivery} (step {self.steps})")
                raise
        finally:
            self._current = None
            self._ended.discard(delivery.domid)
        if self._faults and not self._waiting:
            raise self._faults.pop(0)
        return delivery

    def step_meanwhile(self, domid: int) -> Delivery | None:
        """Make one delivery while code of ``domid`` waits, inside a delivery or outside of all;
        None when nothing can happen.

        It is of a domain that does not wait itself, and of domain 0 once MOST_WAITING domains wait;
        ``meanwhile`` picks, and may act itself: if then the picked delivery is not due any more,
        none is made. What the waiting domain is due is not delivered, and time stands still.
        An exception of the delivery is none of the waiting domain's business: the :meth:`step`
        that is under way raises it at its end. Outside of all deliveries it comes out at once.
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

    def run_until_idle(
        self,
        choose: Chooser | None = None,
        limit: int = 1_000_000,
        *,
        advance_timers: bool = False,
    ) -> int:
        """Step until nothing is ready; returns the number of deliveries.

        ``choose`` picks from the ready deliveries each time (None: oldest first), also while a
        domain waits. With ``advance_timers`` time jumps to the next timer whenever nothing else is
        ready, until there is no timer either. Raises LivelockError when there is still something
        to do after ``limit`` deliveries.
        """
        made = 0
        before = self.meanwhile
        self.meanwhile = before if choose is None else choose
        try:
            while True:
                while self._ready:
                    if made == limit:
                        raise LivelockError(limit, tuple(self._recent))
                    self.step(None if choose is None else choose(self.ready()))
                    made += 1
                if not advance_timers or (due := self.next_due) is None:
                    return made
                self.advance(due - self._now)
        finally:
            self.meanwhile = before

    def _take(self, delivery: Delivery) -> Action:
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
    def next_due(self) -> int | None:
        """When the next timer runs out, None without one."""
        # Cancelled ones on the way are thrown away.
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return self._timers[0].when if self._timers else None

    def _fire(self) -> int:
        fired = 0
        while (due := self.next_due) is not None and due <= self._now:
            timer = heapq.heappop(self._timers)
            assert timer.call is not None
            self._post_call("timer", timer.domid, timer.ident, timer.call)
            timer.call = None
            fired += 1
        return fired

    def _post_call(self, kind: str, domid: int, ident: int, call: Callable[[], None]) -> Delivery:
        delivery = Delivery(kind, domid, ident)
        self._work[delivery] = call
        self.post(delivery, self._call)
        return delivery

    def _call(self, delivery: Delivery) -> None:
        self._work.pop(delivery)()

    def _new_ident(self) -> int:
        self._next_ident += 1
        return self._next_ident
