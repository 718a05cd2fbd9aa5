"""Interleaved rounds: each contestant runs once in each round, so that load of the machine meets
all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

from attrs import frozen

#: The name of a contestant.
Name = TypeVar("Name", str, int)
#: (frame bytes, count) -> seconds.
Contestant = Callable[[int, int], float]


@frozen
class Figure:
    """A rate (frames, calls or runs per second) in each round."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rates)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median."""
        return (max(self.rates) - min(self.rates)) / self.median

    def of(self, other: Figure) -> float:
        """The median of the ratios to ``other``, round by round."""
        return median(a / b for a, b in zip(self.rates, other.rates, strict=True))


def count_for(contestant: Contestant, size: int, seconds: float) -> int:
    """The count (frames, calls, runs) that takes about ``seconds``, found by longer and longer
    runs."""
    count = 500
    contestant(size, count)  # does everything that is done once
    while True:
        took = contestant(size, count)
        if took > seconds / 5 or count >= 50_000_000:
            return max(500, int(count * seconds / took))
        count *= 4


def race(
    contestants: Mapping[Name, Contestant],
    size: int,
    rounds: int,
    seconds: float,
    counts: Mapping[Name, int] | None = None,
) -> dict[Name, Figure]:
    """Run ``rounds`` rounds at one frame size, without garbage collection.

    ``counts``: the count for each contestant; without it :func:`count_for` finds one.
    """
    if counts is None:
        counts = {name: count_for(run, size, seconds) for name, run in contestants.items()}
    rates: dict[Name, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            gc.collect()
            gc.freeze()
            try:
                rates[name].append(counts[name] / run(size, counts[name]))
            finally:
                gc.unfreeze()
    return {name: Figure(tuple(values)) for name, values in rates.items()}
