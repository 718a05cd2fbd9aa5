"""The figures as tables of text, for the terminal and for docs/performance.md."""

from __future__ import annotations

from attrs import frozen

from xennet.bench.features import FEATURES, FeatureResults
from xennet.bench.figures import BUS_SIZE, C_LIMIT, LOGGED, SEQPACKET, Results
from xennet.bench.rounds import Figure

#: What the engines are called on the page.
ENGINE = {"plain": "plain", "fast": "compiled"}


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


def tables(results: Results) -> list[Table]:
    """All tables of a benchmark."""
    made = [_frames(size, figures, results.rounds) for size, figures in results.frames.items()]
    made.append(
        Table(
            "Harness entry (poll_page)",
            ("engine", "calls/s", "spread"),
            tuple(
                (ENGINE[name], f"{figure.median:,.0f}", f"{figure.spread:.0%}")
                for name, figure in results.polls.items()
            ),
        )
    )
    made.append(
        Table(
            "Packet log, 60-byte frames through the kernels",
            ("engine", "off, frames/s", "on, frames/s", "on / off"),
            tuple(
                (
                    ENGINE[name],
                    f"{pair[name].median:,.0f}",
                    f"{pair[LOGGED].median:,.0f}",
                    f"{pair[LOGGED].of(pair[name]):.2f} x",
                )
                for name, pair in results.logs.items()
            ),
        )
    )
    made.append(
        Table(
            "xennet run on 10 frames, whole process",
            ("engine", "seconds", "spread"),
            tuple(
                (ENGINE[name], f"{1 / figure.median:.2f}", f"{figure.spread:.0%}")
                for name, figure in results.startup.items()
            ),
        )
    )
    made += _of_features(results.features)
    if results.links:
        made.append(_links(results.links))
    if results.bus:
        made.append(_bus(results))
    if results.netmap:
        made.append(_netmap(results.netmap))
    if results.peaks:
        short = min(results.peaks.values())
        made.append(
            Table(
                "Peak memory of a run",
                ("frames", "KiB", "ratio"),
                tuple(
                    (f"{count:,}", f"{kib:,}", f"{kib / short:.2f} x")
                    for count, kib in results.peaks.items()
                ),
            )
        )
    return made


def _frames(size: int, figures: dict[str, Figure], rounds: int) -> Table:
    limit = figures.get(C_LIMIT)
    return Table(
        f"{size}-byte frames per second, medians of {rounds} interleaved rounds",
        ("way", "frames/s", "spread", f"of {SEQPACKET}", f"of {C_LIMIT}"),
        tuple(
            (
                name,
                f"{figure.median:,.0f}",
                f"{figure.spread:.0%}",
                f"{figure.of(figures[SEQPACKET]):.2f} x",
                f"{figure.of(limit):.3f} x" if limit else "-",
            )
            for name, figure in figures.items()
        ),
    )


def _links(by_engine: dict[str, dict[int, dict[str, Figure]]]) -> Table:
    rows = []
    for engine, by_size in by_engine.items():
        for size, figures in by_size.items():
            vif = next(iter(figures.values()))
            for name, figure in figures.items():
                rows.append(
                    (
                        f"{ENGINE[engine]}: {name}, {size} bytes",
                        f"{figure.median:,.0f}",
                        f"{figure.spread:.0%}",
                        f"{figure.of(vif):.2f} x",
                    )
                )
    columns = ("link", "frames/s", "spread", "of the vif")
    return Table("Links in one process, prepared frames", columns, tuple(rows))


def _bus(results: Results) -> Table:
    rows = []
    for name, figure in results.bus.items():
        share = results.lock.get(name)
        rows.append(
            (
                name,
                f"{figure.median:,.0f}",
                f"{figure.spread:.0%}",
                f"{figure.of(results.bus[SEQPACKET]):.2f} x",
                f"{share.taking:.0%}" if share else "-",
                f"{share.waiting:.0%}" if share else "-",
            )
        )
    columns = ("way", "frames/s", "spread", f"of {SEQPACKET}", "with the lock", "waiting for it")
    return Table(f"Two processes, {BUS_SIZE}-byte frames", columns, tuple(rows))


def _netmap(by_size: dict[int, dict[str, Figure]]) -> Table:
    rows = []
    for size, figures in by_size.items():
        for name, figure in figures.items():
            rows.append(
                (
                    f"{name}, {size} bytes",
                    f"{figure.median:,.0f}",
                    f"{figure.spread:.0%}",
                    f"{figure.of(figures[SEQPACKET]):.2f} x",
                )
            )
    columns = ("way", "frames/s sent", "spread", f"of {SEQPACKET}")
    return Table("netmap, 512 frames a sync", columns, tuple(rows))


def _of_features(results: FeatureResults) -> list[Table]:
    """One table each for features, guests and connections that were measured."""
    made = []
    if results.frames:
        made.append(_features(results.frames))
    sizes = next(iter(results.guests.values()), {})
    made += [_guests(size, results.guests) for size in sizes]
    if results.connects:
        made.append(_connects(results.connects))
    return made


def _features(by_engine: dict[str, dict[str, Figure]]) -> Table:
    rows = []
    for engine, figures in by_engine.items():
        base = next(iter(figures.values()))
        for name, figure in figures.items():
            size, _ = FEATURES[name]
            rows.append(
                (
                    f"{ENGINE[engine]}: {name}, {size} bytes",
                    f"{figure.median:,.0f}",
                    f"{figure.median * size / 1e6:,.0f}",
                    f"{figure.spread:.0%}",
                    f"{figure.of(base):.2f} x",
                )
            )
    columns = ("what crosses", "frames/s", "MB/s", "spread", "frames, of the first")
    return Table("What features cost", columns, tuple(rows))


def _guests(size: int, by_engine: dict[str, dict[int, dict[int, Figure]]]) -> Table:
    rows = []
    for engine, by_size in by_engine.items():
        figures = by_size[size]
        one = figures[min(figures)]
        for guests, figure in figures.items():
            rows.append(
                (
                    f"{ENGINE[engine]}: {guests}",
                    f"{figure.median:,.0f}",
                    f"{figure.spread:.0%}",
                    f"{one.of(figure):.2f} x",
                )
            )
    columns = ("guests", "frames/s", "spread", "cost of a frame, of one guest's")
    return Table(f"Guests with a vif each, {size}-byte frames", columns, tuple(rows))


def _connects(by_engine: dict[str, dict[int, Figure]]) -> Table:
    return Table(
        "Plug, connect, unplug, close",
        ("queues", "cycles/s", "spread"),
        tuple(
            (f"{ENGINE[engine]}: {queues}", f"{figure.median:,.0f}", f"{figure.spread:.0%}")
            for engine, figures in by_engine.items()
            for queues, figure in figures.items()
        ),
    )
