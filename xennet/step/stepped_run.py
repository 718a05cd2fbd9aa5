"""A run of a vif that is made step by step, forward and back, by choices (xennet.choices)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from attrs import field, frozen

from xennet.choices import Choices, ChosenOrder, NoSuchChoiceError, Player
from xennet.runloop import Delivery
from xennet.step.run_start import RunStart
from xennet.trace.recorder import recording
from xennet.trace.stream import Event

#: Kinds of events whose sentences are shown; the others are accesses, and what repeats these.
SHOWN = frozenset(
    ("publish", "notify", "packet", "copy", "send", "upcall", "xenstore", "state", "lost")
)
#: ns of virtual time; no timer is due later.
_END_OF_TIME = 1 << 62


@frozen
class Step:
    """One delivery that was made: its number from the first of the machine on, its name, what
    happened in it, and the rings' indices behind it."""

    number: int
    name: str
    sentences: tuple[str, ...] = field(repr=False)
    rings: tuple[str, ...] = field(repr=False)


class SteppedRun:
    """The run of ``start`` from the moment at which the vif is up; ``choices`` are made from the
    first delivery of the machine on, and shown from there.

    ``steps`` are the deliveries since the vif is up. Raises PortError for ports that cannot be,
    NoSuchChoiceError for choices that the run does not have, LinkError if the vif does not come up.
    """

    def __init__(self, start: RunStart, choices: Choices) -> None:
        self._start = start
        self._closing = ExitStack()
        self._begin(choices)

    @property
    def ready(self) -> Sequence[Delivery]:
        """The deliveries of which one comes next; time passes if there would be none. Empty at the
        end of the run."""
        loop, pump = self._link.machine.run_loop, self._link.host.pump
        while loop.idle and pump.clock.idle(pump, _END_OF_TIME):
            pass
        return loop.ready()

    @property
    def names(self) -> list[str]:
        """What each of :attr:`ready` is: which driver's work, for example."""
        return [self._names.get(str(delivery), str(delivery)) for delivery in self.ready]

    @property
    def choices(self) -> Choices:
        """What was chosen so far."""
        return self._player.noted.choices

    @property
    def command(self) -> str:
        """The command that comes to this place again."""
        return f"xennet step {self._start.options} --choices {self.choices}"

    def step(self, choice: int = 0) -> Step:
        """Make the delivery that is number ``choice`` of :attr:`ready`. Raises NoSuchChoiceError if
        there is none."""
        ready = self.ready
        if not 0 <= choice < len(ready):
            raise NoSuchChoiceError(self.choices.steps + 1, choice, [*map(str, ready)])
        self._wish = choice
        return self._made()

    def back(self) -> bool:
        """Undo the last step: the run is made anew up to there. Returns False if there is none."""
        if not self.steps:
            return False
        before = self.choices.first(self.choices.steps - 1)
        self.close()
        self._begin(before)
        return True

    def found(self, text: str) -> list[tuple[int, str]]:
        """(step, sentence) of each sentence that has ``text`` in it, whatever the case."""
        wanted = text.lower()
        return [
            (step.number, sentence)
            for step in self.steps
            for sentence in (step.name, *step.sentences)
            if wanted in sentence.lower()
        ]

    def close(self) -> None:
        """Give everything back."""
        self._closing.close()

    def _begin(self, choices: Choices) -> None:
        self.steps: list[Step] = []
        self._events: list[Event] = []
        self._names: dict[str, str] = {}
        self._wish = 0
        self._player = Player(choices, lambda ready: self._wish)
        with ExitStack() as closing:
            recorder = closing.enter_context(recording())
            self._link = self._start.link(closing)
            recorder.sink(self._note)
            recorder.attach(self._link.machine)
            closing.callback(recorder.detach)
            loop = self._link.machine.run_loop
            loop.take_turns(ChosenOrder(self._player))
            self._link.open()
            self._link.kick()
            self._events.clear()
            while self.choices.steps < choices.steps and self.ready:
                self._made()
            self._player.require_all_played()
            self._closing = closing.pop_all()

    def _note(self, event: Event) -> None:
        if event["kind"] in SHOWN or event["kind"] == "begin":
            self._events.append(event)
        if event["kind"] == "post":
            self._names[event["delivery"]] = event["name"]
        elif event["kind"] == "end":
            self._names.pop(event["delivery"], None)

    def _made(self) -> Step:
        self._events.clear()
        delivery = self._link.machine.run_loop.step()
        self._wish = 0
        begun = [event["name"] for event in self._events if event["kind"] == "begin"]
        told = tuple(event["text"] for event in self._events if event["kind"] in SHOWN)
        name = begun[0] if begun else str(delivery)
        step = Step(self.choices.steps, name, told, self._rings())
        self.steps.append(step)
        return step

    def _rings(self) -> tuple[str, ...]:
        netfront = self._link.netfront
        queue = netfront.queue if netfront is not None else None
        if queue is None:
            return ()
        ends = queue.tx_ring, queue.rx_ring
        return tuple(repr(one) for end in ends for one in (end.sring, end))
