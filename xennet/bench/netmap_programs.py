"""``python -m xennet.bench.netmap_programs``: what /dev/netmap costs a program of another process.

A program in C (netmap_program.c, compiled here) does what pkt-gen does: 512 slots at a sync,
through a pipe to another process of it. Prints a table in Markdown: the time of a TXSYNC and of a
poll that finds room, each the best of twenty rounds, and the server's processor time of one of
them; frames per second, by the clock and by the processor time of the server and of the programs.
Needs a C compiler.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import click
from attrs import frozen

from xennet.abi import netmap as abi
from xennet.bench.compiler import why_not
from xennet.bench.markdown import Table
from xennet.engine.choice import using
from xennet.exec.launch import launch, socket_paths
from xennet.exec.own_host import OwnHost

_CODECS = ("HEADER", "REGISTER", "IF", "RING", "SLOT")
_NUMBERS = ("NETMAP_API", "NETMAP_REQ_REGISTER", "NR_REG_ALL_NIC", "NIOCCTRL", "NIOCTXSYNC")
#: The domain that the programs run in.
_DOMID = 1
#: Rounds of each kind of call, as the program has it; calls of a round.
_ROUNDS = 20
_CALLS = 2000


def macros() -> list[str]:
    """The layout of netmap as options of a compiler."""
    found = {name: getattr(abi, name) for name in _NUMBERS}
    for name in _CODECS:
        codec = getattr(abi, name)
        found[f"{name}_SIZE"] = codec.size
        found |= {f"{name}_{field}": codec.offsets[field] for field in codec.fields}
    return [f"-D{name}={value}u" for name, value in found.items() if "." not in name]


def built(directory: Path) -> str:
    """Compile the program into ``directory``. Returns its path. Raises CalledProcessError."""
    program = str(directory / "netmap_program")
    with as_file(files("xennet.bench") / "netmap_program.c") as source:
        command = ["gcc", "-O2", *macros(), str(source), "-o", program]
        subprocess.run(command, check=True, capture_output=True)
    return program


@frozen
class Costs:
    """What was measured with one engine.

    ``txsync``, ``poll``: microseconds; ``call``: of the server's processor time for one of them.
    ``frames`` through the pipe, which took ``seconds``, and ``server`` and ``programs`` seconds of
    processor time.
    """

    txsync: float
    poll: float
    call: float
    frames: int
    seconds: float
    server: float
    programs: float


def measure(engine: str, program: str, frames: int, calls: int = _CALLS) -> Costs:
    """Measure with one engine. Raises RuntimeError if a program fails."""
    with using(engine):
        own = OwnHost(_DOMID)
        try:
            used = time.process_time()
            told = _run(own, [program, "sync", "sync{1", str(calls)])[0]
            call = (time.process_time() - used) / (2 * _ROUNDS * calls) * 1e6
            txsync, poll = (float(word) for word in told.split())
            _transfer(own, program, min(frames, 100_000))  # kernels are compiled then
            clock, server, programs = time.perf_counter(), time.process_time(), _of_programs()
            _transfer(own, program, frames)
            seconds = time.perf_counter() - clock
            server = time.process_time() - server
            return Costs(txsync, poll, call, frames, seconds, server, _of_programs() - programs)
        finally:
            own.close()


def _transfer(own: OwnHost, program: str, frames: int) -> None:
    _run(own, *([program, what, end, str(frames)] for what, end in _ENDS))


_ENDS = (("send", "pipe{1"), ("receive", "pipe}1"))


def _of_programs() -> float:
    """Seconds of processor time of programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(own: OwnHost, *commands: list[str]) -> list[str]:
    """Run programs until all have ended. Returns what each has printed."""
    paths = socket_paths(own.directory, _DOMID)
    started: list[subprocess.Popen[bytes]] = []
    pump = own.host.pump
    watched = []
    try:
        for command in commands:
            started.append(launch(command, *paths, stdout=subprocess.PIPE))
            watched.append(os.pidfd_open(started[-1].pid))
            pump.watch(watched[-1], lambda: None)
        pump.hold(None, lambda: any(one.poll() is not None for one in started))
        if all(one.poll() in (None, 0) for one in started):
            pump.hold(None, lambda: all(one.poll() is not None for one in started))
        if any(one.poll() for one in started):
            raise RuntimeError(f"{commands[0][0]} has failed")
        return [one.stdout.read().decode() for one in started if one.stdout is not None]
    finally:
        for fd in watched:
            pump.unwatch(fd)
            os.close(fd)
        for one in started:
            one.kill()
            one.wait()
            if one.stdout is not None:
                one.stdout.close()


def table(found: dict[str, Costs]) -> Table:
    """What was measured, by engine."""
    rows = [
        (
            engine,
            f"{costs.txsync:.1f}",
            f"{costs.poll:.1f}",
            f"{costs.call:.1f}",
            f"{costs.frames / costs.seconds:,.0f}",
            f"{costs.frames / costs.server:,.0f}",
            f"{costs.frames / costs.programs:,.0f}",
        )
        for engine, costs in found.items()
    ]
    columns = (
        "engine",
        "TXSYNC, us",
        "poll, us",
        "server's processor, us",
        "frames/s, pipe",
        "in a second of the server's processor time",
        "of the programs'",
    )
    return Table("/dev/netmap for programs, 512 frames a sync", columns, tuple(rows))


@click.command(help=__doc__)
@click.option("--frames", type=click.IntRange(1), default=20_000_000, show_default=True)
def main(frames: int) -> None:
    if reason := why_not():
        raise click.ClickException(reason)
    directory = Path(tempfile.mkdtemp(prefix="xennet-bench-"))
    try:
        program = built(directory)
        found = {
            name: measure(engine, program, frames)
            for name, engine in (("plain", "plain"), ("compiled", "fast"))
            if engine == "plain" or find_spec("numba") is not None
        }
    finally:
        shutil.rmtree(directory)
    click.echo(table(found).markdown())


if __name__ == "__main__":
    main()
