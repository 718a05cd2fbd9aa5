"""What maps a function over items, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: The item with which so many workers have died is taken for the reason.
MAX_DEATHS = 30


class WorkersError(Exception):
    """Work cannot be done: no cluster answers, an item ends all who take it."""


class Workers(Protocol):
    """Those who work."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results of ``function``, in the order of ``items``, whichever is ready first.

        ``function`` is one of a module; it, items and results can be pickled where another process
        does the work. A worker that dies costs time and nothing else: another one gets its item.
        What ``function`` raises is raised here. Raises WorkersError.
        """

    def close(self) -> None:
        """End those that were started."""
