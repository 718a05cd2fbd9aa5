"""What a scenario tells, one thing after the other, and each as a line of text."""

from __future__ import annotations

import re
from typing import Any, Literal

from attrs import asdict, field, fields, filters, frozen

from xennet.run.printable import printable
from xennet.xenbus.paths import VifPaths

#: What a thing told is: the scenario's own words ("sentence"), a node that is written or removed,
#: what the why report says ("reason", "note"), what is left in the end, and so on.
Kind = Literal[
    "title", "sentence", "directory", "write", "rm", "states", "reason", "note", "left", "verdict"
]

_BEFORE = {"reason": "  because ", "note": "  note: ", "left": "  ", "directory": "  "}


@frozen
class Told:
    """One thing; ``text`` says it in words, with full paths.

    ``host``: on which host, "" while there is only one. Of a node that was written or removed:
    ``step``, its number, from 1; ``who`` did it; ``path``; the ``value`` written; its XenbusState's
    name, where it is a ``state``; ``time_ns``, the virtual time. ``holds``: whether what was to be
    so is so, None for what is only told. ``paths``: the directories that are meant by "frontend"
    and "backend".
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
        """For people: printable, with short paths; the number of a node's line in front."""
        before = f"{self.step:>4}  " if self.step is not None else _BEFORE.get(self.kind, "")
        return before + self.body

    @property
    def body(self) -> str:
        """The line without what stands before it."""
        host = f"[{self.host}] " if self.host else ""
        return printable(host + self._short())

    def _short(self) -> str:
        text = self.text
        if self.paths is not None:
            for name in ("frontend", "backend"):
                # Not in a value, nor where it is the directory itself that is spoken of.
                directory = re.escape(getattr(self.paths, name))
                text = re.sub(rf'(?<!["\w]){directory}(?=/|$)', name, text)
        return text

    def to_json(self) -> dict[str, Any]:
        """All but ``paths``."""
        return asdict(self, filter=filters.exclude(fields(Told).paths))
