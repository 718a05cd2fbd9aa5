"""``python -m xennet.bench.taps``: two network stacks through the vif, against a plain relay.

Two network namespaces with a TAP interface each. What lies between them takes turns: a relay of a
few lines (xennet.bench.tap_relay), and ``xennet run``. iperf3 measures TCP with segmentation
offload, ping the time there and back. Prints tables in Markdown. Needs root, iproute2,
iputils-ping and iperf3.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

import click
from attrs import astuple, define, field

from xennet.bench.markdown import Table
from xennet.bench.rounds import Figure

_NETNS = f"xennet-bench-{os.getpid()}"
_ENDS = ((f"{_NETNS}-a", "guest0", "10.77.0.1"), (f"{_NETNS}-b", "host0", "10.77.0.2"))
_PORTS = tuple(f"{name}@{netns}" for netns, name, _ in _ENDS)
_SERVER = _ENDS[1][2]
#: How many pings, and seconds between them: an idle machine, and one that is kept awake.
_SLOW, _FAST = (20, 0.1), (500, 0.002)
#: Seconds until frames have to pass; kernels may have to be compiled first.
_PATIENCE = 120.0
_CPUCLOCK_SCHED = 2

RELAY = "relay"
_RUN = ("xennet", "run", "--guest", f"tap:{_PORTS[0]}", "--host", f"tap:{_PORTS[1]}", "--quiet")
#: Way -> what runs between the interfaces, and its engine.
WAYS: dict[str, tuple[tuple[str, ...], str]] = {
    RELAY: (("xennet.bench.tap_relay", *_PORTS), "plain"),
    "vif, plain": (_RUN, "plain"),
    "vif, compiled": (_RUN, "fast"),
}


def missing() -> str:
    """What this machine lacks for these figures; "" if nothing."""
    # Where udev runs, anybody may open the device; a namespace takes root all the same.
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun and network namespaces take root"
    absent = [program for program in ("ip", "ping", "iperf3") if shutil.which(program) is None]
    return f"there is no {absent[0]}" if absent else ""


@contextmanager
def between(command: tuple[str, ...], engine: str) -> Iterator[subprocess.Popen[bytes]]:
    """Two interfaces with addresses, joined by ``python -m`` ``command``, the process that is
    yielded; frames pass."""
    env = {**os.environ, "XENNET_ENGINE": engine}
    with ExitStack() as undo:
        for netns, _, _ in _ENDS:
            subprocess.run(["ip", "netns", "add", netns], check=True)
            undo.callback(subprocess.run, ["ip", "netns", "del", netns], check=True)
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=env, stdout=subprocess.DEVNULL
        )
        undo.callback(process.wait)
        undo.callback(process.terminate)
        end = time.monotonic() + _PATIENCE
        for netns, name, address in _ENDS:
            add = ["ip", "-n", netns, "address", "add", f"{address}/24", "dev", name]
            while subprocess.run(add, stderr=subprocess.DEVNULL, check=False).returncode:
                _require(process, end)
                time.sleep(0.05)
        while not _in_guest("ping", "-c", "1", "-W", "1", _SERVER, check=False).count("1 received"):
            _require(process, end)
        yield process


def _require(process: subprocess.Popen[bytes], end: float) -> None:
    if process.poll() is not None or time.monotonic() > end:
        raise click.ClickException(f"process {process.args!r} carries nothing")


def processor_time(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process has used, the kernel's work for it included."""
    # The clock of another process, as clock_getcpuclockid(3) makes it; /proc counts whole ticks.
    return time.clock_gettime(~process.pid << 3 | _CPUCLOCK_SCHED)


def _in_guest(*command: str, check: bool = True) -> str:
    """What a command prints that runs in the first namespace."""
    netns = _ENDS[0][0]
    return subprocess.run(
        ["ip", "netns", "exec", netns, *command], check=check, stdout=subprocess.PIPE, text=True
    ).stdout


def throughput(seconds: float, *words: str) -> float:
    """Bits per second of one TCP connection, as its receiver counts them."""
    server = ["ip", "netns", "exec", _ENDS[1][0], "iperf3", "-s", "-1", "--forceflush"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        while "listening" not in serving.stdout.readline():
            pass
        report = json.loads(_in_guest("iperf3", "-J", "-t", str(seconds), "-c", _SERVER, *words))
        serving.communicate()
    return float(report["end"]["sum_received"]["bits_per_second"])


def round_trips(count: int, interval: float) -> float:
    """The inverse of the mean time of ``count`` pings, ``interval`` seconds apart."""
    printed = _in_guest("ping", "-q", "-c", str(count), "-i", str(interval), _SERVER)
    mean = re.search(r"= [\d.]+/([\d.]+)/", printed)
    if mean is None:
        raise click.ClickException(f"ping has no times: {printed}")
    return 1000 / float(mean[1])


@define
class Rates:
    """What was measured of one way, in each round; more is better. ``up``, ``down``: bits per
    second; ``pings``: the inverse of their times, by pace; ``bytes_each``, ``pings_each``: in a
    second of processor time."""

    up: list[float] = field(factory=list)
    down: list[float] = field(factory=list)
    bytes_each: list[float] = field(factory=list)
    slow_ping: list[float] = field(factory=list)
    fast_ping: list[float] = field(factory=list)
    pings_each: list[float] = field(factory=list)

    def add(self, process: subprocess.Popen[bytes], seconds: int) -> None:
        """Measure for about four times ``seconds`` seconds what ``process`` carries."""
        throughput(seconds)  # kernels are compiled then, and pages have been touched
        before = processor_time(process)
        self.up.append(throughput(seconds))
        self.down.append(throughput(seconds, "-R"))
        octets = (self.up[-1] + self.down[-1]) * seconds / 8
        self.bytes_each.append(octets / (processor_time(process) - before))
        self.slow_ping.append(round_trips(*_SLOW))
        before = processor_time(process)
        self.fast_ping.append(round_trips(*_FAST))
        self.pings_each.append(_FAST[0] / (processor_time(process) - before))


def measure(ways: Mapping[str, tuple[tuple[str, ...], str]], rounds: int, seconds: int) -> Table:
    """All figures, in rounds in which every way has its turn."""
    rates = {name: Rates() for name in ways}
    for number in range(rounds):
        for name, (command, engine) in ways.items():
            click.echo(f"round {number + 1}: {name}", err=True)
            with between(command, engine) as process:
                rates[name].add(process, seconds)
    figures = {
        name: [Figure(tuple(rate)) for rate in astuple(of, recurse=False)]
        for name, of in rates.items()
    }
    columns = ["between"]
    for name, _, _ in _COLUMNS:
        columns += [name, "of relay"]
    return Table(
        f"Two network stacks, medians of {rounds} interleaved rounds",
        tuple(columns),
        tuple(_row(name, of, figures[RELAY]) for name, of in figures.items()),
    )


#: Of each figure: what it is called, and how it is shown; whether it is shown as a time, so that
#: its ratio is the other way round.
_COLUMNS: tuple[tuple[str, Callable[[float], str], bool], ...] = (
    ("guest sends, Gbit/s", lambda rate: f"{rate / 1e9:.2f}", False),
    ("host sends, Gbit/s", lambda rate: f"{rate / 1e9:.2f}", False),
    ("processor, s/GB", lambda rate: f"{1e9 / rate:.2f}", True),
    (f"ping, {1 / _SLOW[1]:g} a second, ms", lambda rate: f"{1000 / rate:.2f}", True),
    (f"ping, {1 / _FAST[1]:g} a second, ms", lambda rate: f"{1000 / rate:.2f}", True),
    ("processor, us/ping", lambda rate: f"{1e6 / rate:.0f}", True),
)


def _row(name: str, figures: list[Figure], relay: list[Figure]) -> tuple[str, ...]:
    cells = [name]
    for figure, other, (_, show, inverse) in zip(figures, relay, _COLUMNS, strict=True):
        ratio = figure.of(other)
        cells += [show(figure.median), f"{1 / ratio if inverse else ratio:.2f} x"]
    return tuple(cells)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Rounds in which all take turns.")
@click.option("--seconds", default=2, show_default=True, help="Seconds of each transfer.")
def main(rounds: int, seconds: int) -> None:
    """Measure TCP and ping between two network stacks."""
    if reason := missing():
        click.echo(f"Left out: two network stacks: {reason}.")
        return
    ways = dict(WAYS)
    if find_spec("numba") is None:
        del ways["vif, compiled"]
    click.echo(measure(ways, rounds, seconds).markdown())


if __name__ == "__main__":
    main()
