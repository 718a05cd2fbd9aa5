"""Lesson 2: req_event and the lost wake-up."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define

from xennet.abi.words import REQ_EVENT, REQ_PROD
from xennet.adversary import STORE, Access
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question, boolean
from xennet.course.recordings import acting, interleavings, record
from xennet.course.ring_scene import BACKEND, FRONTEND, ends
from xennet.ring import MASK32, BackRing, FrontRing, SharedRing

SKELETON = '''\
"""Exercise 2: a backend that goes to sleep, and a frontend that knows whether to wake it."""


def final_check(ring, req_cons):
    """The backend has taken every request before number req_cons and wants to sleep.

    Ask for an event at the next request (ring.req_event), and return True if a request is there
    already (ring.req_prod), so that it must not sleep.
    """
    raise NotImplementedError


def publish(ring, new):
    """The frontend has written requests up to number new - 1. Publish them (ring.req_prod).

    Return True if the backend has asked for an event at one of the requests that this published
    (ring.req_event). All numbers are modulo 2^32.
    """
    raise NotImplementedError
'''

HINTS = (
    "final_check: a request may come before, between and behind your two lines. Try each order.",
    "If you look first and ask then, a request that comes in between finds nobody who asked.",
    "req_event = n means: wake me when req_prod becomes n. The next request makes it req_cons + 1.",
    "publish: old < req_event <= new, modulo 2^32: (new - event) % 2**32 < (new - old) % 2**32.",
)

_STARTS = (0, 1000, MASK32 - 1)
#: An event index that is the next one modulo 2^31, 2^16, 256: those moduli are told from 2^32.
_FAR = (1 << 31) + 1


@define
class _World:
    """A ring between two ends; what the last step of each end said."""

    front: FrontRing
    back: BackRing
    notified: bool = False
    sleeps: bool = False
    returned: object = None

    def send(self, count: int = 1) -> bool:
        """The frontend publishes requests, by ring.h. Returns whether it sends an event."""
        self.front.req_prod_pvt += count
        with acting(FRONTEND, "the frontend publishes"):
            notify = self.front.push_requests_and_check_notify()
        self.notified |= notify
        return notify

    def take(self) -> None:
        """The backend takes every request and sleeps if none came meanwhile, by ring.h."""
        with acting(BACKEND, "the backend takes requests and sleeps"):
            self.back.req_cons += self.back.unconsumed_requests
            self.sleeps = not self.back.final_check_for_requests()


def world(start: int = 0, event: int | None = None) -> _World:
    """A ring that has carried ``start`` requests; ``event`` is its req_event, else the one before
    the start: nobody waits."""
    return _World(*ends(start, start if event is None else event))


def examine(functions: Functions) -> str:
    """The verdict on a final_check() and a publish()."""

    def check(ring: SharedRing, req_cons: int) -> Any:
        with acting(BACKEND, "final_check()"):
            return functions["final_check"](ring, req_cons)

    def publish(ring: SharedRing, new: int) -> Any:
        with acting(FRONTEND, "publish()"):
            return functions["publish"](ring, new)

    for start in _STARTS:
        _sleeper(check, start)
    for start in (*_STARTS, MASK32):
        _awake(check, start)
    _publisher(publish)
    for start in _STARTS:
        _published(publish, start)
    return (
        "Each end first stores its own number and then loads the other's: of a request and a "
        "backend that goes to sleep at the same time, at least one sees the other. An event that "
        "nobody asked for is avoided."
    )


def _sleeper(check: Callable[..., Any], start: int) -> None:
    def run(at: _World) -> None:
        at.returned = boolean("final_check", check(at.back.sring, start))

    accesses, at = record(lambda: world(start), run)
    stores = [a.value for a in accesses if a.kind == STORE and a.word == REQ_EVENT]
    if not stores:
        raise MisunderstandingError(
            "no-event",
            "req_event was not set: the frontend is never asked for an event, and the backend "
            "sleeps for ever.",
        )
    if stores[-1] == start:
        raise MisunderstandingError(
            "event-of-the-past",
            f"req_event is {start}, which req_prod has reached already: no event comes for it. "
            f"The next request makes req_prod {(start + 1) & MASK32}: ask for that (req_cons + 1).",
            ("store", "req_event"),
        )
    if stores[-1] != (start + 1) & MASK32:
        raise MisunderstandingError(
            "other-event",
            f"All before {start} is taken, and req_event is {stores[-1]}: the next request makes "
            f"req_prod {(start + 1) & MASK32}, and no event comes for it.",
            ("store", "req_event"),
        )
    if at.returned:
        raise MisunderstandingError(
            "never-sleeps",
            "There was no request, and final_check() says that there is: it never sleeps.",
        )

    def act(at: _World, access: Access) -> None:
        at.send()

    for access, at in interleavings(lambda: world(start), run, act):
        if not at.returned and not at.notified:
            raise MisunderstandingError(
                "check-before-event",
                f"A lost wake-up. A request came right behind {_name(access)}. The frontend saw "
                "the old req_event, so it sent nothing; final_check() had looked already, so the "
                "backend sleeps. Set req_event first, then look once more.",
                ("load", "req_prod"),
            )


def _awake(check: Callable[..., Any], start: int) -> None:
    """A request has come before final_check() is called."""
    at = world(start)
    at.send()
    if not boolean("final_check", check(at.back.sring, start)):
        numbers = f"req_cons is {start} and req_prod {at.back.sring.req_prod}"
        if start == MASK32:
            raise MisunderstandingError(
                "wrap",
                f"{numbers}: a request is there, and final_check() says that none is. The numbers "
                "are modulo 2^32, so the greater one need not be the later one.",
                ("load", "req_prod"),
            )
        raise MisunderstandingError(
            "request-there",
            f"{numbers}: a request is there, and final_check() says that none is. It sleeps, and "
            "no event comes for what was published before it asked.",
            ("load", "req_prod"),
        )


def _name(access: Access) -> str:
    field = {REQ_PROD: "req_prod", REQ_EVENT: "req_event"}.get(access.word, "another word")
    return f"your {access.kind} of {field}"


def _publisher(publish: Callable[..., Any]) -> None:
    """publish() alone, in a table of cases: (old, how many, event relative to old)."""
    cases = [(old, n, e) for old in _STARTS for n in (1, 3) for e in (0, 1, 2, 3, 4, -5, 300, _FAR)]
    right, said = [], []
    for old, count, ahead in cases:
        at, mine = (world(old, (old + ahead) & MASK32) for _ in range(2))
        right.append(at.send(count))
        new = (old + count) & MASK32
        said.append(boolean("publish", publish(mine.front.sring, new)))
        if mine.front.sring.req_prod != new:
            raise MisunderstandingError(
                "not-published",
                f"After publish(ring, {new}) req_prod is {mine.front.sring.req_prod}.",
            )
    wrong = [case for case, mine, ring_h in zip(cases, said, right, strict=True) if mine != ring_h]
    if not wrong:
        return
    old, count, ahead = wrong[0]
    new, event = (old + count) & MASK32, (old + ahead) & MASK32
    publish(world(old, event).front.sring, new)  # once more: the last scene is the one to look at
    numbers = f"req_prod went from {old} to {new}, req_event is {event}"
    if all(said):
        raise MisunderstandingError(
            "notifies-always",
            f"{numbers}: nobody had asked, and an event was sent. It works, and costs a hypercall "
            "and an interrupt for each request: req_event is there to avoid that.",
            ("store", "req_prod"),
        )
    if not any(said):
        raise MisunderstandingError(
            "notifies-never",
            f"{numbers}: the backend asked for that. (What was req_prod before you stored it?)",
            ("store", "req_prod"),
        )
    if all(old == MASK32 - 1 for old, _, _ in wrong):
        raise MisunderstandingError(
            "wrap",
            f"{numbers}: the numbers are modulo 2^32, and so is what is between them.",
            ("store", "req_prod"),
        )
    if all(count > 1 for _, count, _ in wrong):
        raise MisunderstandingError(
            "equals-is-not-passes",
            f"{numbers}. Several requests may be published at once: what counts is whether "
            "req_prod passed req_event, not whether it stopped there.",
            ("store", "req_prod"),
        )
    raise MisunderstandingError(
        "between",
        f"{numbers}: an event {'has' if 0 < ahead <= count else 'need not'} to be sent. "
        "It is sent if old < req_event <= new.",
        ("store", "req_prod"),
    )


def _published(publish: Callable[..., Any], start: int) -> None:
    """publish(), while the backend goes to sleep behind any access of it."""

    def run(at: _World) -> None:
        at.returned = publish(at.front.sring, (start + 1) & MASK32)

    def act(at: _World, access: Access) -> None:
        at.take()

    for access, at in interleavings(lambda: world(start), run, act):
        if at.sleeps and not at.returned and at.back.req_cons == start:
            raise MisunderstandingError(
                "looks-before-it-publishes",
                f"A lost wake-up. The backend went to sleep right behind {_name(access)}: it set "
                "req_event and found no request, and publish() had looked at req_event already. "
                "Publish first, then look.",
                ("load", "req_event"),
            )


def _ask_notified(random: Random) -> Question:
    old = random.choice((random.randrange(1000), MASK32 - random.randrange(4)))
    count, ahead = random.randint(1, 6), random.randint(-3, 8)
    at = world(old, (old + ahead) & MASK32)
    notify = at.send(count)
    ring = at.front.sring
    return Question(
        f"req_event is {ring.req_event}. The frontend moves req_prod from {old} to "
        f"{ring.req_prod} (modulo 2^32). Does it send an event?",
        "yes" if notify else "no",
    )


def _ask_event(random: Random) -> Question:
    at = world(random.choice((random.randrange(1000), MASK32 - random.randrange(4))))
    start, count = at.back.req_cons, random.randint(1, 9)
    at.send(count)
    at.take()
    return Question(
        f"A backend has taken all requests before number {start}. {count} more come, it takes "
        "them, and goes to sleep. What is req_event then (modulo 2^32)?",
        str(at.back.sring.req_event),
    )


def _ask_batches(random: Random) -> Question:
    start = random.randrange(1000)
    at = world(start, start + random.randint(1, 6))
    event = at.front.sring.req_event
    batches = [random.randint(1, 3) for _ in range(4)]
    sent = [str(number) for number, count in enumerate(batches, 1) if at.send(count)]
    return Question(
        f"req_prod is {start}, req_event is {event}, and the backend does nothing. The frontend "
        f"publishes four times: {', '.join(map(str, batches))} requests. With which of the four "
        "does it send an event?",
        ", ".join(sent) or "none",
    )


def _ask_order(random: Random) -> Question:
    start, when = random.randrange(1000), random.randrange(3)
    at = world(start)
    ring = at.back.sring
    if when == 0:
        at.send()
    ring.req_event = start + 1
    if when == 1:
        at.send()
    seen = at.back.unconsumed_requests > 0
    if when == 2:
        at.send()
    moment = (
        "before the store",
        "between the store and the load",
        "behind the load",
    )[when]
    answer = f"{'sleeps not' if seen else 'sleeps'}; {'sent' if at.notified else 'not sent'}"
    return Question(
        f"A backend that has taken all before {start} stores {start + 1} in req_event (it was "
        f"{start}) and then loads req_prod. A request is published {moment}. Does the backend "
        "sleep, and is an event sent?",
        answer,
    )


def _ask_turns(random: Random) -> Question:
    """Both ends take turns; how many events are there in all?"""
    start = random.randrange(1000)
    at = world(start)
    at.take()
    steps: list[str] = []
    events = 0
    for _ in range(random.randint(4, 6)):
        if steps and random.random() < 0.4:
            at.take()
            steps.append("the backend takes all and goes to sleep")
        else:
            count = random.randint(1, 3)
            events += at.send(count)
            steps.append(f"{count} more")
    return Question(
        f"A backend that has taken all before {start} has gone to sleep. The frontend publishes "
        f"requests, now and then the backend works: {', '.join(steps)}. How many events does the "
        "frontend send?",
        str(events),
    )


LESSON = Lesson(
    number=2,
    title="req_event and the lost wake-up",
    makers=(_ask_notified, _ask_event, _ask_batches, _ask_order, _ask_turns),
    skeleton=SKELETON,
    functions=("final_check", "publish"),
    hints=HINTS,
    examine=examine,
)
