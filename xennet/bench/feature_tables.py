"""What features cost, as tables."""

from __future__ import annotations

from xennet.bench.features import FEATURES, FeatureResults
from xennet.bench.rounds import Figure
from xennet.bench.table import ENGINE, Table


def feature_tables(results: FeatureResults) -> list[Table]:
    """One table each for features, guests and connections; none for what was not measured."""
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
