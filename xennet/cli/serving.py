"""What ``xennet back`` and ``xennet front`` have in common: options, the run, the report."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xennet.cli.output import say, say_json
from xennet.cli.run import MAX_MTU, MAX_QUEUES, MIN_MTU
from xennet.cli.seconds import Seconds
from xennet.cli.whole_number import WholeNumber
from xennet.errors import LinkError
from xennet.port import PortError

if TYPE_CHECKING:
    from xennet.xen.vif_service import Service

EXIT_NOT_GOOD = 1
#: Seconds that the other ends have at the end.
PATIENCE = 10.0
EPILOG = (
    "Exit code: 0 done, 1 a vif broke or something was left behind, 2 no Xen, no such port or bad "
    "usage, 129, 130 and 143 ended by a signal (the report tells what was done)."
)

#: A command function that gets an option.
_F = TypeVar("_F", bound=Callable[..., Any])
#: Makes the service; its argument is called with lines of text.
MakeService = Callable[[Callable[[str], None]], "Service"]


def service_options(command: _F) -> _F:
    """The options of both commands."""
    options = (
        click.option(
            "--queues",
            type=WholeNumber(1, MAX_QUEUES),
            default=1,
            show_default=True,
            help="At most so many queues for each vif.",
        ),
        click.option(
            "--split-channels/--single-channel",
            default=True,
            show_default=True,
            help="An event channel for each ring, or one for both.",
        ),
        click.option(
            "--mtu",
            type=WholeNumber(MIN_MTU, MAX_MTU),
            metavar="BYTES",
            help="MTU of a port that is an interface.",
        ),
        click.option(
            "--store",
            "store_path",
            metavar="PATH",
            help="XenStore's socket or device.  [default: where libxenstore looks]",
        ),
        click.option(
            "--for",
            "seconds",
            type=Seconds(),
            metavar="SECONDS",
            help="End after so long.  [default: at Control-C, SIGTERM or SIGHUP]",
        ),
        click.option("--once", is_flag=True, help="End when the vifs that came have all gone."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
        click.option("--quiet", is_flag=True, help="Print the report only, not what happens."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_service(
    ctx: click.Context,
    layout: str,
    make: MakeService,
    *,
    seconds: float | None,
    once: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Serve until a signal, the time or the last vif ends it, print the report, and exit.

    ``layout`` is the name of the JSON layout. Raises XenError and PortError.
    """
    from xennet.cli.signals import stopping
    from xennet.run.stop import Stop

    def tell(text: str) -> None:
        if not quiet:
            say(f"xennet: {text}", err=True)

    stop = Stop()
    if seconds is not None:
        stop.after(seconds)
    with stopping(stop, silent=quiet):
        service = make(tell)
        try:
            service.start()
            tell(f"domain {service.hv.domid} serves {service.root}/vif")
            service.serve(lambda: stop.over or (once and service.deserted))
        except (PortError, LinkError):
            service.end(0.0)
            service.close()
            raise
        service.end(PATIENCE)
        document = service.report()
        left = service.close()
    interrupted = stop.reason or None
    faults = [f"{vif['name']}: {fault}" for vif in document["vifs"] for fault in vif["faults"]]
    faults += [
        f"{vif['name']}: {vif['earlier_faults']:,} others before these"
        for vif in document["vifs"]
        if vif["earlier_faults"]
    ]
    faults += [f"not given back: {left}"] if left else []
    document = {"format": layout, "good": not faults, "interrupted": interrupted, **document}
    document["left"] = left
    if as_json:
        say_json(document)
    else:
        for line in _lines(document, faults):
            say(line)
    code = 128 + signal.Signals[interrupted] if interrupted else EXIT_NOT_GOOD * bool(faults)
    ctx.exit(code)


def _lines(document: dict[str, Any], faults: list[str]) -> list[str]:
    """The report for people."""
    lines = []
    for vif in document["vifs"]:
        counters, port = vif["counters"], vif["port"].get("name", "no port")
        lines.append(f"{vif['name']}  {vif['connections']} connections, port {port}")
        for way, name in (("from the guest", "tx"), ("to the guest", "rx")):
            ring = counters.get(name)
            if ring is not None:
                lines.append(
                    f"  {way:14} {ring['packets']:,} frames, {ring['bytes']:,} bytes, "
                    f"{ring['errors']:,} errors, {ring['notified']:,} events sent"
                )
        rest = ", ".join(
            f"{count:,} {name}"
            for name, count in counters.items()
            if name not in ("tx", "rx")
            if count
        )
        if rest:
            lines.append(f"  {rest}")
    failed = document["failed_copies"]
    if failed["calls"]:
        lines.append(f"{failed['calls']:,} calls for grant copies failed (errno {failed['errno']})")
    lines.append("GOOD" if document["good"] else "NOT GOOD")
    lines += [f"  {fault}" for fault in faults] or ["  everything was given back"]
    return lines
