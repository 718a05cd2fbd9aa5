"""``python -m xennet.bench``: the speed of the vif as ratios to other ways of moving frames."""

from __future__ import annotations

import json
from pathlib import Path

import click

from xennet.bench.figures import SECTIONS, Bench, Json, measure
from xennet.bench.markdown import tables


def _sections(_context: click.Context, _option: click.Parameter, text: str) -> list[str]:
    names = text.split(",") if text else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        known = ", ".join(SECTIONS)
        raise click.BadParameter(f"there is no section {unknown[0]!r}; there are: {known}")
    return names


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Rounds in which all take turns.")
@click.option("--seconds", default=0.3, show_default=True, help="About how long one turn takes.")
@click.option(
    "--json",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every figure there; tools/bench_doc.py makes docs/performance.md of it.",
)
@click.option(
    "--only",
    default="",
    metavar="SECTION,...",
    callback=_sections,
    help=f"Measure some sections: {', '.join(SECTIONS)}.",
)
def main(rounds: int, seconds: float, target: Path | None, only: list[str]) -> None:
    """Measure the vif against SEQPACKET, a plain copy loop and the same work in C."""
    bench = Bench(rounds, seconds, lambda what: click.echo(f"measuring {what} ...", err=True))
    results = measure(bench, only)
    if target is not None:
        target.write_text(json.dumps(results, indent=2) + "\n")
    _print(results)


def _print(results: Json) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for table in tables(results):
        shown = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if i else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print("Garbage collection frozen; spread: (max - min) / median.")
    for reason in results["missing"]:
        console.print(f"Left out: {reason}")


if __name__ == "__main__":
    main()
