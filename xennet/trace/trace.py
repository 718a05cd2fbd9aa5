"""A recording held in memory: for notebooks, and to ask what memory held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import attrs

from xennet.html_table import html_table
from xennet.trace import stream
from xennet.trace.history import History
from xennet.trace.stream import Event
from xennet.trace.writers import write


@attrs.define(eq=False, repr=False)
class Trace:
    """The events of a recording, oldest first, and their header (docs/trace.md).

    A recorder fills it: ``recorder.sink(trace.events.append)``.
    """

    header: Event = attrs.field(factory=stream.header_of)
    events: list[Event] = attrs.field(factory=list)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The recording in FILE.jsonl. Raises TraceError with file and line, OSError."""
        header, events = stream.read(path)
        return cls(header, list(events))

    def write(self, path: str | Path) -> None:
        """Write it in the form that the suffix of ``path`` names: .jsonl, .html, .json or .pcapng.

        Raises ValueError for another suffix, or for too many events for a page; OSError.
        """
        write(self.header, iter(self.events), Path(path))

    def history(self) -> History:
        """What shared memory held at each event, and who wrote and read it."""
        return History(self.events)

    def of_kind(self, *kinds: str) -> Trace:
        """The events of some kinds only."""
        return Trace(self.header, [event for event in self.events if event["kind"] in kinds])

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __repr__(self) -> str:
        command = " ".join(self.header["run"]["command"])
        return f"<Trace {len(self)} events{f' of {command!r}' if command else ''}>"

    def _repr_html_(self) -> str:
        rows = (
            (e["n"], e.get("t", ""), _or_nothing(e.get("dom")), e["kind"], e.get("text", ""))
            for e in self.events
        )
        return html_table(repr(self), ("n", "ns", "domain", "kind", "what happens"), rows)


def _or_nothing(value: int | None) -> int | str:
    return "" if value is None else value
