"""The forms of a trace, by the suffix of the file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from xennet.trace import stream
from xennet.trace.stream import Event

#: (header, events, file): writes a whole trace.
Writer = Callable[[Event, Iterator[Event], Path], None]


def _stream(header: Event, events: Iterator[Event], out: Path) -> None:
    stream.write(header, events, out)


def _perfetto(header: Event, events: Iterator[Event], out: Path) -> None:
    from xennet.trace.perfetto import write_perfetto

    with out.open("w", encoding="utf-8") as file:
        write_perfetto(header, events, file)


def _pcapng(header: Event, events: Iterator[Event], out: Path) -> None:
    from xennet.trace.pcapng import write_pcapng

    write_pcapng(header, events, out)


def _page(header: Event, events: Iterator[Event], out: Path) -> None:
    from xennet.trace.page import write_html

    write_html(header, events, out)


#: Suffix -> the writer; each imports what it needs when it is called.
WRITERS: dict[str, Writer] = {
    ".jsonl": _stream,
    ".json": _perfetto,
    ".pcapng": _pcapng,
    ".html": _page,
}


def writer_for(path: Path) -> Writer:
    """The writer of the form that the suffix of ``path`` names. Raises ValueError if there is
    none."""
    writer = WRITERS.get(path.suffix)
    if writer is None:
        raise ValueError(f"{path}: a trace is written as {', '.join(f'FILE{s}' for s in WRITERS)}")
    return writer


def write(header: Event, events: Iterator[Event], path: Path) -> None:
    """Write a trace to ``path`` in the form that its suffix names; what was there before stays
    until the new file is whole.

    Raises ValueError for a suffix or a trace that the form does not take, TraceError for a damaged
    stream, OSError.
    """
    writer = writer_for(path)
    seen = [0]

    def noted() -> Iterator[Event]:
        for event in events:
            seen[0] = event["n"]
            yield event

    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        writer(header, noted(), part)
        part.replace(path)
    except OSError as error:
        if error.filename in (None, str(part)):  # None: while it was written
            error.filename = str(path)
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        if isinstance(error, ValueError) and "event" in str(error):
            raise  # it says which, or how many there are
        # Nothing of these is a fault of a form: members of a damaged recording cause them.
        raise ValueError(f"event {seen[0]} is not as docs/trace.md says: {error!r}") from error
    finally:
        part.unlink(missing_ok=True)
