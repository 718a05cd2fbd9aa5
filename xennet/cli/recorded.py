"""A run whose every step is recorded in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from xennet.cli.errors import BadInputError
from xennet.trace.recorder import recording
from xennet.trace.stream import header_of, line_of


@contextmanager
def recorded(path: str, command: Iterable[str]) -> Iterator[Callable[[Any], object]]:
    """Record the link that the function which is yielded is called with, in the file ``path``.

    Raises BadInputError if the file cannot be written.
    """
    try:
        file = open(path, "w", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from None
    with file, recording() as recorder:
        file.write(line_of(header_of(command)))
        recorder.sink(lambda event: file.write(line_of(event)))
        yield lambda link: recorder.attach(link.host.machine)
        recorder.detach()
