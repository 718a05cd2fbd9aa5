"""Inputs that are ring pages: fields, slots, what is left out, raw bytes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from xennet.abi.netif import TX_REQUEST
from xennet.engine.choice import using
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.ring import tx_ring_page


@pytest.fixture(scope="module")
def target() -> Iterator[TxTarget]:
    with using("plain"):
        made = TxTarget()
    yield made
    made.close()


def page(start: int, sizes: list[int]) -> FuzzInput:
    raw = tx_ring_page([TX_REQUEST.pack(8, 0, 0, i, size) for i, size in enumerate(sizes)], start)
    return FuzzInput("tx", (("tx page", raw), ("start", start.to_bytes(4, "little"))))


@pytest.mark.parametrize("start", [0, 254, 2**32 - 2])
def test_a_slot_that_is_left_out_leaves_the_others_in_order(target: TxTarget, start: int) -> None:
    sizes = [60, 61, 62, 63]
    given = page(start, sizes)
    assert target.slots(given) == 4
    for slot in range(4):
        fewer = target.without(given, slot)
        wanted = page(start, sizes[:slot] + sizes[slot + 1 :])
        assert target.slots(fewer) == 3
        values = {
            (field.slot, field.name): read(fewer, field.section, field.offset, field.size)
            for field in target.fields(fewer)
        }
        found = [values[i, "size"] for i in range(3)]
        assert found == sizes[:slot] + sizes[slot + 1 :]
        assert fewer.size <= wanted.size + 12
        assert target.execute(fewer) is None
        assert target.packets == 3


def read(given: FuzzInput, section: str, offset: int, size: int) -> int:
    return int.from_bytes(given.section(section)[offset : offset + size], "little")


def test_fields_name_every_byte_of_a_slot(target: TxTarget) -> None:
    fields = [field for field in target.fields(page(3, [60])) if field.slot == 0]
    assert [(field.name, field.offset - 64 - 36, field.size) for field in fields] == [
        ("gref", 0, 4),
        ("offset", 4, 2),
        ("flags", 6, 2),
        ("id", 8, 2),
        ("size", 10, 2),
    ]


def test_a_start_is_a_page_that_is_right(target: TxTarget) -> None:
    random = Random(1)
    for _ in range(20):
        begun = target.start(random)
        assert target.execute(begun) is None
        assert target.packets == target.slots(begun) > 0


def test_a_mutation_depends_on_the_random_numbers_alone(target: TxTarget) -> None:
    first, other = target.start(Random(1)), target.start(Random(2))
    changed = {target.mutate(first, Random(seed), other) for seed in range(20)}
    assert len(changed) > 15
    assert target.mutate(first, Random(3), other) == target.mutate(first, Random(3), other)
    for each in changed:
        assert target.execute(each) is None


def test_an_execution_leaves_nothing_behind(target: TxTarget) -> None:
    random = Random(5)
    given = target.start(random)
    target.execute(given)
    before = target.trace(), bytes(target.counters), bytes(target._poller.memory.u8)
    changed = given
    for _ in range(50):
        changed = target.mutate(changed, random, given)
        target.execute(changed)
    target.execute(given)
    after = target.trace(), bytes(target.counters), bytes(target._poller.memory.u8)
    stage = target._poller._stage
    begin, end = stage.first * 4096, (stage.first + stage.count) * 4096
    assert before[:2] == after[:2]
    assert before[2][:begin] == after[2][:begin]
    assert before[2][end:] == after[2][end:]
