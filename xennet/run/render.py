"""A run report for people: the handshake in two columns of actors, the numbers as tables, the
verdict.

Everything from a guest or a file is made printable. Long values are folded, never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO

from attrs import fields, frozen
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xennet.frames import MAX_FRAME
from xennet.link.report import DomainReport, PathReport, VifReport
from xennet.link.timeline import TimelineEntry
from xennet.port.base import Counters
from xennet.run.printable import printable
from xennet.run.report import GUEST_TO_HOST, HOST_TO_GUEST, DirectionReport, RunReport
from xennet.run.verdict_text import reasons, word
from xennet.wrap.in_order import Mismatch

#: Most domains in a table; more are shown as the first one and all others.
_DOMAIN_COLUMNS = 6
#: Name of a XenbusState (xen/io/xenbus.h) -> its style.
STATE_STYLES = {
    "Unknown": "dim",
    "Initialising": "yellow",
    "InitWait": "yellow",
    "Initialised": "cyan",
    "Connected": "bold green",
    "Closing": "magenta",
    "Closed": "bold red",
    "Reconfiguring": "blue",
    "Reconfigured": "blue",
}


def print_report(report: RunReport, console: Console) -> None:
    """Print the whole report on ``console``."""
    sections = (
        _timeline(report),
        _directions(report),
        _evidence(report),
        _vifs(report),
        _edges(report),
        _switch(report),
        _rings(report),
        _notifications(report),
        _domains(report),
        _interfaces(report),
        _ports(report),
        _verdict(report),
    )
    shown = [section for section in sections if section is not None]
    for i, section in enumerate(shown):
        if i:
            console.print()
        console.print(section, crop=console.is_terminal)


def render_text(
    report: RunReport, printer: Callable[[RunReport, Console], None] = print_report, width: int = 80
) -> str:
    """The output of ``printer`` as plain text for files and pipes: no escapes, no padding.

    Tables fit ``width`` columns; sentences are one line each, so that they can be searched for.
    """
    text = StringIO()
    printer(report, Console(file=text, width=width, color_system=None, force_terminal=False))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def print_verdict(report: RunReport, console: Console) -> None:
    """Print the verdict and its reasons."""
    console.print(_verdict(report), crop=console.is_terminal)


@frozen
class _Sentences:
    """Text that only a terminal wraps."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            self.text.no_wrap, self.text.overflow = True, "ignore"
        yield self.text


@frozen
class _PortName:
    """A port specification, folded behind one of its separators where it has to be."""

    spec: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _folded_spec(self.spec, options.max_width):
            yield Text(line, overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(1, len(self.spec)))


def _folded_spec(spec: str, width: int) -> Iterator[str]:
    """Yield lines of at most ``width`` characters.

    The recorder of a pair is on a line of its own; otherwise as much of a path or argument as fits.
    """
    while len(spec) > width:
        found = (spec.rfind(separator, 0, width) + 1 for separator in "+/:,")
        end = next(filter(None, found), width)
        yield spec[:end]
        spec = spec[end:]
    yield spec


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """A table whose first ``left`` columns are text, the others numbers."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i < left else "right", overflow="fold")
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """A function that adds a row to ``table``. (A plain str would be searched for console
    markup.)"""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _number(value: int) -> str:
    return f"{value:,}"


# --- the timeline ---------------------------------------------------------------------------------


def _timeline(report: RunReport) -> RenderableType | None:
    if not report.timeline:
        return None
    table = _table("Handshake", "step", "guest", "host", "what", left=4)
    table.columns[0].justify = "right"
    for entry in report.timeline:
        _add(table, str(entry.step), *_lanes(entry.who), _what(entry, report.roots))
    legend = [Text(f"{name} = {printable(path)}", "dim") for name, path in report.roots.items()]
    return Group(table, *legend)


def _lanes(who: str) -> tuple[Text, Text]:
    """The actor's name in the guest's column, or in that of dom0 and its helpers."""
    name = Text(printable(who), "cyan" if who.startswith("domU") else "")
    return (name, Text()) if who.startswith("domU") else (Text(), name)


def _what(entry: TimelineEntry, roots: dict[str, str]) -> Text:
    path = _shortened(entry.path, roots)
    if entry.old is not None or entry.new is not None:
        text = Text(f"{path} " if path else "")
        return text.append_text(_state(entry.old)).append(" → ").append_text(_state(entry.new))
    words = [path] if entry.kind == "write" else [entry.kind, path]
    text = Text(" ".join(filter(None, words)))
    if entry.value is not None:
        text.append(" = " if path else " ")
        text.append(printable(entry.value) or '""')
    return text


def _state(name: str | None) -> Text:
    return (
        Text("(none)", "dim") if name is None else Text(printable(name), STATE_STYLES.get(name, ""))
    )


def _shortened(path: str, roots: dict[str, str]) -> str:
    for name, root in roots.items():
        if path == root or path.startswith(root + "/"):
            return name + printable(path[len(root) :])
    return printable(path)


# --- the numbers ----------------------------------------------------------------------------------


def _directions(report: RunReport) -> RenderableType | None:
    if not report.directions:
        return None
    through = (report.switch.through,) if report.switch is not None else ()
    directions = (*report.directions, *through)
    filtering = any(direction.filtered for direction in directions)
    columns = ("direction", "sent", "received", "bytes", "not as sent")
    table = _table("Frames", *columns, *(("filtered",) if filtering else ()))
    for direction in directions:
        _add(
            table,
            printable(direction.name),
            _number(direction.frames_sent),
            _number(direction.frames_received),
            _number(direction.bytes_received),
            Text(_number(direction.mismatches), "bold red" if direction.mismatches else ""),
            *((_number(direction.filtered),) if filtering else ()),
        )
    if not report.seconds:
        return table
    speed = f"{report.frames_per_second:,.0f} frames/s over {report.seconds:.3f} s"
    return Group(table, Text(speed, "dim"))


def _evidence(report: RunReport) -> RenderableType | None:
    through = (report.switch.through,) if report.switch is not None else ()
    directions = (*report.directions, *through)
    lines = [line for direction in directions for line in _mismatches(direction)]
    return Group(Text("Evidence", "bold"), *map(_Sentences, lines)) if lines else None


def _mismatches(direction: DirectionReport) -> Iterable[Text]:
    for mismatch in direction.evidence:
        yield _mismatch(direction.name, mismatch)
    more = direction.mismatches - len(direction.evidence)
    if more > 0:
        yield Text(f"{printable(direction.name)}: {_number(more)} more not shown", "dim")


def _mismatch(direction: str, mismatch: Mismatch) -> Text:
    text = Text(f"{printable(direction)}, frame {mismatch.frame}: ")
    text.append(printable(mismatch.problem), "red")
    if mismatch.offset is not None:
        text.append(f" at byte {mismatch.offset}")
    for label, data in (("sent", mismatch.sent), ("received", mismatch.received)):
        if data:
            text.append(f"\n  {label:<8} {data}")
    return text


def _vifs(report: RunReport) -> RenderableType | None:
    """A table of what was negotiated; vifs with equal results share a row."""
    groups: dict[tuple[object, ...], list[VifReport]] = {}
    for vif in report.vifs:
        alike = (vif.queues, vif.split_channels, _features(vif.up), _features(vif.down))
        groups.setdefault(alike, []).append(vif)
    if not groups:
        return None
    if report.options.link != "vif":
        return None  # nothing is negotiated there
    columns = ("vif", "way", "queues", "channels", "sg", "checksums", "segmented", "longest")
    table = _table("Negotiated", *columns, left=len(columns))
    for vifs in groups.values():
        vif = vifs[0]
        name = vif.name if len(vifs) == 1 else f"{vif.name} (of {len(vifs)} alike)"
        channels = "split" if vif.split_channels else "single"
        _add(table, name, "up", str(vif.queues), channels, *_features(vif.up))
        _add(table, "", "down", "", "", *_features(vif.down))
    return Group(table, *_fewer_queues(report, [vifs[0] for vifs in groups.values()]))


def _fewer_queues(report: RunReport, vifs: Sequence[VifReport]) -> Iterator[RenderableType]:
    """Notes on vifs that have fewer queues than they were allowed."""
    asked, least = report.options.queues, min(vif.queues for vif in vifs)
    if 0 < least < asked:
        why = ": xnb has one for each vif" if report.options.backend == "xnb" else ""
        text = f"{asked} queues were asked for, the ends agreed on {least}{why}"
        yield _Sentences(Text(text, "yellow"))


def _features(path: PathReport) -> tuple[str, ...]:
    """The cells of one direction: what frames may need of the end that takes them."""
    return (
        "yes" if path.sg else "no",
        " ".join(path.csum) or "filled in",
        " ".join(path.gso) or "no",
        _number(path.max_frame) if path.max_frame else "any",
    )


def _edges(report: RunReport) -> RenderableType | None:
    """A table of what was done in software; None if nothing was."""
    table = _table(
        "Software", "direction", "completed", "segmented", "segments", "refused", "errors"
    )
    ways = (
        (GUEST_TO_HOST, [vif.up for vif in report.vifs]),
        (HOST_TO_GUEST, [vif.down for vif in report.vifs]),
    )
    for name, paths in ways:
        counts = [
            sum(counts)
            for counts in zip(
                *((p.completed, p.segmented, p.segments, p.refused, p.errors) for p in paths),
                strict=True,
            )
        ]
        if any(counts):
            _add(table, name, *map(_number, counts))
    return table if table.row_count else None


def _switch(report: RunReport) -> RenderableType | None:
    switch = report.switch
    if switch is None:
        return None
    names = ("forwarded", "flooded", "group", "filtered", "invalid", "dropped")
    table = _table("Switch", "ports", "learned", *names, left=0)
    numbers = (switch.ports, switch.learned, *(getattr(switch, name) for name in names))
    _add(table, *map(_number, numbers))
    return table


def _rings(report: RunReport) -> RenderableType | None:
    if not report.rings:
        return None
    table = _table("Rings", "ring", "requests", "responses", "slots", "frames lost")
    for ring in report.rings:
        numbers = (ring.requests, ring.responses, ring.slots, ring.lost)
        _add(table, printable(ring.name), *map(_number, numbers))
    return table


def _notifications(report: RunReport) -> RenderableType | None:
    if not report.rings:
        return None
    columns = ("front sent", "front avoided", "back sent", "back avoided")
    table = _table("Notifications", "ring", *columns)
    for ring in report.rings:
        numbers = (ring.front.sent, ring.front.avoided, ring.back.sent, ring.back.avoided)
        _add(table, printable(ring.name), *map(_number, numbers))
    return table


def _domains(report: RunReport) -> RenderableType | None:
    if not report.domains:
        return None
    domains = _folded(report.domains)
    names = [printable(domain.name) for domain in domains]
    rows: Sequence[tuple[str, str]] = (
        ("grants made", "grants_made"),
        ("grants held at the end", "grants_held"),
        ("grants mapped at the end", "mappings"),
        ("grant copies", "grant_copies"),
        ("bytes copied by them", "bytes_copied"),
        ("event channels open at the end", "event_channels"),
        ("pages at the end", "pages"),
    )
    table = _table("Hypervisor", "", *names)
    for label, attribute in rows:
        values = (getattr(domain, attribute) for domain in domains)
        _add(table, label, *map(_number, values))
    return table


def _folded(domains: Sequence[DomainReport]) -> Sequence[DomainReport]:
    """The domains; if they are too many for a table, all but the first are one row."""
    if len(domains) <= _DOMAIN_COLUMNS:
        return domains
    first, *others = domains
    counts = {
        attribute.name: sum(getattr(domain, attribute.name) for domain in others)
        for attribute in fields(DomainReport)
        if attribute.name != "name"
    }
    return first, DomainReport(f"{len(others)} others", **counts)


def _interfaces(report: RunReport) -> RenderableType | None:
    if not report.interfaces:
        return None
    columns = ("in", "out", "bytes out", "errors", "drops")
    table = _table("Interfaces", "", "address", "mtu", *columns, left=2)
    for one in report.interfaces:
        counted = (one.ipackets, one.opackets, one.obytes, one.oerrors, one.oqdrops)
        _add(table, one.name, one.mac, str(one.mtu), *map(_number, counted))
    return table


def _ports(report: RunReport) -> RenderableType | None:
    if not report.ports:
        return None
    table = _table("Ports", "side", "port", "frames in", "frames out", left=2)
    alike: dict[tuple[str, str], list[Counters]] = {}
    for port in report.ports:
        alike.setdefault((port.side, port.spec), []).append(port.counters)
    for (side, spec), counters in alike.items():
        times = f" ({len(counters)} times)" if len(counters) > 1 else ""
        numbers = (sum(c.frames_in for c in counters), sum(c.frames_out for c in counters))
        name = _PortName(f"{printable(spec)}{times}")
        table.add_row(Text(printable(side)), name, *(Text(_number(number)) for number in numbers))
    notes = [
        _Sentences(Text(f"{printable(port.side)}: {note}", "yellow"))
        for port in report.ports
        if (note := _port_notes(port.counters))
    ]
    return Group(table, *notes)


def _port_notes(counters: Counters) -> str:
    notes = (
        (counters.skipped_empty, "empty skipped"),
        (counters.skipped_runt, "under 14 bytes skipped"),
        (counters.truncated, "cut by snap length"),
        (counters.fcs_cut, "without their FCS"),
        (counters.csum_completed, "with a checksum completed"),
        (counters.skipped_linktype, "of another link type skipped"),
        (counters.skipped_sections, "sections of an unknown version skipped"),
        (counters.dropped_unread, "dropped by the kernel, as nobody took them in time"),
        (counters.refused_headers, "with offloads that cannot be handed on refused"),
        (counters.refused_by_kernel, "not taken by the kernel"),
        (counters.refused_oversize, f"of more than {_number(MAX_FRAME)} bytes refused"),
        (counters.refused_time, "with a time out of range refused"),
    )
    return ", ".join(f"{_number(count)} {note}" for count, note in notes if count)


def _verdict(report: RunReport) -> RenderableType:
    return _Sentences(Text(*word(report)).append(reasons(report), "not bold default"))
