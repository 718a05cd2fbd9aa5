"""What the fuzzer knows of what it fuzzes.

A target has everything that an execution needs, is made once and executes any number of inputs; one
execution leaves nothing behind that a later one could see.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, runtime_checkable

from attrs import frozen

from xennet.fuzz.fuzz_input import FuzzInput, Section


@frozen
class Finding:
    """What an execution did that should not be.

    ``rule``: what campaigns list by name: a row of the defects ("A12", "A1/A2"), a hardening rule
    ("F14"), "leak", "differs:A10". ``where``: one sentence with the evidence.
    """

    rule: str
    where: str

    def known(self, rules: frozenset[str]) -> bool:
        """Whether ``rules`` name it: its rule, or one of the rows "A1/A2" that it may be; of a
        difference, which has several reasons ("differs:A1/A2"), all rows."""
        kind, _, named = self.rule.rpartition(":")
        rows = named.split("/")
        if kind == "differs":
            return self.rule in rules or rules.issuperset(rows)
        return not rules.isdisjoint({self.rule, *rows})


@frozen
class InputField:
    """A field of an input: ``size`` bytes at ``offset`` of a section, little-endian.

    ``slot``: which of the target's slots it belongs to, None if to none (an index of the ring).
    """

    name: str
    section: str
    offset: int
    size: int
    slot: int | None = None


@runtime_checkable
class Target(Protocol):
    """Something that executes inputs.

    ``name``: as in the table of targets. ``sections``: what its inputs are made of; the first is
    what a corpus of raw pages has. ``unit_executions``: how many executions are a unit of work, for
    about half a second. ``counters``: a byte for each branch or state of the last
    execution, how often it was there, 255 for more; their number never changes. ``packets``: how
    many packets the last execution has carried, for statistics.
    """

    name: str
    sections: tuple[Section, ...]
    unit_executions: int

    @property
    def counters(self) -> memoryview: ...
    @property
    def packets(self) -> int: ...

    def execute(self, fuzz_input: FuzzInput) -> Finding | None:
        """Execute ``fuzz_input``. Returns what was wrong, None if nothing was.

        It takes whatever bytes, never raises, and its work is bounded.
        """

    def start(self, random: Random) -> FuzzInput:
        """An input to begin with, sensible but not always the same."""

    def mutate(self, fuzz_input: FuzzInput, random: Random, other: FuzzInput) -> FuzzInput:
        """A changed ``fuzz_input``, with parts of ``other`` perhaps. Its sections are as in
        :func:`xennet.fuzz.fuzz_input.from_raw`."""

    def slots(self, fuzz_input: FuzzInput) -> int:
        """How many parts it has of which each can be left out (requests, steps of a life)."""

    def without(self, fuzz_input: FuzzInput, slot: int) -> FuzzInput:
        """``fuzz_input`` without the slot ``slot``, 0 to slots - 1; those behind it move up."""

    def fields(self, fuzz_input: FuzzInput) -> Sequence[InputField]:
        """The fields that mean something in ``fuzz_input``, in order."""

    def trace(self) -> bytes:
        """What tells findings of one rule apart: which branches the last execution took, as a hash.
        Loops that ran more often do not change it. It is constant where the rule says it all."""

    def close(self) -> None:
        """Give back what it holds."""
