"""``xennet lifecycle``: play one of a vif's lives and tell what happens."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from xennet.cli.group import did_you_mean
from xennet.cli.output import say, say_json
from xennet.run.progress import counter

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from xennet.lifecycle.scenario import Scenario

#: Names of the JSON layouts; they get a new number when a key changes its meaning or is removed.
FORMAT, LIST_FORMAT = "xennet-lifecycle/1", "xennet-scenarios/1"

#: The names of all scenarios, so that the shell's completion need not import them.
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
    epilog="Exit code: 0 it ended as it should, 1 it did not, 2 there is no such one.",
)
@click.argument("scenario", required=False, shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def lifecycle(ctx: click.Context, scenario: str | None, as_json: bool) -> None:
    """Play one of a vif's lives and tell it; without SCENARIO list them all."""
    if scenario is not None and scenario not in SCENARIO_NAMES:
        near = did_you_mean(scenario, SCENARIO_NAMES) or " 'xennet lifecycle' lists them."
        raise click.UsageError(f"There is no scenario {scenario!r}.{near}")
    from xennet.lifecycle.scenarios import SCENARIOS

    if scenario is None:
        _list(SCENARIOS, as_json)
    else:
        ctx.exit(0 if _played(SCENARIOS[scenario], as_json) else 1)


def _list(scenarios: Mapping[str, Scenario], as_json: bool) -> None:
    if as_json:
        listed = [{"name": name, "shows": known.shows} for name, known in scenarios.items()]
        say_json({"format": LIST_FORMAT, "scenarios": listed})
        return
    width = max(map(len, scenarios))
    for name, known in scenarios.items():
        say(f"{name:{width}}  {known.shows}")


def _played(scenario: Scenario, as_json: bool) -> bool:
    """Play a scenario and print it. Returns whether it ended as it should."""
    from xennet.lifecycle.scenarios import perform, play

    if as_json:
        story: list[dict[str, Any]] = []
        ending = play(scenario, lambda entry: story.append(entry.to_json()))
        verdict = {"good": ending.good, "reasons": list(ending.reasons)}
        about = {"scenario": scenario.name, "shows": scenario.shows}
        say_json({"format": FORMAT, **about, "story": story, "verdict": verdict})
        return ending.good
    counting = partial(counter, stream=sys.stderr)
    if not sys.stdout.isatty():
        return perform(scenario, say, counting)
    from rich.console import Console

    from xennet.lifecycle.show import Printer

    return play(scenario, Printer(Console()).show, counting).good
