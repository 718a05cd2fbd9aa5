"""What ``python -m xennet.bench`` measures: sections by name, each a part of one JSON object.

Wherever a rate was measured there is an object with its median, its ``spread`` (the lowest and the
highest round), and medians of ratios, taken round by round, in members called ``of_...``. Numbers
that name something (frame bytes, queues, clients) are text, as JSON has no other names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from attrs import field, frozen

from xennet.bench import climit, contestants, features, fuzz_speed, link_speed, peak_memory
from xennet.bench import xenstore as store
from xennet.bench.bus_speed import OverBus, over_socket, why_not
from xennet.bench.netmap_speed import OverNetmap, OverVif
from xennet.bench.polling import PollPage
from xennet.bench.rounds import Contestant, Figure, race
from xennet.bench.startup import PROCESSES, StartUp

SIZES = (60, 1514, 9014)
LINK_SIZES = (60, 1514)
BUS_SIZE = 1514
#: Frames after which all that is used for long runs is compiled, and loaded.
LOADING = 1 << 19
#: The format of the file.
FORMAT = "xennet-bench/1"
#: What the engines are called.
ENGINE = {"plain": "plain", "fast": "compiled"}

GSO_SIZE, _ = features.FEATURES["GSO"]

#: Figures as JSON has them.
Json: TypeAlias = dict[str, Any]


@frozen
class Bench:
    """How to measure: ``engines`` in ``rounds`` rounds with turns of about ``seconds``.

    ``say(text)`` is called before each part; ``missing`` collects what could not be measured.
    """

    rounds: int
    seconds: float
    say: Callable[[str], None]
    engines: tuple[str, ...] = ("plain", "fast") if find_spec("numba") else ("plain",)
    missing: list[str] = field(factory=list)

    def race(
        self, ways: Mapping[Any, Contestant], size: int = 0, counts: Mapping[Any, int] | None = None
    ) -> dict[Any, Figure]:
        """The figures of ``ways``, which take turns."""
        return race(ways, size, self.rounds, self.seconds, counts)


def leaf(figure: Figure, unit: str = "frames_s", **others: Figure | None) -> Json:
    """``figure`` as JSON; ``others``: figures that it is compared with, by the member's name."""
    made: Json = {unit: figure.median, "spread": [min(figure.rates), max(figure.rates)]}
    return made | {name: figure.of(other) for name, other in others.items() if other is not None}


def vif(bench: Bench) -> Json:
    """The whole link, the kernels alone, and what they are compared with."""
    ways: dict[str, Contestant] = {"SEQPACKET": contestants.seqpacket}
    ways["copy loop"] = contestants.copy_loop
    for engine in bench.engines:
        ways[f"vif {engine}"] = contestants.Vif(engine)
        ways[f"kernels {engine}"] = contestants.Kernels(engine)
    found: Json = {name: {} for name in ("vif", "kernels", "seqpacket", "copy_loop", "c")}
    with tempfile.TemporaryDirectory() as directory:
        if reason := climit.missing():
            bench.missing.append(f"C limit: {reason}")
            del found["c"]
        else:
            ways["C limit"] = climit.CLimit(Path(directory))
        if "fast" in bench.engines:
            contestants.Vif("fast")(60, LOADING)
        for size in SIZES:
            bench.say(f"{size}-byte frames")
            figures = bench.race(ways, size)
            base = {"of_seqpacket": figures["SEQPACKET"], "of_c": figures.get("C limit")}
            for way in ("vif", "kernels"):
                for engine in bench.engines:
                    by_size = found[way].setdefault(ENGINE[engine], {})
                    by_size[f"{size}"] = leaf(figures[f"{way} {engine}"], "frames_s", **base)
            alone = {"seqpacket": "SEQPACKET", "copy_loop": "copy loop", "c": "C limit"}
            for name in alone.keys() & found.keys():
                found[name][f"{size}"] = leaf(figures[alone[name]], "frames_s", **base)
    return found


def harness(bench: Bench) -> Json:
    """Calls of the harness entry."""
    bench.say("the harness entry")
    figures = bench.race({engine: PollPage(engine) for engine in bench.engines})
    return {"harness": {ENGINE[name]: leaf(figure, "calls_s") for name, figure in figures.items()}}


def log(bench: Bench) -> Json:
    """The data path at 60 bytes, without and with its packet log."""
    bench.say("the packet log")
    found = {}
    for engine in bench.engines:
        figures = bench.race({on: contestants.Kernels(engine, log=on) for on in (False, True)}, 60)
        off, on = figures[False], figures[True]
        found[ENGINE[engine]] = {"off": leaf(off), "on": leaf(on, of_off=off)}
    return {"log": found}


def start(bench: Bench) -> Json:
    """Whole processes of short commands."""
    bench.say("start-up")
    ways = {
        name: StartUp(engine, arguments)
        for name, (engine, arguments) in PROCESSES.items()
        if engine in bench.engines
    }
    for way in ways.values():
        way(0, 1)  # afterwards what is compiled is on disk
        way.walls.clear()
    found = {}
    for name, figure in bench.race(ways, 0, dict.fromkeys(ways, 1)).items():
        walls = ways[name].walls
        seconds = leaf(Figure(tuple(1 / rate for rate in figure.rates)), "seconds")
        found[name] = seconds | {"wall": median(walls), "wall_spread": [min(walls), max(walls)]}
    return {"start": found}


def links(bench: Bench) -> Json:
    """Each kind of link in one process."""
    bench.say("links")
    found: Json = {}
    for engine in bench.engines:
        ways = {link: link_speed.Crossed(engine, link) for link in link_speed.LINKS}
        for size in LINK_SIZES:
            figures = bench.race(ways, size)
            of_vif = figures[link_speed.LINKS[0]]
            found.setdefault(ENGINE[engine], {})[f"{size}"] = {
                link: leaf(figure, of_vif=of_vif) for link, figure in figures.items()
            }
    return {"links": found}


def bus(bench: Bench) -> Json:
    """From one process to another, and the shares of the bus's lock in that."""
    if reason := why_not():
        bench.missing.append(f"buses: {reason}")
        return {}
    bench.say("a bus between two processes")
    ways: dict[str, Contestant] = {"SEQPACKET": over_socket}
    buses = {
        f"bus, {ENGINE[engine]}, {how}": OverBus(engine, flooded)
        for engine in bench.engines
        for how, flooded in (("in a window", False), ("flooded", True))
    }
    figures = bench.race(ways | buses, BUS_SIZE)
    found = {name: leaf(each, of_seqpacket=figures["SEQPACKET"]) for name, each in figures.items()}
    for name, way in buses.items():
        share = way.shares(BUS_SIZE, int(figures[name].median * bench.seconds))
        found[name] |= {"lock": share.taking, "lock_wait": share.waiting}
    return {"bus": found}


def netmap_ways(engine: str, size: int) -> dict[str, Contestant]:
    """The ways through a netmap device, by name; some for small frames only."""
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
    return {f"{ENGINE[engine]}: {name}": way for name, way in ways.items()}


def netmap(bench: Bench) -> Json:
    """Frames sent through a netmap device, and through a socket pair."""
    bench.say("netmap")
    found = {}
    for size in LINK_SIZES:
        ways: dict[str, Contestant] = {"SEQPACKET": contestants.seqpacket}
        for engine in bench.engines:
            ways |= netmap_ways(engine, size)
        figures = bench.race(ways, size)
        base = figures["SEQPACKET"]
        found[f"{size}"] = {name: leaf(each, of_seqpacket=base) for name, each in figures.items()}
    return {"netmap": found}


def crossed(bench: Bench) -> Json:
    """What crosses a warm link: checksums, queues, segments."""
    found = {}
    for engine in bench.engines:
        bench.say(f"what features cost ({engine})")
        made = features.FEATURES.items()
        ways = {name: features.Sized(make(engine), size) for name, (size, make) in made}
        if engine == "fast":
            for way in ways.values():
                way(0, LOADING)
        copies = "two copies of as many bytes"
        figures = bench.race(ways | {copies: features.Sized(features.two_copies, GSO_SIZE)})
        first, bare = next(iter(figures.values())), figures[copies]
        found[ENGINE[engine]] = {
            name: {"size": size, **leaf(figures[name], of_first=first)}
            for name, (size, _) in features.FEATURES.items()
        }
        found[ENGINE[engine]]["GSO"]["of_memcpy"] = figures["GSO"].of(bare)
        found[ENGINE[engine]][copies] = {"size": GSO_SIZE, **leaf(bare, of_first=first)}
    return {"features": found}


def guests(bench: Bench) -> Json:
    """Many guests that share the frames; a ratio is the cost of a frame, of one guest's. Then the
    first frames of each of them."""
    found: Json = {}
    for engine in bench.engines:
        bench.say(f"{features.GUESTS[-1]} guests ({engine})")
        ways = {n: features.Crossing(engine, guests=n) for n in features.GUESTS}
        counts = dict.fromkeys(ways, features.GUEST_FRAMES[engine])
        for size in features.GUEST_SIZES:
            figures = bench.race(ways, size, counts)
            one = figures[features.GUESTS[0]]
            found.setdefault(ENGINE[engine], {})[f"{size}"] = {
                f"{n}": leaf(figure) | {"cost_of_one": one.of(figure)}
                for n, figure in figures.items()
            }
    return {"guests": found, "first_use": _first_use(bench)}


def _first_use(bench: Bench) -> Json:
    """The first frames of many guests, whose pages nobody has touched, and those that follow; a
    ratio is the cost of a frame, of one that follows. C's follow in a single guest."""
    bench.say("the first use of pages")
    every, first = features.FIRST_GUESTS, features.FIRST_FRAMES
    found: Json = {}
    with tempfile.TemporaryDirectory() as directory:
        ways: dict[str, tuple[Contestant, Contestant]] = {
            ENGINE[engine]: (
                features.Crossing(engine, guests=every, warm=0),
                features.Crossing(engine, guests=every),
            )
            for engine in bench.engines
        }
        if not climit.missing():
            place = Path(directory)
            ways["C"] = climit.CLimit(place, every), climit.CLimit(place)
        taking_turns = {
            f"{name} {at}": way for name, pair in ways.items() for at, way in enumerate(pair)
        }
        counts = dict.fromkeys(taking_turns, first)
        for size in features.GUEST_SIZES:
            figures = bench.race(taking_turns, size, counts)
            for name in ways:
                untouched, warm = figures[f"{name} 0"], figures[f"{name} 1"]
                made = leaf(untouched, of_c=figures.get("C 0"))
                made["cost_of_warm"] = warm.of(untouched)
                found.setdefault(name, {})[f"{size}"] = made
    return found


def connect(bench: Bench) -> Json:
    """Cycles of plug, connect, unplug and close."""
    found = {}
    for engine in bench.engines:
        bench.say(f"connections ({engine})")
        ways = {queues: features.Connecting(engine, queues) for queues in features.QUEUES}
        figures = bench.race(ways, 0, dict.fromkeys(ways, features.CONNECTS))
        found[ENGINE[engine]] = {f"{n}": leaf(each, "cycles_s") for n, each in figures.items()}
    return {"connect": found}


def fuzz(bench: Bench) -> Json:
    """Executions of the fuzzer's pages."""
    bench.say("the fuzzer")
    turns = fuzz_speed.measure(bench.rounds, scale=bench.seconds)
    figures = {
        name: Figure(tuple(turn.executions / turn.seconds for turn in seen))
        for name, seen in turns.items()
    }
    base = figures.get(fuzz_speed.ATHERIS)
    found = {}
    for name, seen in turns.items():
        packets = sum(turn.packets for turn in seen) / sum(turn.executions for turn in seen)
        found[name] = leaf(figures[name], "executions_s", of_atheris=base)
        found[name]["packets_a_page"] = packets
    return {"fuzz": found}


def xenstored(bench: Bench) -> Json:
    """Requests of xenstored, against the real daemon."""
    results = store.measure(bench.rounds, bench.seconds, say=bench.say)
    if results.reason:
        bench.missing.append(f"{store.REAL}: {results.reason}")
    found: Json = {}
    for rate in results.rates:
        real = rate.figures.get(store.REAL)
        ours = leaf(rate.figures[store.OURS], "requests_s", of_real=real)
        if real is not None:
            ours["real"] = leaf(real, "requests_s")
            pairs = zip(rate.figures[store.OURS].rates, real.rates, strict=True)
            ratios = [mine / its for mine, its in pairs]
            ours["of_real_range"] = [min(ratios), max(ratios)]
            ours["best_of_best"] = max(rate.figures[store.OURS].rates) / max(real.rates)
            ours["cpu_of_real"] = rate.busy[store.OURS].of(rate.busy[store.REAL])
        found.setdefault(rate.workload, {})[f"{rate.clients}"] = ours
    return {
        "store": found,
        "store_lone": _seconds(results.lone),
        "store_start": _seconds(results.starts),
        "store_growth": {growth.workload: growth.ratios for growth in results.growth},
        "store_memory": {
            name: dict(zip(("few_kib", "many_kib", "emptied_kib"), kib, strict=True))
            for name, kib in results.memory_kib.items()
        },
    }


def _seconds(figures: Mapping[str, Figure]) -> Json:
    real = figures.get(store.REAL)
    return {name: leaf(figure, "seconds", of_real=real) for name, figure in figures.items()}


def memory(bench: Bench) -> Json:
    """Peak memory by the length of a run."""
    bench.say("peak memory")
    return {"memory": {f"{n}": {"kib": peak_memory.peak_kib(n)} for n in (10_000, 1_000_000)}}


#: Sections by the name that ``--only`` takes, in the order in which they are measured.
SECTIONS: dict[str, Callable[[Bench], Json]] = {
    "vif": vif,
    "harness": harness,
    "log": log,
    "start": start,
    "features": crossed,
    "guests": guests,
    "connect": connect,
    "links": links,
    "bus": bus,
    "netmap": netmap,
    "store": xenstored,
    "fuzz": fuzz,
    "memory": memory,
}


def measure(bench: Bench, only: Iterable[str] = SECTIONS) -> Json:
    """Measure the sections ``only``. Returns the whole file. Raises KeyError for another name."""
    found: Json = {"format": FORMAT, "rounds": bench.rounds}
    for name in only:
        found |= SECTIONS[name](bench)
    return found | {"missing": bench.missing}
