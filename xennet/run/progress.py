"""Progress on stderr while frames are carried, bars or a line, and silence where stderr is no
terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from attrs import frozen

from xennet.run.options import Status
from xennet.run.streams import dropping

_INTERVAL = 0.1  # seconds between two refreshes


@frozen
class Shown:
    """A :class:`Progress` that is shown: ``update`` moves the bars, ``tell`` prints a line beside
    them, ``status`` shows how a live run is doing (None: nobody wants to see that)."""

    update: Callable[[str, int], None] = lambda direction, frames: None
    tell: Callable[[str], None] = lambda text: None
    status: Callable[[Status], None] | None = None

    def __call__(self, direction: str, frames: int) -> None:
        self.update(direction, frames)


@contextmanager
def progress_bar(totals: Mapping[str, int | None], stream: TextIO) -> Iterator[Shown]:
    """A context with one bar for each direction of ``totals`` that has frames to come.

    The total None is unknown. Without a terminal there are no bars; they are erased at the end.
    """
    stream = dropping(stream)
    if not stream.isatty():
        yield Shown(tell=lambda text: print(text, file=stream, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(file=stream)
    with Bars(*columns, console=console, auto_refresh=False, transient=True) as bars:
        tasks = {
            name: bars.add_task(name, total=total) for name, total in totals.items() if total != 0
        }
        due = 0.0

        def update(direction: str, frames: int) -> None:
            nonlocal due
            if direction not in tasks:
                return
            bars.update(tasks[direction], completed=frames)
            now = time.monotonic()
            if now >= due:
                due = now + _INTERVAL
                bars.refresh()

        def tell(text: str) -> None:
            bars.refresh()
            console.print(text, markup=False, highlight=False)

        yield Shown(update, tell)


@contextmanager
def live_line(stream: TextIO) -> Iterator[Shown]:
    """A context with a line on a terminal that says how a live run is doing; it is erased at the
    end. Elsewhere a line says once that frames are carried, for scripts that wait for it."""
    stream = dropping(stream)
    if not stream.isatty():
        yield _in_lines(stream)
        return
    length = 0

    def write(text: str) -> None:
        nonlocal length
        stream.write(f"\r{text:<{length}}")
        stream.flush()
        length = len(text)

    def show(status: Status) -> None:
        # The last column stays free: the line would wrap.
        write(status_text(status)[: _columns(stream) - 1])

    def tell(text: str) -> None:
        write("")
        stream.write(f"\r{text}\n")
        stream.flush()

    try:
        yield Shown(tell=tell, status=show)
    finally:
        write("")
        stream.write("\r")
        stream.flush()


def _columns(stream: TextIO) -> int:
    """The width of a terminal; 80 if it is unknown, or the terminal has gone."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _in_lines(stream: TextIO) -> Shown:
    """Lines for a stream that is no terminal."""
    begun = False

    def tell(text: str) -> None:
        print(text, file=stream, flush=True)

    def begin(_status: Status) -> None:
        nonlocal begun
        if not begun:
            begun = True
            tell("frames are carried from now on")

    return Shown(tell=tell, status=begin)


def status_text(status: Status) -> str:
    """One line about a live run."""
    queues = "".join(f"  {one.name} {one.used}/{one.size}" for one in status.queues)
    rates = f"to host {status.to_host:,.0f}/s  to guest {status.to_guest:,.0f}/s"
    return f"{int(status.seconds)} s  {rates}{queues}  dropped {status.dropped:,}"


@contextmanager
def no_progress() -> Iterator[Shown]:
    """A context that shows nothing."""
    yield Shown()


@contextmanager
def counter(what: str, total: int, stream: TextIO) -> Iterator[Callable[[int], None]]:
    """A context that shows ``what 7/1000`` on a terminal; its function is called with the number
    done.

    It is for work that counts what Python itself holds: unlike the bars it leaves nothing in any
    cache.
    """
    stream = dropping(stream)
    if not stream.isatty():
        yield lambda done: None
        return
    due = 0.0

    def update(done: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + _INTERVAL
            stream.write(f"\r{what} {done}/{total}")
            stream.flush()

    try:
        yield update
    finally:
        stream.write(f"\r{' ' * len(f'{what} {total}/{total}')}\r")
        stream.flush()
