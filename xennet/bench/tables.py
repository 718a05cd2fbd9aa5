"""The figures as tables: rows of text, for the terminal and for docs/performance.md."""

from __future__ import annotations

from attrs import frozen

from xennet.bench.figures import C_LIMIT, LOGGED, SEQPACKET, Results
from xennet.bench.rounds import Figure

_ENGINE = {"plain": "plain", "fast": "compiled"}


@frozen
class Table:
    """``columns`` and ``rows`` of text; the first column is left-aligned, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _line(self.columns)]
        lines.append(_line(("---", *["---:"] * (len(self.columns) - 1))))
        return "\n".join([*lines, *map(_line, self.rows)])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def tables(results: Results) -> list[Table]:
    """All tables of a run."""
    made = [_frames(size, figures, results.rounds) for size, figures in results.frames.items()]
    made.append(
        Table(
            "Harness entry (poll_page)",
            ("engine", "calls/s", "spread"),
            tuple(
                (_ENGINE[name], f"{figure.median:,.0f}", f"{figure.spread:.0%}")
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
                    _ENGINE[name],
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
                (_ENGINE[name], f"{1 / figure.median:.2f}", f"{figure.spread:.0%}")
                for name, figure in results.startup.items()
            ),
        )
    )
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
