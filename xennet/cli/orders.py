"""``xennet step --all``: all orders of the next deliveries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xennet.cli.errors import BadInputError
from xennet.cli.output import say
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.step.explore import Place


def show_orders(place: Place, deliveries: int, most: int, out: str | None) -> int:
    """Print all orders of ``deliveries`` behind ``place``, of at most so many states, and write
    them to a file. Returns the exit code."""
    from xennet.step.explore import NotTheSameError, TooManyStatesError, explore
    from xennet.step.orders_text import WRITERS, text_lines

    suffix = Path(out).suffix if out is not None else ""
    if out is not None and suffix not in WRITERS:
        raise click.UsageError(f"-o {out}: the name has to end in {' or '.join(WRITERS)}.")

    def told(step: int, states: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"{step} of {deliveries} deliveries: {states} states", err=True)

    try:
        explored = explore(place, deliveries, most, told)
    except TooManyStatesError as error:
        raise BadInputError(f"{error}: a smaller --all, or a greater --states") from None
    except NotTheSameError as error:
        raise BadInputError(str(error)) from None
    if out is not None:
        try:
            Path(out).write_text(WRITERS[suffix](explored, place.asked))
        except OSError as error:
            raise BadInputError(f"{out}: {error.strerror}") from None
    for line in text_lines(explored, place.asked):
        say(printable(line))
    return 1 if explored.losing else 0
