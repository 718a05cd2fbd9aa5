"""``xennet run``: carry frames between two ports through the vif and report."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Protocol

import click

from xennet.port import Port, open_ports
from xennet.port.spec import SCHEMES
from xennet.report.model import GUEST_TO_HOST, HOST_TO_GUEST, Progress, RunOptions, RunReport
from xennet.report.progress import no_progress, progress_bar

_PORTS = "Ports: " + ", ".join(scheme.usage for scheme in SCHEMES.values())


class Link(Protocol):
    """Carries all frames of both ports to the other one and reports; does not close the ports."""

    def __call__(
        self, guest: Port, host: Port, options: RunOptions, progress: Progress
    ) -> RunReport: ...


@click.command(
    epilog=f"{_PORTS}; PLAYER+RECORDER joins two. Exit code: 0 good, 1 bad, 2 bad input."
)
@click.option("--guest", required=True, metavar="PORT", help="Where the guest's frames come from.")
@click.option("--host", required=True, metavar="PORT", help="What the host side is connected to.")
@click.option(
    "--grant-version",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Version of the guest's grant table.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Print the verdict only, show no progress.")
@click.pass_context
def run(
    ctx: click.Context, guest: str, host: str, grant_version: int, as_json: bool, quiet: bool
) -> None:
    """Carry frames between two ports through a vif and report."""
    report = _carry(guest, host, RunOptions(grant_version), ctx.obj, silent=as_json or quiet)
    _show(report, as_json, quiet)
    ctx.exit(0 if report.verdict.good else 1)


def _vif() -> Link:
    from xennet.link.vif import run_vif

    return run_vif


def _carry(
    guest_spec: str, host_spec: str, options: RunOptions, link: Link | None, silent: bool
) -> RunReport:
    """Both ports are closed afterwards, whatever happens, so that recordings are complete."""
    with ExitStack() as closing:
        guest, host = open_ports([guest_spec, host_spec])
        closing.callback(guest.close)
        closing.callback(host.close)
        totals = {GUEST_TO_HOST: guest.expected, HOST_TO_GUEST: host.expected}
        progress = closing.enter_context(
            no_progress() if silent else progress_bar(totals, sys.stderr)
        )
        return (link or _vif())(guest, host, options, progress)


def _show(report: RunReport, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(report.to_json(), indent=2))
        return
    from rich.console import Console

    from xennet.report.render import print_report, print_verdict, render_text

    printer = print_verdict if quiet else print_report
    if sys.stdout.isatty():
        printer(report, Console())
    else:
        click.echo(render_text(report, printer), nl=False)
