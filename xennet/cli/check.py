"""``xennet check``: play the conformance suite against a netfront or a netback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xennet.cli.choices_type import CHOICES
from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import say, say_json
from xennet.cli.signals import Signalled, raising
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable

if TYPE_CHECKING:
    from xennet.check.check import Check
    from xennet.check.known_failures import KnownFailure
    from xennet.check.profile import Profile
    from xennet.check.runner import Result
    from xennet.check.target import Target
    from xennet.workers.mapping import Workers

_INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUTPUT = click.Path(dir_okay=False, path_type=Path)
#: The word for the known failures that come with a driver of xennet.
_OWN = "builtin"


def _known_option(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A file of known failures, or the word "builtin"; a file of that name is "./builtin"."""
    return value if value in (None, _OWN) else _INPUT(value, param, ctx)


#: The severity that leaves no rule out.
_WEAKEST = "NOTE"
_EXIT_CODES = (
    "Exit code: 0 all is as expected, 1 a check is not, 2 the suite or the driver cannot be run. "
    "Interrupted, it reports what was played until then, and exits with 129, 130 or 143."
)
_OPTIONS = (
    click.option("--builtin", metavar="KIND", help="One of xennet's own drivers."),
    click.option("--python", metavar="MODULE:FACTORY", help="A driver on xennet.interface."),
    click.option(
        "--only",
        multiple=True,
        metavar="PATTERN",
        help="Only checks whose name or rule is like this ('netback.tx.*'); may be repeated.",
    ),
    click.option(
        "--severity",
        type=click.Choice(["MUST", "SHOULD", "NOTE"]),
        default=_WEAKEST,
        help="Only checks of rules that bind so much or more.",
    ),
    click.option(
        "--profile", type=_INPUT, metavar="FILE", help="What the driver lacks, with reasons (TOML)."
    ),
    click.option(
        "--without", multiple=True, metavar="FEATURE[=REASON]", help="Declare one such feature."
    ),
    click.option(
        "--known",
        callback=_known_option,
        metavar="FILE",
        help="Failures that are known, with reasons (TOML); 'builtin': those of --builtin KIND.",
    ),
    click.option(
        "--choices",
        type=CHOICES,
        default="",
        metavar="CHOICES",
        help="Which ready delivery is next in the plays of one check; then the oldest.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
    click.option("--junit", type=_OUTPUT, metavar="FILE", help="Write them as JUnit XML too."),
    click.option("--html", type=_OUTPUT, metavar="FILE", help="Write them as a page too."),
    click.option(
        "--evidence",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write slots, traces and captures of what fails.",
    ),
    click.argument("program", nargs=-1, metavar="[-- PROGRAM [ARGS]...]"),
)


_WORKERS = (
    click.option("--jobs", type=WholeNumber(1, 512), default=1, help="Play in so many processes."),
    click.option("--dask", metavar="ADDRESS", help="Play on the cluster of a dask scheduler."),
)


@click.group(cls=CommandGroup)
def check() -> None:
    """Test a netfront or a netback against the protocol.

    Each check has one of nine outcomes, and cites the rule that it is for.
    """


def _command(side: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that plays the checks of a ``side``, with all options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for option in reversed((*_OPTIONS, *_WORKERS)):
            function = option(function)
        # What follows the program is its own.
        settings = {"ignore_unknown_options": False, "allow_interspersed_args": False}
        command = check.command(
            side, short_help=f"Test a {side}.", epilog=_EXIT_CODES, context_settings=settings
        )
        return command(function)

    return decorate


@_command("netback")
@click.pass_context
def netback(ctx: click.Context, /, **options: Any) -> None:
    """Test a netback: it has to give every frame that it takes back to the guest.

    PROGRAM runs in domain 0 of an emulated machine; the frontend is vif 0 of domain 1
    (docs/foreign.md).
    """
    ctx.exit(_run("netback", **options))


@_command("netfront")
@click.pass_context
def netfront(ctx: click.Context, /, **options: Any) -> None:
    """Test a netfront: it has to send every frame back that it receives.

    PROGRAM runs in domain 1 of an emulated machine, as its kernel if it likes; the vif is
    device/vif/0 (docs/foreign.md).
    """
    ctx.exit(_run("netfront", **options))


@check.command("list", short_help="List all checks.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for other runners.")
@click.argument("pattern", nargs=-1)
def list_(as_json: bool, pattern: Sequence[str]) -> None:
    """List all checks, or those whose name or rule is like a PATTERN ('netback.tx.*')."""
    from xennet.check.check import all_checks
    from xennet.check.reports.as_json import list_json

    checks = _selected(all_checks(), pattern, _WEAKEST)
    if as_json:
        say_json(list_json(checks))
        return
    width = max(len(one.id) for one in checks)
    for one in checks:
        say(f"{one.id:{width}}  {one.summary}")


@check.command(short_help="Tell a rule, and which checks it has.")
@click.argument("rule")
def explain(rule: str) -> None:
    """Tell RULE (or the rule of a check of that name): its words, its source, its checks."""
    from xennet.check.check import all_checks
    from xennet.check.reports.as_text import rule_lines
    from xennet.check.rule_book import rule_book

    book, checks = rule_book(), all_checks()
    of_check = {one.id: one.rule for one in checks}
    wanted = book.get(of_check.get(rule, rule))
    if wanted is None:
        near = did_you_mean(rule, [*book, *of_check]) or " 'xennet check list' lists the checks."
        raise click.UsageError(f"There is no rule and no check {rule!r}.{near}")
    for line in rule_lines(wanted, checks):
        say(line)


@check.command(
    short_help="Play traffic between all built-in drivers.",
    epilog="Exit code: 0 all pairs carry all traffic, 1 one does not.",
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Only cases like this.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--evidence",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write traces and captures of what fails.",
)
@_WORKERS[0]
@_WORKERS[1]
@click.pass_context
def matrix(
    ctx: click.Context,
    /,
    only: Sequence[str],
    as_json: bool,
    evidence: Path | None,
    jobs: int,
    dask: str | None,
) -> None:
    """Play traffic between each built-in frontend and each built-in backend."""
    from xennet.check.matrix import CASES, matrix_json, matrix_lines, play_matrix, write_cell

    cases = [case for case in CASES if _is_wanted(case.name, only)]
    if not cases:
        raise click.UsageError(f"No case is like {' or '.join(only)}.")
    with _working(jobs, dask) as workers:
        cells = list(play_matrix(cases, workers))
    for cell in cells:
        if cell.reasons and evidence is not None:
            _written(evidence, write_cell, cell)
    if as_json:
        say_json(matrix_json(cells))
    else:
        for line in matrix_lines(cells):
            say(line)
    ctx.exit(1 if any(cell.reasons for cell in cells) else 0)


@check.command(short_help="Write test vectors for an implementation in any language.")
@click.option(
    "-o",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to; it is made if it is not there.",
)
def vectors(folder: Path) -> None:
    """Write test vectors into DIR: ring pages, grants and what is to come out, as JSON with a
    schema and raw pages. docs/vectors.md says how to read them.
    """
    from xennet.check.vectors.write import write_vectors

    try:
        count = write_vectors(folder)
    except OSError as error:
        raise click.UsageError(f"{error.filename or folder}: {error.strerror}") from None
    say(f"{count} vectors in {printable(str(folder))}")


def _run(
    side: str,
    *,
    builtin: str | None,
    python: str | None,
    program: Sequence[str],
    only: Sequence[str],
    severity: str,
    profile: Path | None,
    without: Sequence[str],
    known: Path | str | None,
    choices: str,
    as_json: bool,
    junit: Path | None,
    html: Path | None,
    evidence: Path | None,
    jobs: int,
    dask: str | None,
) -> int:
    from xennet.check.check import Side, all_checks
    from xennet.check.reports.as_text import result_lines
    from xennet.check.reports.evidence_files import write_evidence
    from xennet.check.runner import SuiteError, run_checks

    target = _target(side, builtin, python, program, _profile(profile, without))
    checks = all_checks(Side(side))
    chosen = _selected(checks, only, severity)
    if choices:
        target = _in_order(target, choices, len(chosen))
    failures = _known(known, side, builtin, checks)

    played: list[Result] = []
    signalled: Signalled | None = None

    def tell(result: Result) -> None:
        played.append(result.without_trace())
        if evidence is not None and (not result.good or result.known is not None):
            _written(evidence, write_evidence, result)
        if not as_json:
            for line in result_lines(result):
                say(printable(line))

    traced = evidence is not None
    try:
        with raising(), _working(jobs, dask) as workers:
            run_checks(target, chosen, failures, traced=traced, told=tell, workers=workers)
    except Signalled as error:
        signalled = error
    except SuiteError as error:
        if sys.flags.dev_mode:
            raise
        raise BadInputError(str(error)) from error
    finally:
        target.close()
    done = {result.check.id for result in played}
    not_played = [one.id for one in chosen if one.id not in done]
    _report(target, played, not_played, as_json=as_json, junit=junit, html=html)
    if signalled is not None:
        return 128 + signalled.number
    return 0 if all(result.good for result in played) else 1


def _report(
    target: Target,
    played: Sequence[Result],
    not_played: Sequence[str],
    *,
    as_json: bool,
    junit: Path | None,
    html: Path | None,
) -> None:
    from xennet.check.reports.as_html import results_html
    from xennet.check.reports.as_json import results_json
    from xennet.check.reports.as_junit import results_junit
    from xennet.check.reports.as_text import summary, unannounced_lines

    # The verdicts come first: a report that cannot be written does not lose them.
    if as_json:
        say_json(results_json(target, played, not_played))
    else:
        for line in unannounced_lines(played):
            say(line)
        say(printable(summary(target, played, not_played)))
    if junit is not None:
        _written(junit, Path.write_bytes, results_junit(target, played, not_played))
    if html is not None:
        page = results_html(target, played, not_played)
        _written(html, Path.write_text, page, encoding="utf-8")


@contextmanager
def _working(jobs: int, dask: str | None) -> Iterator[Workers]:
    """Those who play. Raises BadInputError if they cannot go on."""
    from xennet.workers.chosen import open_workers
    from xennet.workers.mapping import WorkersError

    try:
        with closing(open_workers(jobs, dask)) as workers:
            yield workers
    except WorkersError as error:
        raise BadInputError(str(error)) from None


def _written(path: Path, write: Callable[..., object], *values: object, **options: object) -> None:
    """Write a report. Raises UsageError, which names the file, if the system refuses."""
    try:
        write(path, *values, **options)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None


def _target(
    side: str,
    builtin: str | None,
    python: str | None,
    program: Sequence[str],
    profile: Profile,
) -> Target:
    from attrs import evolve

    from xennet.check.builtin_target import BUILTIN
    from xennet.check.check import Side
    from xennet.check.profile import Profile
    from xennet.check.program_target import ProgramTarget
    from xennet.check.python_target import PythonTarget
    from xennet.exec.errors import ExecError
    from xennet.host.own_driver import OwnDriverError, load_factory

    if (builtin is not None) + (python is not None) + bool(program) != 1:
        raise click.UsageError(
            "Name one driver: --builtin KIND, --python MODULE:FACTORY or -- PROGRAM."
        )
    if program:
        try:
            return ProgramTarget(tuple(program), Side(side), profile)
        except ExecError as error:
            raise BadInputError(str(error)) from None
    if python is not None:
        try:
            return PythonTarget(python, Side(side), load_factory(python), profile)
        except OwnDriverError as error:
            raise click.UsageError(str(error)) from None
    kinds = [name for one, name in BUILTIN if one == side]
    if builtin not in kinds:
        near = did_you_mean(str(builtin), kinds) or f" There are {', '.join(kinds)}."
        raise click.UsageError(f"There is no {side} {builtin!r}.{near}")
    target = BUILTIN[Side(side), builtin]
    lacks = {**target.profile.unsupported, **profile.unsupported}
    return evolve(target, profile=Profile(lacks))


def _in_order(target: Target, choices: str, checks: int) -> Target:
    """The target whose deliveries come in the order of ``choices``."""
    from attrs import evolve

    from xennet.check.program_target import ProgramTarget
    from xennet.choices import Choices

    if isinstance(target, ProgramTarget):
        raise click.UsageError("--choices: a program has an order of its own.")
    if checks != 1:
        raise click.UsageError(f"--choices are those of one check, and --only leaves {checks}.")
    ordered: Target = evolve(target, choices=Choices.parse(choices))  # type: ignore[misc]
    return ordered


def _profile(path: Path | None, without: Sequence[str]) -> Profile:
    from xennet.check.profile import Profile, ProfileError, read_profile

    try:
        lacks = {} if path is None else read_profile(path.read_text(), str(path))
        for declared in without:
            name, _, reason = declared.partition("=")
            lacks[name] = reason or "declared"
        return Profile(lacks)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path}: {error}") from None
    except ProfileError as error:
        raise click.UsageError(str(error)) from None


def _selected(checks: Collection[Check], only: Sequence[str], severity: str) -> list[Check]:
    from xennet.check.outcome import Severity
    from xennet.check.rule_book import rule_book

    book, binding = rule_book(), list(Severity)
    least = binding.index(Severity(severity))
    like = [one for one in checks if _is_wanted(one.id, only) or _is_wanted(one.rule, only)]
    patterns = " or ".join(only)
    if not like:
        names = {name for one in checks for name in (one.id, one.rule)}
        near = did_you_mean(only[0], sorted(names)) if len(only) == 1 else ""
        raise click.UsageError(f"No check is like {patterns}.{near}")
    chosen = [one for one in like if binding.index(book[one.rule].severity) <= least]
    if not chosen:
        raise click.UsageError(f"No check like {patterns} is of a rule that binds as {severity}.")
    return chosen


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def _known(
    path: Path | str | None, side: str, builtin: str | None, checks: Iterable[Check]
) -> list[KnownFailure]:
    from xennet.check.known_failures import (
        KnownFailuresError,
        built_in_known_failures,
        read_known_failures,
    )

    if path is None:
        return []
    ids = [one.id for one in checks]
    if not isinstance(path, Path):
        if builtin is None:
            raise click.UsageError(f"--known {path} is for --builtin KIND.")
        return built_in_known_failures(f"{side}-{builtin}", ids)
    try:
        return read_known_failures(path.read_text(), ids, str(path))
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path}: {error}") from None
    except KnownFailuresError as error:
        raise click.UsageError(str(error)) from None
