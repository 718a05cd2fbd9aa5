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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

import click

from xennet.bench.markdown import Table
from xennet.bench.rounds import Figure

_ENDS = (("xennet-bench-a", "guest0", "10.77.0.1"), ("xennet-bench-b", "host0", "10.77.0.2"))
_PORTS = tuple(f"{name}@{netns}" for netns, name, _ in _ENDS)
_SERVER = _ENDS[1][2]
#: Pings, and seconds between them: by hand, and as fast as a program asks.
_PINGS = ((30, 0.1), (500, 0.002))
#: Seconds until frames have to pass; kernels may have to be compiled first.
_PATIENCE = 120.0

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
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened (it takes root)"
    absent = [program for program in ("ip", "ping", "iperf3") if shutil.which(program) is None]
    return f"there is no {absent[0]}" if absent else ""


@contextmanager
def between(command: tuple[str, ...], engine: str) -> Iterator[None]:
    """Two interfaces with addresses, joined by ``python -m`` ``command``; frames pass."""
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
        yield


def _require(process: subprocess.Popen[bytes], end: float) -> None:
    if process.poll() is not None or time.monotonic() > end:
        raise click.ClickException(f"process {process.args!r} carries nothing")


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


def measure(ways: Mapping[str, tuple[tuple[str, ...], str]], rounds: int, seconds: int) -> Table:
    """All figures, in rounds in which every way has its turn."""
    rates: dict[str, tuple[list[float], ...]] = {name: ([], [], [], []) for name in ways}
    for number in range(rounds):
        for name, (command, engine) in ways.items():
            click.echo(f"round {number + 1}: {name}", err=True)
            with between(command, engine):
                throughput(1)  # the engine's kernels are there, and pages have been touched
                values = [throughput(seconds), throughput(seconds, "-R")]
                values += [round_trips(*pings) for pings in _PINGS]
            for rate, value in zip(rates[name], values, strict=True):
                rate.append(value)
    figures = {name: [Figure(tuple(rate)) for rate in of] for name, of in rates.items()}
    rows = [_row(name, of, figures[RELAY]) for name, of in figures.items()]
    columns = ["between", "guest sends", "of relay", "host sends", "of relay"]
    for _, interval in _PINGS:
        columns += [f"ping, {1 / interval:g} a second", "of relay"]
    title = f"TCP in Gbit/s and ping in ms, medians of {rounds} interleaved rounds"
    return Table(title, tuple(columns), tuple(rows))


def _row(name: str, figures: list[Figure], relay: list[Figure]) -> tuple[str, ...]:
    cells = [name]
    for figure, other in zip(figures[:2], relay[:2], strict=True):
        cells += [f"{figure.median / 1e9:.2f}", f"{figure.of(other):.2f} x"]
    for figure, other in zip(figures[2:], relay[2:], strict=True):
        cells += [f"{1000 / figure.median:.2f}", f"{1 / figure.of(other):.2f} x"]
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
