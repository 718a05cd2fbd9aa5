"""A finding explains itself: a reduced input, and which of its fields matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from xennet.fuzz.field_map import MappedField, Role, field_map
from xennet.fuzz.finding_file import Recorded
from xennet.fuzz.pytest_text import pytest_text
from xennet.fuzz.reduction import Replayer, fewest_slots, value_of, with_value
from xennet.fuzz.target import Target

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-fuzz-map/1"
#: Executions that are made to minimise: no limit in practice.
_BUDGET = 1 << 30


class GoneError(Exception):
    """An input no longer has a finding."""


@frozen
class Minimised:
    """``recorded``: the reduced input and its finding; ``fields``: how each field matters;
    ``test``: the text of a test. ``slots`` and ``size``: how many slots, and bytes that are not
    zero at an end, there were before and are now."""

    recorded: Recorded
    fields: tuple[MappedField, ...]
    test: str
    slots: tuple[int, int]
    size: tuple[int, int]
    executions: int

    def to_json(self) -> dict[str, Any]:
        """All that is known, by name."""
        finding = self.recorded.finding
        assert finding is not None
        return {
            "format": FORMAT,
            "target": self.recorded.fuzz_input.target,
            "rule": finding.rule,
            "where": finding.where,
            "slots": {"before": self.slots[0], "after": self.slots[1]},
            "size": {"before": self.size[0], "after": self.size[1]},
            "executions": self.executions,
            "fields": [_field(mapped) for mapped in self.fields],
            "test": self.test,
        }

    def lines(self) -> Iterator[str]:
        """The same in lines, without the test."""
        finding, (slots, left) = self.recorded.finding, self.slots
        assert finding is not None
        yield f"{self.recorded.fuzz_input.target}, {finding.rule}: {finding.where}"
        yield (
            f"{left} of {slots} slots and {self.size[1]} of {self.size[0]} bytes are left, after "
            f"{self.executions} executions"
        )
        shown = [
            each
            for each in self.fields
            if each.field.slot is not None or each.role is not Role.FREE
        ]
        names = [mapped.name for mapped in shown]
        values = [str(mapped.value) for mapped in shown]
        widths = max(map(len, names), default=0), max(map(len, values), default=0)
        for name, value, mapped in zip(names, values, shown, strict=True):
            yield f"  {name:{widths[0]}}  {value:>{widths[1]}}  {mapped.says}"
        if len(shown) < len(self.fields):
            yield f"  {len(self.fields) - len(shown)} fields of no slot are free"


def _field(mapped: MappedField) -> dict[str, Any]:
    return {
        "name": mapped.field.name,
        "slot": mapped.field.slot,
        "section": mapped.field.section,
        "offset": mapped.field.offset,
        "size": mapped.field.size,
        "value": mapped.value,
        "role": mapped.role.value,
        "low": mapped.low,
        "high": mapped.high,
        "others": mapped.others,
        "bits": mapped.bits,
        "bound": list(mapped.bound),
    }


def minimised(recorded: Recorded, target: Target) -> Minimised:
    """The input of ``recorded`` reduced and explained. Raises GoneError if it has no finding any
    more; another one than was recorded is taken as it is."""
    fuzz_input = recorded.fuzz_input
    found = target.execute(fuzz_input)
    if found is None:
        raise GoneError("the input has no finding any more")
    replayer = Replayer(target, found.rule, _BUDGET)
    less = fewest_slots(replayer, fuzz_input)
    fields = tuple(field_map(replayer, less))
    free = [mapped for mapped in fields if mapped.role is Role.FREE]
    zero = less
    for mapped in free:
        zero = with_value(zero, mapped.field, 0)
    if replayer.has_it(zero):  # they may matter together
        less = zero
        fields = tuple(evolve(each, value=value_of(less, each.field)) for each in fields)
    finding = target.execute(less)
    if finding is None:
        raise GoneError("the input does not have its finding each time")
    small = evolve(recorded, fuzz_input=less, finding=finding)
    return Minimised(
        small,
        fields,
        pytest_text(small, target),
        (target.slots(fuzz_input), target.slots(less)),
        (fuzz_input.size, less.size),
        replayer.executions,
    )
