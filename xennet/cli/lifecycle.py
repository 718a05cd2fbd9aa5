"""``xennet lifecycle``: play one of a vif's lives and tell what happens."""

from __future__ import annotations

import click

from xennet.report.printable import printable


@click.command(epilog="Exit code: 0 it ended as it should, 1 it did not, 2 there is no such one.")
@click.argument("scenario", required=False)
@click.pass_context
def lifecycle(ctx: click.Context, scenario: str | None) -> None:
    """Play one of a vif's lives and tell it; without SCENARIO list them all."""
    from xennet.lifecycle.scenarios import SCENARIOS, perform

    if scenario is None:
        width = max(len(name) for name in SCENARIOS)
        for name, known in SCENARIOS.items():
            click.echo(f"{name:{width}}  {known.shows}")
        return
    if scenario not in SCENARIOS:
        raise click.UsageError(f"There is no scenario {scenario!r}; 'xennet lifecycle' lists them.")
    ctx.exit(0 if perform(SCENARIOS[scenario], lambda line: click.echo(printable(line))) else 1)
