"""Whose code raised an error: xennet's, a library's, or that of a driver of your own."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

_XENNET = str(Path(__file__).parents[1])
#: Where Python's own modules are, and those that are installed.
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def error_and_place(error: BaseException) -> str:
    """The error, and where it was raised: in the innermost function that is not xennet's own (nor
    of a library, if there is another), with its file and line; in one of xennet's if all are."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not _is_below(frame, _XENNET)]
    mine = [frame for frame in others if not _is_below(frame, *_LIBRARIES)]
    where = ""
    if others:
        last = (mine or others)[-1]
        where = f" in {last.name}, {_shown(last.filename)}:{last.lineno}"
    elif frames:
        where = f" in {frames[-1].name}"
    return f"{type(error).__name__}: {error}{where}"


def is_raised_by_own_driver(error: BaseException) -> bool:
    """Whether ``error`` came out of a delivery of a run loop, and of code in it that is neither
    xennet's nor a library's."""
    in_delivery = any(
        note.startswith("while delivering") for note in getattr(error, "__notes__", ())
    )
    frames = traceback.extract_tb(error.__traceback__)
    return in_delivery and any(not _is_below(frame, _XENNET, *_LIBRARIES) for frame in frames)


def _is_below(frame: traceback.FrameSummary, *folders: str) -> bool:
    """Whether the code of ``frame`` is of a file in ``folders``, or of none ("<string>")."""
    name = frame.filename
    return name.startswith(("<", *(folder + os.sep for folder in folders)))


def _shown(name: str) -> str:
    """The file ``name`` as seen from the working directory, if it is below that."""
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else name
