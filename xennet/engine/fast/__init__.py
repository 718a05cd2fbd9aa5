"""The fast engine: numba compiles the kernels from their plain source.

Importing this package imports numba (the extra ``xennet[fast]``).

* :mod:`~xennet.engine.fast.translate` turns a kernel module's source into functions that numba
  takes;
* :mod:`~xennet.engine.fast.primitives` has the compiled twins of xennet/engine/kernel.py, the only
  helpers that differ;
* :mod:`~xennet.engine.fast.each` has arguments that are one of several by number;
* :mod:`~xennet.engine.fast.cache` keeps compiled code on disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from xennet.engine.fast.each import item_table
from xennet.engine.fast.translate import Translator

if TYPE_CHECKING:
    from xennet.engine.counted_plain import BranchCounters

F = TypeVar("F", bound=Callable[..., Any])

_KINDS = {"B": np.uint8, "H": np.uint16, "I": np.uint32, "Q": np.uint64, "q": np.int64}
_DTYPES: dict[str, np.dtype[Any]] = {code: np.dtype(kind) for code, kind in _KINDS.items()}


class FastEngine:
    """Kernels compiled by numba, in nopython mode, on numpy views of the same memory."""

    name = "fast"

    def __init__(self) -> None:
        self._translator = Translator()

    def kernel(self, function: F) -> F:
        return cast(F, self._translator.compiled(function))

    def counting(self, root: FunctionType, counters: BranchCounters) -> Any:
        """The compiled form of a kernel that counts (xennet.engine.choice.counting)."""
        from xennet.engine.fast.counted import counting_kernel

        return counting_kernel(root, counters)

    def view(self, buffer: memoryview | array[int]) -> Any:
        # A view of its own of the buffer, so that the caller's can be released.
        own = memoryview(buffer)
        return np.frombuffer(own, dtype=_DTYPES[own.format])

    def each(self, items: Sequence[Any]) -> Any:
        return item_table(items)

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        return memory

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        return indices


FAST = FastEngine()
