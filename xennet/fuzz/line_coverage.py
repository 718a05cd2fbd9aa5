"""Which lines of the source a corpus reaches.

Kernels have to be plain then: no line of compiled code is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from attrs import frozen

from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target import Target

_PACKAGE = Path(__file__).parents[1]
#: Folders that lie around a target.
_AROUND = ("fuzz", "engine")


@frozen
class FileCoverage:
    """Lines of a file, from the package on: those of all functions that were entered, and which of
    them were executed."""

    file: str
    lines: frozenset[int]
    executed: frozenset[int]

    @property
    def missed(self) -> str:
        """The lines that were not executed: "7, 12-15", where all that lies between is missed."""
        runs = groupby(sorted(self.lines), self.executed.__contains__)
        missed = [list(run) for executed, run in runs if not executed]
        return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in missed)


def line_coverage(target: Target, corpus: Iterable[FuzzInput]) -> list[FileCoverage]:
    """The lines that the inputs of ``corpus`` reach, by file, of the package without what lies
    around the target."""
    executed: dict[CodeType, set[int]] = {}

    def entered(frame: FrameType, event: str, value: Any) -> Any:
        code = frame.f_code
        if code not in executed:
            if not _is_of_target(code):
                return None
            executed[code] = set()
        lines = executed[code]

        def at_line(frame: FrameType, event: str, value: Any) -> Any:
            lines.add(frame.f_lineno)
            return at_line

        return at_line

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        for fuzz_input in corpus:
            target.execute(fuzz_input)
    finally:
        sys.settrace(before)
    found: dict[str, tuple[set[int], set[int]]] = {}
    for code, lines in executed.items():
        all_lines, executed_lines = found.setdefault(code.co_filename, (set(), set()))
        # The line of "def" is executed when the function is defined.
        all_lines.update(line for *_, line in code.co_lines() if line)
        all_lines.discard(code.co_firstlineno)
        executed_lines.update(lines)
    return [
        FileCoverage(str(Path(file).relative_to(_PACKAGE.parent)), frozenset(all_lines), kept)
        for file, (all_lines, lines) in sorted(found.items())
        if (kept := frozenset(lines & all_lines))
    ]


def _is_of_target(code: CodeType) -> bool:
    path = Path(code.co_filename)
    if not path.is_relative_to(_PACKAGE):
        return False
    return path.relative_to(_PACKAGE).parts[0] not in _AROUND
