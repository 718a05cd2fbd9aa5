"""The targets that are open in this process, for campaigns and units of work to share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from xennet.fuzz.target import Target
from xennet.fuzz.target_table import open_target

#: Targets that stay open although nobody uses them: the next unit of work may.
MAX_IDLE = 8


class OpenTargets:
    """Targets by name and known rules.

    One is opened when it is taken first, and stays open while somebody has it. Of those that nobody
    has, the MAX_IDLE that were given back last stay open. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        #: Those given back last are at the end.
        self._open: dict[tuple[str, frozenset[str]], Target] = {}
        self._users = Counter[tuple[str, frozenset[str]]]()

    def take(self, name: str, known: frozenset[str]) -> Target:
        """The target ``name`` behind the rules ``known``, for a user more. Raises
        UnknownTargetError."""
        key = name, known
        with self._lock:
            if key not in self._open:
                self._open[key] = open_target(name, known)
            self._users[key] += 1
            return self._open[key]

    def give_back(self, name: str, known: frozenset[str]) -> None:
        """Have a user of it less; close what has been idle for longest, if there is too much."""
        key = name, known
        with self._lock:
            self._users[key] -= 1
            self._open[key] = self._open.pop(key)
            self._close_idle(MAX_IDLE)

    @contextmanager
    def using(self, name: str, known: frozenset[str]) -> Iterator[Target]:
        """A context that has it."""
        target = self.take(name, known)
        try:
            yield target
        finally:
            self.give_back(name, known)

    def close_idle(self) -> None:
        """Close all that nobody uses."""
        with self._lock:
            self._close_idle(0)

    def _close_idle(self, most: int) -> None:
        idle = [key for key in self._open if not self._users[key]]
        for key in idle[: max(len(idle) - most, 0)]:
            del self._users[key]
            self._open.pop(key).close()


#: Those of this process.
OPEN_TARGETS = OpenTargets()
