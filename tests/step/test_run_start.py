"""A machine between two ports alone makes the deliveries of the whole run, as far as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from xennet.choices import Choices, ChosenOrder, Player
from xennet.runloop import Delivery
from xennet.step.run_start import RunStart
from xennet.step.stepped_run import Asked, SteppedRun


def test_choices_of_a_machine_are_those_of_the_whole_run() -> None:
    start = RunStart("gen:100x3", "echo:")
    player = Player(Choices(), lambda there: len(there) - 1 if player.noted.steps % 3 else 0)
    ready = []

    def note(there: Sequence[Delivery]) -> int:
        ready.append(tuple(there))
        return player(there)

    with ExitStack() as closing:
        link = start.link(closing)
        loop = link.machine.run_loop
        loop.take_turns(ChosenOrder(note))
        link.open()
        link.kick()
        while player.noted.steps < 62:
            loop.step()
    run = SteppedRun(Asked.between(start.guest, start.host), Choices.parse("62"))
    run.back(62)
    whole = []
    for step in range(1, 63):
        whole.append(run.ready)
        run.step(dict(player.noted.choices.others).get(step, 0))
    run.close()
    assert ready == whole
