"""``xennet step``: a run of vifs, one delivery at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xennet.cli.errors import BadInputError
from xennet.cli.orders import show_orders
from xennet.cli.output import say
from xennet.cli.run import ports_of, require_vif_room
from xennet.cli.run import run as run_command
from xennet.cli.whole_number import WholeNumber
from xennet.run.options import RunOptions
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.step.stepped_run import Step, SteppedRun

#: Options of ``xennet run`` that make a run what it is.
_OF_RUN = frozenset(
    ("guest", "host", "guests", "vifs", "switch", "queues", "split_channels", "mtu", "no_sg")
    + ("no_gso", "no_csum", "backend", "frontend", "evtchn", "grant_version", "quota_nodes")
    + ("arena",)
)
#: Places at which it may begin: xennet.step.stepped_run.STAGES, which --help need not import.
_STAGES = ("handshake", "traffic", "unplug")
#: The screen that --show prints.
_WIDTH, _HEIGHT = 80, 24

_HELP = """\
  Enter     make the next delivery: the oldest of those that are ready
  NUMBER    make that one instead
  b         go back by one step
  /TEXT     what happened so far and has TEXT in it
  c         the command that comes to this place again
  ?         this
  q         leave"""


@click.command(
    params=[p for p in run_command.params if p.name in _OF_RUN or p.name == "choices"],
    epilog="Exit code: 0, or 2 for ports or choices that cannot be; with --all 1 if an order "
    "loses a wake-up.",
)
@click.option(
    "--from",
    "start",
    type=click.Choice(_STAGES),
    help="Begin there, or behind the choices if that is later.  [default: traffic; with --choices "
    "behind these]",
)
@click.option("--lines", is_flag=True, help="On a terminal too: lines, and no whole screen.")
@click.option(
    "--show", is_flag=True, help=f"Print the screen, {_WIDTH} columns of {_HEIGHT} lines, and exit."
)
@click.option(
    "--all",
    "deliveries",
    type=WholeNumber(1, 1000),
    help="Try all orders of the next N deliveries, and tell which of them lose a wake-up.",
)
@click.option(
    "--states",
    type=WholeNumber(1),
    default=2000,
    show_default=True,
    metavar="M",
    help="With --all: give up beyond so many states.",
)
@click.option("-o", "out", metavar="FILE", help="With --all: write all states to .json or .dot.")
@click.pass_context
def step(
    ctx: click.Context,
    /,
    guest: tuple[str, ...],
    host: tuple[str, ...],
    choices: str | None,
    start: str | None,
    lines: bool,
    show: bool,
    deliveries: int | None,
    states: int,
    out: str | None,
    no_sg: bool,
    no_gso: bool,
    no_csum: bool,
    **asked: Any,
) -> None:
    """Step through a run: the handshake, the frames, the unplugging.

    On a terminal you choose which ready delivery comes next; what is no terminal gets the whole
    run, a line for each step.
    """
    from xennet.choices import Choices, NoSuchChoiceError
    from xennet.step.stepped_run import STAGES, Asked, SteppedRun

    if out is not None and deliveries is None:
        raise click.UsageError("-o is for --all N.")
    if deliveries is not None and start == "unplug":
        raise click.UsageError("--all is for frames, and none flow any more --from unplug.")
    if deliveries is not None and (lines or show):
        raise click.UsageError("--all prints what it finds: leave --lines and --show out.")
    options = RunOptions(sg=not no_sg, gso=not no_gso, csum=not no_csum, **asked)
    guests, hosts = ports_of(guest, host, options)
    require_vif_room(options)
    run = Asked(tuple(guests), tuple(hosts), options, tuple(_words(ctx)))
    piped = not (show or (sys.stdin.isatty() and sys.stdout.isatty()))
    try:
        begin = None if start is None else STAGES[start]
        if deliveries is not None:
            from xennet.step.explore import Place

            place = Place(run, Choices.parse(choices or ""), begin)
            ctx.exit(show_orders(place, deliveries, states, out))
        session = SteppedRun(
            run,
            Choices.parse(choices or ""),
            begin,
            (lambda made: say(_line(made))) if piped else lambda made: None,
        )
    except NoSuchChoiceError as error:
        raise BadInputError(printable(str(error))) from None
    try:
        if show:
            _show_screen(session)
        elif piped:
            _to_the_end(session)
        elif lines or os.environ.get("TERM", "dumb") in ("", "dumb") or not sys.stderr.isatty():
            _in_lines(session)
        else:
            _on_a_screen(session)
    finally:
        session.close()


def _words(ctx: click.Context) -> Iterator[str]:
    """The options that make the run what it is, as they were given."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name not in _OF_RUN or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            yield (parameter.opts if value else parameter.secondary_opts)[0]
            continue
        for one in value if isinstance(value, tuple) else (value,):
            yield from (parameter.opts[0], str(one))


def _to_the_end(session: SteppedRun) -> None:
    session.go_on(lambda: False)
    say(printable(_verdict(session)))
    say(f"end of the run: choices {session.choices}")


def _line(made: Step) -> str:
    return printable(f"{made.number:>5} {made.name}: {'; '.join(made.sentences) or 'nothing'}")


def _verdict(session: SteppedRun) -> str:
    report = session.report
    assert report is not None
    word = "GOOD" if report.verdict.good else "BAD"
    return f"{word}: {'; '.join(report.verdict.reasons)}"


def _show_screen(session: SteppedRun) -> None:
    from xennet.step.screen import Screen, plain

    for line in Screen(session).lines(_WIDTH, _HEIGHT):
        say(plain(line).rstrip())


def _on_a_screen(session: SteppedRun) -> None:
    from xennet.step.terminal import on_a_terminal

    on_a_terminal(session)
    say(printable(session.command))


# -- lines on a terminal ---------------------------------------------------------------------------


def _in_lines(session: SteppedRun) -> None:
    stage = session.stage.name.lower()
    say(f"{session.choices.steps} deliveries are made, what comes is the {stage}")
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
    if word == "" or (word.isdecimal() and word.isascii() and len(word) < 10):
        _make(session, int(word or 0))
    elif word == "b":
        say("back" if session.back() else "this is the start of the machine")
        if session.steps:
            _show(session, session.steps[-1])
    elif word.startswith("/"):
        found = session.found(word[1:])
        for number, sentence in found:
            say(printable(f"  step {number}: {sentence}"))
        say(f"{len(found)} found")
    elif word == "c":
        say(printable(session.command))
    else:
        say(_HELP)


def _make(session: SteppedRun, choice: int) -> None:
    if session.over:
        say("the run is at its end: b goes back, q leaves")
    elif choice >= len(session.ready):
        say(f"there is no {choice}: {len(session.ready)} are ready")
    else:
        with suppress(Exception):  # it is told what broke the run off
            session.step(choice)
        _show(session, session.steps[-1])


def _show(session: SteppedRun, made: Step) -> None:
    say(printable(f"step {made.number}: {made.name}"))
    for sentence in made.sentences:
        say(printable(f"  {sentence}"))
    for ring in session.rings:
        say(printable(f"  {ring}"))


def _show_ready(session: SteppedRun) -> None:
    if session.failure is not None:
        why = "".join(format_exception_only(session.failure)).rstrip()
        say(printable(f"the run broke off: {why}"))
        return
    if session.over:
        say(printable(f"the run is at its end. {_verdict(session)}"))
        return
    say("")
    for number, name in enumerate(session.names):
        say(printable(f"  {number}  {name}{'  (Enter)' if number == 0 else ''}"))
