"""Targets whose inputs are lists of steps: requests of a client, moves of a peer, writes to a file.

A step is a record of a fixed number of bytes, and an input has the steps of one life, in order, in
its only section. Steps that are all zero do nothing, so that an input may be shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from importlib import import_module
from random import Random
from types import ModuleType

from xennet.engine.counted_plain import CountedCode
from xennet.fuzz.fuzz_input import FuzzInput, Section
from xennet.fuzz.target import Finding, InputField

_SECTION = "steps"
#: Values that fields are set to: small ones, powers of two and their neighbours.
_VALUES = (*range(10), *(1 << n for n in range(4, 33)), *((1 << n) - 1 for n in range(4, 33)))


#: The counting code of each row of modules, for all targets that have it.
_COUNTED: dict[tuple[str, ...], CountedCode] = {}


class StepsTarget:
    """A target of :class:`xennet.fuzz.target.Target`'s kind.

    A subclass has its ``name``; the ``fields`` of a step as (name, bytes), little-endian, in order;
    how many steps an input has at most; the ``modules`` whose branches are counted, of which no two
    kinds of targets may share one; and :meth:`play`. ``states``: counters for states behind those
    of branches.
    """

    name = ""
    step_fields: tuple[tuple[str, int], ...] = ()
    most_steps = 32
    modules: tuple[str, ...] = ()
    states = 0
    unit_executions = 200

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self.known = known
        self.step_size = sum(size for _, size in self.step_fields)
        self.sections = (Section(_SECTION, self.step_size * self.most_steps),)
        code = _COUNTED.get(self.modules)
        if code is None:
            modules: list[ModuleType] = [import_module(name) for name in self.modules]
            code = _COUNTED[self.modules] = CountedCode(modules, self.states)
        code.open()
        self._code = code
        #: What the modules remember from one call to the next, but for objects.
        self._caches = [
            value
            for name in self.modules
            for value in vars(import_module(name)).values()
            if hasattr(value, "cache_clear")
        ]
        self.branches = code.counters.branches
        self.counters = memoryview(code.counters.hits)
        self.packets = 0

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        """Do the steps, given as the values of their fields, in a world of their own. Returns what
        was wrong. What it raises is a finding too."""
        raise NotImplementedError

    def any_step(self, random: Random) -> tuple[int, ...]:
        """The values of a step that means something."""
        raise NotImplementedError

    def state(self, number: int) -> None:
        """Count the state ``number``, 0 to ``states`` - 1."""
        at = len(self.branches.names) + number
        self.counters[at] = min(255, self.counters[at] + 1)

    # -- the protocol of targets -------------------------------------------------------------------

    def execute(self, fuzz_input: FuzzInput) -> Finding | None:
        """Do the steps of an input. Returns what was wrong."""
        self.counters[:] = bytes(len(self.counters))
        self.packets = 0
        for remembered in self._caches:
            remembered.cache_clear()  # else an execution would take fewer branches than the first
        steps = [self._unpacked(raw) for raw in self._raw(fuzz_input) if any(raw)]
        try:
            return self.play(steps)
        except Exception as error:
            return Finding("exception", f"{type(error).__name__}: {error}")

    def start(self, random: Random) -> FuzzInput:
        """Two to eight steps."""
        return self._input([self._any(random) for _ in range(random.randrange(2, 9))])

    def mutate(self, fuzz_input: FuzzInput, random: Random, other: FuzzInput) -> FuzzInput:
        """An input with one to four changes: steps put in, left out, changed, moved, or taken from
        ``other``."""
        steps = self._raw(fuzz_input)
        for _ in range(random.choice((1, 1, 2, 4))):
            self._change(steps, random, self._raw(other))
        return self._input(steps)

    def slots(self, fuzz_input: FuzzInput) -> int:
        """The number of its steps."""
        return len(self._raw(fuzz_input))

    def without(self, fuzz_input: FuzzInput, slot: int) -> FuzzInput:
        """The input without a step."""
        steps = self._raw(fuzz_input)
        del steps[slot]
        return self._input(steps)

    def fields(self, fuzz_input: FuzzInput) -> Sequence[InputField]:
        """The fields of each step."""
        found = []
        for number in range(self.slots(fuzz_input)):
            at = number * self.step_size
            for name, size in self.step_fields:
                found.append(InputField(name, _SECTION, at, size, number))
                at += size
        return found

    def trace(self) -> bytes:
        """A hash of which branches the last execution took."""
        return blake2b(bytes(map(bool, self.counters)), digest_size=8).digest()

    def close(self) -> None:
        """Take the counting code back, if no other target of the kind is open."""
        self._code.close()

    # -- steps -------------------------------------------------------------------------------------

    def packed(self, values: Sequence[int]) -> bytes:
        """The bytes of a step."""
        return b"".join(
            (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            for value, (_, size) in zip(values, self.step_fields, strict=True)
        )

    def _any(self, random: Random) -> bytes:
        return self.packed(self.any_step(random))

    def _unpacked(self, raw: bytes) -> tuple[int, ...]:
        values, at = [], 0
        for _, size in self.step_fields:
            values.append(int.from_bytes(raw[at : at + size], "little"))
            at += size
        return tuple(values)

    def _raw(self, fuzz_input: FuzzInput) -> list[bytes]:
        """The steps of an input up to the last that is not all zero."""
        content, size = fuzz_input.section(_SECTION).rstrip(b"\0"), self.step_size
        return [content[at : at + size].ljust(size, b"\0") for at in range(0, len(content), size)]

    def _input(self, steps: Sequence[bytes]) -> FuzzInput:
        return FuzzInput(self.name, ((_SECTION, b"".join(steps[: self.most_steps])),))

    def _change(self, steps: list[bytes], random: Random, others: list[bytes]) -> None:
        kind = random.randrange(8) if steps else 0
        at = random.randrange(len(steps) + 1)
        here = min(at, len(steps) - 1)
        if kind <= 1:
            steps.insert(at, self._any(random))
        elif kind == 2:
            del steps[here]
        elif kind == 3:
            steps.insert(at, random.choice(steps))
        elif kind == 4 and others:
            begin = random.randrange(len(others))
            steps[at:at] = others[begin : begin + random.randrange(1, 5)]
        elif kind == 5:
            steps[here] = self._any(random)
        else:
            values = list(self._unpacked(steps[here]))
            field = random.randrange(len(values))
            values[field] = random.choice(
                (values[field] + random.choice((-1, 1)), self._value(random))
            )
            steps[here] = self.packed(values)

    def _value(self, random: Random) -> int:
        return random.choice(_VALUES) if random.randrange(4) else random.getrandbits(32)
