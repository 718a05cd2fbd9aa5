"""``python -m xennet.bench``: the speed of the vif as ratios to other ways of moving frames."""

from __future__ import annotations

import json
from pathlib import Path

import click
from attrs import asdict

from xennet.bench.figures import Results, measure
from xennet.bench.markdown import Table, tables
from xennet.bench.plot import draw

#: The lines around the generated part of the page.
BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Rounds in which all take turns.")
@click.option("--seconds", default=0.3, show_default=True, help="About how long one turn takes.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
@click.option("--no-memory", is_flag=True, help="Leave the memory measurement out.")
@click.option(
    "--write",
    type=click.Path(file_okay=False, path_type=Path),
    help="Put the tables and the picture into performance.md and .svg in this directory.",
)
def main(rounds: int, seconds: float, as_json: bool, no_memory: bool, write: Path | None) -> None:
    """Measure the vif against SEQPACKET, a plain copy loop and the same work in C."""
    results = measure(
        rounds,
        seconds,
        with_memory=not no_memory,
        say=lambda what: click.echo(f"measuring {what} ...", err=True),
    )
    made = tables(results)
    if as_json:
        click.echo(json.dumps(asdict(results), indent=2))
    else:
        _print(made, results)
    if write is not None:
        _write(write, made, results)


def _print(made: list[Table], results: Results) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for table in made:
        shown = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if i else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print("One process, garbage collection frozen; spread: (max - min) / median.")
    for reason in results.missing:
        console.print(f"Left out: {reason}")


def _write(directory: Path, made: list[Table], results: Results) -> None:
    page = directory / "performance.md"
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = "\n\n".join(table.markdown() for table in made)
    left_out = "".join(f"\n\nLeft out: {reason}." for reason in results.missing)
    page.write_text(f"{head}{BEGIN}\n\n{body}{left_out}\n\n{END}{tail}")
    draw(results, directory / "performance.svg")
    click.echo(f"wrote {page} and its picture", err=True)


if __name__ == "__main__":
    main()
