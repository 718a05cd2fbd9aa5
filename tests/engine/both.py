"""The same run on both engines, with everything that can be compared afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xennet.engine.choice import using

T = TypeVar("T")

ENGINES = ("plain", "fast")


def on_both(run: Callable[[], T]) -> tuple[T, T]:
    """What ``run`` returns with plain kernels, and with compiled ones."""
    results = []
    for name in ENGINES:
        with using(name):
            results.append(run())
    return results[0], results[1]
