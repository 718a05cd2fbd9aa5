"""The adversary engine: kernels as they are, over shared memory that reports every access to it.

A driver shares its rings with a peer that runs at the same time. In one process nothing comes
between two loads of a kernel, so no test sees that a slot is loaded twice, or that a driver sleeps
without a last look. With this engine a test does, between any two accesses to shared memory, what a
peer could have done just then.

    def scene():                                   # a driver and its peer, always the same
        return RawFrontend(...)

    for access, world in interleavings(scene, run=..., act=..., where=...):
        ...                                        # one run for each point, ``act`` was done there

A *point* lies right behind each access (:class:`Access`), numbered from 1; what a peer does before
the first access it does before the run. Accesses of the peer itself, inside ``act``, are no points.
Runs have to be deterministic: the points are counted in a first run without a peer, and a second
run that makes other accesses is an error (:class:`DivergedError`).

Shared is what goes through :func:`xennet.engine.choice.shared`: the three ring pages ("tx ring",
"rx ring", "ctrl ring"), the grant table as its owner sees it ("grant table"), a frontend's granted
pages ("tx buffers", "rx buffers", "ctrl page"), the arena in map and copy of grants ("arena"), and
the words of event channels ("shared info", "event array", "control block"). Everything else is
private; so is, here, a domain's ring to the store.

The idea is that of loom and of turmoil (Rust): to try the schedules instead of waiting for them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar, cast

from attrs import frozen

from xennet.engine.choice import F, using
from xennet.engine.watched import LOAD as LOAD
from xennet.engine.watched import STORE as STORE
from xennet.engine.watched import UPDATE as UPDATE
from xennet.engine.watched import Kind, WatchedView

W = TypeVar("W")


@frozen
class Access:
    """One access to shared memory; the point of this ``number`` lies right behind it.

    ``memory`` is the name of the memory, ``at`` the first byte accessed, ``size`` the number of
    bytes: 1, 2, 4 or 8 for an item of a view, any number for a range (payload, a slot of the
    control ring), which is one access. An atomic operation is one access as well: nothing comes
    between its load and its store. ``value`` is the value loaded or stored, or the value after an
    atomic operation, least significant byte first.
    """

    number: int
    memory: str
    at: int
    size: int
    kind: Kind
    value: int

    @property
    def word(self) -> int:
        """The 32-bit word in which the access begins (xennet.abi.words names those of a ring)."""
        return self.at // 4

    def __str__(self) -> str:
        where = f"{self.memory}, bytes {self.at}..{self.at + self.size - 1}"
        return f"point {self.number}: {self.kind} of {self.value:#x}, {where}"


Watcher = Callable[[Access], object]


class DivergedError(Exception):
    """A run made other accesses than the first run: it depends on more than its scene."""


class Adversary:
    """An engine (xennet.engine.choice.Engine) for :func:`xennet.engine.choice.using`; one for each
    scene.

    Memory that is set up while the engine is in force can be watched later. ``memories`` are the
    shared memories in the order in which they were set up: name -> the view that was given.
    """

    name = "adversary"

    def __init__(self) -> None:
        self.memories: list[tuple[str, memoryview]] = []
        self._watcher: Watcher | None = None
        self._number = 0

    def kernel(self, function: F) -> F:
        """The kernel itself, as a plain function."""
        return function

    def view(self, buffer: memoryview | array[int]) -> Any:
        """``buffer`` itself: it is private, or a view that :meth:`shared` has returned."""
        return buffer

    def each(self, items: Sequence[Any]) -> Any:
        """``items`` as a tuple."""
        return tuple(items)

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        """A WatchedView of ``memory``; the same one if it is called again."""
        if isinstance(memory, WatchedView):
            return cast(memoryview, memory)
        if what == "store ring":  # no peer of a vif shares it
            return memory
        self.memories.append((what, memory))
        return cast(memoryview, WatchedView(memory, what, self))

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        """``indices`` themselves: no peer comes near them."""
        return indices

    @property
    def watched(self) -> bool:
        """Whether accesses are being reported now."""
        return self._watcher is not None

    @contextmanager
    def watching(self, watcher: Watcher) -> Iterator[None]:
        """Within the block ``watcher`` is called behind every access, numbered from 1.

        Accesses of the watcher itself are not reported. Raises ValueError inside another such
        block.
        """
        if self._watcher is not None:
            raise ValueError("this adversary is being watched already")
        self._watcher, self._number = watcher, 0
        try:
            yield
        finally:
            self._watcher = None

    def tell(self, memory: str, at: int, kind: Kind, value: bytes, old: bytes) -> None:
        """Report one access to the watcher; called by views while there is one."""
        self._number += 1
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            try:
                word = int.from_bytes(value, "little")
                watcher(Access(self._number, memory, at, len(value), kind, word))
            finally:
                self._watcher = watcher


def record(scene: Callable[[], W], run: Callable[[W], object]) -> tuple[list[Access], W]:
    """The accesses of one undisturbed run, and the world after it.

    ``scene()`` sets a world up, with this engine in force; ``run(world)`` is watched.
    """
    adversary = Adversary()
    with using(adversary):
        world = scene()
    accesses: list[Access] = []
    with adversary.watching(accesses.append):
        run(world)
    return accesses, world


def _anywhere(_: Access) -> bool:
    return True


def interleavings(
    scene: Callable[[], W],
    run: Callable[[W], object],
    act: Callable[[W, Access], object],
    where: Callable[[Access], bool] = _anywhere,
) -> Iterator[tuple[Access, W]]:
    """For each point of a run that ``where`` picks, yield the access before the point, and a world
    in which ``act(world, access)`` was done at the point and ``run(world)`` was completed.

    Each world is a new one. Raises DivergedError when a run makes other accesses before its point.
    An exception that leaves a run has a note that names the point.
    """
    accesses, _ = record(scene, run)
    for point in filter(where, accesses):
        adversary = Adversary()
        with using(adversary):
            world = scene()
        met: list[Access] = []

        def watcher(
            access: Access, point: Access = point, met: list[Access] = met, world: W = world
        ) -> None:
            if access.number == point.number:
                met.append(access)
                act(world, access)

        try:
            with adversary.watching(watcher):
                run(world)
        except Exception as error:
            error.add_note(f"acted at {point}")
            raise
        if met != [point]:
            raise DivergedError(f"the first run made: {point}; this one: {[*map(str, met)]}")
        yield point, world


class RandomWrites:
    """A watcher that writes random values to random items of the shared memories called ``names``:
    at one point in ``every``, on average, up to ``burst`` items.

    Everything follows from ``random``. Values are likely to mean something: small, near the ends of
    16 and 32 bits, near the value that was there. Half of the writes go where the driver has just
    been.
    """

    def __init__(
        self,
        adversary: Adversary,
        names: set[str],
        random: Random,
        *,
        every: int = 8,
        burst: int = 3,
    ) -> None:
        self._memories = [view for name, view in adversary.memories if name in names]
        self._at_hand = {name: view.cast("B") for name, view in adversary.memories if name in names}
        self._random = random
        self._every = every
        self._burst = burst
        #: Number of items written so far.
        self.writes = 0

    def __call__(self, access: Access) -> None:
        random = self._random
        if random.randrange(self._every):
            return
        for _ in range(random.randint(1, self._burst)):
            view = self._at_hand.get(access.memory)
            if view is not None and random.random() < 0.5:
                near = access.at + 4 * random.randint(-1, 3)
                at = min(max(near, 0), len(view) - 4) & ~3
                old = int.from_bytes(view[at : at + 4], "little")
                view[at : at + 4] = self._value(old, 4).to_bytes(4, "little")
            else:
                view = random.choice(self._memories)
                at = random.randrange(len(view))
                view[at] = self._value(view[at], view.itemsize)
            self.writes += 1

    def _value(self, old: int, size: int) -> int:
        random = self._random
        near = random.choice(
            (old, 0, 1 << 16, 1 << 32, 4096, old ^ 1 << random.randrange(8 * size))
        )
        value = random.choice((near + random.randint(-3, 3), random.getrandbits(8 * size)))
        return value & ((1 << 8 * size) - 1)
