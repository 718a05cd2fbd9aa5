"""Read-modify-writes of memory that other processes map as well, for code that is not compiled.

Two domains write the same word of a grant entry or of an event channel, so both change it in one
step: cmpxchg, lock or, lock and (xen/grant_table.h, "Use SMP-safe CMPXCHG"). As long as all domains
are in this process and one thread, nothing comes between a load and a store of it, and the
operations of :mod:`xennet.engine.kernel` are that: they know such memory by its owner, which is an
:class:`OwnMap`, a bytearray or an array. Any other memory (a memfd, what a test watches) may be
changed by somebody else between the two, so it takes real atomic operations:

* what the owner of the memory has itself, if it has a way of its own (xennet.adversary);
* else libatomic, the library in which compilers keep them, through ctypes;
* else those of the compiled engine (:mod:`xennet.engine.fast`).

There is no fourth way: where neither is installed, :func:`of_processes` refuses.
"""

from __future__ import annotations

import mmap
from array import array
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Protocol, cast


class AtomicsError(Exception):
    """Memory cannot be shared with other processes here; the message says what to install."""


class OwnMap(mmap.mmap):
    """Zeroed pages of this process alone, which no other process can map."""

    def __new__(cls, size: int) -> OwnMap:
        return super().__new__(cls, -1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class ReadModifyWrite(Protocol):
    """The three operations on item ``at`` of a view of unsigned integers (1, 2, 4 or 8 bytes).

    Each is one step in the eyes of everybody else, a full barrier, and returns what was there
    before. xennet.engine.kernel has their rules.
    """

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int: ...
    def fetch_or(self, words: memoryview, at: int, bits: int) -> int: ...
    def fetch_and(self, words: memoryview, at: int, bits: int) -> int: ...


def of(words: memoryview) -> ReadModifyWrite | None:
    """How items of ``words`` are changed in one step; None if nobody else can come between.

    AtomicsError if the memory may be another process's too and there is no way.
    """
    owner = words.obj
    if isinstance(owner, OwnMap | bytearray | array):
        return None
    if hasattr(type(owner), "compare_and_swap"):
        return cast(ReadModifyWrite, owner)
    return of_processes()


@cache
def of_processes() -> ReadModifyWrite:
    """What works between processes; AtomicsError if there is nothing that does."""
    with suppress(OSError, AttributeError):
        from xennet.engine.libatomic import LibAtomic  # ctypes is imported by those who need it

        return LibAtomic()
    if find_spec("numba") is not None:
        from xennet.engine.fast.primitives import CompiledAtomics

        return CompiledAtomics()
    raise AtomicsError(
        "memory that other processes share is changed by atomic operations, and there are none "
        "here: install libatomic (libatomic.so.1; Debian's package is libatomic1) or the extra "
        '"xennet[fast]"'
    )
