"""A view of shared memory that tells of every access to it: what engines are made of that watch a
machine (:mod:`xennet.adversary`, :mod:`xennet.trace.recorder`)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from xennet.engine import kernel

LOAD: Literal["load"] = "load"
STORE: Literal["store"] = "store"
#: Load and store in one step (xennet.engine.kernel.compare_and_swap, fetch_or, fetch_and).
UPDATE: Literal["update"] = "update"
Kind = Literal["load", "store", "update"]


class Teller(Protocol):
    """Who is told of accesses."""

    @property
    def watched(self) -> bool:
        """Whether accesses are to be told now."""
        ...

    def tell(self, memory: str, at: int, kind: Kind, value: bytes, old: bytes) -> None:
        """Called behind an access: the name of the memory, the number of the first byte, the bytes
        after it and those before it."""
        ...


class WatchedView:
    """A view of shared memory (items B, H, I or Q) that tells ``teller`` of each access.

    Kernels and plain code use it like the memoryview behind it: ``view[i]``, ``len(view)``, and
    ``view[i:j]``, which as a value is a copy of the range, loaded in one step. ``view[i:]`` is no
    access but a view of the rest. ``memory`` is its name, ``at`` the number of its first byte.
    """

    __slots__ = ("_at", "_raw", "_teller", "memory")

    def __init__(self, raw: memoryview, memory: str, teller: Teller, at: int = 0) -> None:
        self._raw = raw
        self._teller = teller
        self._at = at
        self.memory = memory

    @property
    def at(self) -> int:
        """The number of its first byte."""
        return self._at

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, key: Any) -> Any:
        value = self._raw[key]
        if isinstance(value, int):
            if self._teller.watched:
                loaded = self._bytes(key)
                self._tell(LOAD, key, loaded, loaded)
        elif key.stop is None:
            at = self._at + key.indices(len(self._raw))[0] * self._raw.itemsize
            value = WatchedView(value, self.memory, self._teller, at)
        else:
            loaded = value.tobytes()
            value = memoryview(loaded)
            if self._teller.watched:
                self._tell(LOAD, key, loaded, loaded)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self._teller.watched:
            self._raw[key] = value
            return
        old = self._bytes(key)
        self._raw[key] = value
        self._tell(STORE, key, self._bytes(key), old)

    @property
    def obj(self) -> WatchedView:
        """The view itself, as the owner of the memory with atomic operations of its own
        (xennet.engine.atomics)."""
        return self

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int:
        return self._updated(at, kernel.compare_and_swap(self._raw, at, old, new))

    def fetch_or(self, words: memoryview, at: int, bits: int) -> int:
        return self._updated(at, kernel.fetch_or(self._raw, at, bits))

    def fetch_and(self, words: memoryview, at: int, bits: int) -> int:
        return self._updated(at, kernel.fetch_and(self._raw, at, bits))

    def _updated(self, at: int, seen: int) -> int:
        if self._teller.watched:
            old = seen.to_bytes(self._raw.itemsize, "little")
            self._tell(UPDATE, at, self._bytes(at), old)
        return seen

    def __getattr__(self, name: str) -> Any:
        # release(), cast(), nbytes ...: of the memory itself, which is not accessed by them.
        return getattr(self._raw, name)

    def _bytes(self, key: Any) -> bytes:
        value: int | memoryview = self._raw[key]
        if isinstance(value, int):
            return value.to_bytes(self._raw.itemsize, "little")
        return value.tobytes()

    def _tell(self, kind: Kind, key: Any, value: bytes, old: bytes) -> None:
        raw = self._raw
        first = key.indices(len(raw))[0] if isinstance(key, slice) else range(len(raw))[key]
        self._teller.tell(self.memory, self._at + first * raw.itemsize, kind, value, old)
