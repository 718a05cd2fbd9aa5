"""libatomic, the library in which compilers keep atomic operations, through ctypes."""

from __future__ import annotations

import ctypes
from typing import Any, cast

#: __ATOMIC_SEQ_CST of the C ABI: one order of all such operations for everybody.
_SEQ_CST = 5
#: The type of an item by its size in bytes.
_KINDS: dict[int, Any] = {
    1: ctypes.c_uint8,
    2: ctypes.c_uint16,
    4: ctypes.c_uint32,
    8: ctypes.c_uint64,
}


class LibAtomic:
    """The operations of xennet.engine.atomics.ReadModifyWrite.

    Raises OSError or AttributeError if the library or a function of it is missing, OSError if it
    would take a lock: that of one process is not that of another."""

    def __init__(self) -> None:
        # PyDLL: the interpreter's lock is kept, a call is shorter than giving it away.
        library = ctypes.PyDLL("libatomic.so.1")
        lock_free = library["__atomic_is_lock_free"]
        lock_free.argtypes, lock_free.restype = (ctypes.c_size_t, ctypes.c_void_p), ctypes.c_bool
        self._swap: dict[int, Any] = {}
        self._or: dict[int, Any] = {}
        self._and: dict[int, Any] = {}
        for size, kind in _KINDS.items():
            if not lock_free(size, None):
                raise OSError(f"libatomic takes a lock for {size} bytes")
            swap = library[f"__atomic_compare_exchange_{size}"]
            swap.argtypes = ctypes.c_void_p, ctypes.c_void_p, kind, ctypes.c_int, ctypes.c_int
            swap.restype = ctypes.c_bool
            self._swap[size] = swap
            for name, functions in (("or", self._or), ("and", self._and)):
                fetch = library[f"__atomic_fetch_{name}_{size}"]
                fetch.argtypes, fetch.restype = (ctypes.c_void_p, kind, ctypes.c_int), kind
                functions[size] = fetch

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int:
        size, address = words.itemsize, address_of(words, at)
        seen = _KINDS[size](old)
        self._swap[size](address, ctypes.byref(seen), new, _SEQ_CST, _SEQ_CST)
        return cast(int, seen.value)

    def fetch_or(self, words: memoryview, at: int, bits: int) -> int:
        return cast(int, self._or[words.itemsize](address_of(words, at), bits, _SEQ_CST))

    def fetch_and(self, words: memoryview, at: int, bits: int) -> int:
        return cast(int, self._and[words.itemsize](address_of(words, at), bits, _SEQ_CST))


def address_of(words: memoryview, at: int) -> int:
    """The address of item ``at`` (0 or more) of a view.

    Raises IndexError outside of the view, TypeError if the view is read-only, and ValueError if the
    item does not lie at a multiple of its size, where no machine changes it in one step.
    """
    if not 0 <= at < len(words):
        raise IndexError(f"item {at} of a view of {len(words)}")
    address = ctypes.addressof(ctypes.c_char.from_buffer(words, at * words.itemsize))
    if address % words.itemsize:
        raise ValueError(f"item {at} of {words.itemsize} bytes lies at {address:#x}")
    return address
