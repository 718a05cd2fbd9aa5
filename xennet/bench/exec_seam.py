"""``python -m xennet.bench.exec_seam``: what calls of programs in domains cost, and a backend of
another process in C beside the vif in this one, in turn.

Given is CPU time of both processes, and the time that passed; on a loaded machine only the former
says something.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
from attrs import frozen

from xennet.abi.xenbus import XenbusState
from xennet.bench.compiler import why_not
from xennet.bench.link_speed import PreparedFrames
from xennet.engine.choice import using
from xennet.exec.launch import launch, socket_paths, watching_end
from xennet.exec.server import ExecServer
from xennet.host.host import Host
from xennet.host.setup import Setup
from xennet.link.vifs import Vifs
from xennet.port.null import NullPort
from xennet.pump import RealClock

#: Bytes of a frame.
SIZE = 600
_WARM_UP = 600
_SOURCE = Path(__file__).with_name("exec_calls.c")


@frozen
class Cost:
    """us of CPU time in this process and in the program, and us that passed, for each call or
    frame."""

    here: float
    program: float
    passed: float


@contextmanager
def _compiled() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="xennet-bench-") as folder:
        made = f"{folder}/exec_calls"
        subprocess.run(["gcc", "-O2", "-o", made, str(_SOURCE)], check=True)
        yield made


class _Machine:
    """A host whose domain 0 runs the program."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.host = Host(clock=RealClock(), shared=True)
        self.directory = tempfile.mkdtemp(prefix="xennet-bench-")
        self.server = ExecServer(self.host.machine, self.host.pump, self.host.service.server)
        dom0 = self.host.dom0
        paths = socket_paths(self.directory, 0)
        self.server.serve(dom0.domain, dom0.kernel.grants, *paths)

    def close(self) -> None:
        self.server.close()
        self.host.destroy()
        shutil.rmtree(self.directory)

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        argv = [self.program, *map(str, words)]
        return launch(argv, socket_paths(self.directory, 0)[0], stdout=subprocess.PIPE)

    def finish(self, program: subprocess.Popen[bytes], count: int) -> Cost:
        """Keep the machine going until the program has ended."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.process_time()
        with watching_end(program, self.host.pump) as ended:
            self.host.pump.hold(None, ended)
        here = time.process_time() - began
        out, _ = program.communicate()
        if program.returncode:
            raise RuntimeError(f"{self.program} ended with {program.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        theirs = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        passed = int(out.split()[-1]) / 1000
        return Cost(here * 1e6 / count, theirs * 1e6 / count, passed / count)


def call(program: str, count: int) -> Cost:
    """An ioctl that is refused at once."""
    machine = _Machine(program)
    try:
        return machine.finish(machine.start("ioctl", count), count)
    finally:
        machine.close()


def round_trip(program: str, count: int) -> Cost:
    """A notification of an emulated guest, its answer, and reading that."""
    machine = _Machine(program)
    try:
        kernel = machine.host.add_guest(drivers=None).kernel
        port = kernel.alloc_unbound(0)
        kernel.on_event(port, lambda: kernel.notify(port))
        return machine.finish(machine.start("round", count, kernel.domid, port), count)
    finally:
        machine.close()


def backend(program: str, frames: int) -> Cost:
    """Frames from an emulated guest to the program, by grant copy in batches of a ring at most."""
    machine = _Machine(program)
    try:
        host = machine.host
        guest = host.add_guest()
        source = PreparedFrames(SIZE, frames)
        source.left, count = 0, frames
        vif = host.plug(guest, 0, source, NullPort())
        store, paths = host.dom0.kernel.store, vif.paths
        for key, value in (("feature-rx-copy", 1), ("state", int(XenbusState.InitWait))):
            store.write(f"{paths.backend}/{key}", value)
        guest.boot()
        host.pump.hold(60, lambda: vif.shows_connected(paths.frontend))
        words = (store.read(f"{paths.frontend}/{key}") for key in ("event-channel", "tx-ring-ref"))
        running = machine.start("back", count, guest.domid, *map(int, words))
        ready: list[bytes] = []
        assert running.stdout is not None
        out = running.stdout.fileno()
        host.pump.watch(out, lambda: ready.append(os.read(out, 6)))
        host.pump.hold(60, lambda: bool(ready))
        host.pump.unwatch(out)
        store.write(f"{paths.backend}/state", int(XenbusState.Connected))
        host.pump.run()
        source.left = frames
        vif.kick_guest()
        return machine.finish(running, count)
    finally:
        machine.close()


def in_process(_program: str, frames: int) -> Cost:
    """The same frames to xennet's backend in this process."""
    link = Vifs(Setup())
    try:
        source = PreparedFrames(SIZE, _WARM_UP)
        link.join(source, NullPort())
        link.open()
        link.carry()
        source.left = frames
        began, clock = time.process_time(), time.perf_counter()
        link.carry()
        here, passed = time.process_time() - began, time.perf_counter() - clock
        link.close()
    finally:
        link.destroy()
    return Cost(here * 1e6 / frames, 0.0, passed * 1e6 / frames)


#: What is measured, and how often in a turn.
ROWS: dict[str, tuple[Callable[[str, int], Cost], int]] = {
    "ioctl": (call, 5000),
    "notify, wait, answer": (round_trip, 5000),
    "frame, backend in C": (backend, 20000),
    "frame, one process": (in_process, 20000),
}


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds in which all take turns.")
@click.option("--engine", default="plain", show_default=True, help="How kernels run.")
def main(rounds: int, engine: str) -> None:
    """Print what a call costs, as medians, in us."""
    if reason := why_not():
        raise click.UsageError(reason)
    costs: dict[str, list[Cost]] = {name: [] for name in ROWS}
    with using(engine), _compiled() as program:
        for _ in range(rounds):
            for name, (measure, count) in ROWS.items():
                costs[name].append(measure(program, count))
    click.echo(f"{'us':24}{'CPU here':>10}{'program':>10}{'passed':>10}")
    for name, seen in costs.items():
        figures = (
            median(getattr(cost, key) for cost in seen) for key in ("here", "program", "passed")
        )
        click.echo(f"{name:24}" + "".join(f"{figure:10.1f}" for figure in figures))


if __name__ == "__main__":
    main()
