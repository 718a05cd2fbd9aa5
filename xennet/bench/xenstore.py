"""Requests per second of ``xennet xenstored``.

The real C xenstored, where it can be started, runs next to it in the same interleaved rounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median

from attrs import frozen

from xennet.abi.xs_wire import XS_READ
from xennet.bench.real_xenstored import CannotStartError, RealXenstored
from xennet.bench.rounds import Contestant, Figure, race
from xennet.bench.xenstore_ahead import sending_ahead
from xennet.bench.xenstore_load import WORKLOADS, Load, Run, ask, connect, empty, fill

CLIENTS = (1, 16)
SMALL, LARGE = 100, 100_000
OURS, REAL = "xennet", "C xenstored"
#: Requests whose cost must not grow with the store.
GROWING = ("READ", "WRITE", "transaction of 5 writes")
#: Clients beside the lone one, and the READs of that in a round.
CROWD, ALONE = 4, 200


@frozen
class Server:
    """A running server: its name, socket and process."""

    name: str
    path: str
    pid: int

    def busy(self) -> float:
        """Seconds that the process has had a processor."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def resident_kib(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


@frozen
class Rate:
    """One workload with so many clients: requests of each server per second (``figures``), and per
    second of its processor time (``busy``)."""

    workload: str
    clients: int
    figures: dict[str, Figure]
    busy: dict[str, Figure]


@frozen
class Growth:
    """The cost of a request in the large store, as a multiple of its cost in the small one."""

    workload: str
    ratios: dict[str, float]


@frozen
class Results:
    """Everything that was measured.

    ``lone``: seconds to the answer to a READ beside clients that send ahead, medians of each round.
    ``starts``: seconds from the start of a process to its first answer. ``memory_kib``: each
    server's resident memory with ``nodes`` small nodes (few, and many), and when they are removed.
    ``reason``: why the real xenstored is missing, "" if it is not.
    """

    rates: list[Rate]
    growth: list[Growth]
    lone: dict[str, Figure]
    starts: dict[str, Figure]
    memory_kib: dict[str, tuple[int, int, int]]
    nodes: tuple[int, int]
    reason: str


def measure(
    rounds: int = 7,
    seconds: float = 0.3,
    nodes: tuple[int, int] = (SMALL, LARGE),
    say: Callable[[str], None] = lambda text: None,
) -> Results:
    """Start the servers and race them. The real daemon is downloaded, or left out if that is not
    possible."""
    with ExitStack() as stack:
        starters, reason = _starters()
        servers = [stack.enter_context(start()) for start in starters]
        rates = []
        for workload in WORKLOADS:
            for clients in CLIENTS:
                say(f"measuring {workload}, {clients} client{'s' if clients > 1 else ''} ...")
                rates.append(_rate(workload, clients, servers, rounds, seconds))
        say(f"measuring a lone READ beside {CROWD} clients that send ahead ...")
        lone = _lone(servers, rounds)
        say("measuring the start ...")
        starts = _starts(starters, rounds)
        say(f"filling stores with {nodes[1]:,} nodes ...")
        sized = {}
        memory = {}
        for start in starters:
            small, large = stack.enter_context(start()), stack.enter_context(start())
            fill(small.path, nodes[0])
            fill(large.path, nodes[1])
            memory[small.name] = (small.resident_kib(), large.resident_kib(), 0)
            sized[small.name] = (small, large)
        growth = [_growth(workload, sized, rounds, seconds) for workload in GROWING]
        for name, (_, large) in sized.items():
            empty(large.path)
            memory[name] = (*memory[name][:2], large.resident_kib())
    return Results(rates, growth, lone, starts, memory, nodes, reason)


def _starters() -> tuple[list[Callable[[], AbstractContextManager[Server]]], str]:
    try:
        with real():
            pass
    except CannotStartError as error:
        return [ours], str(error)
    return [ours, real], ""


@contextmanager
def ours() -> Iterator[Server]:
    """A running ``xennet xenstored``."""
    with tempfile.TemporaryDirectory(prefix="xenstored-") as directory:
        path = str(Path(directory) / "socket")
        process = subprocess.Popen(
            [sys.executable, "-m", "xennet", "xenstored", "--quiet", "--socket", path]
        )
        try:
            _wait_for(path, process)
            yield Server(OURS, path, process.pid)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def real() -> Iterator[Server]:
    """A running C xenstored. Raises CannotStartError if there is none."""
    with RealXenstored() as daemon:
        yield Server(REAL, daemon.socket_path, daemon.pid)


def _wait_for(path: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connect(path).close()
        except OSError:
            time.sleep(0.001)
        else:
            return
    raise RuntimeError(f"xennet xenstored does not listen (exit code {process.poll()})")


class _Metered:
    """A contestant that also takes the processor time of its server."""

    def __init__(self, server: Server, run: Run) -> None:
        self._server, self._run = server, run
        self._rates: list[float] = []

    def __call__(self, _size: int, count: int) -> float:
        before = self._server.busy()
        took = self._run(count)
        self._rates.append(count / max(self._server.busy() - before, 1e-9))
        return took

    def figure(self, rounds: int) -> Figure:
        """Requests per second of processor time in the last ``rounds`` runs."""
        return Figure(tuple(self._rates[-rounds:]))


def _rate(
    workload: str, clients: int, servers: Iterable[Server], rounds: int, seconds: float
) -> Rate:
    with ExitStack() as stack:
        ways = {}
        for server in servers:
            load = Load(server.path, clients)
            stack.callback(load.close)
            ways[server.name] = _Metered(server, WORKLOADS[workload](load))
        figures = race(ways, clients, rounds, seconds)
        busy = {name: way.figure(rounds) for name, way in ways.items()}
    return Rate(workload, clients, figures, busy)


def _lone(servers: Iterable[Server], rounds: int) -> dict[str, Figure]:
    medians: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            with sending_ahead(server.path, CROWD), connect(server.path) as lone:
                took = []
                for _ in range(ALONE):
                    began = time.perf_counter()
                    ask(lone, XS_READ, b"/\0")
                    took.append(time.perf_counter() - began)
            medians[server.name].append(median(took))
    return {name: Figure(tuple(found)) for name, found in medians.items()}


def _starts(
    starters: Iterable[Callable[[], AbstractContextManager[Server]]], rounds: int
) -> dict[str, Figure]:
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for start in starters:
            began = time.perf_counter()
            with start() as server, connect(server.path) as client:
                ask(client, XS_READ, b"/\0")
                seconds.setdefault(server.name, []).append(time.perf_counter() - began)
    return {name: Figure(tuple(found)) for name, found in seconds.items()}


def _growth(
    workload: str, sized: dict[str, tuple[Server, Server]], rounds: int, seconds: float
) -> Growth:
    with ExitStack() as stack:
        ways = {}
        for name, pair in sized.items():
            for size, server in zip(("small", "large"), pair, strict=True):
                load = Load(server.path, 1)
                stack.callback(load.close)
                ways[f"{name} {size}"] = _contestant(WORKLOADS[workload](load))
        figures = race(ways, 1, rounds, seconds)
    ratios = {n: figures[f"{n} small"].median / figures[f"{n} large"].median for n in sized}
    return Growth(workload, ratios)


def _contestant(run: Run) -> Contestant:
    return lambda _, count: run(count)
