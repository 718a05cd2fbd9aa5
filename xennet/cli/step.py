"""``xennet step``: a vif, one delivery at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from xennet.cli.errors import BadInputError
from xennet.cli.output import say
from xennet.cli.run import BACKENDS, CHOICES, FRONTENDS, driver_option
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.step.stepped_run import Step, SteppedRun

_HELP = """\
  Enter     make the next delivery: the oldest of those that are ready
  NUMBER    make that one instead
  b         go back by one step
  /TEXT     what happened so far and has TEXT in it
  c         the command that comes to this place again
  ?         this
  q         leave"""


@click.command(
    epilog="Exit code: 0, or 2 for ports or choices that cannot be.",
)
@click.option("--guest", required=True, metavar="PORT", help="The port at the guest's end.")
@click.option("--host", required=True, metavar="PORT", help="The port at the host's end.")
@driver_option("--backend", BACKENDS, "Whose backend it is like.")
@driver_option("--frontend", FRONTENDS, "Whose frontend it is like.")
@click.option(
    "--choices",
    type=CHOICES,
    default="",
    metavar="CHOICES",
    help="Make these choices first, from the first delivery of the machine on.",
)
def step(guest: str, host: str, backend: str, frontend: str, choices: str) -> None:
    """Step through a run from the moment at which the vif is up.

    On a terminal you choose which ready delivery comes next; what is no terminal gets the whole
    run, a line for each step.
    """
    from xennet.choices import Choices, NoSuchChoiceError
    from xennet.step.run_start import RunStart
    from xennet.step.stepped_run import SteppedRun

    try:
        start = RunStart(guest, host, frontend, backend)
        session = SteppedRun(start, Choices.parse(choices))
    except NoSuchChoiceError as error:
        raise BadInputError(str(error)) from None
    try:
        if sys.stdin.isatty() and sys.stdout.isatty():
            _interactive(session)
        else:
            _piped(session)
    finally:
        session.close()


def _piped(session: SteppedRun) -> None:
    for made in session.steps:
        say(_line(made))
    while session.ready:
        say(_line(session.step()))
    say(f"end of the run: choices {session.choices}")


def _line(made: Step) -> str:
    return printable(f"{made.number:>5} {made.name}: {'; '.join(made.sentences) or 'nothing'}")


def _interactive(session: SteppedRun) -> None:
    for made in session.steps:
        say(_line(made))
    while True:
        _show_ready(session)
        try:
            word = click.prompt(">", prompt_suffix=" ", default="", show_default=False).strip()
        except click.Abort:
            return
        if word == "q":
            return
        _obey(session, word)


def _obey(session: SteppedRun, word: str) -> None:
    if word == "" or word.isdecimal():
        _make(session, int(word or 0))
    elif word == "b":
        say("back" if session.back() else "this is where the vif is up")
        if session.steps:
            _show(session.steps[-1])
    elif word.startswith("/"):
        found = session.found(word[1:])
        for number, sentence in found:
            say(printable(f"  step {number}: {sentence}"))
        say(f"{len(found)} found")
    elif word == "c":
        say(session.command)
    else:
        say(_HELP)


def _make(session: SteppedRun, choice: int) -> None:
    ready = session.ready
    if not ready:
        say("the run is at its end: b goes back, q leaves")
    elif choice >= len(ready):
        say(f"there is no {choice}: {len(ready)} are ready")
    else:
        _show(session.step(choice))


def _show(made: Step) -> None:
    say(printable(f"step {made.number}: {made.name}"))
    for sentence in made.sentences:
        say(printable(f"  {sentence}"))
    for ring in made.rings:
        say(f"  {ring}")


def _show_ready(session: SteppedRun) -> None:
    names = session.names
    say("" if names else "nothing is ready any more: the run is at its end")
    for number, name in enumerate(names):
        say(printable(f"  {number}  {name}{'  (Enter)' if number == 0 else ''}"))
