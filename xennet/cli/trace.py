"""``xennet trace``: record every step of a machine, and show a recording."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup
from xennet.cli.output import say
from xennet.cli.whole_number import WholeNumber
from xennet.run.printable import printable

_ANY_OPTIONS = {"ignore_unknown_options": True, "allow_interspersed_args": True}
_FILE = click.option(
    "-o",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The recording; its suffix names the form.",
)


def _show_dissector(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Write the dissector for Wireshark and say where it lies: its path alone on stdout. Raises
    BadInputError."""
    if not wanted or ctx.resilient_parsing:
        return
    from xennet.trace.dissector import write_dissector

    try:
        path = write_dissector()
    except OSError as error:
        raise BadInputError(printable(f"{error.filename}: {error.strerror}")) from None
    say(printable(str(path)))
    say("tshark -X lua_script:" + printable(shlex.quote(str(path))) + " -r FILE.pcapng", err=True)
    hint = "Wireshark loads it from its folder of personal Lua plugins, or by the same option."
    say(hint, err=True)
    ctx.exit()


@click.group(
    cls=CommandGroup,
    epilog="Forms: FILE.jsonl, the events themselves (docs/trace.md); FILE.html, a page to step "
    "through; FILE.json for Perfetto; FILE.pcapng for Wireshark.",
)
@click.option(
    "--dissector",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_dissector,
    help="Write the dissector for Wireshark (docs/wireshark.md), say where it lies, and exit.",
)
def trace() -> None:
    """Record every step of a machine as a stream of events: accesses to shared memory, indices
    published, notifications sent and avoided, hypercalls, nodes, deliveries, with their causes."""


@trace.command(context_settings=_ANY_OPTIONS, short_help="Record a run.")
@_FILE
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, file: Path, arguments: tuple[str, ...]) -> None:
    """Record a run; ARGUMENTS are those of `xennet run`, whose report is printed as ever."""
    from xennet.cli.run import run as command

    if any(word.partition("=")[0] == "--trace" for word in arguments):
        raise click.UsageError("-o names the recording: leave --trace out.")
    with (
        _form_of(file) as stream,
        command.make_context(
            "run", ["--trace", str(stream), *arguments], parent=ctx.parent
        ) as inner,
    ):
        command.invoke(inner)


@trace.command(context_settings=_ANY_OPTIONS, short_help="Record a scenario.")
@_FILE
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def lifecycle(ctx: click.Context, file: Path, arguments: tuple[str, ...]) -> None:
    """Record one of a vif's lives; ARGUMENTS are those of `xennet lifecycle`.

    Of a scenario of two hosts it is the first host.
    """
    from xennet.cli.lifecycle import lifecycle as command
    from xennet.cli.recorded import first_machine

    with (
        _form_of(file) as stream,
        command.make_context("lifecycle", list(arguments), parent=ctx.parent) as inner,
        first_machine(str(stream), ("lifecycle", *arguments)),
    ):
        command.invoke(inner)


@trace.command(short_help="Print a recording, or write it in another form.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there; the suffix names the form.",
)
@click.option(
    "--kind",
    multiple=True,
    metavar="KIND",
    help="Print events of this kind only; may be repeated.",
)
@click.option(
    "--why", type=WholeNumber(0), help="Print the events that led to event N, and that one."
)
def show(file: Path, output: Path | None, kind: tuple[str, ...], why: int | None) -> None:
    """Print the events of FILE.jsonl, a line each: number, ns of virtual time, domain, kind,
    number of the cause, sentence."""
    from xennet.trace.lines import line, reasons
    from xennet.trace.stream import TraceError, read

    try:
        if output is not None:
            _write(file, output, file)
            return
        events = read(file)[1]
        kinds = set()
        for event in events if why is None else reasons(events, why):
            kinds.add(event["kind"])
            if not kind or event["kind"] in kind:
                say(printable(line(event)))
        for absent in sorted(set(kind) - kinds):
            there = ", ".join(sorted(kinds))
            say(printable(f"no event is of the kind {absent!r}; there are {there}"), err=True)
    except (TraceError, ValueError) as error:
        raise BadInputError(printable(str(error))) from None
    except OSError as error:
        raise BadInputError(printable(f"{file}: {error.strerror}")) from None


def _write(recorded: Path, output: Path, named: Path) -> None:
    """Write the stream in ``recorded``, which messages call ``named``, as ``output`` says. Raises
    BadInputError, TraceError, and OSError if the stream cannot be read."""
    from xennet.trace.stream import read
    from xennet.trace.writers import write

    _has_form(output)
    header, events = read(recorded)
    try:
        write(header, events, output)
    except ValueError as error:
        raise BadInputError(printable(f"{named}: {error}")) from None
    except OSError as error:
        raise BadInputError(printable(f"{output}: {error.strerror}")) from None


def _has_form(file: Path) -> None:
    """Raise BadInputError unless the suffix of ``file`` names a form."""
    from xennet.trace.writers import writer_for

    try:
        writer_for(file)
    except ValueError as error:
        raise BadInputError(printable(str(error))) from None


@contextmanager
def _form_of(file: Path) -> Iterator[Path]:
    """Within the block a stream is written to the path that is yielded; behind it ``file`` has it
    in its form, also if the block raises what ends a command, unless nothing was recorded. Raises
    BadInputError for a file that cannot be; the stream is kept beside it then."""
    _has_form(file)
    if not file.parent.is_dir():  # a run may take long: say so before it
        raise BadInputError(printable(f"{file}: No such file or directory"))
    if file.suffix == ".jsonl":
        yield file  # event by event, so that it is there whatever happens
        return
    with tempfile.TemporaryDirectory(prefix="xennet-trace-") as folder:
        stream = Path(folder) / "stream.jsonl"
        try:
            yield stream
        finally:
            if stream.exists():
                try:
                    _write(stream, file, file)
                except BadInputError as error:
                    kept = _kept_beside(stream, file)
                    raise BadInputError(f"{error.message}{kept}") from None


def _kept_beside(stream: Path, file: Path) -> str:
    """Keep a stream beside the ``file`` that could not be made of it, unless something is there.
    Returns what a message says of it."""
    beside = file.with_suffix(".jsonl")
    if beside.exists():
        return ""
    try:
        shutil.copyfile(stream, beside)
    except OSError:
        beside.unlink(missing_ok=True)
        return ""
    return printable(f"; all events are in {beside}")
