"""``xennet trace``: record every step of a machine."""

from __future__ import annotations

import click

from xennet.cli.group import CommandGroup


@click.group(cls=CommandGroup)
def trace() -> None:
    """Record every step of a machine as a stream of events."""


@trace.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
    short_help="Record a run.",
)
@click.option("-o", "file", required=True, metavar="FILE", help="The recording, FILE.jsonl.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, file: str, arguments: tuple[str, ...]) -> None:
    """Record a run; ARGUMENTS are those of ``xennet run``."""
    from xennet.cli.run import run as command

    if not file.endswith(".jsonl"):
        raise click.UsageError(f"-o {file}: the recording is JSON lines, FILE.jsonl.")
    with command.make_context("run", ["--trace", file, *arguments], parent=ctx) as inner:
        command.invoke(inner)
