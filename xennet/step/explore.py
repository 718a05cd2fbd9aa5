"""All orders of the next deliveries of a run, and what becomes of each.

An order is what was chosen in ``depth`` deliveries. From there the run goes on to its end by
rounds: all that is ready is delivered once, by name, then what is ready then. Orders that come to
the same state (xennet.step.machine_state) are one from there on, so each state is looked at once,
and counted as often as orders come to it. A state is come back to by a run that is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from types import ModuleType

from attrs import define, field, frozen

from xennet.choices import Choices, ChosenOrder, NoSuchChoiceError, Player
from xennet.engine.choice import using
from xennet.host.domains import PluggedVif
from xennet.link.protocol import Link
from xennet.link.vifs import Stage, Vifs
from xennet.pump import Pump, VirtualClock
from xennet.run.links import run_ports
from xennet.runloop import Delivery, LivelockError
from xennet.step.lost_wakeup import lost_wakeups, ring_lines
from xennet.step.machine_state import digest_of, modules_of
from xennet.step.stepped_run import Asked
from xennet.trace.event_text import name_of

#: Most states that are looked at unless more are asked for.
MOST_STATES = 2000
#: Deliveries in which a run has to come to its end behind the last one that was chosen.
_MOST_BEHIND = 5_000


class TooManyStatesError(Exception):
    """There are more states than were to be looked at."""


class NotTheSameError(Exception):
    """A run that was made anew did not come to the same state."""


@define(eq=False)
class State:
    """A state: ``number`` in the order in which states were found, after ``step`` deliveries.

    ``choices`` come to it from the first delivery of the machine on, the first of ``orders`` ways.
    ``after`` has (name of the delivery, state) for each delivery that is ready in it, in the order
    of the choices; there is none at the end of the run, and behind the last delivery that was
    chosen, where ``end`` is what becomes of it.
    """

    number: int
    step: int
    choices: Choices
    digest: bytes = field(repr=False)
    ready: tuple[str, ...] = field(repr=False)
    orders: int = 0
    after: list[tuple[str, State]] = field(factory=list, repr=False)
    end: End | None = None


@define(eq=False)
class End:
    """A state in which the run is over: ``number`` from 1, ``choices`` that come to it, and of the
    ``orders`` how many do. If it is not ``over``, a driver works on without end, and the state is
    one of many. ``lost`` has a sentence for each ring on which something is left
    (xennet.step.lost_wakeup), or says by what an end broke; ``rings`` are the indices of both rings
    in its pages."""

    number: int
    choices: Choices
    digest: bytes = field(repr=False)
    over: bool
    lost: tuple[str, ...]
    rings: tuple[str, ...]
    orders: int = 0


@frozen
class Explored:
    """All orders of ``depth`` deliveries behind ``choices``; ``layers`` are the states after 0, 1,
    2 ... of them, ``ends`` what becomes of them."""

    depth: int
    choices: Choices
    layers: tuple[tuple[State, ...], ...]
    ends: tuple[End, ...]

    @property
    def orders(self) -> int:
        """The number of orders."""
        return sum(end.orders for end in self.ends)

    @property
    def states(self) -> Iterator[State]:
        """All states, in the order in which they were found."""
        return (state for layer in self.layers for state in layer)

    @property
    def losing(self) -> list[End]:
        """The ends at which something is left."""
        return [end for end in self.ends if end.lost]


@frozen
class Place:
    """A place in the run that ``asked`` tells of: behind ``choices``, and not before ``start``
    (None: where frames begin to flow, but not if there are choices)."""

    asked: Asked
    choices: Choices = field(factory=Choices)
    start: Stage | None = None

    @property
    def least(self) -> Stage:
        """How far the vifs are there at least."""
        if self.start is not None:
            return self.start
        return Stage.HANDSHAKE if self.choices.steps else Stage.TRAFFIC


@frozen
class Seen:
    """What is seen of a run where it stops: its ``choices``, the ``digest`` of its state, and the
    ``names`` of what is ready, none where no more frames flow. There ``lost`` and ``rings`` are as
    in :class:`End`, and ``over`` too."""

    choices: Choices
    digest: bytes = field(repr=False)
    names: tuple[str, ...] = ()
    over: bool = False
    lost: tuple[str, ...] = ()
    rings: tuple[str, ...] = ()


class _StopError(BaseException):
    """The run has been seen."""


class _Clock(VirtualClock):
    """A virtual clock that remembers until when was waited last: for an arrival, a run does not
    wait longer."""

    until = 0

    def idle(self, pump: Pump, until: int) -> bool:
        self.until = until
        return super().idle(pump, until)


class _Replay:
    """The run of ``asked`` behind ``choices``, and as soon as ``least`` is reached.

    It stops where the next delivery would be chosen; with ``finish`` it goes on by rounds to where
    no more frames flow.
    """

    def __init__(
        self, asked: Asked, choices: Choices, finish: bool, least: Stage = Stage.HANDSHAKE
    ) -> None:
        self._asked, self._choices = asked, choices
        self._finish, self._least = finish, least
        self._player = Player(choices)
        self._round: list[Delivery] = []
        self._judging = False
        self._waited = _Clock()
        self.seen: Seen | None = None

    def run(self) -> Seen:
        """Make the run as far as it goes. Raises NoSuchChoiceError for choices that it does not
        have while frames flow, and what xennet.run.links.run_ports raises."""
        asked = self._asked
        with asked.ports() as (guests, hosts), suppress(_StopError):
            try:
                with using("plain"):
                    run = run_ports(guests, hosts, asked.options, lambda *_: None, made=self._made)
                # Frames stopped flowing because an end broke, or the vif did not come up.
                reasons = tuple(run.verdict.reasons)
            except Exception as error:
                # Of a delivery the note of the loop tells; a driver of xennet raises nothing.
                where = getattr(error, "__notes__", ())
                if not where or not self._modules():
                    raise
                reasons = (f"{type(error).__name__}: {error} ({'; '.join(where)})",)
            digest = blake2b(repr(reasons).encode(), digest_size=16).digest()
            self.seen = Seen(self._player.noted.choices, digest, (), True, reasons)
        assert self.seen is not None
        if self.seen.choices.steps < self._choices.steps:
            raise NoSuchChoiceError(self._choices.steps, [*self._choices.indices()][-1], ())
        return self.seen

    def _made(self, link: Link) -> None:
        assert isinstance(link, Vifs)
        self._link, self._loop = link, link.host.machine.run_loop
        self._loop.take_turns(ChosenOrder(self._choose))
        link.host.pump.clock = self._waited
        carry = link.carry

        def carry_once(waiting: Callable[[], int | None] | None = None) -> None:
            carry(waiting)
            self._end(over=True)

        link.carry = carry_once  # type: ignore[method-assign]

    def _choose(self, ready: Sequence[Delivery]) -> int:
        if self._judging or self._link.stage > Stage.TRAFFIC:
            return 0
        made = self._player.noted.steps
        if made < self._choices.steps or self._link.stage < self._least:
            return self._player(ready)
        names = {one: name_of(one, call) for one, call in self._loop.calls().items()}
        if not self._finish:
            self.seen = Seen(self._player.noted.choices, self._digest(), tuple(names.values()))
            raise _StopError
        if made > self._choices.steps + _MOST_BEHIND:
            self._end(over=False)
        self._round = [one for one in self._round if one in names]
        if not self._round:
            due = ((name, one.kind, one.domid, one.ident, one) for one, name in names.items())
            self._round = [one for *_, one in sorted(due)]
        choice = ready.index(self._round.pop(0))
        self._player.noted.add(choice)
        return choice

    def _digest(self) -> bytes:
        vars(self._link).pop("carry")  # this replay is no part of the machine
        return digest_of(self._link, self._modules(), self._waited.until)

    def _modules(self) -> list[ModuleType]:
        """The modules of drivers that are not xennet's; they are loaded when the run is made."""
        return modules_of(self._asked.options.frontend, self._asked.options.backend)

    def _end(self, over: bool) -> None:
        """Frames flow no more: see what is left. Raises _StopError."""
        digest = self._digest()
        rings, lost = self._each_vif(ring_lines), self._each_vif(lost_wakeups)
        if lost:
            # It is not lost if time brings it: a driver may have put off an event.
            self._judging = True
            with suppress(LivelockError):
                self._link.host.pump.run_out(_MOST_BEHIND)
            later = self._each_vif(lost_wakeups)
            lost = tuple(sentence for sentence in lost if sentence in later)
        self.seen = Seen(self._player.noted.choices, digest, (), over, lost, rings)
        raise _StopError

    def _each_vif(self, told: Callable[[PluggedVif], Iterable[str]]) -> tuple[str, ...]:
        """What is told of each vif, with its name if there are several."""
        vifs = self._link.vifs
        named = [(f"{vif.name}: " if len(vifs) > 1 else "", vif) for vif in vifs]
        return tuple(name + line for name, vif in named for line in told(vif))


def explore(
    place: Place,
    depth: int,
    most: int = MOST_STATES,
    told: Callable[[int, int], object] = lambda step, states: None,
) -> Explored:
    """All orders of the ``depth`` deliveries behind ``place``.

    ``told(step, states)`` is called when there are all ``states`` after a number of deliveries.
    Raises TooManyStatesError for more than ``most`` of them in all, NotTheSameError if a driver
    keeps something from one run to the next, NoSuchChoiceError for choices that the run does not
    have while its frames flow, and what a run raises that cannot be (xennet.run.links.run_ports).
    """
    return _Explorer(place, depth, most, told).explore()


@define
class _Explorer:
    """One exploration."""

    place: Place
    depth: int
    most: int
    told: Callable[[int, int], object]
    _found: int = 0
    _ends: dict[bytes, End] = field(factory=dict)

    def explore(self) -> Explored:
        place = self.place
        root = _Replay(place.asked, place.choices, finish=False, least=place.least).run()
        layer = [self._state(0, root)]
        layer[0].orders = 1
        layers = [tuple(layer)]
        for step in range(1, self.depth + 1):
            layer = self._next(step, layer)
            if not layer:
                break
            layers.append(tuple(layer))
            self.told(step, len(layer))
        for state in (state for layer in layers for state in layer if not state.after):
            self._finish(state)
        ends = sorted(self._ends.values(), key=lambda end: end.number)
        return Explored(self.depth, layers[0][0].choices, tuple(layers), tuple(ends))

    def _next(self, step: int, layer: list[State]) -> list[State]:
        """The states after one more delivery in the states of a layer."""
        found: dict[bytes, State] = {}
        for state in layer:
            for choice, name in enumerate(state.ready):
                seen = _Replay(self.place.asked, state.choices.then(choice), finish=False).run()
                after = found.get(seen.digest)
                if after is None:
                    after = found[seen.digest] = self._state(step, seen)
                after.orders += state.orders
                state.after.append((name, after))
        return [*found.values()]

    def _finish(self, state: State) -> None:
        seen = _Replay(self.place.asked, state.choices, finish=True).run()
        end = self._ends.get(seen.digest)
        if end is None:
            number = len(self._ends) + 1
            end = End(number, seen.choices, seen.digest, seen.over, seen.lost, seen.rings)
            self._ends[seen.digest] = end
        end.orders += state.orders
        state.end = end

    def _state(self, step: int, seen: Seen) -> State:
        self._found += 1
        if self._found > self.most:
            raise TooManyStatesError(
                f"there are more than {self.most} states after {step} of {self.depth} deliveries"
            )
        # Drivers of xennet do the same again, which tests see to.
        own = modules_of(self.place.asked.options.frontend, self.place.asked.options.backend)
        if own and _Replay(self.place.asked, seen.choices, finish=False).run() != seen:
            raise NotTheSameError(
                f"choices {seen.choices} do not come to the same state again: a driver keeps "
                "something outside of the machine, or in what cannot be looked into (a generator)"
            )
        return State(self._found - 1, step, seen.choices, seen.digest, seen.names)
