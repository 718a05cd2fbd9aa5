"""The primitives of xennet/engine/kernel.py, compiled: payload copy, loads of shared words,
publishing an index, asking for an event, changing a shared word.

numba would copy a slice element by element; memcpy is several times faster. A store that another
process may see has to be one store, and its order against the following load needs a fence.

A load of a word that another process may write is an atomic one, which costs nothing on x86: LLVM
may make two of an ordinary load, or use the value of an earlier one, so that the value judged would
not be the value used (XSA-155). It acquires: what is loaded behind an index is no older than the
index. A read-modify-write is cmpxchg, lock or, lock and.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from xennet.engine.fast.cache import OPTIONS, compile_cached
from xennet.engine.fast.in_line import compile_in_line
from xennet.engine.libatomic import address_of
from xennet.ring import must_notify

_BYTE = ir.IntType(8).as_pointer()


@intrinsic
def _memcpy(  # type: ignore[no-untyped-def]
    _context, dest, dest_at, source, source_at, count
):
    signature = types.void(dest, types.int64, source, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ends = []
        for array_type, array, offset in (
            (signature.args[0], args[0], args[1]),
            (signature.args[2], args[2], args[3]),
        ):
            data = context.make_array(array_type)(context, builder, array).data
            ends.append(builder.gep(builder.bitcast(data, _BYTE), [offset]))
        # Volatile: what is copied out of shared memory is not taken from there again.
        size = args[4].type
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [_BYTE, _BYTE, size])
        builder.call(memcpy, [*ends, args[4], cgutils.true_bit])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _fence(_context):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


_WORD = ir.IntType(64)


def _item(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of an item (0 <= index) and the type of the item."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index]), ir.IntType(array_type.dtype.bitwidth)


def _widened(builder: Any, value: Any) -> Any:
    """An item, which is unsigned, as the signed 64-bit integer that kernels work with."""
    return value if value.type == _WORD else builder.zext(value, _WORD)


def _narrowed(builder: Any, value: Any, kind: Any) -> Any:
    """A 64-bit integer as an item."""
    return value if value.type == kind else builder.trunc(value, kind)


@intrinsic
def _load_acquire(_context, words, index):  # type: ignore[no-untyped-def]
    """One aligned load that the compiler neither repeats nor leaves out, and before which no later
    load is moved."""
    signature = types.int64(words, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        item, kind = _item(context, builder, signature.args[0], *args)
        return _widened(builder, builder.load_atomic(item, "acquire", kind.width // 8))

    return signature, generate


@intrinsic
def _store_release(_context, words, index, value):  # type: ignore[no-untyped-def]
    """One aligned store that no earlier store may be moved behind."""
    signature = types.void(words, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        item, kind = _item(context, builder, signature.args[0], *args[:2])
        value = _narrowed(builder, args[2], kind)
        builder.store_atomic(value, item, "release", kind.width // 8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _swap(_context, words, index, old, new):  # type: ignore[no-untyped-def]
    """cmpxchg. Returns the value from before."""
    signature = types.int64(words, types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        item, kind = _item(context, builder, signature.args[0], *args[:2])
        old, new = (_narrowed(builder, value, kind) for value in args[2:])
        pair = builder.cmpxchg(item, old, new, "seq_cst", "seq_cst")
        return _widened(builder, builder.extract_value(pair, 0))

    return signature, generate


def _fetch(operation: str) -> Any:
    """An intrinsic for lock or / lock and, which returns the value from before."""

    @intrinsic
    def fetch(_context, words, index, bits):  # type: ignore[no-untyped-def]
        signature = types.int64(words, types.int64, types.int64)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            item, kind = _item(context, builder, signature.args[0], *args[:2])
            bits = _narrowed(builder, args[2], kind)
            return _widened(builder, builder.atomic_rmw(operation, item, bits, "seq_cst"))

        return signature, generate

    return fetch


_or, _and = _fetch("or"), _fetch("and")


def _network_word(bits: int) -> Any:
    """An intrinsic for a load of bytes in the order of a network, as a number of so many bits."""
    kind = ir.IntType(bits)

    @intrinsic
    def network_word(_context, data, at):  # type: ignore[no-untyped-def]
        signature = types.int64(data, types.int64)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            item, _byte = _item(context, builder, signature.args[0], *args)
            value = builder.load(builder.bitcast(item, kind.as_pointer()), align=1)
            if sys.byteorder == "little":
                value = builder.bswap(value)
            return _widened(builder, value)

        return signature, generate

    return network_word


_be16, _be32 = _network_word(16), _network_word(32)


def load_once(words: Any, index: Any) -> Any:
    """Replaces ``words[index]`` where other processes may write the words; an item of a tuple is
    loaded as usual."""
    return words[index]


def _load_of_kind(words, index):  # type: ignore[no-untyped-def]
    if isinstance(words, types.Array):
        return lambda words, index: _load_acquire(words, np.int64(index))
    return lambda words, index: np.int64(words[index])


overload(load_once, jit_options=OPTIONS)(_load_of_kind)


def _copy_bytes(dest, dest_at, source, source_at, count):  # type: ignore[no-untyped-def]
    _memcpy(dest, np.int64(dest_at), source, np.int64(source_at), np.int64(count))


#: The rule itself, compiled from the source that the plain engine runs.
_must_notify = compile_in_line(must_notify)


def _publish(ring, word, event_word, new):  # type: ignore[no-untyped-def]
    old = load_once(ring, word)
    _store_release(ring, np.int64(word), np.int64(new))
    _fence()
    return 1 if _must_notify(old, np.int64(new), load_once(ring, event_word)) else 0


def _arm(ring, event_word, value):  # type: ignore[no-untyped-def]
    _store_release(ring, np.int64(event_word), np.int64(value))
    _fence()


def _compare_and_swap(words, at, old, new):  # type: ignore[no-untyped-def]
    return _swap(words, np.int64(at), np.int64(old), np.int64(new))


def _fetch_or(words, at, bits):  # type: ignore[no-untyped-def]
    return _or(words, np.int64(at), np.int64(bits))


def _fetch_and(words, at, bits):  # type: ignore[no-untyped-def]
    return _and(words, np.int64(at), np.int64(bits))


def _network_words(data, at):  # type: ignore[no-untyped-def]
    first = np.int64(at)
    return (
        _be32(data, first),
        _be16(data, first + 4),
        _be16(data, first + 6),
        _be32(data, first + 8),
    )


class CompiledAtomics:
    """The compiled operations for code that is not compiled
    (xennet.engine.atomics.ReadModifyWrite)."""

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int:
        return _called("compare_and_swap", words, at, old, new)

    def fetch_or(self, words: memoryview, at: int, bits: int) -> int:
        return _called("fetch_or", words, at, bits)

    def fetch_and(self, words: memoryview, at: int, bits: int) -> int:
        return _called("fetch_and", words, at, bits)


def _called(name: str, words: memoryview, at: int, *values: int) -> int:
    """Call the twin ``name`` and return its result as an unsigned item. Raises as address_of
    does."""
    address_of(words, at)
    size = words.itemsize
    half, whole = 1 << 63, 1 << 64
    signed = [(value + half) % whole - half for value in values]  # the same 64 bits
    return int(_COMPILED[name](np.frombuffer(words, f"u{size}"), at, *signed)) % (1 << 8 * size)


#: Replaces the assignment of a slice to a slice: (dest, dest_at, source, source_at, count).
copy_bytes = compile_in_line(_copy_bytes)
#: Name in xennet/engine/kernel.py -> the function that is compiled in its place.
TWINS: dict[str, Callable[..., Any]] = {
    "publish": _publish,
    "arm": _arm,
    "compare_and_swap": _compare_and_swap,
    "fetch_or": _fetch_or,
    "fetch_and": _fetch_and,
    "network_words": _network_words,
}
#: Those that Python calls.
_COMPILED = {
    name: compile_cached(TWINS[name]) for name in ("compare_and_swap", "fetch_or", "fetch_and")
}
