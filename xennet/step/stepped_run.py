"""A run of vifs that is made step by step, forward and back, by choices (xennet.choices)."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from attrs import field, frozen

from xennet.choices import Choices, ChosenOrder, NoSuchChoiceError, Player
from xennet.link.protocol import Link
from xennet.link.vifs import Stage, Vifs
from xennet.port.base import Port
from xennet.port.spec import open_ports
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.run.report import RunReport
from xennet.runloop import Delivery
from xennet.step.repeatable_ports import require_the_same_again
from xennet.step.sentences import TOLD, sentences
from xennet.step.turns import Turns
from xennet.step.vif_indices import RingIndices, rings_of
from xennet.trace.recorder import Recorder, recording
from xennet.trace.stream import Event

#: Steps of which is kept what happened in them, the newest ones; all others can be made anew.
KEPT = 1000

#: Name of a place at which a run can begin -> how far its vifs are there.
STAGES = {stage.name.lower(): stage for stage in Stage}


@frozen
class Asked:
    """A run: the ports of each vif's guest and host (none with a switch), and its options.
    ``words`` of a command line ask for the same. Raises PortError for a port that cannot give its
    frames a second time, or that keeps them: steps are undone by a run that is made anew."""

    guests: tuple[str, ...]
    hosts: tuple[str, ...]
    options: RunOptions = field(factory=RunOptions)
    words: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for spec in (*self.guests, *self.hosts):
            require_the_same_again(spec)

    @staticmethod
    def between(guest: str, host: str) -> Asked:
        """The run of one vif between two ports."""
        return Asked((guest,), (host,), words=("--guest", guest, "--host", host))

    @contextmanager
    def ports(self) -> Iterator[tuple[list[Port], list[Port]]]:
        """The ports of the guests and those of the hosts, open within the block."""
        with ExitStack() as closing:
            ports = open_ports([*self.guests, *self.hosts])
            for port in ports:
                closing.callback(port.close)
            yield ports[: len(self.guests)], ports[len(self.guests) :]


@frozen
class Step:
    """A delivery that was made: its ``number`` from the first of the machine on, its ``name``, the
    index ``choice`` of it among ``ready`` that were.

    ``did`` and ``behind`` are sentences about what happened in it, and behind it outside of all
    deliveries; ``rings`` are the indices then.
    """

    number: int
    name: str
    choice: int
    ready: int
    did: tuple[str, ...] = field(repr=False)
    behind: tuple[str, ...] = field(repr=False)
    rings: tuple[RingIndices, ...] = field(repr=False)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences."""
        return self.did + self.behind

    def has(self, text: str) -> bool:
        """Whether ``text`` is in the name or a sentence, whatever the case."""
        wanted = text.lower()
        return any(wanted in one.lower() for one in (self.name, *self.sentences))


class SteppedRun:
    """The run that ``asked`` tells of, between two deliveries.

    It is the very run of ``xennet run --choices``: handshake, frames, unplugging. It begins behind
    ``choices``, and not before ``start`` (None: where frames begin to flow if there are no choices,
    else behind these). ``told(step)`` is called behind each step from ``start`` on (None: from
    where frames begin to flow, or from behind the choices if that is earlier). ``steps`` are the
    last KEPT ones, ``before`` sentences about what happened in front of the first.

    At each place, ``ready`` are the deliveries of which one comes next, ``names`` is what each of
    them is, ``rings`` are the indices, ``stage`` says how far the vifs are. At the end of the run,
    ``ready`` is empty, and ``report`` is not None, or ``failure`` is what broke it off and was
    raised by the call that came so far.

    Raises PortError, LinkError, LimitError or PluginError for what cannot be run, NoSuchChoiceError
    for choices that the run does not have.
    """

    def __init__(
        self,
        asked: Asked,
        choices: Choices | None = None,
        start: Stage | None = None,
        told: Callable[[Step], object] = lambda step: None,
    ) -> None:
        self.asked = asked
        self._told = told
        self._tells = False
        choices = choices or Choices()
        least = start
        if least is None:
            least = Stage.HANDSHAKE if choices.steps else Stage.TRAFFIC
        self._tells_from = Stage.TRAFFIC if start is None else start
        self._begin(choices, lambda: self.stage < least)

    @property
    def choices(self) -> Choices:
        """What was chosen so far."""
        return self._player.noted.choices

    @property
    def over(self) -> bool:
        """Whether this is the end of the run."""
        return self._turns.over

    @property
    def words(self) -> str:
        """The words behind ``xennet run`` or ``xennet step`` that make this run up to here."""
        return f"{shlex.join(self.asked.words)} --choices {self.choices}"

    @property
    def command(self) -> str:
        """The command that comes to this place again."""
        if self.choices.steps:
            return f"xennet step {self.words}"
        return f"xennet step {shlex.join(self.asked.words)} --from handshake"

    @property
    def changed(self) -> frozenset[tuple[str, str]]:
        """(ring, index) of the indices that the last step changed."""
        before = dict(_flat(self.steps[-2].rings)) if len(self.steps) > 1 else {}
        return frozenset(
            where
            for where, value in _flat(self.rings)
            if value is not None and value != (before.get(where) or 0)
        )

    def step(self, choice: int = 0) -> Step:
        """Make the delivery that is number ``choice`` of :attr:`ready`. Raises NoSuchChoiceError if
        there is none."""
        if not 0 <= choice < len(self.ready):
            raise NoSuchChoiceError(self.choices.steps + 1, choice, [*map(str, self.ready)])
        self._wish = choice
        self._go(lambda: False)
        return self.steps[-1]

    def go_on(self, until: Callable[[], bool], most: int | None = None) -> None:
        """Make the oldest delivery until ``until()``, or to the end of the run, at least one and at
        most ``most`` (None: any number)."""
        if self.over:
            return
        end = None if most is None else self.choices.steps + most
        self._go(lambda: self.choices.steps != end and not until())

    def back(self, steps: int = 1) -> bool:
        """Undo the last ``steps`` steps: the run is made anew up to there. Returns False, and does
        nothing, if there are not so many."""
        number = self.choices.steps - steps
        if number < 0:
            return False
        before = self.choices.first(number)
        self.close()
        self._begin(before, lambda: False)
        return True

    def found(self, text: str) -> list[tuple[int, str]]:
        """(step, sentence) of each sentence of ``steps`` that has ``text`` in it, whatever the
        case."""
        wanted = text.lower()
        return [
            (step.number, sentence)
            for step in self.steps
            for sentence in (step.name, *step.sentences)
            if wanted in sentence.lower()
        ]

    def close(self) -> None:
        """Give everything back. May be repeated."""
        self._turns.leave()

    # -- the reader's thread -----------------------------------------------------------------------

    def _begin(self, choices: Choices, goes_on: Callable[[], bool]) -> None:
        self.steps: deque[Step] = deque(maxlen=KEPT)
        self.before: tuple[str, ...] = ()
        self.ready: tuple[Delivery, ...] = ()
        self.names: list[str] = []
        self.rings: tuple[RingIndices, ...] = ()
        self.stage = Stage.HANDSHAKE
        self.report: RunReport | None = None
        self.failure: Exception | None = None
        self._link: Vifs | None = None
        self._chosen = Step(0, "", 0, 0, (), (), ())
        self._events: list[Event] = []
        self._inside: int | None = None  # events of the step itself
        self._depth = 0
        self._all_names: dict[str, str] = {}
        self._wish = 0
        self._choices = choices
        self._player = Player(choices, lambda ready: self._wish)
        self._turns = Turns(self._run)
        self._go(goes_on)

    def _go(self, goes_on: Callable[[], bool]) -> None:
        """Let the run go on as long as ``goes_on()`` between two steps; choices are played."""
        self._goes_on = goes_on
        try:
            self._turns.go()
        except BaseException:
            self.close()
            raise

    # -- the run's thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            report = self._reported()
            self._player.require_all_played()
        except Exception as error:
            self.failure = error
            raise
        self.report = report

    def _reported(self) -> RunReport:
        asked = self.asked
        with asked.ports() as (guests, hosts), recording() as recorder:
            recorder.sink(self._note)

            def made(link: Link) -> None:
                assert isinstance(link, Vifs)
                self._watch(link, recorder)

            try:
                return run_ports(guests, hosts, asked.options, lambda *_: None, made=made)
            finally:
                recorder.detach()
                self.ready, self.names, self.rings = (), [], ()
                self._complete()

    def _watch(self, link: Vifs, recorder: Recorder) -> None:
        self._link = link
        recorder.attach(link.host.machine)
        link.host.machine.run_loop.take_turns(ChosenOrder(self._choose))

    def _note(self, event: Event) -> None:
        kind = event["kind"]
        if kind in TOLD:
            self._events.append(event)
        elif kind == "post":
            self._all_names[event["delivery"]] = event["name"]
        elif kind == "begin":
            self._depth += 1
        elif kind == "end":
            self._depth -= 1
            if not self._depth and self._inside is None:
                self._inside = len(self._events)

    def _choose(self, ready: Sequence[Delivery]) -> int:
        """The index of the next delivery (xennet.runloop.Chooser)."""
        assert self._link is not None
        self._turns.look()
        self.ready = tuple(ready)
        self._all_names = {str(one): self._all_names.get(str(one), str(one)) for one in ready}
        self.names = [*self._all_names.values()]
        self.rings = rings_of(self._link.vifs)
        self.stage = self._link.stage
        self._complete()
        waits = self._player.noted.steps >= self._choices.steps and not self._goes_on()
        self._tells |= waits or self.stage >= self._tells_from
        if waits:
            self._turns.wait()
        choice = self._player(ready)
        self._wish = 0
        self._chosen = Step(
            self._player.noted.steps, self.names[choice], choice, len(ready), (), (), ()
        )
        return choice

    def _complete(self) -> None:
        """Note what has happened in the step that was chosen last, and behind it."""
        events, inside = self._events, self._inside
        self._events, self._inside = [], None
        if not self._chosen.number:
            self.before = sentences(events)
        else:
            chosen = self._chosen
            step = Step(
                chosen.number,
                chosen.name,
                chosen.choice,
                chosen.ready,
                sentences(events[:inside]),
                sentences(events[inside:]) if inside is not None else (),
                self.rings,
            )
            self.steps.append(step)
            if self._tells:
                self._told(step)


def _flat(rings: Sequence[RingIndices]) -> Iterator[tuple[tuple[str, str], int | None]]:
    """((ring, index), value) of each index."""
    for ring in rings:
        for index, value in ring.values():
            yield (ring.name, index), value
