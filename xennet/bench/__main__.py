"""``python -m xennet.bench``: frames per second through the vif next to other ways, as ratios."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from xennet.bench import climit, contestants, memory
from xennet.bench.rounds import Contestant, Figure, race

SIZES = (60, 1514, 9014)
#: The way to which the others are compared.
REFERENCE = "SEQPACKET"


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Rounds in which all take turns.")
@click.option("--seconds", default=0.4, show_default=True, help="About how long one turn takes.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
@click.option("--no-memory", is_flag=True, help="Leave the memory measurement out.")
def main(rounds: int, seconds: float, as_json: bool, no_memory: bool) -> None:
    """Measure the vif against SEQPACKET, a plain copy loop and the same work in C."""
    ways: dict[str, Contestant] = {
        "vif": contestants.vif,
        REFERENCE: contestants.seqpacket,
        "copy loop": contestants.copy_loop,
    }
    with tempfile.TemporaryDirectory() as directory:
        reason = climit.missing()
        if not reason:
            ways["C limit"] = climit.CLimit(Path(directory))
        results: dict[int, dict[str, Figure]] = {}
        for size in SIZES:
            click.echo(f"measuring {size}-byte frames ...", err=True)
            results[size] = race(ways, size, rounds, seconds)
    peaks: dict[int, int] = {}
    if not no_memory:
        click.echo("measuring peak memory ...", err=True)
        peaks = {frames: memory.peak_kib(frames) for frames in (10_000, 1_000_000)}
    if as_json:
        click.echo(json.dumps(_as_json(results, peaks), indent=2))
        return
    _print(results, peaks, rounds)
    if reason:
        click.echo(f"C limit left out: {reason}")


def _as_json(results: dict[int, dict[str, Figure]], peaks: dict[int, int]) -> dict[str, object]:
    rates = {
        str(size): {name: list(figure.rates) for name, figure in figures.items()}
        for size, figures in results.items()
    }
    return {"frames_per_second": rates, "peak_kib": {str(n): kib for n, kib in peaks.items()}}


def _print(results: dict[int, dict[str, Figure]], peaks: dict[int, int], rounds: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Frames per second, medians of {rounds} interleaved rounds")
    table.add_column("bytes", justify="right")
    table.add_column("way")
    for heading in ("frames/s", "spread", f"of {REFERENCE}", "of C limit"):
        table.add_column(heading, justify="right")
    for size, figures in results.items():
        limit = figures.get("C limit")
        for name, figure in figures.items():
            table.add_row(
                str(size) if name == "vif" else "",
                name,
                f"{figure.median:,.0f}",
                f"{figure.spread:.0%}",
                f"{figure.median / figures[REFERENCE].median:.2f} x",
                f"{figure.median / limit.median:.3f} x" if limit else "-",
            )
        table.add_section()
    console = Console()
    console.print(table)
    console.print(
        "One process, one core; garbage collection frozen; spread = (max - min) / median."
    )
    if peaks:
        short, long = peaks.values()
        console.print(
            f"Peak memory of a run: {short:,} KiB for 10,000 frames, {long:,} KiB for 1,000,000 "
            f"({long / short:.2f} x)"
        )


if __name__ == "__main__":
    main()
