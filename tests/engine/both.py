"""The same run on both engines, with everything that can be compared afterwards.

Plain kernels get views here that refuse a negative index: plain code would count from the end, and
compiled code does not (docs/kernels.md).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, TypeVar

from xennet.engine.choice import PlainEngine, using

T = TypeVar("T")


class CheckedView:
    """A view that a kernel indexes from 0 on."""

    def __init__(self, items: memoryview | array[int]) -> None:
        self.items = items

    @property
    def obj(self) -> object:
        """Whose memory it is."""
        return self.items.obj if isinstance(self.items, memoryview) else self.items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int | slice) -> Any:
        return self.items[_checked(at)]

    def __setitem__(self, at: int | slice, value: Any) -> None:
        self.items[_checked(at)] = value


def _checked(at: int | slice) -> Any:
    for index in (at.start, at.stop) if isinstance(at, slice) else (at,):
        if index is not None and index < 0:
            raise AssertionError(f"a kernel has the negative index {index}")
    return at


class CheckedEngine(PlainEngine):
    """Plain kernels on views that refuse negative indices."""

    #: So that no other code takes the place of a kernel because it suits plain Python.
    name = "fast"

    def view(self, buffer: memoryview | array[int]) -> Any:
        return CheckedView(buffer)


def on_both(run: Callable[[], T]) -> tuple[T, T]:
    """What ``run`` returns with plain kernels, and with compiled ones."""
    with using(CheckedEngine()):
        plain = run()
    with using("fast"):
        return plain, run()
