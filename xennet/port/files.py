"""Opening the files of ports: the errors, and which files may be written."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from errno import EBADF
from io import FileIO

from xennet.port.base import PortError

#: The file name that stands for standard input, or for standard output.
STANDARD = "-"
_STDIN, _STDOUT = 0, 1


#: Options of a capture that is played, which stand behind its name and a question mark.
CAPTURE_OPTIONS = ("csum=fix",)
_OPTION = re.compile(r"[a-z]+=[a-z]*", re.ASCII)


def split_option(argument: str, options: Sequence[str]) -> tuple[str, str]:
    """The file that ``argument`` names, and the one of ``options`` behind it and a question mark;
    "" for none.

    A file whose name is all of ``argument`` is that file. The name is "" if there is only an
    option. Raises PortError for what looks like an option and is none.
    """
    path, mark, option = argument.rpartition("?")
    if not (options and mark and _OPTION.fullmatch(option)) or os.path.lexists(argument):
        return argument, ""
    if option not in options:
        raise PortError(f"{path}: no option {option!r}, there is {', '.join(options)}")
    return path, option


def shown(path: str, *, written: bool) -> str:
    """The name of the file ``path`` for people."""
    if path != STANDARD:
        return path
    return "standard output" if written else "standard input"


def open_file(path: str, mode: str) -> FileIO:
    """Open ``path`` unbuffered in ``mode`` "rb" or "wb". Raises PortError with the reason.

    STANDARD is standard input or output, which stay open when the file is closed. A capture is not
    written to a terminal.
    """
    written = mode == "wb"
    try:
        if path != STANDARD:
            return FileIO(path, mode)
        if (sys.__stdout__ if written else sys.__stdin__) is None:
            # Closed when the program started: its descriptor is another file's by now.
            raise OSError(EBADF, os.strerror(EBADF))
        file = FileIO(_STDOUT if written else _STDIN, mode, closefd=False)
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise PortError(f"{shown(path, written=written)}: cannot be opened: {why}") from e
    if written and file.isatty():
        raise PortError("standard output: a capture is not written to a terminal")
    return file


def check_overwriting(read: Sequence[str], written: Sequence[str]) -> None:
    """Raise PortError if a file would be overwritten that the same run reads or writes.

    Also if standard input would be read twice, or standard output written twice. Files are the same
    through symbolic and hard links too; other devices and pipes never clash.
    """
    if read.count(STANDARD) > 1:
        raise PortError("standard input: can be played by one port only")
    if written.count(STANDARD) > 1:
        raise PortError("standard output: can be recorded to by one port only")
    taken = [(path, _STDIN if path == STANDARD else path, "read") for path in read]
    for path in written:
        target = _STDOUT if path == STANDARD else path
        for other, source, use in taken:
            if _same_file(target, source):
                name, as_ = shown(path, written=True), shown(other, written=use == "write")
                raise PortError(f"{name}: cannot be recorded to, the run {use}s it as {as_}")
        taken.append((path, target, "write"))


def _same_file(path: str | int, other: str | int) -> bool:
    """Whether two file names, or descriptors, mean one regular file."""
    try:
        mine, theirs = os.stat(path), os.stat(other)
    except OSError:
        if isinstance(path, int) or isinstance(other, int):
            return False
        # Missing, or not readable: two names of one file that will be created still clash.
        return os.path.realpath(path) == os.path.realpath(other)
    return stat.S_ISREG(mine.st_mode) and os.path.samestat(mine, theirs)
