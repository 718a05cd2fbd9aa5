"""Lesson 4: XenStore and the handshake."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define

from xennet.abi.xenbus import XenbusState
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question
from xennet.course.recordings import acting, begin
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.raw_peer import NodeValue
from xennet.testing.vif_setup import VifSetup
from xennet.xenbus.backend_rules import LINUX_BACKEND
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.frontend_rules import LINUX_FRONTEND, Phase
from xennet.xenbus.state import parse_state, state_name

SKELETON = '''\
"""Exercise 4: a frontend answers the state of its backend."""

INITIALISING, INIT_WAIT, CONNECTED, CLOSING, CLOSED = 1, 2, 4, 5, 6


def backend_changed(front):
    """The watch on the backend's state has fired: look, and do what is due now, if anything.

    front.otherend_state, front.state   the two states as the store has them
    front.features()                    the nodes of the backend's directory, name -> text
    front.allocate(split=False)         makes rings, grants and event channels; split: one channel
                                        for each ring, if feature-split-event-channels is "1"
    front.publish()                     writes the keys of rings and channels into the store
    front.release()                     ends all grants and channels
    front.set_state(4)                  writes the own state
    """
    raise NotImplementedError
'''

HINTS = (
    "InitWait of the backend says that its features are complete. Nothing earlier does.",
    "The backend reads the keys when it sees Connected: what has to be in the store by then?",
    "A watch may fire twice for one state. The own state says whether it was answered already.",
    "Closing: show Closed, but the rings may still be mapped. At Closed of the backend they are "
    "not: release, and show Closed. Closing may have been missed.",
)

S = XenbusState
_HOST, _GUEST = 0, 1


class _Watched(RawFrontend):
    """A frontend whose backend is quick: it acts right behind each state that is written."""

    on_state: Callable[[], None] | None = None

    def write(self, name: str, value: NodeValue) -> None:
        super().write(name, value)
        if name == "state" and self.on_state is not None:
            self.on_state()


@define
class _World:
    """Both ends of a vif, driven by hand; ``changed`` is the learner's."""

    setup: VifSetup
    front: _Watched
    back: RawBackend
    changed: Callable[[RawFrontend], Any]
    #: Why the backend could not use what was there when it saw Connected.
    missing: str = ""

    def look(self) -> None:
        """The watch fires."""
        with acting(_GUEST, "backend_changed()"):
            self.changed(self.front)

    def show(self, state: XenbusState) -> None:
        self.back.set_state(state)
        self.look()

    def attach(self) -> None:
        """What a backend does at once when the frontend is Connected."""
        if self.front.state != S.Connected or self.back.queues:
            return
        with acting(_HOST, "the backend maps"):
            try:
                self.back.attach()
            except XenbusError as error:
                self.missing = str(error)
                self.back.detach()


def _new(changed: Callable[[RawFrontend], Any]) -> _World:
    setup = VifSetup.make(frontend="raw", backend="raw")
    assert setup.frontend is not None
    assert setup.backend is not None
    front = _Watched(setup.frontend.hv, setup.frontend.node, settle=setup.settle)
    world = _World(setup, front, setup.backend, changed)
    front.on_state = world.attach
    begin(setup.host.machine)
    return world


def _connect(world: _World, split: int) -> None:
    """From the beginning to Connected, each step looked at."""
    front, back = world.front, world.back
    back.set_state(S.Initialising)
    world.look()
    if front.queues or front.state != S.Initialising:
        raise MisunderstandingError(
            "too-early",
            "The backend was Initialising and had not written its features, and you connected: "
            "what you read was not there yet. InitWait says that the features are complete.",
        )
    back.announce({"feature-split-event-channels": split})
    world.look()
    if world.missing:
        raise MisunderstandingError(
            "state-last",
            "A quick backend read your keys as soon as you showed Connected, and found: "
            f"{world.missing}. The state is a promise that the keys are there: write it last.",
        )
    if front.state != S.Connected or not back.queues:
        raise MisunderstandingError(
            "no-answer",
            "The backend is in InitWait and waits for your keys and your state Connected (4); "
            f"your state is {state_name(front.state)}.",
        )
    queue = front.queues[0]
    if (queue.tx_port != queue.rx_port) != bool(split):
        raise MisunderstandingError(
            "feature",
            f'The backend wrote feature-split-event-channels = "{split}", and you made '
            f"{'one channel' if split else 'two channels'}. What the other end can is what its "
            "features say; nothing else may be used.",
        )


def _same_again(world: _World) -> None:
    """The watch fires twice for InitWait, and then for Connected."""
    front = world.front
    before = len(front.notes)
    try:
        world.look()
    except LookupError:  # there are rings already
        before = -1
    if len(front.notes) != before:
        raise MisunderstandingError(
            "twice",
            "The watch fired once more, the backend was still in InitWait, and you connected a "
            "second time. A watch says that something may have changed, not what: your own state "
            "says whether this start was answered.",
        )
    world.show(S.Connected)
    if front.state != S.Connected:
        raise MisunderstandingError(
            "no-answer", "Both ends are Connected: there is nothing to answer, and you did."
        )


def _close(world: _World) -> None:
    front, back = world.front, world.back
    world.show(S.Closing)
    if not front.queues:
        raise MisunderstandingError(
            "still-mapped",
            "You ended your grants at the backend's Closing, while it has your rings mapped: the "
            "toolstack may have written that state. Only Closed says that nothing is mapped.",
        )
    if front.state not in (S.Closing, S.Closed):
        raise MisunderstandingError(
            "closing",
            "The backend shows Closing and waits, and so does the toolstack that wants to unplug "
            f"the vif; your state stays {state_name(front.state)}.",
        )
    back.detach()


def _closed(world: _World, how: str) -> None:
    front = world.front
    world.show(S.Closed)
    if front.queues or front.state != S.Closed:
        raise MisunderstandingError(
            f"closed-{how}",
            {
                "seen": "The backend is Closed, has unmapped everything, and you still have "
                "rings or do not show Closed: now is the time to release.",
                "missed": "The backend went from Connected to Closed before you looked, and you "
                "have not released or do not show Closed. A state may be missed: answer the one "
                "that is there, whatever was before.",
            }[how],
        )
    held = front.release()
    assert not held
    world.look()


def examine(functions: Functions) -> str:
    """Let the function live through whole lives of a vif."""
    for split, missed in ((1, False), (0, True)):
        world = _new(functions["backend_changed"])
        _connect(world, split)
        _same_again(world)
        if missed:
            world.back.detach()
        else:
            _close(world)
        _closed(world, "missed" if missed else "seen")
        world.setup.finish()
    return (
        "The keys were complete whenever the backend could look, each state was answered once, "
        "also when one was missed, and no grant ended while it was in use."
    )


# -- questions -------------------------------------------------------------------------------------


_WAITS = "nothing: it waits"
_PHASES = (Phase.RUNNING, Phase.UNLOADING)
_OWN = (S.Initialising, S.Connected, S.Closing, S.Closed)
_BACKEND = tuple(state for state in S if state <= S.Closed)
_POSSIBLE = "; ".join(
    sorted(
        {
            action.value
            for phase in _PHASES
            for backend in _BACKEND
            for own in _OWN
            for action in LINUX_FRONTEND.actions(phase, backend, own)
        }
    )
)


def _reaction(random: Random) -> Question:
    phase = random.choice((Phase.RUNNING, *_PHASES))
    backend = random.choice(_BACKEND)
    own = random.choice(_OWN)
    if backend is S.Connected:
        own = backend  # else an announcement is due, and left out
    doing = "runs" if phase is Phase.RUNNING else "is being unloaded"
    actions = LINUX_FRONTEND.actions(phase, backend, own)
    return Question(
        f"Linux's netfront {doing}; its state is {state_name(own)}. It looks at the backend's, "
        f"which is {state_name(backend)}. What does it do? Of these, one, two or none: "
        f"{_POSSIBLE}.",
        ", then ".join(action.value for action in actions) or _WAITS,
    )


def _walk(random: Random) -> Question:
    own = random.choice((S.Initialising, S.InitWait, S.Connected, S.Closing, S.Closed))
    frontend = random.choice((S.Initialising, S.Connected, S.Closing, S.Closed))
    target = LINUX_BACKEND.row(frontend).target
    assert target is not None
    walk = LINUX_BACKEND.walk(own, target)
    return Question(
        f"Linux's netback is in {state_name(own)}, and finds its frontend in "
        f"{state_name(frontend)} (the hotplug script has answered). Which states does it enter, "
        "one after the other?",
        ", ".join(state_name(state) for state in walk) or "none: it stays",
    )


def _text(random: Random) -> Question:
    value = random.choice(("{}", "{}abc", " {}", "{}\\n", "+{}", "x{}", "-{}", "0{}", ""))
    value = value.format(random.randrange(13))
    number = parse_state(value.replace("\\n", "\n").encode())
    return Question(
        f'The state node of a frontend holds "{value}". What is its state to Linux\'s netback?',
        state_name(number),
    )


LESSON = Lesson(
    number=4,
    title="XenStore and the handshake",
    makers=(_reaction, _walk, _text),
    skeleton=SKELETON,
    functions=("backend_changed",),
    hints=HINTS,
    examine=examine,
)
