"""Targets whose inputs are records (:mod:`xennet.fuzz.ring_mutations`): a ring page and a little
more.

A :class:`RecordTarget` has the mutations of ring pages, the fields and slots of an input, and a
loop of its own (:meth:`RecordTarget.burst`), which is compiled if the fast engine is in force and
the target's driver is made of kernels (:class:`KernelTarget`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from types import FunctionType
from typing import Any

from attrs import frozen

from xennet.abi.xen import PAGE_SIZE
from xennet.engine.branches import Branches, reached
from xennet.engine.choice import counting, current, is_compiled
from xennet.engine.counted_plain import BranchCounters, CountedCode
from xennet.fuzz.compiled_loop import (
    L_ENTRIES,
    L_EXECUTIONS,
    L_FINDING,
    L_KEPT,
    L_PACKETS,
    RECORD_BYTES,
    LoopMemory,
    keep,
    next_input,
)
from xennet.fuzz.exploration import Crash, CrashTable, Explored, Work
from xennet.fuzz.fuzz_input import FuzzInput, Section, from_raw, to_raw
from xennet.fuzz.ring_mutations import (
    NR_MORE,
    NR_POKES,
    POKE_WORDS,
    PRODUCED,
    RECORD,
    SLOTS,
    START,
    STRIDES,
    copy_slot,
    mutate,
    place,
    produce,
    put_good,
)
from xennet.fuzz.target import Finding, InputField

#: Names of the fields of each kind of ring: (name, byte of the slot, bytes).
_FIELDS = (
    (("gref", 0, 4), ("offset", 4, 2), ("flags", 6, 2), ("id", 8, 2), ("size", 10, 2)),
    (("id", 0, 2), ("pad", 2, 2), ("gref", 4, 4)),
    (("id", 0, 2), ("status", 2, 2)),
    (("id", 0, 2), ("offset", 2, 2), ("flags", 4, 2), ("status", 6, 2)),
    (("id", 0, 2), ("type", 2, 2), ("data0", 4, 4), ("data1", 8, 4), ("data2", 12, 4)),
    (
        ("source", 0, 4),
        ("source high", 4, 4),
        ("source domid", 8, 2),
        ("source offset", 10, 2),
        ("dest", 16, 4),
        ("dest high", 20, 4),
        ("dest domid", 24, 2),
        ("dest offset", 26, 2),
        ("len", 32, 2),
        ("flags", 34, 2),
    ),
)
_INDEX_NAMES = {0: "req_prod", 2: "rsp_prod"}
#: Inputs that a loop without any begins with.
_BEGINNINGS = 8
#: Modules that no target counts: how kernels run, and the fuzzer itself.
NOT_COUNTED = ("xennet.engine", "xennet.fuzz", "xennet.ring")


@frozen
class Burst:
    """What a number of executions came to: how many there were, the packets that they carried, the
    inputs that went where none did before, and what was wrong with which input, if anything."""

    executions: int
    packets: int
    fresh: tuple[FuzzInput, ...] = ()
    finding: Finding | None = None
    found_by: FuzzInput | None = None


class RecordTarget:
    """A target of :class:`xennet.fuzz.target.Target`'s kind whose inputs are records.

    ``page``: the name of its first section; ``kind``: which ring it is. A subclass executes the
    record that lies in ``loop.record`` (:meth:`run`).
    """

    name = ""
    page = ""
    kind = 0
    unit_executions = 1000

    def __init__(self, counters: BranchCounters) -> None:
        self.sections = (
            Section(self.page, PAGE_SIZE),
            Section("start", 4),
            Section("pokes", 4 * NR_POKES * POKE_WORDS),
            Section("more", 4 * NR_MORE),
        )
        self.branches = counters.branches
        self.loop = LoopMemory(counters, self.kind)
        self.counters = memoryview(counters.hits)
        self.packets = 0
        engine = current()
        self._mutate = engine.kernel(mutate)
        self._two = memoryview(bytearray(2 * RECORD_BYTES))
        words = self._two.cast("I")
        rng = array("I", (1, 2, 3, 4))
        self._rng = rng
        views = engine.view(rng), engine.view(words)
        operands = engine.view(counters.operands)
        self._mutate_args = (views[0], (*views, views[1], RECORD, operands, self.kind))

    def run(self) -> Finding | None:
        """Execute the record in ``loop.record``; ``packets`` is then what it carried."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the target holds."""

    # -- the protocol of targets -------------------------------------------------------------------

    def execute(self, fuzz_input: FuzzInput) -> Finding | None:
        """Execute an input. Returns what was wrong with what the driver did."""
        self.loop.record8[:] = self._raw(fuzz_input)
        return self.run()

    def start(self, random: Random) -> FuzzInput:
        """A page of one to four slots that are right."""
        record = array("I", bytes(RECORD_BYTES))
        rng = _words(random)
        slots = random.randrange(1, 5)
        for slot in range(slots):
            put_good(rng, record, self.kind, slot)
        produce(record, self.kind, slots)
        return self._input(record.tobytes())

    def mutate(self, fuzz_input: FuzzInput, random: Random, other: FuzzInput) -> FuzzInput:
        """An input a few steps away, perhaps with slots of ``other``."""
        self._two[:RECORD_BYTES] = self._raw(fuzz_input)
        self._two[RECORD_BYTES:] = self._raw(other)
        self._rng[:] = _words(random)
        self._mutate(*self._mutate_args)
        return self._input(bytes(self._two[:RECORD_BYTES]))

    def slots(self, fuzz_input: FuzzInput) -> int:
        """The number of slots up to the produced index, at most the ring's."""
        record = self._record(fuzz_input)
        return min((record[PRODUCED[self.kind]] - record[START]) & 0xFFFFFFFF, SLOTS[self.kind])

    def without(self, fuzz_input: FuzzInput, slot: int) -> FuzzInput:
        """The input with one slot less; those behind it move up."""
        record, kind, slots = self._record(fuzz_input), self.kind, self.slots(fuzz_input)
        for dest in range(slot, slots - 1):
            copy_slot(record, kind, dest + 1, dest)
        last = place(record, kind, slots - 1)
        record[last : last + STRIDES[kind]] = array("I", bytes(4 * STRIDES[kind]))
        produce(record, kind, slots - 1)
        return self._input(record.tobytes())

    def fields(self, fuzz_input: FuzzInput) -> Sequence[InputField]:
        """The fields of an input by name: the produced index, then each slot's, then the rest."""
        record, kind = self._record(fuzz_input), self.kind
        index = PRODUCED[kind]
        found = [InputField(_INDEX_NAMES[index], self.page, 4 * index, 4)]
        for slot in range(self.slots(fuzz_input)):
            at = 4 * place(record, kind, slot)
            found += [
                InputField(name, self.page, at + offset, size, slot)
                for name, offset, size in _FIELDS[kind]
            ]
        found.append(InputField("start", "start", 0, 4))
        for number in range(NR_POKES):
            at = 4 * number * POKE_WORDS
            found += [
                InputField(f"poke {number} {what}", "pokes", at + 4 * i, 4)
                for i, what in enumerate(("where", "half word", "value"))
            ]
        found += [InputField(f"more {i}", "more", 4 * i, 4) for i in range(NR_MORE)]
        return found

    def trace(self) -> bytes:
        """A hash of which branches the last execution took."""
        return blake2b(bytes(map(bool, self.counters)), digest_size=8).digest()

    # -- the loop ----------------------------------------------------------------------------------

    def seed(self, seed: int, corpus: Sequence[FuzzInput] = ()) -> None:
        """Begin a loop with these inputs, or with one page of right slots."""
        self.loop.forget()
        self.loop.seed(seed)
        for each in corpus or [self.start(Random(seed))]:
            self.loop.add(self._raw(each))

    def burst(self, count: int) -> Burst:
        """Execute up to ``count`` inputs, each made from one of the loop's corpus; what goes where
        none did before joins it. Ends early at a finding."""
        raise NotImplementedError

    def explore(self, work: Work) -> Explored:
        """One unit of work of a campaign, by this loop (xennet.fuzz.exploration.Explorer)."""
        random, loop, table = work.random(), self.loop, CrashTable()
        inputs = work.inputs or [self.start(random) for _ in range(_BEGINNINGS)]
        self.seed(random.getrandbits(64), inputs)
        loop.seen[: len(work.coverage)] = work.coverage
        executions = packets = 0
        found: list[FuzzInput] = []
        while executions < work.executions:
            burst = self.burst(work.executions - executions)
            executions += burst.executions
            packets += burst.packets
            found += burst.fresh
            if burst.finding and burst.found_by and not burst.finding.known(work.known):
                table.add(Crash(burst.finding, self.trace(), burst.found_by))
        seen = bytes(loop.seen).rstrip(b"\0")
        crashes = table.crashes()
        return Explored(executions, packets, table.findings, tuple(found), seen, crashes)

    def _burst(self, executed: Callable[[], tuple[int, Finding | None]]) -> Burst:
        state = self.loop.state
        kept, packets = state[L_KEPT], state[L_PACKETS]
        done, finding = executed()
        fresh = tuple(map(self._input, self.loop.entries(kept))) if state[L_KEPT] > kept else ()
        found_by = self._input(bytes(self.loop.record8)) if finding else None
        return Burst(done, state[L_PACKETS] - packets, fresh, finding, found_by)

    @property
    def corpus_size(self) -> int:
        """Inputs in the loop's corpus."""
        return self.loop.state[L_ENTRIES]

    def corpus(self) -> list[FuzzInput]:
        """The inputs of the loop's corpus, in the order in which they came."""
        return [self._input(raw) for raw in self.loop.entries()]

    def _raw(self, fuzz_input: FuzzInput) -> bytes:
        return to_raw(self.sections, fuzz_input)[:RECORD_BYTES].ljust(RECORD_BYTES, b"\0")

    def _record(self, fuzz_input: FuzzInput) -> array[int]:
        return array("I", self._raw(fuzz_input))

    def _input(self, raw: bytes) -> FuzzInput:
        return from_raw(self.name, self.sections, raw)


class PlainTarget(RecordTarget):
    """A target whose driver is no kernel: one of modules whose code counts (``counted``) while the
    target is open. Mutations are compiled where the fast engine is in force.

    A subclass restores and executes the record (:meth:`execute_record`, which leaves ``packets``)
    and judges what came of it (:meth:`judge`, which may execute it again).
    """

    def __init__(self, counted: CountedCode) -> None:
        counted.open()
        self._counted = counted
        super().__init__(counted.counters)
        engine = current()
        self._next, self._keep = engine.kernel(next_input), engine.kernel(keep)
        #: Index of the first counter of a state.
        self.states = len(self.branches.names)

    def execute_record(self) -> None:
        """Execute the record in ``loop.record``."""
        raise NotImplementedError

    def judge(self) -> Finding | None:
        """What was wrong with the last execution."""
        raise NotImplementedError

    def run(self) -> Finding | None:
        self.execute_record()
        return self.judge()

    def burst(self, count: int) -> Burst:
        return self._burst(lambda: self._loop(count))

    def close(self) -> None:
        self._counted.close()

    def _loop(self, count: int) -> tuple[int, Finding | None]:
        arrays, state = self.loop.arrays, self.loop.state
        for done in range(1, count + 1):
            self._next(arrays)
            self.execute_record()
            state[L_PACKETS] += self.packets
            self._keep(arrays)
            finding = self.judge()
            if finding is not None:
                return done, finding
        return count, None


class KernelTarget(RecordTarget):
    """A target whose loop is a kernel: ``root(count, replay, loop, *world)``.

    ``states``: counters for states behind those of the branches. ``world``, which a subclass sets,
    are the arguments behind the loop. All that the root calls is counted, but for the engine and
    the fuzzer.
    """

    #: A sentence for each number that a loop finds; the first is for none. "rule: what happened".
    found: tuple[str, ...] = ("",)

    def __init__(self, root: Callable[..., int], states: int) -> None:
        assert isinstance(root, FunctionType)
        branches = Branches(
            each
            for each in reached(root, ("xennet.engine",))
            if each is not root and not _apart(each)
        )
        counters = BranchCounters(branches, states)
        super().__init__(counters)
        #: Index of the first counter of a state.
        self.states = len(branches.names)
        self._root = counting(root, counters)
        if is_compiled(current()):
            self.unit_executions = 200_000
        self.world: tuple[Any, ...] = ()

    def run(self) -> Finding | None:
        state = self.loop.state
        before = state[L_PACKETS]
        try:
            self._root(1, 1, self.loop.arrays, *self.world)
        except Exception as error:
            return _raised(error)
        self.packets = state[L_PACKETS] - before
        return self._finding()

    def burst(self, count: int) -> Burst:
        state = self.loop.state

        def executed() -> tuple[int, Finding | None]:
            before = state[L_EXECUTIONS]
            try:
                done = self._root(count, 0, self.loop.arrays, *self.world)
            except Exception as error:  # the execution that raised was not counted
                return state[L_EXECUTIONS] - before + 1, _raised(error)
            return done, self._finding()

        return self._burst(executed)

    def _finding(self) -> Finding | None:
        number = self.loop.state[L_FINDING]
        if not number:
            return None
        rule, _, what = self.found[number].partition(": ")
        return Finding(rule, what)


def _raised(error: Exception) -> Finding:
    """Plain kernels can raise: an index outside of an array."""
    return Finding("exception", f"{type(error).__name__}: {error}")


def _apart(function: FunctionType) -> bool:
    return function.__module__.startswith(NOT_COUNTED)


def _words(random: Random) -> array[int]:
    return array("I", (1 + random.randrange(2**32 - 1) for _ in range(4)))
