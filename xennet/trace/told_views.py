"""Views of what is private to an end of a ring, which tell of a change that the recorder wants."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from xennet.engine.kernel import LOG_RECORD, LOG_USED


class LogView:
    """A kernel's log that tells of each record when it is complete."""

    def __init__(self, log: array[int], told: Callable[[Sequence[int]], None]) -> None:
        self._log = log
        self._told = told

    def __len__(self) -> int:
        return len(self._log)

    def __getitem__(self, at: int) -> int:
        return self._log[at]

    def __setitem__(self, at: int, value: int) -> None:
        before = self._log[at]
        self._log[at] = value
        if at == LOG_USED and value == before + LOG_RECORD:
            self._told(self._log[before:value])


class PrivateView:
    """The two private indices of an end of a ring, which tell when they are moved."""

    def __init__(self, indices: array[int], told: Callable[[int, int, int], None]) -> None:
        self._indices = indices
        self._told = told

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: int) -> int:
        return self._indices[at]

    def __setitem__(self, at: int, value: int) -> None:
        before = self._indices[at]
        self._indices[at] = value
        if value != before:
            self._told(at, before, value)
