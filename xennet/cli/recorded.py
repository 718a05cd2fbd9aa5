"""What a command does, with every step recorded in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from xennet.cli.errors import BadInputError
from xennet.hypervisor import Machine
from xennet.hypervisor.machine import told_of_machines
from xennet.trace.recorder import Recorder, recording
from xennet.trace.stream import header_of, line_of


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
    try:
        file = open(path, "w", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from None
    with file, recording() as recorder:
        file.write(line_of(header_of(_without_trace(command), choices=choices)))
        recorder.sink(lambda event: file.write(line_of(event)))
        try:
            yield recorder
        finally:
            recorder.detach()


def _without_trace(command: Iterable[str]) -> Iterator[str]:
    """The arguments but ``--trace FILE``: what makes the same run again."""
    words = iter(command)
    for word in words:
        if word == "--trace":
            next(words, None)
        elif not word.startswith("--trace="):
            yield word
