"""Standard streams that cannot be written: a pipe whose reader has left, a full disk, a terminal
that is gone."""

from __future__ import annotations

import os
import select
from io import UnsupportedOperation
from typing import Any, TextIO, cast


def discard(stream: TextIO) -> None:
    """Discard everything that was not written to ``stream`` yet, and all that will be."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def reader_has_left(stream: TextIO) -> bool:
    """Whether ``stream`` is a pipe or a socket that nobody reads any more (poll(2): POLLERR of a
    pipe, POLLHUP of a socket). One without a descriptor has no such reader."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except UnsupportedOperation:
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Dropping:
    """A stream for messages, see :func:`dropping`; what it does not have is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def dropping(stream: TextIO) -> TextIO:
    """``stream`` for messages that are not worth an error: when one cannot be written, that one
    and all later ones are discarded."""
    return cast(TextIO, _Dropping(stream))
