"""Atomic operations on memory that other processes map as well, for code that is not compiled.

Two domains write the same word of a grant entry or of an event channel, so both change it in one
step: cmpxchg, lock or, lock and (xen/grant_table.h, "Use SMP-safe CMPXCHG"). As long as all domains
are in this process and one thread, nothing comes between a load and a store, and the plain
operations of :mod:`xennet.engine.kernel` are enough: they know such memory by its owner, which is
an :class:`OwnMap`, a bytearray or an array. Any other memory (a memfd, memory that a test watches)
may change between the two, so it takes real atomic operations:

* those of the memory's owner, if it has its own (xennet.adversary);
* else libatomic, the library in which compilers keep them, through ctypes;
* else those of the compiled engine (:mod:`xennet.engine.fast`).

Where neither is installed, :func:`of_processes` raises AtomicsError.
"""

from __future__ import annotations

import mmap
from array import array
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Protocol, cast


class AtomicsError(Exception):
    """This machine cannot share memory with other processes; the message says what to install."""


class OwnMap(mmap.mmap):
    """Zeroed pages of this process alone: an anonymous map that no other process has."""

    def __new__(cls, size: int) -> OwnMap:
        return super().__new__(cls, -1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class SharedMap(mmap.mmap):
    """Pages that other processes map as well. While none of them has a word that this process
    changes by an atomic operation (only pages of payload, say), it may be called ``quiet``: plain
    operations are enough then, and several times as quick."""

    quiet = False


#: What only this process can have.
_OWN = (OwnMap, bytearray, array)


class ReadModifyWrite(Protocol):
    """The three operations on item ``at`` of a view of unsigned integers (1, 2, 4 or 8 bytes).

    Each is one step for every other process and a full barrier, and returns the value from before.
    xennet.engine.kernel has their rules.
    """

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int: ...
    def fetch_or(self, words: memoryview, at: int, bits: int) -> int: ...
    def fetch_and(self, words: memoryview, at: int, bits: int) -> int: ...


def of(words: memoryview) -> ReadModifyWrite | None:
    """The operations that change items of ``words`` in one step; None if only this process changes
    them, now at least (:attr:`SharedMap.quiet`).

    Raises AtomicsError if another process may have it and there are no such operations.
    """
    owner = words.obj
    if owner.__class__ is SharedMap:
        return None if owner.quiet else of_processes()
    if isinstance(owner, _OWN):
        return None
    if hasattr(type(owner), "compare_and_swap"):
        return cast(ReadModifyWrite, owner)
    return of_processes()


@cache
def of_processes() -> ReadModifyWrite:
    """The operations that work between processes. Raises AtomicsError if there are none."""
    with suppress(OSError, AttributeError):
        from xennet.engine.libatomic import LibAtomic  # ctypes is imported only where it is needed

        return LibAtomic()
    if find_spec("numba") is not None:
        from xennet.engine.fast.primitives import CompiledAtomics

        return CompiledAtomics()
    raise AtomicsError(
        "memory that other processes share is changed by atomic operations, and there are none "
        "here: install libatomic (libatomic.so.1; Debian's package is libatomic1) or the extra "
        '"xennet[fast]"'
    )
