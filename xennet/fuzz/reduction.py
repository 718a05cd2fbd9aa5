"""A smaller input with the same finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target import InputField, Target


class Replayer:
    """Whether an input still has the finding of ``rule``, for a number of executions."""

    def __init__(self, target: Target, rule: str, budget: int) -> None:
        self.target, self.rule = target, rule
        self.executions, self._budget = 0, budget

    @property
    def spent(self) -> bool:
        return self.executions >= self._budget

    def has_it(self, fuzz_input: FuzzInput) -> bool:
        """Execute ``fuzz_input``. False if the executions are spent."""
        if self.spent:
            return False
        self.executions += 1
        finding = self.target.execute(fuzz_input)
        return finding is not None and finding.rule == self.rule


_Step = Callable[[Replayer, FuzzInput], FuzzInput]


def reduced(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """``fuzz_input`` with as few slots as still have the finding, and small values in their fields.

    The same inputs lead to the same result, so that findings can be told apart by it.
    """
    return _repeated(replayer, fuzz_input, (*_FEWER, _with_small_fields))


def fewest_slots(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """``fuzz_input`` with as few slots as still have the finding; their fields are as they were."""
    return _repeated(replayer, fuzz_input, _FEWER)


def _repeated(replayer: Replayer, fuzz_input: FuzzInput, steps: Sequence[_Step]) -> FuzzInput:
    while True:
        before = fuzz_input
        for step in steps:
            fuzz_input = step(replayer, fuzz_input)
        if fuzz_input == before or replayer.spent:
            return fuzz_input


def _without_sections(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """All sections from some on are dropped, as many as can be."""
    for left in range(len(fuzz_input.sections)):
        less = FuzzInput(fuzz_input.target, fuzz_input.sections[:left])
        if replayer.has_it(less):
            return less
    return fuzz_input


def _without_slots(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """Runs of slots are dropped, long ones first."""
    target = replayer.target
    run = target.slots(fuzz_input)
    while run:
        at = target.slots(fuzz_input) - run
        while at >= 0 and not replayer.spent:
            less = fuzz_input
            for _ in range(run):
                less = target.without(less, at)
            if replayer.has_it(less):
                fuzz_input = less
            at -= run
        run //= 2
    return fuzz_input


def _without_bytes_between(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """What is no field becomes zero, in each section."""
    fields = replayer.target.fields(fuzz_input)
    for name, content in fuzz_input.sections:
        kept = bytearray(len(content))
        for field in fields:
            if field.section == name:
                place = slice(field.offset, field.offset + field.size)
                kept[place] = content[place]
        less = fuzz_input.with_section(name, bytes(kept[: len(content)]))
        if bytes(kept) != content and replayer.has_it(less):
            fuzz_input = less
    return fuzz_input


def _with_small_fields(replayer: Replayer, fuzz_input: FuzzInput) -> FuzzInput:
    """Each field becomes zero if it can, else as small as halved steps lead."""
    for field in replayer.target.fields(fuzz_input):
        step = value = value_of(fuzz_input, field)
        while step and not replayer.spent:
            less = with_value(fuzz_input, field, value - step)
            if replayer.has_it(less):
                fuzz_input, value = less, value - step
                step = min(step, value)
            else:
                step //= 2
    return fuzz_input


_FEWER: tuple[_Step, ...] = (_without_sections, _without_slots, _without_bytes_between)


def value_of(fuzz_input: FuzzInput, field: InputField) -> int:
    """The number in ``field``."""
    content = fuzz_input.section(field.section)
    return int.from_bytes(content[field.offset : field.offset + field.size], "little")


def with_value(fuzz_input: FuzzInput, field: InputField, value: int) -> FuzzInput:
    """``fuzz_input`` with another number in ``field``; its section is made longer if need be."""
    end = field.offset + field.size
    content = bytearray(fuzz_input.section(field.section).ljust(end, b"\0"))
    content[field.offset : end] = value.to_bytes(field.size, "little")
    return fuzz_input.with_section(field.section, bytes(content))
