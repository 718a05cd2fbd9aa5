"""A scenario on a terminal: colours, and lines that are wrapped behind their number."""

from __future__ import annotations

import re

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xennet.lifecycle.told import Told
from xennet.run.render import STATE_STYLES

#: How the word is shown that a line of its kind begins with.
_FIRST = {"reason": "yellow", "note": "dim", "left": "dim", "directory": "dim"}
_STATE = re.compile(rf"\b({'|'.join(STATE_STYLES)}) \(\d\)")


class Story:
    """Shows what is told on ``console``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, told: Told) -> None:
        """One thing, on as many lines as it takes."""
        start = told.line[: len(told.line) - len(told.body)]
        if not start:
            self._console.print(_body(told), overflow="fold")
            return
        line = Table.grid()
        line.add_column(width=len(start), no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(Text(start, _FIRST.get(told.kind, "dim")), _body(told))
        self._console.print(line)


def _body(told: Told) -> Text:
    text = Text(told.body)
    for match in _STATE.finditer(told.body):
        text.stylize(STATE_STYLES[match[1]], *match.span())
    if told.kind in ("note", "left", "directory"):
        text.stylize("dim")
    elif told.kind == "verdict":
        text.stylize("bold green" if told.holds else "bold red", 0, text.plain.index(":"))
    elif told.holds is False:
        text.stylize("red")
    elif told.who == "guest":
        text.highlight_words([told.who], "cyan")
    return text
