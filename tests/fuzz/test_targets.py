"""Every target of the fuzzer keeps what xennet.fuzz.target says of targets."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from xennet.fuzz.container import from_bytes, to_bytes
from xennet.fuzz.fuzz_input import FuzzInput, from_raw, to_raw
from xennet.fuzz.target import Finding, Target
from xennet.fuzz.target_table import TARGETS, UnknownTargetError, open_target


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    target = open_target(request.param)
    yield target
    target.close()


def inputs(target: Target, seed: int, count: int) -> list[FuzzInput]:
    random = Random(seed)
    made = [target.start(random)]
    while len(made) < count:
        made.append(target.mutate(random.choice(made), random, random.choice(made)))
    return made


def seen(target: Target, fuzz_input: FuzzInput) -> tuple[Finding | None, bytes, bytes, int]:
    return target.execute(fuzz_input), bytes(target.counters), target.trace(), target.packets


def test_an_input_is_of_the_target_and_of_its_sections(target: Target) -> None:
    for fuzz_input in inputs(target, 1, 25):
        assert fuzz_input.target == target.name
        assert [name for name, _ in fuzz_input.sections] == [
            section.name for section in target.sections[: len(fuzz_input.sections)]
        ]
        assert from_bytes(to_bytes(fuzz_input)) == fuzz_input
        raw = to_raw(target.sections, fuzz_input)
        assert from_raw(target.name, target.sections, raw) == fuzz_input


def test_the_same_seed_makes_the_same_inputs(target: Target) -> None:
    assert inputs(target, 7, 40) == inputs(target, 7, 40)
    assert inputs(target, 7, 40) != inputs(target, 8, 40)


def test_an_execution_leaves_nothing_that_a_later_one_sees(target: Target) -> None:
    made = inputs(target, 2, 20)
    first = [seen(target, fuzz_input) for fuzz_input in made]
    assert [seen(target, fuzz_input) for fuzz_input in reversed(made)] == first[::-1]
    assert len({counters for _, counters, _, _ in first}) > 1


def test_whatever_bytes_are_executed(target: Target) -> None:
    random = Random(3)
    whole = sum(section.size for section in target.sections)
    for size in (0, 1, 3, whole // 2, whole):
        target.execute(from_raw(target.name, target.sections, random.randbytes(size)))
        assert len(target.counters) == target.counters.nbytes


def test_a_slot_can_be_left_out(target: Target) -> None:
    for fuzz_input in inputs(target, 4, 30):
        slots = target.slots(fuzz_input)
        for slot in range(min(slots, 3)):
            less = target.without(fuzz_input, slot)
            assert target.slots(less) == slots - 1
            assert from_raw(target.name, target.sections, to_raw(target.sections, less)) == less


def test_fields_lie_in_their_sections_and_belong_to_slots(target: Target) -> None:
    sizes = {section.name: section.size for section in target.sections}
    for fuzz_input in inputs(target, 5, 30):
        for field in target.fields(fuzz_input):
            assert 0 <= field.offset <= field.offset + field.size <= sizes[field.section]
            assert field.slot is None or 0 <= field.slot < target.slots(fuzz_input)


def test_an_unknown_target_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownTargetError, match="there is no target 'rx9'; there are tx"):
        open_target("rx9")


@pytest.mark.parametrize(
    ("rule", "known", "expected"),
    [
        ("A12", {"A12"}, True),
        ("A12", {"A1"}, False),
        ("A1/A2", {"A2"}, True),
        ("A1/A2", {"A1/A2"}, True),
        ("differs:A10", {"A10"}, True),
        ("differs:A10", {"differs:A10"}, True),
        ("differs:A1/A6", {"A1"}, False),
        ("differs:A1/A6", {"A1", "A6", "F3"}, True),
        ("differs:A1/A6", {"differs:A1/A6"}, True),
        ("differs", {"A1", "A6", "F3"}, False),
        ("differs", {"differs"}, True),
        ("leak", set[str](), False),
    ],
)
def test_a_finding_is_known_by_its_rule_or_a_row_of_it(
    rule: str, known: set[str], expected: bool
) -> None:
    assert Finding(rule, "").known(frozenset(known)) is expected
