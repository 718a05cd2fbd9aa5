"""Interleaved rounds: every contestant once in each round, so that all see the same weather."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from statistics import median

from attrs import frozen

#: (frame bytes, frames) -> seconds.
Contestant = Callable[[int, int], float]


@frozen
class Figure:
    """Frames per second of one contestant at one size, over all rounds."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rates)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median."""
        return (max(self.rates) - min(self.rates)) / self.median


def frames_for(contestant: Contestant, size: int, seconds: float) -> int:
    """How many frames fill about ``seconds``, found by growing runs."""
    frames = 500
    while True:
        took = contestant(size, frames)
        if took > seconds / 5 or frames >= 50_000_000:
            return max(500, int(frames * seconds / took))
        frames *= 4


def race(
    contestants: Mapping[str, Contestant],
    size: int,
    rounds: int,
    seconds: float,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Figure]:
    """Run ``rounds`` rounds at one frame size; garbage collection is frozen out of all of them."""
    frames = {name: frames_for(run, size, seconds) for name, run in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for name, run in contestants.items():
                rates[name].append(frames[name] / run(size, frames[name]))
                tick()
    finally:
        gc.unfreeze()
    return {name: Figure(tuple(values)) for name, values in rates.items()}
