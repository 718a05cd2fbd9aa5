"""The figures as tables: rows of text, for the terminal and for docs/performance.md."""

from __future__ import annotations

from xennet.bench.feature_tables import feature_tables
from xennet.bench.figures import C_LIMIT, LOGGED, SEQPACKET, Results
from xennet.bench.rounds import Figure
from xennet.bench.table import ENGINE, Table


def tables(results: Results) -> list[Table]:
    """All tables of a run."""
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
    made += feature_tables(results.features)
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
