"""Opening the files of file ports: what a port error says, and who may write where."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from io import FileIO

from xennet.port.base import PortError


def open_file(path: str, mode: str) -> FileIO:
    """Open ``path`` unbuffered in ``mode`` "rb" or "wb"; PortError says why it cannot be."""
    try:
        return FileIO(path, mode)
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise PortError(f"{path}: cannot be opened: {why}") from e


def check_overwriting(read: Sequence[str], written: Sequence[str]) -> None:
    """PortError when a file would be overwritten while the same run reads or writes it.

    Files are the same through symbolic and hard links too. Devices and pipes never clash.
    """
    taken = [(path, "read") for path in read]
    for path in written:
        for other, use in taken:
            if _same_file(path, other):
                raise PortError(f"{path}: cannot be recorded to, the run {use}s it as {other}")
        taken.append((path, "write"))


def _same_file(path: str, other: str) -> bool:
    try:
        mine, theirs = os.stat(path), os.stat(other)
    except OSError:
        # Not there yet, or not to be seen: two names of one file to come still clash.
        return os.path.realpath(path) == os.path.realpath(other)
    return stat.S_ISREG(mine.st_mode) and os.path.samestat(mine, theirs)
