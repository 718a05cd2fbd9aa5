"""The machines of exercises and of lessons' runs, each recorded by itself if somebody wants that.

An exercise is tried in many scenes, each with a machine of its own; the last one is that in which
something went wrong. Where nothing is recorded, all of this does nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from xennet import adversary
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import Access, Adversary
from xennet.course.lesson import Verdict
from xennet.engine.choice import F, current, using
from xennet.engine.watched import Kind
from xennet.gnttab.copy import grant_copy
from xennet.hypervisor import Machine
from xennet.hypervisor.machine import told_of_machines
from xennet.runloop import Delivery
from xennet.trace.recorder import Recorder
from xennet.trace.stream import Event, header_of
from xennet.trace.writers import write

W = TypeVar("W")

#: Events of a scene that are kept; a page of a trace takes so many.
MOST_EVENTS = 40_000
_ACCESSES = frozenset(("load", "store", "update"))


class _Act:
    """What an end does, as the call of a delivery, by whose name it is told."""

    def __init__(self, what: str) -> None:
        self.__qualname__ = what

    def __call__(self) -> None:
        raise AssertionError("it is told, and not called")


class _Recorder(Recorder):
    """A recorder, and an adversary (or None) that is told of an access when it is recorded."""

    def __init__(self, adversary: Adversary | None) -> None:
        super().__init__()
        self._adversary = adversary

    def tell(self, memory: str, at: int, kind: Kind, value: bytes, old: bytes) -> None:
        super().tell(memory, at, kind, value, old)
        if self._adversary is not None and self._adversary.watched:
            self._adversary.tell(memory, at % PAGE_SIZE, kind, value, old)


class Recordings:
    """An engine (xennet.engine.choice.Engine) that has a recorder for each machine that is made.

    ``events`` are those of the machine that was attached last. ``adversary`` is told of accesses to
    the machines that are made while it is set.
    """

    name = "recordings"

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.adversary: Adversary | None = None
        self._recorder: Recorder = _Recorder(None)
        self._is_of_a_machine = True  # of none, so that the first one gets its own
        self._acts = 0
        #: Deliveries of the machine of ``events`` that are a learner's function.
        self._learners: set[int] = set()

    # -- the engine --------------------------------------------------------------------------------

    def kernel(self, function: F) -> F:
        if cast(object, function) is grant_copy:  # what a machine asks for before its arena
            self._next()
        return self._recorder.kernel(function)

    def view(self, buffer: memoryview | array[int]) -> Any:
        return self._recorder.view(buffer)

    def each(self, items: Sequence[Any]) -> Any:
        return self._recorder.each(items)

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        if what == "arena":
            self._next()
        return self._recorder.shared(memory, what, whose)

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        return self._recorder.private(indices, names, ring)

    def _next(self) -> None:
        """Take a new recorder, unless the one that is there has no machine yet."""
        if self._is_of_a_machine:
            self._recorder.detach()
            self._recorder = _Recorder(self.adversary)
            self._is_of_a_machine = False

    # -- what is recorded --------------------------------------------------------------------------

    def made(self, machine: Machine) -> None:
        """A machine is complete: the next arena is another one's."""
        self._is_of_a_machine = True

    def attach(self, machine: Machine) -> None:
        """Record the newest machine from now on."""
        events: list[Event] = []
        self.events = events
        self._learners.clear()

        def keep(event: Event) -> None:
            if len(events) < MOST_EVENTS:
                events.append(event)

        self._recorder.sink(keep)
        self._recorder.attach(machine)

    @contextmanager
    def acting(self, domid: int, what: str) -> Iterator[None]:
        """The block is what domain ``domid`` does; what is called with () is a learner's."""
        self._acts += 1
        delivery = Delivery("work", domid, self._acts)
        self._recorder.begins(delivery, _Act(what), (delivery,), 0)
        if what.endswith("()"):
            self._learners.add(self.events[-1]["d"])
        try:
            yield
        finally:
            self._recorder.ends(delivery)

    def conclude(self, verdict: Verdict) -> Event | None:
        """End the last recording with the event that says ``verdict``; a page opens at its cause.
        Returns the cause; None if nothing was recorded."""
        accesses = [event for event in self.events if event["kind"] in _ACCESSES]
        if not accesses:
            return None
        looked = [
            event for event in accesses if (event["kind"], event.get("field")) == verdict.look
        ]
        looked = [event for event in looked if event["d"] in self._learners] or looked
        states = [event for event in self.events if _writes_state(event)]
        cause = (looked or states or accesses)[-1]
        said = "OK" if verdict.ok else "NOT YET"
        self._recorder.check(verdict.idea, said, verdict.text, cause["t"], cause["n"])
        return cause

    def write(self, path: Path, command: Iterable[str]) -> None:
        """Write the last recording in the form that the suffix of ``path`` names. Raises OSError,
        ValueError."""
        write(header_of(command), iter(self.events), path)


def _writes_state(event: Event) -> bool:
    written = event["kind"] == "xenstore" and event["op"] == "WRITE" and not event["error"]
    return written and str(event["path"]).endswith("/state")


_here: Recordings | None = None


@contextmanager
def recorded() -> Iterator[Recordings]:
    """Within the block machines are recorded, each from :func:`begin` on."""
    global _here
    _here = recordings = Recordings()
    try:
        with told_of_machines(recordings.made), using(recordings):
            yield recordings
    finally:
        _here = None


def is_recording() -> bool:
    """Whether machines are recorded."""
    return _here is not None


def begin(machine: Machine | None) -> None:
    """The scene is set: what happens in ``machine`` from now on is recorded, if anything is."""
    if _here is not None and machine is not None:
        _here.attach(machine)


@contextmanager
def acting(domid: int, what: str) -> Iterator[None]:
    """The block is what domain ``domid`` does."""
    if _here is None:
        yield
    else:
        with _here.acting(domid, what):
            yield


def interleavings(
    scene: Callable[[], W], run: Callable[[W], object], act: Callable[[W, Access], object]
) -> Iterator[tuple[Access, W]]:
    """As :func:`xennet.adversary.interleavings`."""
    return adversary.interleavings(_staged(scene), run, act)


def record(scene: Callable[[], W], run: Callable[[W], object]) -> tuple[list[Access], W]:
    """As :func:`xennet.adversary.record`."""
    return adversary.record(_staged(scene), run)


def _staged(scene: Callable[[], W]) -> Callable[[], W]:
    """``scene`` with the recording engine in force above the adversary, if anything is recorded."""

    def staged() -> W:
        if _here is None:
            return scene()
        engine = current()
        _here.adversary = engine if isinstance(engine, Adversary) else None
        try:
            with using(_here):
                return scene()
        finally:
            _here.adversary = None

    return staged
