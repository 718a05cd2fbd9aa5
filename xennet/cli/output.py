"""Writing to stdout or stderr, which may be a pipe whose reader leaves, or a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from xennet.run.streams import discard


def say(text: str | bytes, nl: bool = True, err: bool = False) -> None:
    """Print ``text``, on stderr if ``err``.

    A reader that has left, as ``head`` does, is no error: the rest of the output is discarded.
    """
    try:
        click.echo(text, nl=nl, err=err)
    except BrokenPipeError:
        discard(sys.stderr if err else sys.stdout)


def say_json(document: Mapping[str, Any], err: bool = False) -> None:
    """Print a JSON object, indented."""
    import json

    say(json.dumps(document, indent=2), err=err)


def open_standard_streams() -> None:
    """Open the standard streams with which the process was started closed.

    Otherwise a file that the process opens would become one of them. To read such a stdin or write
    to such a stdout is an error (EBADF), as in other programs; messages to such a stderr are
    discarded.
    """
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:  # open() returns the lowest free number
        os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
    if 0 in closed:
        sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    if 1 in closed:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if 2 in closed:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
