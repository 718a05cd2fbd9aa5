"""Which fields of an input matter to its finding, and how.

Each field is tried with other values while all others stay: it is free if 64 values leave the
finding as it is, essential if none does, and constrained otherwise. Two fields are bound together
if each could have a value that they cannot have at the same time (an offset and a size that cross a
page), or if they can change only at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import combinations
from random import Random

from attrs import evolve, frozen

from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.reduction import Replayer, value_of, with_value
from xennet.fuzz.target import InputField

#: Values that are tried of a field.
TRIED = 64
#: Fields that are looked at for being bound together.
_MOST_BOUND = 40


class Role(Enum):
    """How a field matters."""

    ESSENTIAL = "essential"
    FREE = "free"
    CONSTRAINED = "constrained"


@frozen
class MappedField:
    """A field, its value and how it matters.

    ``low``, ``high``: the values around its own that keep the finding; ``others``: whether values
    beyond do, too; ``bits``: the bits that have to be as they are, where that says it better than a
    range, else 0; ``bound``: names of fields that it is bound to.
    """

    field: InputField
    value: int
    role: Role
    low: int
    high: int
    others: bool = False
    bits: int = 0
    bound: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The field's name, behind its slot."""
        return name_of(self.field)

    @property
    def says(self) -> str:
        """How it matters, in words."""
        if self.role is Role.FREE:
            text = f"free: {TRIED} values tried"
        elif self.bits:
            text = f"constrained: bits {self.bits:#x} = {self.value & self.bits:#x}"
        elif self.role is Role.CONSTRAINED:
            more = " and others" if self.others else ""
            text = f"constrained: {self.low} to {self.high}{more}"
        else:
            text = "essential"
        return f"{text}, bound to {' and '.join(self.bound)}" if self.bound else text


def name_of(field: InputField) -> str:
    """A field's name, behind its slot."""
    return field.name if field.slot is None else f"slot {field.slot} {field.name}"


def field_map(replayer: Replayer, fuzz_input: FuzzInput) -> list[MappedField]:
    """How each field of ``fuzz_input``, which has the finding, matters."""
    fields = replayer.target.fields(fuzz_input)
    mapped = [_mapped(replayer, fuzz_input, field) for field in fields]
    bound: dict[str, list[str]] = {}
    candidates = [each for each in mapped if each.role is not Role.FREE][:_MOST_BOUND]
    for one, other in combinations(candidates, 2):
        if _are_bound(replayer, fuzz_input, one, other):
            bound.setdefault(one.name, []).append(other.name)
            bound.setdefault(other.name, []).append(one.name)
    return [evolve(each, bound=tuple(bound.get(each.name, ()))) for each in mapped]


def _mapped(replayer: Replayer, fuzz_input: FuzzInput, field: InputField) -> MappedField:
    value, most = value_of(fuzz_input, field), 256**field.size - 1

    def holds(other: int) -> bool:
        return replayer.has_it(with_value(fuzz_input, field, other))

    tried = {other: holds(other) for other in _values(field, value, most)}
    good = sorted(other for other, kept in tried.items() if kept)
    if all(tried.values()):
        return MappedField(field, value, Role.FREE, 0, most)
    if not good:
        return MappedField(field, value, Role.ESSENTIAL, value, value)
    bad = sorted(other for other, kept in tried.items() if not kept)
    below = max((other for other in bad if other < value), default=-1)
    above = min((other for other in bad if other > value), default=most + 1)
    low = _edge(holds, value, below)
    high = _edge(holds, value, above)
    others = any(not low <= other <= high for other in good)
    bits = _bits(holds, field, value) if others or low == high else 0
    return MappedField(field, value, Role.CONSTRAINED, low, high, others, bits)


def _values(field: InputField, value: int, most: int) -> list[int]:
    """TRIED values other than ``value``, or all that there are: those near it, those at powers of
    two and at the ends, and any."""
    near = [value - 1, value + 1, 0, most, most - 1, 1]
    powers = [edge for bit in range(8 * field.size) for edge in (1 << bit, value ^ 1 << bit)]
    random = Random(f"{field.name} {value}")
    chosen: dict[int, None] = {}
    candidates = iter(near + powers)
    left = most
    while len(chosen) < min(TRIED, left):
        other = next(candidates, None)
        if other is None:
            other = random.randrange(most + 1)
        if 0 <= other <= most and other != value:
            chosen[other] = None
    return list(chosen)


def _edge(holds: Callable[[int], bool], good: int, bad: int) -> int:
    """The value next to ``bad`` that still holds, between it and ``good``."""
    while abs(good - bad) > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


def _bits(holds: Callable[[int], bool], field: InputField, value: int) -> int:
    """The bits of ``value`` that have to stay, if nothing else matters; else 0."""
    width = 8 * field.size
    fixed = sum(1 << bit for bit in range(width) if not holds(value ^ 1 << bit))
    if not fixed or fixed == (1 << width) - 1:
        return 0
    random = Random(f"{field.name} {value} bits")
    with_them = (value & fixed | random.getrandbits(width) & ~fixed for _ in range(16))
    return fixed if all(map(holds, with_them)) else 0


def _are_bound(
    replayer: Replayer, fuzz_input: FuzzInput, one: MappedField, other: MappedField
) -> bool:
    def both(one_value: int, other_value: int) -> bool:
        changed = with_value(fuzz_input, one.field, one_value)
        return replayer.has_it(with_value(changed, other.field, other_value))

    if one.role is other.role is Role.ESSENTIAL:
        return any(both(*values) for values in _together(one, other))
    if Role.ESSENTIAL in (one.role, other.role) or one.bits or other.bits:
        return False
    corners = [(a, b) for a in (one.low, one.high) for b in (other.low, other.high)]
    if not all(both(*values) for values in corners):
        return True
    outside = [(a, b) for a in (one.low, one.high) for b in _beyond(other)]
    outside += [(a, b) for a in _beyond(one) for b in (other.low, other.high)]
    return any(both(*values) for values in outside)


def _beyond(mapped: MappedField) -> list[int]:
    """The values next to those that keep the finding."""
    ends = (mapped.low - 1, mapped.high + 1)
    return [end for end in ends if 0 <= end < 256**mapped.field.size]


def _together(one: MappedField, other: MappedField) -> Iterator[tuple[int, int]]:
    """Pairs of values that have changed by the same, either way."""
    for step in (1, 16):
        for one_step, other_step in ((step, step), (step, -step), (-step, step), (-step, -step)):
            pair = one.value + one_step, other.value + other_step
            limits = 256**one.field.size, 256**other.field.size
            if all(0 <= value < limit for value, limit in zip(pair, limits, strict=True)):
                yield pair
