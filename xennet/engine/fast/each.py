"""Arguments that are one of several equal ones by number (``Each``), compiled.

A tuple of tuples of arrays would do. But numba hands over every array as seven words, and to choose
a tuple by a number that is known only when the kernel runs, it copies the words of all its arrays:
that takes a third of a microsecond for the rings, buffers and tables of a queue. So a kernel gets
the first item, which has all that does not differ, and a table of what does: where each array
begins and how many items it has, and the numbers. What a kernel does not use is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.core.types.containers import BaseTuple
from numba.extending import intrinsic

_WORD = ir.IntType(64)


def item_table(items: Sequence[Any]) -> tuple[Any, ...]:
    """What kernels take for ``items``: arrays, or equal tuples of arrays, integers and such tuples.
    A single one is the only item of a tuple. Of more, the arrays of all but the first are known by
    their addresses alone, so the caller keeps them.

    Raises TypeError for items that are not alike.
    """
    if len(items) == 1:
        return tuple(items)
    kinds = [list(_kinds(item)) for item in items]
    if any(kind != kinds[0] for kind in kinds):
        raise TypeError(f"items of different kinds: {kinds}")
    table = np.array([word for item in items for word in _words(item)], np.int64)
    return items[0], table


def _leaves(item: Any) -> Iterator[Any]:
    """The arrays and integers of an item, in order."""
    if isinstance(item, tuple):
        for part in item:
            yield from _leaves(part)
    else:
        yield item


def _kinds(item: Any) -> Iterator[object]:
    for leaf in _leaves(item):
        yield leaf.dtype if isinstance(leaf, np.ndarray) else type(leaf)


def _words(item: Any) -> Iterator[int]:
    """The words of an item in the table: address and number of items, or the number itself."""
    for leaf in _leaves(item):
        if isinstance(leaf, np.ndarray):
            yield leaf.ctypes.data
            yield len(leaf)
        else:
            yield leaf


def _count(kind: Any) -> int:
    """How many words of the table an item of a type has."""
    if isinstance(kind, BaseTuple):
        return sum(map(_count, kind))
    return 2 if isinstance(kind, types.Array) else 1


@intrinsic
def each(_context, items, index):  # type: ignore[no-untyped-def]
    """Replaces ``items[index]``; ``items`` is what item_table has made."""
    kind = items[0]
    if len(items) > 1 and items[1] != types.Array(types.int64, 1, "C"):
        raise TypingError(f"{items} has no table of its items")
    of_one = _count(kind)

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        first = builder.extract_value(args[0], 0)
        if len(items) == 1:
            return first
        table = builder.extract_value(args[0], 1)
        words = context.make_array(items[1])(context, builder, table).data
        row = builder.gep(words, [builder.mul(args[1], ir.Constant(args[1].type, of_one))])
        at = 0

        def load() -> Any:
            nonlocal at
            word = builder.load(builder.gep(row, [ir.Constant(_WORD, at)]))
            at += 1
            return word

        def item(kind: Any, value: Any) -> Any:
            if isinstance(kind, BaseTuple):
                for place, part in enumerate(kind):
                    own = item(part, builder.extract_value(value, place))
                    value = builder.insert_value(value, own, place)
                return value
            if not isinstance(kind, types.Array):
                word = load()
                return word if value.type == _WORD else builder.trunc(word, value.type)
            array = context.make_array(kind)(context, builder, value)
            array.data = builder.inttoptr(load(), array.data.type)
            array.nitems = length = load()
            array.shape = builder.insert_value(array.shape, length, 0)
            return array._getvalue()

        return item(kind, first)

    return kind(items, types.int64), generate
