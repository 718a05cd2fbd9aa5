"""A target of the fuzzer with three mistakes, small enough that tests can reckon with it.

Its page is the number of slots, 2 bytes, and slots of 8 bytes: op, flags, offset, size, id. Op 1
copies size bytes at offset of a page of 4096; flag 1 says that the next slot belongs to this one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import ClassVar

from xennet.fuzz.fuzz_input import FuzzInput, Section
from xennet.fuzz.target import Finding, InputField

NAME = "toy_target:ToyTarget"
HEAD, SLOT, MOST = struct.Struct("<H"), struct.Struct("<BBHHH"), 32
FIELDS = (("op", 0, 1), ("flags", 1, 1), ("offset", 2, 2), ("size", 4, 2), ("id", 6, 2))

COPY, MORE, ODD = 1, 1, 0x80
# Branches.
SLOTS, COPIES, CROSSES, CHAINED, CHAIN_ENDS, NO_END, ODDITY, FLAGGED, EMPTY = range(9)


def page(*slots: tuple[int, int, int, int, int]) -> FuzzInput:
    content = HEAD.pack(len(slots)) + b"".join(SLOT.pack(*slot) for slot in slots)
    return FuzzInput(NAME, (("page", content),))


class ToyTarget:
    """Mistakes: a copy beyond the page (T1), a chain without an end (T1 as well: told apart by its
    branches), op 7 with flag 0x80 (T2). ``known`` repairs a rule."""

    name = NAME
    sections = (Section("page", 2 + MOST * SLOT.size), Section("limit", 2))
    unit_executions = 2048
    packets = 0

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self._known = known
        self._seen = bytearray(9)
        self.counters = memoryview(self._seen)

    def execute(self, fuzz_input: FuzzInput) -> Finding | None:
        self._seen[:] = bytes(9)
        self.packets = 0
        finding = self._found(fuzz_input)
        return None if finding is None or finding.rule in self._known else finding

    def _found(self, fuzz_input: FuzzInput) -> Finding | None:
        seen, chained = self._seen, False
        for i, (op, flags, offset, size, _) in enumerate(self._slots(fuzz_input)):
            seen[SLOTS] += 1
            seen[EMPTY] |= size == 0
            if op == COPY:
                seen[COPIES] += 1
                if offset + size > 4096:
                    seen[CROSSES] += 1
                    return Finding("T1", f"slot {i}: a copy of {size} bytes at {offset}")
            if op == 7:
                seen[ODDITY] += 1
                if flags & ODD:
                    seen[FLAGGED] += 1
                    return Finding("T2", f"slot {i}: op 7 with flags {flags:#x}")
            seen[CHAIN_ENDS if chained and not flags & MORE else CHAINED] += flags & MORE or chained
            chained = bool(flags & MORE)
            self.packets += not chained
        if chained:
            seen[NO_END] += 1
            return Finding("T1", 'the last slot says "more"')
        return None

    def _slots(self, fuzz_input: FuzzInput) -> list[tuple[int, int, int, int, int]]:
        content = fuzz_input.section("page").ljust(self.sections[0].size, b"\0")
        return [SLOT.unpack_from(content, 2 + SLOT.size * i) for i in range(self.slots(fuzz_input))]

    def start(self, random: Random) -> FuzzInput:
        return page(*(self._slot(random) for _ in range(random.randrange(1, 5))))

    def _slot(self, random: Random) -> tuple[int, int, int, int, int]:
        flags = random.choice((0, 0, 0, 0, MORE, ODD))
        offset, size = random.choice((0, 100, 4000)), random.choice((0, 60, 200))
        return random.randrange(8), flags, offset, size, random.randrange(0x10000)

    def mutate(self, fuzz_input: FuzzInput, random: Random, other: FuzzInput) -> FuzzInput:
        slots = self._slots(fuzz_input if random.randrange(4) else other)
        at = random.randrange(len(slots) + 1)
        slots[at : at + random.randrange(2)] = [self._slot(random)] * random.randrange(3)
        return page(*slots[:MOST])

    def slots(self, fuzz_input: FuzzInput) -> int:
        return min(int.from_bytes(fuzz_input.section("page")[:2], "little"), MOST)

    def without(self, fuzz_input: FuzzInput, slot: int) -> FuzzInput:
        slots = self._slots(fuzz_input)
        less = page(*slots[:slot], *slots[slot + 1 :])
        return fuzz_input.with_section("page", less.section("page"))

    def fields(self, fuzz_input: FuzzInput) -> Sequence[InputField]:
        return [InputField("slots", "page", 0, 2)] + [
            InputField(name, "page", 2 + SLOT.size * i + offset, size, i)
            for i in range(self.slots(fuzz_input))
            for name, offset, size in FIELDS
        ]

    def trace(self) -> bytes:
        return sha256(bytes(map(bool, self._seen))).digest()[:8]

    def close(self) -> None:
        pass


class HidingTarget(ToyTarget):
    """Behind T1 is T2, which op 7 shows as well. A rule is one finding.

    ``opened``: those that are open."""

    name = "toy_target:HidingTarget"
    opened: ClassVar[list[HidingTarget]] = []

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(known)
        self.opened.append(self)

    def _found(self, fuzz_input: FuzzInput) -> Finding | None:
        finding = super()._found(fuzz_input)
        hidden = finding is not None and finding.rule in self._known
        return Finding("T2", "behind T1") if hidden else finding

    def trace(self) -> bytes:
        return bytes(8)

    def close(self) -> None:
        self.opened.remove(self)
