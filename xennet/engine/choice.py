"""Which way kernels run: as the plain Python they are written in, or compiled from that source.

Kernels (xennet/engine/kernel.py) are module-level functions. Code that calls one asks the current
engine for its callable form and for views of the memory it works on, once, when it is set up:

    engine = current()
    gather = engine.kernel(guest_tx.gather)
    page = engine.view(shared(mapping.page.u32, "tx ring"))
    gather(..., page, ...)

The plain engine hands back what it is given. The fast engine (:mod:`xennet.engine.fast`, with the
extra ``xennet[fast]``) compiles the very same source. Nothing else in the program can tell the
difference, and importing this file loads neither numpy nor numba. A third engine, for tests, lets a
peer come between any two accesses to shared memory (:mod:`xennet.adversary`).

Memory that another domain may write at any time is named once, by :func:`shared`, before anybody
takes views of it: kernels and plain code alike.

The environment variable XENNET_ENGINE forces a choice ("plain", "fast"); otherwise the fast engine
is taken where numba is installed.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from xennet.errors import EngineError as EngineError

if TYPE_CHECKING:
    from xennet.engine.counted_plain import BranchCounters

F = TypeVar("F", bound=Callable[..., Any])

#: The environment variable that forces an engine.
VARIABLE = "XENNET_ENGINE"


class Engine(Protocol):
    """A way to run kernels."""

    @property
    def name(self) -> str:
        """ "plain", "fast" or "adversary"."""
        ...

    def kernel(self, function: F) -> F:
        """The callable form of a kernel, which is given by its plain function."""
        ...

    def view(self, buffer: memoryview | array[int]) -> Any:
        """``buffer`` (of items B, H, I, Q or q) in the form that this engine's kernels take.

        The memory is shared, not copied. The code that makes a view drops it before the memory is
        released.
        """
        ...

    def each(self, items: Sequence[Any]) -> Any:
        """``items``, which are views, or equal tuples of views, numbers and such tuples, in the
        form in which this engine's kernels take an argument that is ``Each``
        (xennet/engine/kernel.py). The caller keeps ``items`` as long as that is used."""
        ...

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        """``memory``, which a peer may write at any time, in the form in which plain code uses it
        and :meth:`view` takes it. ``what`` is its name, "tx ring" for example, ``whose`` the vif or
        the queue of one that it belongs to: "vif1.0", "vif1.0 q0"."""
        ...

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        """``indices``, called ``names``, which an end of ``ring`` keeps to itself, in the form in
        which plain code uses them and :meth:`view` takes them."""
        ...


class PlainEngine:
    """Runs kernels as the Python functions they are."""

    name = "plain"

    def __repr__(self) -> str:
        return "<PlainEngine>"

    def kernel(self, function: F) -> F:
        return function

    def view(self, buffer: memoryview | array[int]) -> Any:
        return buffer

    def each(self, items: Sequence[Any]) -> Any:
        return tuple(items)

    def shared(self, memory: memoryview, what: str, whose: str = "") -> memoryview:
        return memory

    def private(self, indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
        return indices


PLAIN = PlainEngine()

#: The names of engines whose kernels are compiled. Where plain Python does better by whole columns,
#: or by what it remembers, code asks :func:`is_compiled`.
COMPILED = {"fast"}


def is_compiled(engine: Engine) -> bool:
    """Whether ``engine`` runs kernels as compiled code."""
    return engine.name in COMPILED


_selected: Engine | None = None


def _fast() -> Engine:
    if find_spec("numba") is None:
        raise EngineError(
            'the fast engine needs numba: install the extra, as in pip install "xennet[fast]"'
        )
    from xennet.engine.fast import FAST

    return FAST


_ENGINES: dict[str, Callable[[], Engine]] = {"plain": lambda: PLAIN, "fast": _fast}


def named(name: str) -> Engine:
    """The engine called ``name``. Raises EngineError if there is none of that name or it is not
    installed."""
    if name not in _ENGINES:
        raise EngineError(f"there is no engine {name!r}; there are: {', '.join(_ENGINES)}")
    return _ENGINES[name]()


def current() -> Engine:
    """The engine in force. The first call chooses it, unless :func:`using` is in force."""
    global _selected
    if _selected is None:
        wanted = os.environ.get(VARIABLE, "")
        _selected = named(wanted or ("fast" if find_spec("numba") is not None else "plain"))
    return _selected


def counting(root: FunctionType, counters: BranchCounters) -> Callable[..., Any]:
    """The callable form of a kernel for the engine in force, which counts the branches of those
    kernels that ``counters`` are for (:mod:`xennet.engine.branches`).

    The others, and all that is not run through it, are as they always are.
    """
    if is_compiled(current()):
        from xennet.engine.fast import FAST

        return cast(Callable[..., Any], FAST.counting(root, counters))
    from xennet.engine.counted_plain import counting_kernel

    return counting_kernel(root, counters)


def shared(memory: memoryview, what: str, whose: str = "") -> memoryview:
    """``memory`` as the engine in force shows memory that a peer may write at any time
    (:meth:`Engine.shared`).

    This chooses no engine: as long as none is chosen, ``memory`` itself is returned.
    """
    return memory if _selected is None else _selected.shared(memory, what, whose)


def private(indices: array[int], names: tuple[str, ...], ring: memoryview) -> array[int]:
    """``indices`` as the engine in force shows what an end of a ring keeps to itself
    (:meth:`Engine.private`); it chooses none either."""
    return indices if _selected is None else _selected.private(indices, names, ring)


@contextmanager
def using(engine: str | Engine) -> Iterator[Engine]:
    """Within the block, drivers and kernels that are set up use ``engine``, an engine or the name
    of one."""
    global _selected
    before, _selected = _selected, named(engine) if isinstance(engine, str) else engine
    try:
        yield _selected
    finally:
        _selected = before
