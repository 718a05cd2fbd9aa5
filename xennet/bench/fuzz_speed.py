"""``python -m xennet.bench.fuzz_speed``: executions of tx ring pages a second, in turn: with and
without counters at branches, the whole loop of the fuzzer, and atheris.

Given is CPU time of one core, with the mean packets a page beside each rate: a page of many packets
takes longer than one that is refused at its first slot. The first two execute the structured pages
of xennet.bench.polling, the others what they make of such pages; atheris runs the same poller at
max_len 4096, if it is installed for this Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import FunctionType

import click
from attrs import frozen

from xennet.bench.polling import pages
from xennet.engine.branches import Branches, reached
from xennet.engine.choice import VARIABLE, counting, using
from xennet.engine.counted_plain import BranchCounters
from xennet.fuzz.record_target import NOT_COUNTED
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.guest_tx import R_PACKETS
from xennet.netback.poll_page import PagePoller, poll_ring

ATHERIS = "atheris"
#: What a child with atheris does: COUNT executions, from a folder of pages.
_HARNESS = """
import os, sys, time
import atheris
with atheris.instrument_imports(include=["xennet"]):
    from xennet import PagePoller
    from xennet.netback.guest_tx import R_PACKETS

count, folder = int(sys.argv[1]), sys.argv[2]
poller = PagePoller()
done = packets = 0
begin = time.process_time()

def one(data):
    global done, packets, begin
    poller.load(data)
    poller.poll()
    packets += poller.res[R_PACKETS]
    done += 1
    if done == 500:  # the pages of the folder have been read
        begin, packets = time.process_time(), 0
    if done == count + 500:
        print(time.process_time() - begin, packets, flush=True)
        os._exit(0)

atheris.Setup([sys.argv[0], "-max_len=4096", "-seed=1", "-timeout=600", folder], one)
atheris.Fuzz()
"""


@frozen
class Turn:
    """A turn of a way: executions, seconds of CPU time, packets."""

    executions: int
    seconds: float
    packets: int


Way = Callable[[int], Turn]


@frozen
class Pages:
    """The structured pages, by a poller; ``counted``: its kernels count their branches."""

    engine: str
    counted: bool

    def __call__(self, count: int) -> Turn:
        poller, poll = _poller(self.engine, self.counted)
        ring, res, corpus = poller.ring_page, poller.res, pages()
        packets = 0
        for page in corpus:
            ring[:] = page
            poll()
            packets += res[R_PACKETS]
        rounds = max(1, count // len(corpus))
        began = time.process_time()
        for _ in range(rounds):
            for page in corpus:
                ring[:] = page
                poll()
        seconds = time.process_time() - began
        return Turn(rounds * len(corpus), seconds, rounds * packets)


@cache
def _poller(engine: str, counted: bool) -> tuple[PagePoller, Callable[[], int]]:
    with using(engine):
        poller = PagePoller()
        if not counted:
            return poller, poller.poll
        assert isinstance(poll_ring, FunctionType)
        counters = BranchCounters(Branches(reached(poll_ring, NOT_COUNTED)))
        kernel, args = counting(poll_ring, counters), poller.pass_args
        return poller, lambda: int(kernel(0, 256, *args))


@frozen
class Loop:
    """The whole loop of the target tx: mutation, execution, checks, new coverage, corpus."""

    engine: str

    def __call__(self, count: int) -> Turn:
        target = _target(self.engine)
        began = time.process_time()
        burst = target.burst(count)
        seconds = time.process_time() - began
        if burst.finding is not None:
            raise RuntimeError(f"a finding in a bench: {burst.finding}")
        return Turn(burst.executions, seconds, burst.packets)


@cache
def _target(engine: str) -> TxTarget:
    with using(engine):
        target = TxTarget()
        target.seed(1)
        target.burst(1000)
        return target


def by_atheris(count: int) -> Turn:
    """libFuzzer's mutations and the plain poller with atheris' own instrumentation."""
    with tempfile.TemporaryDirectory(prefix="xennet-bench-") as folder:
        for i, page in enumerate(pages()[:200]):
            Path(folder, f"{i}").write_bytes(page)
        command = [sys.executable, "-c", _HARNESS, str(count), folder]
        plain = {**os.environ, VARIABLE: "plain"}
        done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    seconds, packets = done.stdout.split()
    return Turn(count, float(seconds), int(packets))


def ways() -> dict[str, tuple[Way, int]]:
    """Each way, and its executions in a turn."""
    found: dict[str, tuple[Way, int]] = {}
    for engine, name, count in (("fast", "compiled", 400_000), ("plain", "plain", 10_000)):
        if engine == "fast" and find_spec("numba") is None:
            continue
        found[f"pages, {name}"] = Pages(engine, counted=False), count
        found[f"pages, {name}, counted"] = Pages(engine, counted=True), count
        found[f"whole loop, {name}"] = Loop(engine), count
    if find_spec(ATHERIS) is not None:
        found[ATHERIS] = by_atheris, 10_000
    return found


def measure(rounds: int, scale: float) -> dict[str, list[Turn]]:
    """The turns of each way, which come round by round; ``scale``: of the executions of a turn."""
    turns: dict[str, list[Turn]] = {name: [] for name in ways()}
    for _ in range(rounds):
        for name, (way, count) in ways().items():
            turns[name].append(way(int(count * scale)))
    return turns


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds in which all take turns.")
@click.option("--scale", default=1.0, show_default=True, help="Of the executions of a turn.")
def main(rounds: int, scale: float) -> None:
    """Print executions a second of CPU time, as medians."""
    turns = measure(rounds, scale)
    rates = {
        name: [turn.executions / turn.seconds for turn in seen] for name, seen in turns.items()
    }
    click.echo("| | executions/s | packets a page | x atheris |\n|---|---|---|---|")
    for name, seen in turns.items():
        packets = sum(turn.packets for turn in seen) / sum(turn.executions for turn in seen)
        ratio = "-"
        if ATHERIS in rates:
            pairs = zip(rates[name], rates[ATHERIS], strict=True)
            ratio = f"{median(mine / theirs for mine, theirs in pairs):.1f}"
        click.echo(f"| {name} | {median(rates[name]):,.0f} | {packets:.2f} | {ratio} |")
    if ATHERIS not in rates:
        click.echo("Left out: atheris is not installed.")


if __name__ == "__main__":
    main()
