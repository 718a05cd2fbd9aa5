"""``xennet fuzz``: let coverage guide inputs into a target, and look at what was found."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import say, say_json
from xennet.cli.seconds import Seconds
from xennet.cli.signals import stopping
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable
from xennet.run.stop import Stop
from xennet.run.streams import dropping

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from xennet.fuzz.campaign import Statistics
    from xennet.fuzz.target import Target

EXIT_FOUND = 1
#: Seconds between two lines about how far it is.
_PERIOD = 1.0


class _Fuzz(CommandGroup):
    """Its commands, and a campaign for the name of a target."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from xennet.fuzz.target_table import TARGETS

        if args[0] in TARGETS or ":" in args[0]:
            return args[0], campaign, args[1:]
        if ctx.resilient_parsing or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        near = did_you_mean(args[0], [*self.list_commands(ctx), *TARGETS])
        raise click.UsageError(f"There is no target or command {args[0]!r}.{near}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        from xennet.fuzz.target_table import TARGETS

        targets = [
            CompletionItem(name, help=entry.shows)
            for name, entry in TARGETS.items()
            if name.startswith(incomplete)
        ]
        return [*super().shell_complete(ctx, incomplete), *targets]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from xennet.fuzz.target_table import TARGETS

        with formatter.section("Targets"):
            formatter.write_dl([(name, entry.shows) for name, entry in TARGETS.items()])
        super().format_epilog(ctx, formatter)


_EPILOG = "Exit code: 0 nothing was found, 1 something was, 2 bad usage, 130 after Control-C."


@click.group(cls=_Fuzz, epilog=_EPILOG)
def fuzz() -> None:
    """Let coverage guide inputs into a target: xennet fuzz TARGET [OPTIONS]."""


def _rules(ctx: click.Context, param: click.Parameter, value: str) -> frozenset[str]:
    return frozenset(filter(None, value.split(",")))


FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
TARGET = click.argument("target")
DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
SEED = click.option("--seed", type=WholeNumber(0), default=0, help="The first seed.")
SEEDS = click.option(
    "--seeds",
    type=WholeNumber(1, 10_000),
    default=4,
    show_default=True,
    help="Seeds: units of work in a round, no fewer than there are workers to be of use.",
)
KNOWN = click.option(
    "--known",
    callback=_rules,
    default="",
    metavar="A12,...",
    help="Rules whose findings are none; xnb plays as if those defects were repaired.",
)
JOBS = click.option(
    "--jobs", type=WholeNumber(1, 512), default=1, help="Work in so many processes."
)
DASK = click.option("--dask", metavar="ADDRESS", help="Work on the cluster of a dask scheduler.")
JSON = click.option(
    "--json", "json_file", metavar="FILE", help="Write the report as JSON; - prints it."
)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="'xennet fuzz --help' lists the targets.")
@click.option("--time", "seconds", type=Seconds(positive=True), help="End after so many seconds.")
@click.option("--rounds", type=WholeNumber(1), help="End after so many rounds.")
@SEED
@SEEDS
@click.option(
    "--corpus",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory: begin with its inputs, keep inputs and findings there.",
)
@KNOWN
@JOBS
@DASK
@JSON
@click.option(
    "--statistics",
    "statistics_file",
    metavar="FILE",
    help="Write each second, as a line of JSON, how far it is.",
)
@click.pass_context
def campaign(
    ctx: click.Context,
    seconds: float | None,
    rounds: int | None,
    seed: int,
    seeds: int,
    directory: Path | None,
    known: frozenset[str],
    jobs: int,
    dask: str | None,
    json_file: str | None,
    statistics_file: str | None,
) -> None:
    """Fuzz that target until the time is up, the rounds are done, or Control-C.

    What is found depends on seeds and rounds alone, however many processes work.
    """
    from xennet.fuzz.campaign import Campaign, Settings
    from xennet.fuzz.corpus import Corpus
    from xennet.fuzz.report import document, lines
    from xennet.workers.chosen import open_workers

    target = str(ctx.info_name)  # the command goes by the target's name
    settings = Settings(target, tuple(range(seed, seed + seeds)), known, rounds)
    silent = json_file == "-"
    with ExitStack() as closed:
        closed.enter_context(_errors())
        report = closed.enter_context(_opened(None if silent else json_file))
        progress = _Progress(closed.enter_context(_opened(statistics_file)), silent)
        workers = closed.enter_context(closing(open_workers(jobs, dask)))
        stop = closed.enter_context(_stop(seconds, silent))
        if directory is None:
            made = Campaign(settings, tell=progress)
        else:
            corpus = Corpus(directory, target)
            made = Campaign(settings, list(corpus.load()), progress, corpus.add)
        closed.enter_context(closing(made))
        result = made.run(workers, lambda: stop.over)
        files = {} if directory is None else made.write_findings(corpus, result.clusters)
        progress.end()
        told = document(settings, result, files, stop.reason)
        _write(report, told)
    _show(told, silent, lines(told))
    ctx.exit(_exit_code(stop, bool(result.clusters)))


@fuzz.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--base",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A directory as --corpus keeps it: inputs to begin with, findings that are none.",
)
@click.option(
    "--time",
    "seconds",
    type=Seconds(positive=True),
    default=600.0,
    show_default=True,
    help="End after so many seconds, which all targets share.",
)
@click.option("--rounds", type=WholeNumber(1), help="End each target after so many rounds.")
@click.option(
    "--new",
    "new",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory for new findings, as --corpus keeps it.",
)
@SEED
@SEEDS
@KNOWN
@JOBS
@DASK
@JSON
@click.pass_context
def ci(
    ctx: click.Context,
    targets: tuple[str, ...],
    base: Path,
    seconds: float,
    rounds: int | None,
    new: Path | None,
    seed: int,
    seeds: int,
    known: frozenset[str],
    jobs: int,
    dask: str | None,
    json_file: str | None,
) -> None:
    """Look for findings that are not in a base directory, in all targets or some.

    The base is only read. Exit code: 0 nothing new was found, 1 something was, 2 bad usage, 130
    after Control-C.
    """
    from xennet.fuzz.campaign import Settings
    from xennet.fuzz.ci import new_findings
    from xennet.fuzz.report import ci_document, ci_lines
    from xennet.fuzz.target_table import TARGETS
    from xennet.workers.chosen import open_workers

    silent = json_file == "-"
    wanted = targets or tuple(TARGETS)
    told = []
    with ExitStack() as closed:
        closed.enter_context(_errors())
        report = closed.enter_context(_opened(None if silent else json_file))
        progress = _Progress(None, silent)
        workers = closed.enter_context(closing(open_workers(jobs, dask)))
        stop = closed.enter_context(_stop(None, silent))
        for target in wanted:
            settings = Settings(target, tuple(range(seed, seed + seeds)), known, rounds)
            over = _share(stop, seconds / len(wanted))
            told.append(new_findings(settings, base, new, workers, over, progress))
            if stop.reason:
                break
        progress.end()
        document = ci_document(told, stop.reason)
        _write(report, document)
    _show(document, silent, ci_lines(document))
    ctx.exit(_exit_code(stop, any(target.result.clusters for target in told)))


@fuzz.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def replay(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Execute a finding again.

    Exit code: 0 it is the same, 1 it is a different one, 2 it is gone. An error (bad usage, a file
    of no use) is 2 as well, with nothing on standard output and a line on standard error that
    begins with "xennet: ".
    """
    from xennet.fuzz.replay import replay as replay_file

    with _errors():
        replayed = replay_file(file)
    verdict = replayed.verdict
    if as_json:
        say_json(replayed.to_json())
    else:
        say(f"{verdict.name.lower()}: {printable(replayed.says)}")
    ctx.exit(verdict.value)


@fuzz.command()
@FILE
@click.option("-o", "--output", type=_NEW_FILE, help="Write the reduced input to this file.")
@click.option("--pytest", "test", type=_NEW_FILE, help="Write the test to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def minimise(
    ctx: click.Context, file: Path, output: Path | None, test: Path | None, as_json: bool
) -> None:
    """Reduce a finding to the fewest slots, and tell which fields matter.

    Then comes a test of it. Exit code: 0 done, 1 the finding is gone, 2 bad usage.
    """
    from xennet.fuzz.finding_file import write_finding
    from xennet.fuzz.minimise import GoneError, minimised
    from xennet.fuzz.replay import open_recorded
    from xennet.whole_file import write_whole

    with _errors():
        recorded, target = open_recorded(file)
        try:
            small = minimised(recorded, target)
        except GoneError as error:
            say(f"{file}: {error}")
            ctx.exit(EXIT_FOUND)
        finally:
            target.close()
        if output is not None:
            write_finding(output, small.recorded)
        if test is not None:
            write_whole(test, small.test.encode())
    if as_json:
        say_json(small.to_json())
        return
    for line in small.lines():
        say(printable(line))
    say(f"\n{small.test}", nl=False)


@fuzz.group(cls=CommandGroup)
def corpus() -> None:
    """Inputs of a target, and raw files of other fuzzers."""


@corpus.command("import")
@TARGET
@DIRECTORY
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def import_(target: str, directory: Path, files: tuple[Path, ...]) -> None:
    """Put raw FILES into the corpus in DIRECTORY: pages, or folders of them."""
    from xennet.fuzz.corpus import Corpus, import_raw

    with _errors(), closing(_target(target)) as opened:
        number = import_raw(Corpus(directory, target), opened, files)
    say(f"{number} inputs were imported")


@corpus.command()
@TARGET
@DIRECTORY
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
def export(target: str, directory: Path, output: Path) -> None:
    """Write the inputs in DIRECTORY to raw files in the folder OUTPUT."""
    from xennet.fuzz.corpus import Corpus, export_raw

    with _errors(), closing(_target(target)) as opened:
        number = export_raw(Corpus(directory, target), opened, output)
    say(f"{number} files were written")


@corpus.command()
@TARGET
@DIRECTORY
def prune(target: str, directory: Path) -> None:
    """Remove the inputs that show nothing which others do not show."""
    from xennet.fuzz.corpus import Corpus, pruned

    corpus = Corpus(directory, target)
    with _errors(), closing(_target(target)) as opened:
        inputs = list(corpus.load())
        kept = pruned(opened, inputs)
        removed = corpus.keep_only(kept)
    say(f"{len(kept)} inputs were kept, {removed} removed")


@corpus.command()
@TARGET
@DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def coverage(target: str, directory: Path, as_json: bool) -> None:
    """Tell which lines of the source the inputs reach, and how stable they are.

    Of functions that were never entered nothing is told.
    """
    from xennet.engine.choice import using
    from xennet.fuzz.campaign import stability
    from xennet.fuzz.corpus import Corpus
    from xennet.fuzz.line_coverage import line_coverage
    from xennet.fuzz.report import coverage_document, coverage_lines

    with _errors(), using("plain"), closing(_target(target)) as opened:
        inputs = list(Corpus(directory, target).load())
        document = coverage_document(
            target, len(inputs), stability(opened, inputs), line_coverage(opened, inputs)
        )
    _show(document, as_json, coverage_lines(document))


def _target(name: str) -> Target:
    from xennet.fuzz.target_table import open_target

    return open_target(name)


@contextmanager
def _stop(seconds: float | None, silent: bool) -> Iterator[Stop]:
    """A context in which a signal or ``seconds`` end what goes on."""
    stop = Stop()
    if seconds is not None:
        stop.after(seconds)
    with stopping(stop, silent):
        yield stop


def _share(stop: Stop, seconds: float) -> Callable[[], bool]:
    """Whether a target's ``seconds`` are over, or all of it. They begin when that is first asked:
    when the target is open, which may take longer than they are. So each does some work."""
    mine: list[Stop] = []

    def over() -> bool:
        if not mine:
            mine.append(Stop())
            mine[0].after(seconds)
            return stop.over
        return stop.over or mine[0].over

    return over


def _exit_code(stop: Stop, found: bool) -> int:
    if stop.reason:
        return 128 + signal.Signals[stop.reason]
    return EXIT_FOUND if found else 0


def _write(file: IO[str] | None, document: Mapping[str, Any]) -> None:
    if file is not None:
        file.write(json.dumps(document, indent=2) + "\n")


def _show(document: Mapping[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    if as_json:
        say_json(document)
        return
    for line in lines:
        say(printable(line))


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
