"""Everything that ``make bench`` measures, and the record of the results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from attrs import field, frozen

from xennet.bench import climit, contestants, features, link_speed, peak_memory
from xennet.bench.bus_speed import OverBus, Shares, over_socket, why_not
from xennet.bench.netmap_speed import OverNetmap, OverVif
from xennet.bench.polling import PollPage
from xennet.bench.rounds import Contestant, Figure, race
from xennet.bench.startup import StartUp

SIZES = (60, 1514, 9014)
LINK_SIZES = (60, 1514)
BUS_SIZE = 1514

LINK_PLAIN = "vif, plain"
LINK_FAST = "vif, compiled"
KERNELS_PLAIN = "kernels, plain"
KERNELS_FAST = "kernels, compiled"
SEQPACKET = "SEQPACKET"
COPY_LOOP = "copy loop"
C_LIMIT = "C limit"
LOGGED = "with packet log"


@frozen
class Results:
    """All results.

    ``frames``: frames per second of each way, by size. ``polls``: calls per second of the harness
    entry, by engine. ``startup``: runs per second, by engine. ``logs``: the data path at 60 bytes
    without and with its packet log, by engine. ``features``: the cost of features. ``links``:
    frames per second of each link, by engine and size. ``bus``: frames per second from process to
    process; ``lock``: the shares of a bus's lock in that, by the same names. ``netmap``: frames per
    second sent by each way through a netmap device and through a socket pair, by size. ``peaks``:
    KiB by length of the run. ``missing``: what could not be measured here, and why.
    """

    rounds: int
    frames: dict[int, dict[str, Figure]]
    polls: dict[str, Figure]
    startup: dict[str, Figure]
    logs: dict[str, dict[str, Figure]]
    features: features.FeatureResults = field(factory=features.FeatureResults)
    links: dict[str, dict[int, dict[str, Figure]]] = field(factory=dict)
    bus: dict[str, Figure] = field(factory=dict)
    lock: dict[str, Shares] = field(factory=dict)
    netmap: dict[int, dict[str, Figure]] = field(factory=dict)
    peaks: dict[int, int] = field(factory=dict)
    missing: tuple[str, ...] = ()


def measure(
    rounds: int, seconds: float, *, with_memory: bool, say: Callable[[str], None]
) -> Results:
    """Measure everything; ``say(text)`` is called before each figure."""
    engines = ["plain"] + (["fast"] if find_spec("numba") else [])
    missing = [] if "fast" in engines else ["compiled kernels: numba is not installed"]
    ways: dict[str, Contestant] = {
        LINK_PLAIN: contestants.Vif("plain"),
        KERNELS_PLAIN: contestants.Kernels("plain"),
        SEQPACKET: contestants.seqpacket,
        COPY_LOOP: contestants.copy_loop,
    }
    if "fast" in engines:
        ways[LINK_FAST] = contestants.Vif("fast")
        ways[KERNELS_FAST] = contestants.Kernels("fast")
    with tempfile.TemporaryDirectory() as directory:
        reason = climit.missing()
        if reason:
            missing.append(f"C limit: {reason}")
        else:
            ways[C_LIMIT] = climit.CLimit(Path(directory))
        frames = {}
        for size in SIZES:
            say(f"{size}-byte frames")
            frames[size] = race(ways, size, rounds, seconds)
    say("the harness entry")
    polls = race({name: PollPage(name) for name in engines}, 0, rounds, seconds)
    say("the packet log")
    logs = {
        name: race(
            {name: contestants.Kernels(name), LOGGED: contestants.Kernels(name, log=True)},
            60,
            rounds,
            seconds,
        )
        for name in engines
    }
    say("start-up")
    runs = dict.fromkeys(engines, 1)
    for name in engines:
        StartUp(name)(60, 1)  # afterwards the compiled code is on disk
    startup = race({name: StartUp(name) for name in engines}, 60, rounds, seconds, runs)
    costs = features.measure(engines, rounds, seconds, say)
    crossed = measure_links(engines, rounds, seconds, say)
    if reason := why_not():
        missing.append(f"buses: {reason}")
        buses, lock = dict[str, Figure](), dict[str, Shares]()
    else:
        buses, lock = measure_bus(engines, rounds, seconds, say)
    over_netmap = measure_netmap(engines, rounds, seconds, say)
    peaks = {}
    if with_memory:
        say("peak memory")
        peaks = {count: peak_memory.peak_kib(count) for count in (10_000, 1_000_000)}
    return Results(
        rounds,
        frames,
        polls,
        startup,
        logs,
        costs,
        crossed,
        buses,
        lock,
        over_netmap,
        peaks,
        tuple(missing),
    )


def netmap_ways(engine: str, size: int) -> dict[str, Contestant]:
    """The ways through a netmap device, by name; some for small frames only."""
    called = {"plain": "plain", "fast": "compiled"}[engine]
    ways: dict[str, Contestant] = {
        "pipe": OverNetmap(engine, pipe=True),
        "VALE": OverNetmap(engine),
        "vif, native, sent": OverVif(engine, native=True),
        "vif, generic, sent": OverVif(engine, native=False),
        "vif, native, received": OverVif(engine, native=True, receives=True),
        "vif, generic, received": OverVif(engine, native=False, receives=True),
    }
    if size < LINK_SIZES[-1]:
        ways["VALE, 200 ports"] = OverNetmap(engine, others=198)
        ways["VALE, to 8 ports"] = OverNetmap(engine, receivers=8)
    return {f"{called}: {name}": way for name, way in ways.items()}


def measure_netmap(
    engines: list[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[int, dict[str, Figure]]:
    """Frames per second that are sent through a netmap device, and through a socket pair."""
    say("netmap")
    found = {}
    for size in LINK_SIZES:
        ways: dict[str, Contestant] = {SEQPACKET: contestants.seqpacket}
        for engine in engines:
            ways |= netmap_ways(engine, size)
        found[size] = race(ways, size, rounds, seconds)
    return found


def measure_links(
    engines: list[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, dict[int, dict[str, Figure]]]:
    """Frames per second of each link, by engine and frame size."""
    say("links")
    return {
        engine: {
            size: race(
                {link: link_speed.Crossed(engine, link) for link in link_speed.LINKS},
                size,
                rounds,
                seconds,
            )
            for size in LINK_SIZES
        }
        for engine in engines
    }


def measure_bus(
    engines: list[str], rounds: int, seconds: float, say: Callable[[str], None]
) -> tuple[dict[str, Figure], dict[str, Shares]]:
    """Frames per second from one process to another, and the shares of the bus's lock in that."""
    say("a bus between two processes")
    ways: dict[str, Contestant] = {SEQPACKET: over_socket}
    buses = {
        f"bus, {'compiled' if engine == 'fast' else engine}, {how}": OverBus(engine, flooded)
        for engine in engines
        for how, flooded in (("in a window", False), ("flooded", True))
    }
    figures = race(ways | buses, BUS_SIZE, rounds, seconds)
    shares = {
        name: way.shares(BUS_SIZE, int(figures[name].median * seconds))
        for name, way in buses.items()
    }
    return figures, shares
