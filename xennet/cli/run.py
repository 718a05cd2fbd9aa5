"""``xennet run``: carry frames between two ports through the vif and report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import NoReturn, Protocol

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
@click.option(
    "--xenstore-socket",
    metavar="PATH",
    help="Serve the run's XenStore there, for xenstore-ls, xenstore-watch and the like.",
)
@click.option(
    "--hold",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Keep the vif connected that long before it is unplugged; needs --xenstore-socket.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Print the verdict only, show no progress.")
@click.pass_context
def run(
    ctx: click.Context,
    guest: str,
    host: str,
    grant_version: int,
    xenstore_socket: str | None,
    hold: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Carry frames between two ports through a vif and report."""
    if hold and xenstore_socket is None:
        raise click.UsageError("--hold is for looking at the store: it needs --xenstore-socket.")
    silent = as_json or quiet
    with _watched_vif(xenstore_socket, hold, silent) as watched:
        report = _carry(guest, host, RunOptions(grant_version), ctx.obj or watched, silent)
    _show(report, as_json, quiet)
    ctx.exit(0 if report.verdict.good else 1)


@contextmanager
def _watched_vif(path: str | None, hold: float, silent: bool) -> Iterator[Link | None]:
    """The vif with its store on a socket, which is removed on SIGTERM as well; None without."""
    if path is None:
        yield None
        return
    from xennet.link.vif import StoreView, run_vif
    from xennet.xenstore.daemon import SocketError

    say: Callable[[str], None] = partial(click.echo, err=True)
    view = StoreView(path, hold) if silent else StoreView(path, hold, say)
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield partial(run_vif, view=view)
    except SocketError as error:
        raise click.UsageError(str(error)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


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
