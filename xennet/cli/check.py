"""``xennet check``: play the conformance suite against a netfront or a netback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import say, say_json

if TYPE_CHECKING:
    from xennet.check.check import Check
    from xennet.check.known_failures import KnownFailure
    from xennet.check.runner import Result
    from xennet.check.target import Target

_F = Callable[..., Any]


@click.group(cls=CommandGroup, short_help="Test a netfront or a netback against the protocol.")
def check() -> None:
    """Test a netfront or a netback against the protocol: each check has an outcome, and cites the
    rule that it is for."""


def _options(function: _F) -> _F:
    for option in reversed(
        (
            click.option("--builtin", metavar="KIND", help="One of xennet's own drivers."),
            click.option(
                "--python", metavar="MODULE:FACTORY", help="A driver on xennet.interface."
            ),
            click.option("--only", multiple=True, metavar="PATTERN", help="Only these checks."),
            click.option(
                "--without",
                multiple=True,
                metavar="FEATURE[=REASON]",
                help="Declare that the driver lacks a feature.",
            ),
            click.option(
                "--known",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Failures that are known, with reasons (TOML).",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print it as JSON."),
        )
    ):
        function = option(function)
    return function


@check.command(short_help="Test a netback.")
@_options
@click.pass_context
def netback(ctx: click.Context, /, **options: Any) -> None:
    """Test a netback."""
    ctx.exit(_run("netback", **options))


@check.command(short_help="Test a netfront.")
@_options
@click.pass_context
def netfront(ctx: click.Context, /, **options: Any) -> None:
    """Test a netfront."""
    ctx.exit(_run("netfront", **options))


@check.command("list", short_help="List all checks.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for other runners.")
def list_(as_json: bool) -> None:
    """List all checks."""
    from xennet.check.check import all_checks
    from xennet.check.reports.as_json import list_json

    checks = all_checks()
    if as_json:
        say_json(list_json(checks))
        return
    width = max(len(one.id) for one in checks)
    for one in checks:
        say(f"{one.id:{width}}  {one.summary}")


def _run(
    side: str,
    *,
    builtin: str | None,
    python: str | None,
    only: Sequence[str],
    without: Sequence[str],
    known: Path | None,
    as_json: bool,
) -> int:
    from xennet.check.check import Side, all_checks
    from xennet.check.reports.as_json import results_json
    from xennet.check.reports.as_text import result_lines, summary
    from xennet.check.runner import run_checks

    target = _target(side, builtin, python, without)
    checks = _selected(all_checks(Side(side)), only)
    failures = _known(known, checks)

    def tell(result: Result) -> None:
        if not as_json:
            for line in result_lines(result):
                say(line)

    results = run_checks(target, checks, failures, told=tell)
    if as_json:
        say_json(results_json(target, results))
    else:
        say(summary(target, results))
    return 0 if all(result.good for result in results) else 1


def _target(side: str, builtin: str | None, python: str | None, without: Sequence[str]) -> Target:
    from attrs import evolve

    from xennet.check.builtin_target import BUILTIN
    from xennet.check.check import Side
    from xennet.check.profile import Profile, UnknownFeatureError
    from xennet.check.python_target import PythonTarget, PythonTargetError, load_factory

    if (builtin is None) == (python is None):
        raise click.UsageError("One driver: --builtin KIND or --python MODULE:FACTORY.")
    lacks = {name: reason or "declared" for name, _, reason in (w.partition("=") for w in without)}
    try:
        if python is not None:
            return PythonTarget(python, Side(side), load_factory(python), Profile(lacks))
        kinds = [name for one, name in BUILTIN if one == side]
        if builtin not in kinds:
            near = did_you_mean(str(builtin), kinds) or f" There are {', '.join(kinds)}."
            raise click.UsageError(f"There is no {side} {builtin!r}.{near}")
        target = BUILTIN[Side(side), builtin]
        return evolve(target, profile=Profile({**target.profile.unsupported, **lacks}))
    except (PythonTargetError, UnknownFeatureError) as error:
        raise click.UsageError(str(error)) from None


def _selected(checks: Iterable[Check], only: Sequence[str]) -> list[Check]:
    chosen = [one for one in checks if not only or any(fnmatchcase(one.id, part) for part in only)]
    if not chosen:
        raise click.UsageError(f"No check is like {' or '.join(only)}.")
    return chosen


def _known(path: Path | None, checks: Iterable[Check]) -> list[KnownFailure]:
    from xennet.check.known_failures import KnownFailuresError, read_known_failures

    if path is None:
        return []
    try:
        ids = [one.id for one in checks]
        return read_known_failures(path.read_text(), ids, str(path))
    except (KnownFailuresError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None
