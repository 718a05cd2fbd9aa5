"""The figures of a bench's JSON as tables of text, for the terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from xennet.bench.figures import BUS_SIZE, Json


@frozen
class Table:
    """``columns`` and ``rows`` of text; the first column is left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table under a heading, in Markdown."""
        lines = [f"### {self.title}", "", _line(self.columns)]
        lines.append(_line(("---", *["---:"] * (len(self.columns) - 1))))
        return "\n".join([*lines, *map(_line, self.rows)])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def tables(results: Json) -> list[Table]:
    """The tables of the sections that ``results`` has."""
    return [
        table for name, made in _TABLES.items() if name in results for table in made(results, name)
    ]


def ways(results: Json, size: str) -> dict[str, Json]:
    """What carried frames of ``size`` bytes in the section vif, by the names for people."""
    found = {}
    for engine in results["vif"]:
        for way in ("vif", "kernels"):
            found[f"{way}, {engine}"] = results[way][engine][size]
    for key, name in (("seqpacket", "SEQPACKET"), ("copy_loop", "copy loop"), ("c", "C limit")):
        if key in results:
            found[name] = results[key][size]
    return found


def _rate(figure: Json, unit: str = "frames_s") -> str:
    return f"{figure[unit]:,.0f}"


def _spread(figure: Json, unit: str = "frames_s") -> str:
    low, high = figure["spread"]
    return f"{(high - low) / figure[unit]:.0%}"


def _ratio(figure: Json, member: str, digits: int = 2) -> str:
    return f"{figure[member]:.{digits}f} x" if member in figure else "-"


def _frames(results: Json, _name: str) -> Iterator[Table]:
    for size in results["seqpacket"]:
        rows = tuple(
            (
                name,
                _rate(figure),
                _spread(figure),
                _ratio(figure, "of_seqpacket"),
                _ratio(figure, "of_c", 3),
            )
            for name, figure in ways(results, size).items()
        )
        title = f"{size}-byte frames per second, medians of {results['rounds']} interleaved rounds"
        yield Table(title, ("way", "frames/s", "spread", "of SEQPACKET", "of C limit"), rows)


def _harness(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (engine, f"{figure['calls_s']:,.0f}", _spread(figure, "calls_s"))
        for engine, figure in results[name].items()
    )
    yield Table("Harness entry (poll_page)", ("engine", "calls/s", "spread"), rows)


def _start(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (
            process,
            f"{figure['seconds']:.3f}",
            _spread(figure, "seconds"),
            f"{figure['wall']:.3f}",
            " to ".join(f"{wall:.3f}" for wall in figure["wall_spread"]),
        )
        for process, figure in results[name].items()
    )
    columns = ("process", "CPU seconds", "spread", "seconds by the clock", "range")
    yield Table("Short commands as whole processes", columns, rows)


def _log(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (engine, _rate(pair["off"]), _rate(pair["on"]), _ratio(pair["on"], "of_off"))
        for engine, pair in results[name].items()
    )
    columns = ("engine", "off, frames/s", "on, frames/s", "on / off")
    yield Table("Packet log, 60-byte frames through the kernels", columns, rows)


def _features(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (
            f"{engine}: {what}, {figure['size']} bytes",
            _rate(figure),
            f"{figure['frames_s'] * figure['size'] / 1e6:,.0f}",
            _spread(figure),
            _ratio(figure, "of_first"),
            _ratio(figure, "of_memcpy"),
        )
        for engine, figures in results[name].items()
        for what, figure in figures.items()
    )
    columns = (
        "what crosses",
        "frames/s",
        "MB/s",
        "spread",
        "frames, of the first",
        "of two copies",
    )
    yield Table("What features cost", columns, rows)


def _guests(results: Json, name: str) -> Iterator[Table]:
    sizes = dict.fromkeys(size for by_size in results[name].values() for size in by_size)
    for size in sizes:
        rows = tuple(
            (f"{engine}: {n}", _rate(figure), _spread(figure), _ratio(figure, "cost_of_one"))
            for engine, by_size in results[name].items()
            for n, figure in by_size[size].items()
        )
        columns = ("guests", "frames/s", "spread", "cost of a frame, of one guest's")
        yield Table(f"Guests with a vif each, {size}-byte frames", columns, rows)


def _first_use(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (
            f"{way}: {size} bytes",
            _rate(figure),
            _spread(figure),
            _ratio(figure, "cost_of_warm"),
            _ratio(figure, "of_c"),
        )
        for way, by_size in results[name].items()
        for size, figure in by_size.items()
    )
    columns = (
        "first frames",
        "frames/s",
        "spread",
        "cost of a frame, of a warm one's",
        "of C's first frames",
    )
    yield Table("First use of the pages of 200 guests, 600 frames each", columns, rows)


def _connects(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (f"{engine}: {queues}", _rate(figure, "cycles_s"), _spread(figure, "cycles_s"))
        for engine, by_queues in results[name].items()
        for queues, figure in by_queues.items()
    )
    yield Table("Plug, connect, unplug, close", ("queues", "cycles/s", "spread"), rows)


def _links(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (f"{engine}: {link}, {size} bytes", _rate(each), _spread(each), _ratio(each, "of_vif"))
        for engine, by_size in results[name].items()
        for size, figures in by_size.items()
        for link, each in figures.items()
    )
    columns = ("link", "frames/s", "spread", "of the vif")
    yield Table("Links in one process, prepared frames", columns, rows)


def _bus(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (
            way,
            _rate(figure),
            _spread(figure),
            _ratio(figure, "of_seqpacket"),
            *(f"{figure[k]:.0%}" if k in figure else "-" for k in ("lock", "lock_wait")),
        )
        for way, figure in results[name].items()
    )
    columns = ("way", "frames/s", "spread", "of SEQPACKET", "with the lock", "waiting for it")
    yield Table(f"Two processes, {BUS_SIZE}-byte frames", columns, rows)


def _netmap(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (f"{way}, {size} bytes", _rate(each), _spread(each), _ratio(each, "of_seqpacket"))
        for size, figures in results[name].items()
        for way, each in figures.items()
    )
    columns = ("way", "frames/s sent", "spread", "of SEQPACKET")
    yield Table("netmap, 512 frames a sync", columns, rows)


def _store(results: Json, name: str) -> Iterator[Table]:
    unit = "requests_s"
    rows = tuple(
        (
            request,
            clients,
            _rate(figure, unit),
            _spread(figure, unit),
            _rate(figure["real"], unit) if "real" in figure else "-",
            _ratio(figure, "of_real"),
            " to ".join(f"{ratio:.2f}" for ratio in figure.get("of_real_range", ())),
            _ratio(figure, "best_of_best"),
            _ratio(figure, "cpu_of_real"),
        )
        for request, by_clients in results[name].items()
        for clients, figure in by_clients.items()
    )
    columns = (
        "request",
        "clients",
        "requests/s",
        "spread",
        "real daemon",
        "of it",
        "range",
        "best of best",
        "by CPU time",
    )
    yield Table("xenstored", columns, rows)


def _store_seconds(title: str) -> _Maker:
    def make(results: Json, name: str) -> Iterator[Table]:
        rows = tuple(
            (
                server,
                f"{figure['seconds'] * 1e3:,.2f}",
                f"{figure['spread'][0] * 1e3:,.2f} to {figure['spread'][1] * 1e3:,.2f}",
                _ratio(figure, "of_real"),
            )
            for server, figure in results[name].items()
        )
        yield Table(title, ("server", "ms", "range", "of C xenstored"), rows)

    return make


def _store_growth(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (request, *(_ratio(ratios, server) for server in ("xennet", "C xenstored")))
        for request, ratios in results[name].items()
    )
    title = "A request with 100,000 nodes, of its time with 100"
    yield Table(title, ("request", "xennet", "C xenstored"), rows)


def _store_memory(results: Json, name: str) -> Iterator[Table]:
    rows = tuple(
        (server, *(f"{kib / 1024:,.1f}" for kib in memory.values()))
        for server, memory in results[name].items()
    )
    columns = ("MiB", "few nodes", "100,000 nodes", "when they are removed")
    yield Table("Memory of xenstored", columns, rows)


def _fuzz(results: Json, name: str) -> Iterator[Table]:
    unit = "executions_s"
    rows = tuple(
        (
            way,
            _rate(figure, unit),
            _spread(figure, unit),
            f"{figure['packets_a_page']:.2f}",
            _ratio(figure, "of_atheris", 1),
        )
        for way, figure in results[name].items()
    )
    columns = ("way", "executions/s", "spread", "packets a page", "of atheris")
    yield Table("Executions of tx ring pages", columns, rows)


def _memory(results: Json, name: str) -> Iterator[Table]:
    short = min(peak["kib"] for peak in results[name].values())
    rows = tuple(
        (f"{int(count):,}", f"{peak['kib']:,}", f"{peak['kib'] / short:.2f} x")
        for count, peak in results[name].items()
    )
    yield Table("Peak memory of a run", ("frames", "KiB", "ratio"), rows)


_Maker = Callable[[Json, str], Iterator[Table]]
_TABLES: dict[str, _Maker] = {
    "vif": _frames,
    "harness": _harness,
    "log": _log,
    "start": _start,
    "features": _features,
    "guests": _guests,
    "first_use": _first_use,
    "connect": _connects,
    "links": _links,
    "bus": _bus,
    "netmap": _netmap,
    "store": _store,
    "store_lone": _store_seconds("xenstored, a lone READ beside clients that send ahead"),
    "store_start": _store_seconds("xenstored, from its start to the first answer"),
    "store_growth": _store_growth,
    "store_memory": _store_memory,
    "fuzz": _fuzz,
    "memory": _memory,
}
