"""Small HTML tables for notebooks, without colours of their own: for light and dark themes."""

from __future__ import annotations

from collections.abc import Iterable

#: Rows of a table; the number of those beyond is told.
MOST_ROWS = 500
_REPLACED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
    | {chr(c): f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))}
)


def html_table(caption: str, head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table of cells as text, which are never markup: characters that are HTML's are escaped and
    control characters shown as ``\\xNN``. At most MOST_ROWS rows are shown."""
    lines: list[str] = []
    more = 0
    for row in rows:
        if len(lines) == MOST_ROWS:
            more += 1
        else:
            lines.append(_row("td", row))
    if more:
        lines.append(_row("td", (f"and {more} more",)))
    names = "".join(_row("th", head)) if (head := tuple(head)) else ""
    title = f"<caption>{_text(caption)}</caption>" if caption else ""
    return f"<table>{title}{names}{''.join(lines)}</table>"


def _row(kind: str, cells: Iterable[object]) -> str:
    style = ' style="text-align:left"'
    return "<tr>" + "".join(f"<{kind}{style}>{_text(cell)}</{kind}>" for cell in cells) + "</tr>"


def _text(cell: object) -> str:
    return str(cell).translate(_REPLACED)
