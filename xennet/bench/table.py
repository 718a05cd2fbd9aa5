"""A table of text, for the terminal and for docs/performance.md."""

from __future__ import annotations

from attrs import frozen

#: What the engines are called on the page.
ENGINE = {"plain": "plain", "fast": "compiled"}


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
