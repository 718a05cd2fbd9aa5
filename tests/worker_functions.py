"""Functions that workers do in tests: another process imports them by name."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path


def square(number: int) -> int:
    return number * number


def die_once(path: str) -> str:
    """Ends its process as a crash would, unless ``path`` is there already."""
    marker = Path(path)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def die(folder: str) -> str:
    """Leaves a file in ``folder``, and ends its process as a crash would."""
    tempfile.mkstemp(dir=folder)
    os.kill(os.getpid(), signal.SIGKILL)
    return folder


def fail(text: str) -> str:
    raise ValueError(text)


class CannotBeMadeAnewError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def fail_oddly(text: str) -> str:
    raise CannotBeMadeAnewError("odd ", text)


def pid(number: int) -> int:
    return os.getpid()
