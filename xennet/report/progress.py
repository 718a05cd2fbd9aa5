"""A progress bar on stderr while frames are carried, and silence where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from xennet.report.model import Progress

_INTERVAL = 0.1  # seconds between two refreshes


@contextmanager
def progress_bar(totals: Mapping[str, int | None], stream: TextIO) -> Iterator[Progress]:
    """One bar for each direction of ``totals`` (frames to come, None when unknown).

    Silent when ``stream`` is not a terminal; gone from the screen afterwards.
    """
    if not stream.isatty():
        with no_progress() as silent:
            yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=Console(file=stream), auto_refresh=False, transient=True) as bars:
        tasks = {name: bars.add_task(name, total=total) for name, total in totals.items()}
        due = 0.0

        def update(direction: str, frames: int) -> None:
            nonlocal due
            bars.update(tasks[direction], completed=frames)
            now = time.monotonic()
            if now >= due:
                due = now + _INTERVAL
                bars.refresh()

        yield update


@contextmanager
def no_progress() -> Iterator[Progress]:
    """Shows nothing."""
    yield lambda direction, frames: None
