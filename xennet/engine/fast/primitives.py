"""What is compiled in another way: payload copy, publishing an index, asking for an event.

numba would copy a slice element by element; memcpy is several times faster. A store that another
process may see has to be one store, and the order against the following load needs a fence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from xennet.engine.fast.cache import compile_cached
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
        cgutils.raw_memcpy(builder, ends[0], ends[1], args[4], 1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _fence(_context):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _store_release(_context, words, index, value):  # type: ignore[no-untyped-def]
    """One aligned 32-bit store that no earlier store may be moved behind."""
    signature = types.void(words, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        word = builder.trunc(args[2], ir.IntType(32))
        builder.store_atomic(word, builder.gep(data, [args[1]]), "release", 4)
        return context.get_dummy_value()

    return signature, generate


def _copy_bytes(dest, dest_at, source, source_at, count):  # type: ignore[no-untyped-def]
    _memcpy(dest, np.int64(dest_at), source, np.int64(source_at), np.int64(count))


#: The one rule, compiled from the source that everybody else runs.
_must_notify = compile_cached(must_notify)


def _publish(ring, word, event_word, new):  # type: ignore[no-untyped-def]
    old = np.int64(ring[word])
    _store_release(ring, np.int64(word), np.int64(new))
    _fence()
    return 1 if _must_notify(old, np.int64(new), np.int64(ring[event_word])) else 0


def _arm(ring, event_word, value):  # type: ignore[no-untyped-def]
    _store_release(ring, np.int64(event_word), np.int64(value))
    _fence()


#: What a slice assigned to a slice becomes: (dest, dest_at, source, source_at, count).
copy_bytes = compile_cached(_copy_bytes)
#: Name in xennet/engine/kernel.py -> compiled function.
TWINS = {
    "publish": compile_cached(_publish),
    "arm": compile_cached(_arm),
}
