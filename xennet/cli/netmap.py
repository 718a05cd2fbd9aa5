"""``xennet netmap``: the netmap device, and records of the real one."""

from __future__ import annotations

from pathlib import Path

import click

from xennet.cli.group import CommandGroup
from xennet.cli.output import say

EXIT_DIFFERENT = 1


@click.group(
    cls=CommandGroup,
    epilog="Exit code: 0 done, 1 the device differs from a record, 2 no record or bad usage.",
)
def netmap() -> None:
    """netmap's rings, pipes and VALE switches, as the kernel module has them."""


@netmap.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-v", "--verbose", is_flag=True, help="Name every case, also those that agree.")
@click.pass_context
def replay(ctx: click.Context, files: tuple[str, ...], verbose: bool) -> None:
    """Play records of the real kernel module on the device, and show where it differs.

    A record is a JSON file of cases with steps (docs/netmap.md has the form). Each file is played
    on a fresh machine. Cases that are marked as defects of the module are shown apart and are no
    difference.
    """
    from xennet.netmap.replay.play import Outcome, RecordError
    from xennet.netmap.replay.record_files import play_files

    def show(outcome: Outcome, mark: str) -> None:
        if outcome.difference is not None:
            say(f"{outcome.case_id}: {mark}")
            for line in outcome.difference.lines():
                say(f"  {line}")

    cases = agree = differ = defects = not_played = 0
    try:
        for path, played in play_files([Path(name) for name in files]):
            for outcome in played.outcomes:
                if outcome.why is not None:
                    say(f"{outcome.case_id}: not played: {outcome.why}")
                show(outcome, "a defect of the module" if outcome.defect else "DIFFERENT")
                if verbose and outcome in played.agree:
                    say(f"{outcome.case_id}: as recorded")
            counted = f"{len(played.agree)} of {len(played.outcomes)} cases agree"
            say(f"{path.name}: {counted}")
            cases += len(played.outcomes)
            agree += len(played.agree)
            differ += len(played.differ)
            defects += len(played.defects)
            not_played += len(played.not_played)
    except RecordError as e:
        raise click.UsageError(str(e)) from e
    say(
        f"{agree} of {cases} cases agree, {differ} differ, {defects} defects are not imitated, "
        f"{not_played} not played"
    )
    ctx.exit(EXIT_DIFFERENT if differ else 0)
