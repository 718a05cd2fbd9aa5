"""What a command does, with every step recorded in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

from xennet.cli.errors import BadInputError
from xennet.hypervisor import Machine
from xennet.hypervisor.machine import told_of_machines
from xennet.run.printable import printable
from xennet.trace.recorder import Recorder, recording
from xennet.trace.stream import Event, header_of, line_of
from xennet.unit_file import UnitFile


@contextmanager
def recorded(
    path: str, command: Iterable[str], choices: str | None
) -> Iterator[Callable[[Any], object]]:
    """Record the link that the function which is yielded is called with, in the file ``path``;
    ``choices`` decide its order (xennet.choices).

    Raises BadInputError if the file cannot be written.
    """
    with _recorder(path, command, choices) as recorder:
        yield lambda link: recorder.attach(link.host.machine)


@contextmanager
def first_machine(path: str, command: Iterable[str]) -> Iterator[None]:
    """Record the first machine that is made within the block. Raises BadInputError as
    :func:`recorded` does."""
    with _recorder(path, command) as recorder:

        def attach(made: Machine) -> None:
            if not recorder.watched:
                recorder.attach(made)

        with told_of_machines(attach):
            yield


@contextmanager
def _recorder(path: str, command: Iterable[str], choices: str | None = None) -> Iterator[Recorder]:
    was_there = os.path.lexists(path)
    with _named(path):
        file = UnitFile(FileIO(path, "a"))
    begun = False

    def put(event: Event) -> None:
        nonlocal begun
        with _named(path):
            if not begun:  # what was there stays until there is something to record
                begun = True
                file.start_over()
                file.write(line_of(header_of(_without_trace(command), choices=choices)).encode())
            file.write(line_of(event).encode())

    with recording() as recorder:
        recorder.sink(put)
        try:
            yield recorder
        finally:
            recorder.detach()
            with _named(path):
                file.close()
            if not (begun or was_there):
                os.unlink(path)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """An error of the system within the block is one of the file ``path``: BadInputError."""
    try:
        yield
    except OSError as error:
        raise BadInputError(printable(f"{path}: {error.strerror}")) from None


def _without_trace(command: Iterable[str]) -> Iterator[str]:
    """The arguments but ``--trace FILE``: what makes the same run again."""
    words = iter(command)
    for word in words:
        if word == "--trace":
            next(words, None)
        elif not word.startswith("--trace="):
            yield word
