"""``xennet fuzz``: let coverage guide inputs into a target, and look at what was found."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import say, say_json
from xennet.cli.seconds import Seconds
from xennet.cli.signals import stopping
from xennet.run.printable import printable
from xennet.run.stop import Stop
from xennet.run.streams import dropping

if TYPE_CHECKING:
    from xennet.fuzz.campaign import Statistics

EXIT_FOUND = 1
#: Units of a round, where nobody says.
_SEEDS = 4
#: Seconds between two lines about how far it is.
_PERIOD = 1.0


class _Fuzz(CommandGroup):
    """Its commands, and a campaign for the name of a target."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from xennet.fuzz.target_table import TARGETS

        if args[0] in TARGETS or ":" in args[0]:
            return "TARGET", campaign, args
        if ctx.resilient_parsing or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        near = did_you_mean(args[0], [*self.list_commands(ctx), *TARGETS])
        raise click.UsageError(f"There is no target or command {args[0]!r}.{near}", ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from xennet.fuzz.target_table import TARGETS

        with formatter.section("Targets"):
            formatter.write_dl([(name, entry.shows) for name, entry in TARGETS.items()])
        super().format_epilog(ctx, formatter)


@click.group(cls=_Fuzz, epilog="Exit code: 0 nothing was found, 1 something was, 2 bad usage.")
def fuzz() -> None:
    """Let coverage guide inputs into a target: xennet fuzz TARGET [OPTIONS]."""


def _rules(ctx: click.Context, param: click.Parameter, value: str) -> frozenset[str]:
    return frozenset(filter(None, value.split(",")))


@click.command("TARGET", epilog="'xennet fuzz --help' lists the targets.")
@click.argument("target")
@click.option("--time", "seconds", type=Seconds(positive=True), help="End after so many seconds.")
@click.option("--rounds", type=click.IntRange(1), help="End after so many rounds.")
@click.option("--seed", type=click.IntRange(0), default=0, help="The first seed.")
@click.option("--seeds", type=click.IntRange(1, 10_000), help="Seeds: units of work in a round.")
@click.option(
    "--corpus",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory: begin with its inputs, keep inputs and findings there.",
)
@click.option(
    "--known",
    callback=_rules,
    default="",
    metavar="A12,...",
    help="Rules whose findings are none; xnb plays as if those defects were repaired.",
)
@click.option("--jobs", type=click.IntRange(1, 512), default=1, help="Work in so many processes.")
@click.option("--dask", metavar="ADDRESS", help="Work on the cluster of a dask scheduler.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - prints it.")
@click.option(
    "--statistics",
    "statistics_file",
    metavar="FILE",
    help="Write each second, as a line of JSON, how far it is.",
)
@click.pass_context
def campaign(
    ctx: click.Context,
    target: str,
    seconds: float | None,
    rounds: int | None,
    seed: int,
    seeds: int | None,
    directory: Path | None,
    known: frozenset[str],
    jobs: int,
    dask: str | None,
    json_file: str | None,
    statistics_file: str | None,
) -> None:
    """Fuzz TARGET until the time is up, the rounds are done, or Control-C.

    What is found depends on seeds and rounds alone, however many processes work.
    """
    from xennet.fuzz.campaign import Campaign, Settings
    from xennet.fuzz.corpus import Corpus
    from xennet.fuzz.report import document, lines
    from xennet.workers.chosen import open_workers

    number = seeds or max(_SEEDS, jobs)
    settings = Settings(target, tuple(range(seed, seed + number)), known, rounds)
    stop = Stop()
    if seconds is not None:
        stop.after(seconds)
    silent = json_file == "-"
    with ExitStack() as closed:
        closed.enter_context(_errors())
        report = closed.enter_context(_opened(None if silent else json_file))
        progress = _Progress(closed.enter_context(_opened(statistics_file)), silent)
        workers = closed.enter_context(closing(open_workers(jobs, dask)))
        closed.enter_context(stopping(stop, silent))
        if directory is None:
            made = Campaign(settings, tell=progress)
        else:
            corpus = Corpus(directory, target)
            made = Campaign(settings, list(corpus.load()), progress, corpus.add)
        result = made.run(workers, lambda: stop.over)
        files = {} if directory is None else made.write_findings(corpus, result)
        progress.end()
        told = document(settings, result, files, stop.reason)
        if report is not None:
            report.write(json.dumps(told, indent=2) + "\n")
    if silent:
        say_json(told)
    else:
        for line in lines(told):
            say(printable(line))
    if stop.reason:
        ctx.exit(128 + signal.Signals[stop.reason])
    ctx.exit(EXIT_FOUND if result.clusters else 0)


@contextmanager
def _errors() -> Iterator[None]:
    """A context in which what is wrong with files, targets and workers is bad input."""
    from xennet.fuzz.container import ContainerError
    from xennet.fuzz.fuzz_input import RawError
    from xennet.fuzz.target_table import UnknownTargetError
    from xennet.workers.mapping import WorkersError

    try:
        yield
    except (ContainerError, RawError, UnknownTargetError, WorkersError) as error:
        raise BadInputError(str(error)) from None
    except OSError as error:
        raise BadInputError(f"{error.filename or 'error'}: {error.strerror or error}") from None


def _opened(file: str | None) -> AbstractContextManager[IO[str] | None]:
    return nullcontext() if file is None else open(file, "w", encoding="utf-8")


class _Progress:
    """Tells how far a campaign is: a line on a terminal, and lines of JSON for programs."""

    def __init__(self, file: IO[str] | None, silent: bool) -> None:
        self._file = file
        stream = dropping(sys.stderr)
        self._stream = stream if stream.isatty() and not silent else None
        self._due = 0.0

    def __call__(self, statistics: Statistics) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _PERIOD
        if self._file is not None:
            self._file.write(json.dumps(statistics.to_json()) + "\n")
            self._file.flush()
        if self._stream is not None:
            from xennet.fuzz.report import progress_of

            self._stream.write(f"\r{progress_of(statistics):<79.79}")
            self._stream.flush()

    def end(self) -> None:
        """Erase the line."""
        if self._stream is not None:
            self._stream.write(f"\r{'':79}\r")
            self._stream.flush()
