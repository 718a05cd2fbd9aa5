"""The transcript of a scenario: its entries, one after the other, each as a line of text."""

from __future__ import annotations

import re
from typing import Any, Literal

from attrs import asdict, field, fields, filters, frozen

from xennet.run.printable import printable
from xennet.xenbus.paths import VifPaths

#: The kinds of entries: a sentence of the scenario, a node that is written or removed, a line of
#: the why report ("reason", "note"), what is left in the end, and so on.
Kind = Literal[
    "title", "sentence", "directory", "write", "rm", "states", "reason", "note", "left", "verdict"
]

_BEFORE = {"reason": "  because ", "note": "  note: ", "left": "  ", "directory": "  "}


@frozen
class Entry:
    """One entry; ``text`` says it in words, with full paths.

    ``host``: the host that it is about, "" if there is only one. An entry about a node that was
    written or removed has ``step``, its number, from 1; ``who`` did it; ``path``; the ``value``
    written; the name of the ``state``, if it is one; and ``time_ns``, the virtual time. ``holds``:
    whether an expectation holds, None for entries that expect nothing. ``paths``: the directories
    that "frontend" and "backend" stand for in the line.
    """

    kind: Kind
    text: str
    host: str = ""
    step: int | None = None
    who: str = ""
    path: str = ""
    value: str | None = None
    state: str | None = None
    time_ns: int | None = None
    holds: bool | None = None
    paths: VifPaths | None = field(default=None, repr=False)

    @property
    def line(self) -> str:
        """The entry for people: printable, with short paths, behind the number of its step."""
        before = f"{self.step:>4}  " if self.step is not None else _BEFORE.get(self.kind, "")
        return before + self.body

    @property
    def body(self) -> str:
        """The line without its beginning (the number, "because", "note:")."""
        host = f"[{self.host}] " if self.host else ""
        return printable(host + self._short())

    def _short(self) -> str:
        text = self.text
        if self.paths is not None:
            for name in ("frontend", "backend"):
                # Not in a value, and not where the directory itself is meant.
                directory = re.escape(getattr(self.paths, name))
                text = re.sub(rf'(?<!["\w]){directory}(?=/|$)', name, text)
        return text

    def to_json(self) -> dict[str, Any]:
        """All fields but ``paths``."""
        return asdict(self, filter=filters.exclude(fields(Entry).paths))
