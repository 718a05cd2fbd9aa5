"""The stream of events as a file: JSON Lines, a header and then one event a line."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from xennet import __version__
from xennet.abi.xen import PAGE_SIZE

#: The name of the layout; it gets a new number when a member changes its meaning or is removed.
FORMAT = "xennet-trace/1"

#: Bytes of the largest memory that is taken from a stream.
MOST_MEMORY = 1 << 26

Event = dict[str, Any]

#: Bytes that a line may have; what is no stream may never end a line.
MOST_BYTES = 1 << 26


class TraceError(Exception):
    """A file is no stream of events; the message names file and line."""


def header_of(
    command: Iterable[str] = (), seed: int | None = None, choices: str | None = None
) -> Event:
    """The header of a recording made by the ``command`` of xennet, with its ``seed`` and
    ``choices`` (xennet.choices)."""
    run = {"command": list(command), "seed": seed, "choices": choices}
    about = {"format": FORMAT, "xennet": __version__, "run": run}
    return {**about, "clock": "virtual", "page_size": PAGE_SIZE}


def line_of(event: Event) -> str:
    """An event, or a header, as a line."""
    return json.dumps(event, separators=(",", ":")) + "\n"


def write(header: Event, events: Iterable[Event], path: str | Path) -> None:
    """Write a stream to the file ``path``. Raises OSError."""
    with open(path, "w", encoding="ascii") as file:
        file.write(line_of(header))
        file.writelines(map(line_of, events))


def read(path: str | Path) -> tuple[Event, Iterator[Event]]:
    """The header and the events of a file, which are read as they are asked for.

    Raises TraceError, with file and line, for what is no stream, at once or by the iterator;
    OSError.
    """
    lines = _objects(path)
    nothing: Event = {}
    number, header = next(lines, (1, nothing))
    if header.get("format") != FORMAT:
        lines.close()
        raise TraceError(f"{path}, line {number}: no header of the format {FORMAT}")
    return header, _events(path, lines)


def _objects(path: str | Path) -> Generator[tuple[int, Event], None, None]:
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_BYTES), b""), 1):
            if len(line) == MOST_BYTES:
                raise TraceError(f"{path}, line {number}: longer than {MOST_BYTES} bytes")
            try:
                found = json.loads(line, parse_constant=_finite, parse_float=_finite)
            except (ValueError, RecursionError) as error:
                raise TraceError(f"{path}, line {number}: no JSON: {error}") from None
            if not isinstance(found, dict):
                raise TraceError(f"{path}, line {number}: no JSON object")
            yield number, found


def _finite(text: str) -> float:
    """A number. Raises ValueError for one that JSON does not have, which json.loads takes."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _events(path: str | Path, lines: Iterable[tuple[int, Event]]) -> Iterator[Event]:
    last = 0
    for number, event in lines:
        n, kind, cause = event.get("n"), event.get("kind"), event.get("cause")
        if not isinstance(kind, str):
            raise TraceError(f"{path}, line {number}: an event without a kind")
        if type(n) is not int or n <= last:
            raise TraceError(f"{path}, line {number}: n is {n!r} behind {last}")
        if cause is not None and not (type(cause) is int and 0 < cause < n):
            raise TraceError(f"{path}, line {number}: event {n} has the cause {cause!r}")
        last = n
        yield event
