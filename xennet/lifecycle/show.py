"""A scenario on a terminal: colours, and long entries wrapped behind their number."""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xennet.lifecycle.transcript import Entry
from xennet.run.render import STATE_STYLES

#: Kind of an entry -> style of its first word.
_FIRST = {"reason": "yellow", "note": "dim", "left": "dim", "directory": "dim"}
_STATE = re.compile(rf"\b({'|'.join(STATE_STYLES)}) \(\d\)")


class Printer:
    """Prints a transcript on ``console``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, entry: Entry) -> None:
        """Print one entry, on as many lines as it takes."""
        start = entry.line[: len(entry.line) - len(entry.body)]
        if not start:
            self._console.print(_body(entry), overflow="fold")
            return
        line = Table.grid()
        line.add_column(width=len(start), no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(Text(start, _FIRST.get(entry.kind, "dim")), _body(entry))
        self._console.print(line)


def _body(entry: Entry) -> Text:
    text = Text(entry.body)
    for match in _STATE.finditer(entry.body):
        text.stylize(STATE_STYLES[match[1]], *match.span())
    if entry.kind in ("note", "left", "directory"):
        text.stylize("dim")
    elif entry.kind == "verdict":
        text.stylize("bold green" if entry.holds else "bold red", 0, text.plain.index(":"))
    elif entry.holds is False:
        text.stylize("red")
    elif entry.who == "guest":
        text.highlight_words([entry.who], "cyan")
    return text
