"""The state of a machine as a digest: equal digests have equal futures, whatever is chosen.

Everything that can be reached from a link is part of it: shared memory byte for byte, what drivers
and the hypervisor know privately, the store, the ports, what is ready and the timers. Objects count
by what they are and by who refers to whom, not by where they lie. Left out is only what decides
nothing, and that is a list: statistics (:data:`DECIDE_NOTHING`); in what order deliveries became
ready, which is what is chosen; their numbers, and those of timers, which are names (but the order
of timers that are due at the same time counts); what lies in a batch of frames, or in a queue of
them, behind what is used. Of an object whose contents cannot be seen (a generator, say) the digest
is like no other, so two states with one are never taken to be equal.
"""

from __future__ import annotations

import mmap
import sys
import sysconfig
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache, partial
from hashlib import blake2b
from itertools import count
from random import Random
from re import Pattern
from struct import Struct
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any
from weakref import ref

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.address import address_of
from xennet.frames import FrameBatch
from xennet.host.own_driver import is_own
from xennet.ifnet import IfCounters
from xennet.link.timeline import Timeline
from xennet.link.vifs import Vifs
from xennet.memory import Memory
from xennet.observe import Observers
from xennet.port.fifo import FrameFifo
from xennet.port.pcap import PcapPort
from xennet.runloop import Call, Delivery, RunLoop, Timer
from xennet.vif.counters import RingCounters, VifCounters

#: Numbers and events for people, by which nothing is decided.
DECIDE_NOTHING = (RingCounters, VifCounters, IfCounters, Timeline, Observers)
#: They have a value and no more: an object of its own is no other than an equal one.
_VALUES = (int, str, bytes, float, bool, type(None), complex, range, type(Ellipsis))
#: The loop's numbers for these deliveries are names.
_NUMBERED = ("work", "timer")

_unlike_any = count()
#: An attribute that is not there.
_MISSING = "(missing)"


def modules_of(*drivers: str) -> list[ModuleType]:
    """The modules of those ``drivers`` that are not xennet's ("module:factory"), and of what these
    import as far as it is neither Python's nor installed."""
    found: dict[str, ModuleType] = {}
    left = [driver.partition(":")[0] for driver in drivers if is_own(driver)]
    while left:
        name = left.pop()
        module = sys.modules.get(name)
        if module is None or name in found or not _is_own_module(module):
            continue
        found[name] = module
        for value in vars(module).values():
            own_name = "__name__" if isinstance(value, ModuleType) else "__module__"
            left.append(str(getattr(value, own_name, "")))
    return [found[name] for name in sorted(found)]


def _is_own_module(module: ModuleType) -> bool:
    top = module.__name__.partition(".")[0]
    file = getattr(module, "__file__", None) or ""
    installed = any(file.startswith(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
    return top != "xennet" and top not in sys.stdlib_module_names and not installed


def digest_of(link: Vifs, modules: Iterable[ModuleType] = (), waited: int = 0) -> bytes:
    """The digest of ``link``, between two deliveries, with what ``modules`` know (whose drivers are
    at an end), and until when (ns) a run has ``waited`` last."""
    machine = link.host.machine
    loop = machine.run_loop
    calls = loop.calls()
    walk = _Walk(calls)
    walk.claimed.add(id(machine.memory.u8.obj))
    walk.take(link)
    for module in modules:
        walk.take(_globals_of(module))
    walk.take([waited, loop.now, loop.meanwhile, loop.pending()])
    due = [
        (one.kind, one.domid, None if one.kind in _NUMBERED else one.ident, call)
        for one, call in calls.items()
    ]
    for item in sorted(due, key=walk.alone):
        walk.take(item)
    return walk.digest()


class _Walk:
    """A walk over all that can be reached, which updates a digest in an order that the contents
    decide. ``calls``: the ready deliveries, and what they call."""

    def __init__(self, calls: Mapping[Delivery, Call]) -> None:
        self.said: list[bytes | memoryview] = []
        self.calls = calls
        self.numbers: dict[int, int] = {}
        #: Memory that has been met, and that of which something else has told what counts.
        self.buffers: list[Any] = []
        self.claimed: set[int] = set()
        #: What has been met, so that no other object gets its address.
        self.kept: list[object] = []

    def digest(self) -> bytes:
        """The digest of all that was taken, with the memory that was met."""
        told = blake2b(b"".join(self.said), digest_size=16)
        for buffer in self.buffers:
            if id(buffer) not in self.claimed:
                told.update(buffer)
        return told.digest()

    def alone(self, thing: object) -> bytes:
        """The digest of ``thing``, with what was met before as known; this walk does not move."""
        other = _Walk(self.calls)
        other.numbers, other.claimed = dict(self.numbers), set(self.claimed)
        other.take(thing)
        return other.digest()

    def take(self, thing: object) -> None:
        """Add ``thing`` and all that it refers to."""
        say, numbers, kept = self.said.append, self.numbers, self.kept
        stack = [thing]
        while stack:
            one = stack.pop()
            kind = type(one)
            if kind in _VALUES_SET:
                say(f"{kind.__name__} {one!r};".encode("utf-8", "surrogatepass"))
                continue
            known = numbers.get(id(one))
            if known is not None:
                say(b"again %d;" % known)
                continue
            numbers[id(one)] = len(numbers)
            kept.append(one)
            parts = [*self.parts(one, kind)]
            say(f"{kind.__module__}.{kind.__qualname__} {len(parts)};".encode())
            parts.reverse()
            stack += parts

    def parts(self, one: Any, kind: type) -> Iterator[object]:
        """What ``one`` consists of, in an order that its contents decide."""
        if issubclass(kind, DECIDE_NOTHING):
            return
        for base in kind.__mro__:
            way = _WAYS.get(base)
            if way is not None:
                yield from way(self, one)
                break
            if base is not object and not base.__flags__ & _HEAP_TYPE:
                yield next(_unlike_any)
                return
        if not issubclass(kind, _WHOLE):
            yield from _attributes(one, kind)

    # -- ways to see into an object --------------------------------------------------------------

    def delivery(self, one: Delivery) -> Iterator[object]:
        """One that somebody remembers: by what it calls, which is there once."""
        yield from (one.kind, one.domid, None if one.kind in _NUMBERED else one.ident)
        yield self.calls.get(one)

    def timer(self, one: Timer) -> Iterator[object]:
        fired = self.calls.get(Delivery("timer", one.domid, one.ident))
        yield from (one.when, one.domid, one.call, fired)

    def memory(self, one: Memory) -> Iterator[object]:
        """The frames up to the last that is owned: those behind it are full of zeroes."""
        self.said += [one.owner, one.u8[: one.end * PAGE_SIZE]]
        yield from (one.nr_frames, one.hint)

    def batch(self, one: FrameBatch) -> Iterator[object]:
        self.claimed |= {id(one.data.obj), *map(id, one.all_columns)}
        yield from (one.count, one.used, one.max_frames, len(one.data), one.remarks)
        yield bytes(one.data[: one.used])
        for column in one.all_columns:
            yield column[: one.count].tobytes()

    def fifo(self, one: FrameFifo) -> Iterator[object]:
        yield one.slots
        yield from one.frames()

    def view(self, one: memoryview) -> Iterator[object]:
        """A view of an arena is a place in it; of other memory, all that it shows."""
        try:
            base = one.obj
        except ValueError:
            yield "released"
            return
        yield from (one.format, one.nbytes, one.itemsize, one.readonly)
        if one.nbytes:
            yield address_of(one) - address_of(memoryview(base))
        yield base

    def buffer(self, one: Any) -> Iterator[object]:
        """Memory: what is in it is added at the end, once, unless it was told what counts."""
        self.buffers.append(one)
        yield len(one)

    def unordered(self, one: set[Any] | frozenset[Any]) -> Iterator[object]:
        if all(type(member) in _VALUES_SET for member in one):
            yield from sorted(one, key=lambda member: (type(member).__name__, repr(member)))
        else:
            yield from sorted(one, key=self.alone)

    def function(self, one: FunctionType) -> Iterator[object]:
        yield from (one.__module__, one.__qualname__, one.__code__.co_firstlineno)
        yield from (one.__closure__, one.__defaults__, one.__kwdefaults__)

    def cell(self, one: CellType) -> Iterator[object]:
        try:
            yield one.cell_contents
        except ValueError:
            yield "empty"


def _items(_walk: _Walk, one: Mapping[Any, Any]) -> Iterator[object]:
    for key, value in one.items():
        yield key
        yield value


def _members(_walk: _Walk, one: Any) -> Iterator[object]:
    return iter(one)


def _text(_walk: _Walk, one: object) -> Iterator[object]:
    yield repr(one)


def _value(_walk: _Walk, one: Any) -> Iterator[object]:
    """The value of a subclass of these."""
    for kind in _VALUE_KINDS:
        if isinstance(one, kind):
            yield f"{kind(one)!r}"


def _class(_walk: _Walk, one: type) -> Iterator[object]:
    yield f"{one.__module__}.{one.__qualname__}"


def _iterator(_walk: _Walk, one: Any) -> Iterator[object]:
    """The sequence, and the place in it."""
    _, *state = one.__reduce__()
    yield from state


def _bound(_walk: _Walk, one: Any) -> Iterator[object]:
    yield from (one.__name__, one.__self__)


_WAYS: dict[type, Callable[[_Walk, Any], Iterator[object]]] = {
    Delivery: _Walk.delivery,
    Timer: _Walk.timer,
    RunLoop: lambda _walk, one: iter(()),  # digest_of() looks at it
    Memory: _Walk.memory,
    FrameBatch: _Walk.batch,
    FrameFifo: _Walk.fifo,
    Enum: lambda _walk, one: iter((one.name,)),
    dict: _items,
    OrderedDict: _items,
    defaultdict: _items,
    MappingProxyType: _items,
    list: _members,
    tuple: _members,
    deque: _members,
    set: _Walk.unordered,
    frozenset: _Walk.unordered,
    bytearray: _Walk.buffer,
    array: _Walk.buffer,
    mmap.mmap: _Walk.buffer,
    memoryview: _Walk.view,
    # How much of a capture was given says what comes.
    PcapPort: lambda _walk, one: iter((one.name, one.counters, one.exhausted)),
    FunctionType: _Walk.function,
    CellType: _Walk.cell,
    MethodType: lambda _walk, one: iter((one.__func__, one.__self__)),
    BuiltinFunctionType: _bound,
    MethodWrapperType: _bound,
    partial: lambda _walk, one: iter((one.func, one.args, one.keywords)),
    type: _class,
    ModuleType: lambda _walk, one: iter((one.__name__,)),
    count: _text,
    type(iter(())): _iterator,
    type(iter([])): _iterator,
    type(iter(range(0))): _iterator,
    Struct: lambda _walk, one: iter((one.format,)),
    Pattern: _text,
    Random: lambda _walk, one: iter((one.getstate(),)),
    ref: lambda _walk, one: iter((one(),)),
    BaseException: lambda _walk, one: iter((one.args,)),
    int: _value,
    str: _value,
    bytes: _value,
    float: _value,
}
_VALUE_KINDS: tuple[type, ...] = (int, str, bytes, float)
#: Of these the way says all.
_WHOLE = (
    Delivery,
    Timer,
    RunLoop,
    Memory,
    FrameBatch,
    FrameFifo,
    Enum,
    FunctionType,
    CellType,
    MethodType,
    BuiltinFunctionType,
    MethodWrapperType,
    type,
    ModuleType,
    Random,
    memoryview,
    PcapPort,
)
_VALUES_SET = frozenset(_VALUES)
#: Py_TPFLAGS_HEAPTYPE: a class that Python code has made, whose attributes are all that it has.
_HEAP_TYPE = 1 << 9


def _attributes(one: object, kind: type) -> Iterator[object]:
    """The attributes in the object itself: those in slots, then the others with their names."""
    for name in _slots(kind):
        yield getattr(one, name, _MISSING)
    found = getattr(one, "__dict__", None)
    if found:
        names = sorted(found)
        yield " ".join(names)
        for name in names:
            yield found[name]


@cache
def _slots(kind: type) -> tuple[str, ...]:
    """The names of the attributes in slots of a class."""
    names = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__"):
                names.append(f"_{base.__name__.lstrip('_')}{slot}" if _is_private(slot) else slot)
    return tuple(names)


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _globals_of(module: ModuleType) -> list[object]:
    """What a module of a driver knows, and the classes in it."""
    found: list[object] = []
    for name, value in sorted(vars(module).items()):
        if name.startswith("__"):
            continue
        if isinstance(value, type) and value.__module__ == module.__name__:
            found += [name, *(item for item in sorted(vars(value).items()) if _is_data(item))]
        elif _is_data((name, value)):
            found += [name, value]
    return found


def _is_data(item: tuple[str, object]) -> bool:
    name, value = item
    return not name.startswith("__") and isinstance(
        value, int | str | bytes | float | list | dict | set | tuple | deque | bytearray | array
    )
