"""Writing to stdout, which may be a pipe whose reader leaves, or a full disk."""

from __future__ import annotations

import os
import sys

import click


def say(text: str | bytes, nl: bool = True) -> None:
    """Print ``text``. That its reader has left, as ``head`` does, is no error: the rest goes
    nowhere."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        discard()


def discard() -> None:
    """What was not written yet, and all that is to come, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
