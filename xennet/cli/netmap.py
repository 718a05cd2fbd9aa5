"""``xennet netmap``: programs on a netmap device, and records of the real one.

The device is in this process, so programs that are to meet on it are in one command, with ``--``
between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xennet.cli.errors import BadInputError
from xennet.cli.group import CommandGroup, did_you_mean
from xennet.cli.output import say
from xennet.cli.whole_number import WholeNumber

if TYPE_CHECKING:
    from xennet.netmap.device import Device
    from xennet.netmap.user.pkt_gen import Program

EXIT_DIFFERENT = 1
#: Prefixes of names of ports; without one of them "netmap:" is meant.
_PREFIXES = ("netmap:", "vale")

#: Bytes of the longest frame (xennet.frames.MAX_FRAME).
_LONGEST = 65535

#: A command function that gets an argument.
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(
    cls=CommandGroup,
    epilog="Exit code: 0 done, 1 the device differs from a record, 2 no such port, no record, or "
    "bad usage.",
)
def netmap() -> None:
    """netmap's rings, pipes and VALE switches, as the kernel module has them.

    A device lives as long as its command, so programs that are to meet on it stand in one command,
    with -- between them:

    \b
        xennet netmap gen vale0:1 --count 1000000 -- sink vale0:2 -- sink vale0:3
        xennet netmap gen 'cable{1' -- bridge 'cable}1' vale0:a -- sink vale0:b -- list
        xennet netmap veth em0 em1 -- gen em0 --count 1000 -- sink em1
        xennet netmap vif xn0 vif1.0 -- gen xn0 --count 1000 -- sink vif1.0

    PORT is a name as libnetmap reads it; netmap: may be left out.
    """


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

    def tell(line: str) -> None:
        """Print what is in a record: a control character or half a surrogate pair as its escape."""
        say(line if line.isprintable() else repr(line)[1:-1])

    def show(outcome: Outcome, mark: str) -> None:
        if outcome.difference is not None:
            tell(f"{outcome.case_id}: {mark}")
            for line in outcome.difference.lines():
                tell(f"  {line}")

    cases = agree = differ = defects = not_played = 0
    try:
        for path, played in play_files([Path(name) for name in files]):
            for outcome in played.outcomes:
                if outcome.why is not None:
                    tell(f"{outcome.case_id}: not played: {outcome.why}")
                show(outcome, "a defect of the module" if outcome.defect else "DIFFERENT")
                if verbose and outcome in played.agree:
                    tell(f"{outcome.case_id}: as recorded")
            counted = f"{len(played.agree)} of {len(played.outcomes)} cases agree"
            tell(f"{path.name}: {counted}")
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


def _others(function: _F) -> _F:
    """The argument for the commands behind ``--``."""
    return click.argument(
        "others", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ...]", callback=_split
    )(function)


def _split(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> list[list[str]]:
    """The commands behind ``--``, each with its arguments."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    if words and not all(parts):
        raise click.UsageError("A command is missing beside --.", ctx)
    return parts if words else []


def _named(port: str) -> str:
    return port if port.startswith(_PREFIXES) else f"netmap:{port}"


@netmap.command()
@click.argument("port")
@click.option(
    "--size",
    type=WholeNumber(18, _LONGEST),
    default=60,
    show_default=True,
    help="Bytes of a frame, which has to fit into a buffer of PORT: 2048 mostly.",
)
@click.option(
    "--count", type=WholeNumber(1), default=1_000_000, show_default=True, help="So many frames."
)
@_others
@click.pass_context
def gen(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Send numbered frames from PORT, as fast as it takes them.

    A VALE switch takes them always, and drops what nobody receives; a pipe when its reader has
    taken some.
    """
    _run(ctx, "gen", given, others)


@netmap.command()
@click.argument("port")
@_others
@click.pass_context
def sink(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Count the frames that come into PORT, until all other commands have nothing left to do."""
    _run(ctx, "sink", given, others)


@netmap.command()
@click.argument("a")
@click.argument("b")
@_others
@click.pass_context
def bridge(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Move frames between the ports A and B, both ways; in one memory region without a copy."""
    _run(ctx, "bridge", given, others)


@netmap.command()
@click.argument("a")
@click.argument("b")
@_others
@click.pass_context
def veth(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Make the interfaces A and B, the ends of a veth pair, for the other commands."""
    _run(ctx, "veth", given, others)


@netmap.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--queues", type=WholeNumber(1, 8), default=1, show_default=True, help="Queues of the vif."
)
@click.option(
    "--admode",
    type=WholeNumber(0, 2),
    default=0,
    show_default=True,
    help="Adapters of interfaces: 0 native if the driver can, 1 native only, 2 generic only.",
)
@_others
@click.pass_context
def vif(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Make a vif for the other commands: A is the guest's interface, B is the backend's.

    netfront has a native adapter, with a ring pair for each queue; the backend's interface has a
    generic one. The guest takes no offloads, as netmap.
    """
    _run(ctx, "vif", given, others)


@netmap.command(name="list")
@_others
@click.pass_context
def list_(ctx: click.Context, others: list[list[str]]) -> None:
    """Show the ports of switches that the commands behind -- have opened."""
    _run(ctx, "list", {}, others)


@netmap.command()
@click.argument("port")
@_others
@click.pass_context
def info(ctx: click.Context, /, others: list[list[str]], **given: Any) -> None:
    """Open PORT and show what it got: rings, slots, memory."""
    _run(ctx, "info", given, others)


def _run(ctx: click.Context, name: str, given: dict[str, Any], others: list[list[str]]) -> None:
    """Make a device, open the ports of a command and of those behind it, let them take turns, and
    say what they did."""
    from xennet.netmap.device import Device
    from xennet.netmap.errors import NetmapError
    from xennet.netmap.user.pkt_gen import take_turns

    parts = [(name, given), *(_parsed(ctx, words) for words in others)]
    device = Device()
    try:
        with ExitStack() as stack:
            programs: list[tuple[str, Program]] = []
            links: list[Program] = []
            for one, of_it in parts:
                if one in _MADE and (made := _MADE[one](device, **of_it)) is not None:
                    links.append(made)
                    stack.callback(made.close)
            for one, of_it in parts:
                if one in _PROGRAMS:
                    programs.append((one, _PROGRAMS[one](device, **of_it)))
                    stack.callback(programs[-1][1].close)
            for one, of_it in parts:
                if one in _SHOWN:
                    for line in _SHOWN[one](device, **of_it):
                        say(line)
            began = time.perf_counter()
            take_turns([*(program for _, program in programs), *links])
            seconds = time.perf_counter() - began
            for one, program in programs:
                say(_TOLD[one](program, seconds))
    except NetmapError as e:
        raise BadInputError(str(e)) from e


def _parsed(ctx: click.Context, words: list[str]) -> tuple[str, dict[str, Any]]:
    """A command behind ``--``: its name and its parameters."""
    name, *args = words
    known = (*_PROGRAMS, *_SHOWN, *_MADE)
    if name not in known:
        near = did_you_mean(name, known)
        raise click.UsageError(f"No such command {name!r} behind --.{near}", ctx)
    with netmap.commands[name].make_context(name, args, parent=ctx.parent) as inner:
        given = dict(inner.params)
    if given.pop("others"):
        raise click.UsageError(f"Too much behind {name}; -- has to be between two commands.", ctx)
    return name, given


def _make_pair(device: Device, a: str, b: str) -> None:
    from xennet.netmap.net_interface import IFNAMSIZ, NetInterface, join_pair

    for name in (a, b):
        if not 0 < len(name.encode()) < IFNAMSIZ or name in device.state.interfaces:
            raise BadInputError(f"veth: {name!r} is too long for an interface, or there is one")
        device.state.add_interface(NetInterface(name))
    join_pair(device.state.interfaces[a], device.state.interfaces[b])


class _Vif:
    """A vif whose ends are the interfaces ``a`` and ``b`` of a device.

    Its turn comes after those that send: what it carries is counted as theirs. Raises NetmapError
    for a name that no interface can have, or that is taken.
    """

    def __init__(self, device: Device, a: str, b: str, queues: int, admode: int) -> None:
        from xennet import VifLink
        from xennet.frames import BaseEndpoint
        from xennet.netmap.interface_end import InterfaceEnd
        from xennet.run.options import RunOptions
        from xennet.run.over_vifs import setup_of

        device.state.parameters.admode = admode
        ends = InterfaceEnd(BaseEndpoint()), InterfaceEnd(BaseEndpoint())
        setup = setup_of(RunOptions(queues=queues, gso=False, csum=False))
        self._link = VifLink(*ends, setup=setup)
        try:
            for end, its, name in zip(ends, self._link.pairs[0].interfaces, (a, b), strict=True):
                end.add(device, its, name)
            self._link.open()
        except Exception:
            self._link.destroy()
            raise

    def step(self) -> int:
        self._link.carry()
        return 0

    def close(self) -> None:
        self._link.close()
        self._link.destroy()


#: What makes interfaces for the others, and takes turns with them if it is to carry frames.
_MADE: dict[str, Callable[..., Program | None]] = {"veth": _make_pair, "vif": _Vif}


def _generator(device: Device, port: str, size: int, count: int) -> Program:
    from xennet.netmap.user.pkt_gen import Generator

    return Generator(_named(port), size, count, device)


def _sink(device: Device, port: str) -> Program:
    from xennet.netmap.user.pkt_gen import Sink

    return Sink(_named(port), device)


def _bridge(device: Device, a: str, b: str) -> Program:
    from xennet.netmap.user.pkt_gen import Bridge

    return Bridge(_named(a), _named(b), device)


_PROGRAMS: dict[str, Callable[..., Program]] = {
    "gen": _generator,
    "sink": _sink,
    "bridge": _bridge,
}


def _gen_told(program: Any, seconds: float) -> str:
    rate = program.sent / seconds if seconds else 0.0
    rest = "" if program.finished else ", the rest found no room: nobody reads"
    return (
        f"gen {program.port.name}: {program.sent:,} frames sent in {seconds:.2f} s "
        f"({rate:,.0f} frames/s){rest}"
    )


def _sink_told(program: Any, _seconds: float) -> str:
    return f"sink {program.port.name}: {program.frames:,} frames, {program.bytes:,} bytes"


def _bridge_told(program: Any, _seconds: float) -> str:
    there, back = program.moved
    how = "buffers swapped" if program.zero_copy else "copied"
    return f"bridge {program.a.name} {program.b.name}: {there:,} there, {back:,} back, {how}"


_TOLD: dict[str, Callable[[Any, float], str]] = {
    "gen": _gen_told,
    "sink": _sink_told,
    "bridge": _bridge_told,
}


def _listed(device: Device) -> Iterator[str]:
    from xennet.netmap.user.nmport import ports_of_switches

    ports = list(ports_of_switches(device))
    if not ports:
        yield "no port is on a switch: the device is this command's own, name others behind --"
    for switch, number, name in ports:
        yield f"switch {switch}  port {number:3}  {name}"


def _informed(device: Device, port: str) -> Iterator[str]:
    from xennet.netmap.user.nmport import open_port, pools

    with open_port(_named(port), device=device) as opened:
        got = opened.reply
        yield f"name      {opened.kernel_name}"
        yield f"mode      {got.nr_mode}, flags {got.nr_flags:#x}"
        yield f"tx rings  {got.nr_tx_rings} of {got.nr_tx_slots} slots, {got.nr_host_tx_rings} host"
        yield f"rx rings  {got.nr_rx_rings} of {got.nr_rx_slots} slots, {got.nr_host_rx_rings} host"
        yield f"memory    {got.nr_mem_id}, {got.nr_memsize:,} bytes"
        for pool, objects, size in pools(opened):
            yield f"{pool:8}  {objects:,} of {size:,} bytes"
        for ring in (*opened.tx_rings, *opened.rx_rings):
            kind = "tx" if ring.tx else "rx"
            first = f"buffer {ring[0].buf_idx} first"
            yield f"{kind}{ring.ringid:<7} {ring.space} of {len(ring)} slots, {first}"


_SHOWN: dict[str, Callable[..., Iterator[str]]] = {"list": _listed, "info": _informed}
