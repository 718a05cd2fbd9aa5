"""``xennet lifecycle``: play one of a vif's lives and tell what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xennet.cli.group import did_you_mean
from xennet.cli.output import say
from xennet.report.printable import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: The scenarios; written down so that the shell's completion loads none of them.
SCENARIO_NAMES = (
    "start-backend-first",
    "start-frontend-first",
    "slow-script",
    "no-script-answer",
    "script-fails",
    "garbage-ring-ref",
    "missing-event-channel",
    "garbage-mac",
    "no-rx-copy",
    "early-init-wait",
    "garbage-offer",
    "garbage-features",
    "guest-closes",
    "toolstack-detaches",
    "backend-closes",
    "straight-to-closed",
    "directory-removed",
    "frontend-directory-removed",
    "guest-crash",
    "backend-reload",
    "backend-reload-without-udev",
    "backend-reload-same-rings",
    "driver-domain-crash",
    "driver-domain-replaced",
    "suspend-resume",
    "suspend-cancelled",
    "save-restore",
    "migration",
    "reconnect-1000",
    "hostile-packet",
    "hostile-response",
    "guest-stops-receiving",
    "stalled-queue",
    "carrier-lost",
    "rate-limited",
    "windows-first-cycle",
    "freebsd",
)


def _complete(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in SCENARIO_NAMES if name.startswith(incomplete)]


@click.command(
    short_help="Play one of a vif's lives and tell it.",
    epilog="Exit code: 0 it ended as it should, 1 it did not, 2 there is no such one.",
)
@click.argument("scenario", required=False, shell_complete=_complete)
@click.pass_context
def lifecycle(ctx: click.Context, scenario: str | None) -> None:
    """Play one of a vif's lives and tell it; without SCENARIO list them all."""
    if scenario is not None and scenario not in SCENARIO_NAMES:
        near = did_you_mean(scenario, SCENARIO_NAMES) or " 'xennet lifecycle' lists them."
        raise click.UsageError(f"There is no scenario {scenario!r}.{near}")
    from xennet.lifecycle.scenarios import SCENARIOS, perform

    if scenario is None:
        width = max(len(name) for name in SCENARIOS)
        for name, known in SCENARIOS.items():
            say(f"{name:{width}}  {known.shows}")
        return
    ctx.exit(0 if perform(SCENARIOS[scenario], lambda line: say(printable(line))) else 1)
