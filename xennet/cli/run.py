"""``xennet run``: carry frames between two ports through the vif and report."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from xennet.cli.choices_type import CHOICES
from xennet.cli.errors import BadInputError
from xennet.cli.output import say, say_json
from xennet.cli.param_type import ParamType
from xennet.cli.process_start import collect_garbage, load_engine
from xennet.cli.seconds import Seconds
from xennet.cli.whole_number import WholeNumber
from xennet.port import Port, PortError, open_ports
from xennet.port.base import is_live
from xennet.port.spec import PORTS, parse, records_to_stdout, split
from xennet.run.options import RunOptions, TapFile
from xennet.run.progress import Shown, live_line, no_progress, progress_bar
from xennet.run.report import GUEST_TO_HOST, HOST_TO_GUEST, RunReport
from xennet.run.verdict_text import verdict_text

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Most guests (and vifs in all) of a run, most vifs of a guest, most queues of a vif.
MAX_GUESTS, MAX_VIFS, MAX_QUEUES = 1000, 64, 8
#: Bytes: the least mtu of IPv4, and that of the longest frame.
MIN_MTU, MAX_MTU = 68, 65521
#: Names of drivers and ABIs, so that --help need not import them.
BACKENDS = ("linux", "xnb")
FRONTENDS = ("linux", "freebsd", "windows")
EVTCHN_ABIS = ("2l", "fifo")

#: Options that have no meaning for other links.
_OF_VIFS = frozenset(
    ("vifs", "queues", "split_channels", "no_sg", "no_gso", "no_csum", "backend", "frontend")
    + ("evtchn", "grant_version", "quota_nodes", "arena", "xenstore_socket", "choices")
)

#: The arguments of a run that is recorded, in ``ctx.meta``.
ARGUMENTS = "xennet.arguments"
#: A command function that gets an option.
_F = TypeVar("_F", bound=Callable[..., Any])


class Link(Protocol):
    """Carries all frames of the ports to the other ends and reports; it does not close the ports.

    There is one port in ``guests`` for each vif, and one in ``hosts``, unless a switch joins the
    guests.
    """

    def __call__(
        self,
        guests: Sequence[Port],
        hosts: Sequence[Port],
        options: RunOptions,
        progress: Shown,
        taps: Sequence[TapFile] = (),
    ) -> RunReport: ...


class _PortType(ParamType[str]):
    """A port specification; a wrong one is reported before any port is opened."""

    name = "port"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse(value)
        except PortError as error:
            self.fail(str(error), param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        from xennet.cli.completion import ports

        return [CompletionItem(value) for value in ports(incomplete)]


class _DriverType(ParamType[str]):
    """The name of a driver of xennet, or MODULE:FACTORY for one of your own."""

    name = "driver"

    def __init__(self, names: Sequence[str]) -> None:
        self._of_xennet = click.Choice(names)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._of_xennet.choices)}|MODULE:FACTORY]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from xennet.host.own_driver import OwnDriverError, is_own, load_factory

        if not is_own(value):
            return self._of_xennet(value, param, ctx)
        try:
            load_factory(value)
        except OwnDriverError as error:
            self.fail(str(error), param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        return self._of_xennet.shell_complete(ctx, param, incomplete)


class _LinkType(ParamType[str]):
    """A link's specification."""

    name = "link"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from xennet.run.links import parse as parse_link

        try:
            parse_link(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        from xennet.cli.completion import links

        return [CompletionItem(value) for value in links(incomplete)]


class _RunCommand(click.Command):
    """A command whose help ends in the ports and links that there are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = (self.name or "", *args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from xennet.run.links import LINKS

        ports = ", ".join(scheme.usage for scheme in PORTS.usable().values())
        links = ", ".join(kind.usage for kind in LINKS.usable().values())
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"Ports: {ports}; PLAYER+RECORDER joins two.")
            formatter.write_text(f"Links: {links}.")
            for fault in (*PORTS.faults(), *LINKS.faults()):
                formatter.write_text(f"Not used: {fault}.")
        super().format_epilog(ctx, formatter)


#: The side ("guest", "host") of a tap file, the number of a vif from 0 or None for all, and the
#: specification of a port that records.
_Tap = tuple[str, "int | None", str]


def _taps(_ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> list[_Tap]:
    """The tap files that an option was given. Raises BadParameter."""
    taps = []
    for text in texts:
        try:
            taps.append(_tap_of(text))
        except PortError as error:
            raise click.BadParameter(f"{text!r}: {error}", param=param) from error
    return taps


def _tap_of(text: str) -> _Tap:
    """The tap file that END=FILE means. Raises PortError for any other text."""
    end, _, file = text.partition("=")
    named = re.fullmatch("(guest|host)([1-9][0-9]{0,3})?", end)
    if named is None:
        raise PortError("wants guest=FILE or host=FILE, or guest2=FILE for vif 2 alone")
    if not file:
        raise PortError(f"no file name, wants {end}=FILE")
    spec = f"record:{file}"
    if len(parse(spec)) > 1:
        raise PortError(f"{file!r} is no file name but ports joined by +")
    return named[1], int(named[2]) - 1 if named[2] else None, spec


def _count(name: str, most: int, text: str) -> Callable[[_F], _F]:
    """An option for a number from 1, the default, to ``most``."""
    values = WholeNumber(1, most)
    return click.option(name, type=values, default=1, show_default=True, help=text)


def driver_option(name: str, values: Sequence[str], text: str) -> Callable[[_F], _F]:
    """An option for one of the drivers ``values``, of which the first is the default, or for one of
    your own."""
    text += " MODULE:FACTORY: a driver of your own (docs/own-driver.md)."
    driver = _DriverType(values)
    return click.option(name, type=driver, default=values[0], show_default=True, help=text)


def _seconds(name: str, text: str) -> Callable[[_F], _F]:
    """An option for a time in which the run's store can be looked at."""
    return click.option(
        name,
        type=Seconds(),
        default=0.0,
        metavar="SECONDS",
        help=f"{text}; needs --xenstore-socket.",
    )


@click.command(
    cls=_RunCommand,
    epilog="Exit code: 0 good, 1 not, 2 bad input, 129, 130 and 143 interrupted "
    "(the report tells what was done).",
)
@click.option(
    "--guest",
    required=True,
    multiple=True,
    type=_PortType(),
    metavar="PORT",
    help="Where the guest's frames come from; once for all guests, or once for each vif.",
)
@click.option(
    "--host",
    multiple=True,
    type=_PortType(),
    metavar="PORT",
    help="What the host side is connected to; once for all, or once for each vif.",
)
@_count("--guests", MAX_GUESTS, "So many guests.")
@_count("--vifs", MAX_VIFS, "So many vifs for each guest.")
@click.option(
    "--switch",
    is_flag=True,
    help="Join the vifs by a switch in place of --host: each guest sends to the next one.",
)
@_count("--queues", MAX_QUEUES, "At most so many queues for each vif.")
@click.option(
    "--split-channels/--single-channel",
    default=True,
    show_default=True,
    help="An event channel for each ring, or one for both.",
)
@click.option(
    "--mtu",
    type=WholeNumber(MIN_MTU, MAX_MTU),
    metavar="BYTES",
    help="MTU of the vifs, VLAN tags not counted; longer frames are refused.  [default: no limit]",
)
@click.option("--no-sg", is_flag=True, help="No packets of several pages, and no GSO.")
@click.option("--no-gso", is_flag=True, help="No packets that are segmented later.")
@click.option("--no-csum", is_flag=True, help="No blank checksums, and no GSO.")
@driver_option("--backend", BACKENDS, "Whose backend it is like.")
@driver_option("--frontend", FRONTENDS, "Whose frontend it is like.")
@click.option(
    "--evtchn",
    type=click.Choice(EVTCHN_ABIS),
    help="By which ABI guests receive events.  [default: fifo; 2l for freebsd]",
)
@click.option(
    "--grant-version",
    type=WholeNumber(1, 2),
    default=1,
    show_default=True,
    help="Version of the guests' grant tables.",
)
@click.option(
    "--quota-nodes",
    type=WholeNumber(min=0),
    help="Nodes of the store that a guest may own; 0: no limit.  [default: 1000, as xenstored]",
)
@click.option(
    "--arena",
    type=WholeNumber(1),
    metavar="MIB",
    help="Memory of the machine.  [default: 512, or what so many vifs can take]",
)
@click.option(
    "--link",
    type=_LinkType(),
    default="vif",
    show_default=True,
    metavar="LINK",
    help="What joins the ports.",
)
@click.option(
    "--for",
    "seconds",
    type=Seconds(),
    metavar="SECONDS",
    help="Carry frames for so long; then no port is asked for more.  [default: until ports have "
    "no more, or, where one is live, until Control-C]",
)
@click.option(
    "--tap-file",
    "taps",
    multiple=True,
    callback=_taps,
    metavar="END=FILE",
    help="Record what an end of the link sees, both ways, as record: does. END: guest, host, or "
    "host2 for vif 2 alone. May be given again.",
)
@click.option(
    "--choices",
    type=CHOICES,
    metavar="CHOICES",
    help="Which ready delivery is next, from the first on, as xennet step shows it; then the "
    "oldest.",
)
@click.option("--allow-empty", is_flag=True, help="A run in which no port gives a frame is good.")
@click.option(
    "--xenstore-socket",
    metavar="PATH",
    help="Serve the run's XenStore there, for xenstore-ls, xenstore-watch and the like.",
)
@click.option(
    "--trace",
    metavar="FILE",
    help="Record every step of the machine there, as JSON lines (docs/trace.md).",
)
@_seconds("--hold-before", "Wait that long before the vif is plugged in")
@_seconds("--hold", "Keep the vif connected that long before it is unplugged")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Print the verdict only, show no progress.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    guest: tuple[str, ...],
    host: tuple[str, ...],
    no_sg: bool,
    no_gso: bool,
    no_csum: bool,
    xenstore_socket: str | None,
    trace: str | None,
    hold_before: float,
    hold: float,
    taps: list[_Tap],
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Carry frames between ports through vifs and report."""
    for option, seconds in (("--hold-before", hold_before), ("--hold", hold)):
        if seconds and xenstore_socket is None:
            looking = "is for looking at the store: it needs --xenstore-socket."
            raise click.UsageError(f"{option} {looking}")
    options = RunOptions(sg=not no_sg, gso=not no_gso, csum=not no_csum, **asked)
    guests, hosts = ports_of(guest, host, options)
    _require_own_taps([*guests, *hosts])
    if options.link == "vif":
        if ctx.obj is None:
            require_vif_room(options)
    else:
        _require_no_vifs(ctx, options.link)
        _require_link_room(options)
    silent = as_json or quiet
    for side, number, _ in taps:
        if number is not None and number >= len(guests):
            raise click.UsageError(f"--tap-file {side}{number + 1}: the last vif is {len(guests)}.")
    stdout_taken = records_to_stdout([*guests, *hosts, *(spec for _, _, spec in taps)])
    link = ctx.obj or partial(_vif, xenstore_socket, hold_before, hold, silent)
    with ExitStack() as closing:
        if trace is not None:
            from xennet.cli.recorded import recorded

            if options.link != "vif" or ctx.obj is not None:
                raise click.UsageError(f"--trace is for vifs: --link {options.link} has none.")
            _require_lines(trace)
            made = closing.enter_context(
                recorded(trace, ctx.meta.get(ARGUMENTS, ()), options.choices)
            )
            link = partial(link, made=made)
        report = _carry(guests, hosts, taps, options, link, silent)
    _show(report, as_json, quiet, err=stdout_taken)
    ctx.exit(_exit_code(report))


def _require_lines(trace: str) -> None:
    """Refuse a file for --trace that by its name has another form."""
    suffix = os.path.splitext(trace)[1]
    if suffix in (".html", ".json", ".pcapng"):
        raise click.UsageError(
            f"--trace writes JSON lines, FILE.jsonl; FILE{suffix} is written by: "
            f"xennet trace run ... -o {trace}"
        )


def _require_own_taps(specs: Sequence[str]) -> None:
    """Refuse two ports that are the same interface: the kernel gives a tap to one at a time."""
    taps = [part for spec in specs for part in split(spec) if part.startswith("tap:")]
    for tap in taps:
        if taps.count(tap) > 1:
            raise click.UsageError(f"port {tap!r} is given {taps.count(tap)} times, it is one tap.")


def _require_no_vifs(ctx: click.Context, link: str) -> None:
    """Refuse options of vifs for another kind of link."""
    given = ParameterSource.COMMANDLINE
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in _OF_VIFS and ctx.get_parameter_source(name) is given:
            raise click.UsageError(f"{parameter.opts[0]} is for vifs: --link {link} has none.")


def require_vif_room(options: RunOptions) -> None:
    """Refuse a run that exceeds a limit, before a recording is begun. Raises BadInputError."""
    from xennet.errors import LimitError
    from xennet.host.limits import require_room
    from xennet.run.over_vifs import setup_of

    try:
        require_room(setup_of(options))
    except LimitError as error:
        raise BadInputError(f"{error}; see --quota-nodes" if error.quota else str(error)) from None


def _require_link_room(options: RunOptions) -> None:
    """The same for a link that is no vif."""
    from xennet.run.links import parse as parse_link

    kind, argument = parse_link(options.link)
    try:
        kind.require_room(argument, options)
    except ValueError as error:
        raise BadInputError(f"--link {options.link}: {error}") from None


def ports_of(
    guest: tuple[str, ...], host: tuple[str, ...], options: RunOptions
) -> tuple[list[str], list[str]]:
    """The specifications of each vif's two ports; none for hosts with a switch. Raises
    UsageError."""
    vifs = options.guests * options.vifs
    if options.switch and host:
        raise click.UsageError("--switch joins the guests to each other: leave --host out.")
    if options.switch and vifs == 1:
        raise click.UsageError("--switch needs two vifs at least: --guests 2, for example.")
    if not options.switch and not host:
        raise click.UsageError("Missing option '--host'.")
    if vifs > MAX_GUESTS:
        raise click.UsageError(f"--guests times --vifs is {vifs}, more than {MAX_GUESTS}.")
    return _each("--guest", guest, vifs), [] if options.switch else _each("--host", host, vifs)


def _each(option: str, specs: tuple[str, ...], vifs: int) -> list[str]:
    if len(specs) not in (1, vifs):
        raise click.UsageError(
            f"{option} is given {len(specs)} times for {vifs} vif{'s' * (vifs != 1)}."
        )
    return list(specs) * (vifs // len(specs))


def _vif(
    socket: str | None,
    hold_before: float,
    hold: float,
    silent: bool,
    guests: Sequence[Port],
    hosts: Sequence[Port],
    options: RunOptions,
    progress: Shown,
    taps: Sequence[TapFile] = (),
    made: Callable[[Any], object] | None = None,
) -> RunReport:
    """The link that the options name; its store is served on ``socket`` unless that is None.

    ``made(link)`` is called before it is opened. A signal ends the run in order.
    """
    from xennet.choices import NoSuchChoiceError
    from xennet.cli.signals import stopping
    from xennet.run.links import run_ports
    from xennet.run.runner import StoreView
    from xennet.run.stop import Stop
    from xennet.xenstore.errors import SocketError

    view = None if socket is None else StoreView(socket, hold_before, hold, progress.tell)
    stop = Stop()
    try:
        with stopping(stop, silent):
            load_engine()
            collect_garbage()
            return run_ports(guests, hosts, options, progress, view, stop, taps, made)
    except NoSuchChoiceError as error:
        raise BadInputError(str(error)) from None
    except SocketError as error:
        raise BadInputError(str(error)) from None


def _exit_code(report: RunReport) -> int:
    if report.interrupted is not None:
        return 128 + signal.Signals[report.interrupted]
    return 0 if report.verdict.good else 1


def _carry(
    guest_specs: Sequence[str],
    host_specs: Sequence[str],
    tap_specs: Sequence[_Tap],
    options: RunOptions,
    link: Link,
    silent: bool,
) -> RunReport:
    """Open the ports, carry their frames, and close the ports in any case, so that recordings are
    complete."""
    from xennet.run.links import file_of

    with ExitStack() as closing:
        file = file_of(options.link)
        recorders = [spec for _, _, spec in tap_specs]
        opened = iter(
            open_ports([*guest_specs, *host_specs, *recorders], () if file is None else (file,))
        )
        guests = list(islice(opened, len(guest_specs)))
        hosts = list(islice(opened, len(host_specs)))
        taps = [
            TapFile(side, number, port)
            for (side, number, _), port in zip(tap_specs, opened, strict=True)
        ]
        ports = [*guests, *hosts]
        for port in (*ports, *(tap.port for tap in taps)):
            closing.callback(port.close)
        totals = {GUEST_TO_HOST: _expected(guests), HOST_TO_GUEST: _expected(hosts or guests)}
        if silent:
            shown = no_progress()
        elif any(map(is_live, ports)):
            shown = live_line(sys.stderr)
        else:
            shown = progress_bar(totals, sys.stderr)
        progress = closing.enter_context(shown)
        if taps:
            return link(guests, hosts, options, progress, taps)
        return link(guests, hosts, options, progress)


def _expected(ports: Sequence[Port]) -> int | None:
    """Number of frames that all ports together give; None if one of them does not know."""
    counts = [port.expected for port in ports]
    return None if None in counts else sum(count or 0 for count in counts)


def _show(report: RunReport, as_json: bool, quiet: bool, err: bool) -> None:
    """Print the report, on stderr if ``err``: standard output is a recording then."""
    if as_json:
        say_json(report.to_json(), err)
        return
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    if quiet and not is_terminal:
        say(verdict_text(report), nl=False, err=err)
        return
    from rich.console import Console

    from xennet.run.render import print_report, print_verdict, render_text

    if is_terminal:
        (print_verdict if quiet else print_report)(report, Console(stderr=err))
    else:
        say(render_text(report), nl=False, err=err)
