"""Mutations of ring pages: repeatable, inside the record, and able to make what is wanted."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from xennet.abi.netif import TX_REQUEST
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.fuzz import ring_mutations
from xennet.fuzz.ring_mutations import (
    KINDS,
    PAGE_WORDS,
    PRODUCED,
    RECORD,
    SLOTS,
    START,
    STRIDES,
    TX_REQUESTS,
    below,
    copy_slot,
    draw,
    make_chain,
    mutate,
    place,
    produce,
    put_good,
    used,
)

ALL_KINDS = pytest.mark.parametrize("kind", range(KINDS))


def words(seed: int) -> array[int]:
    random = Random(seed)
    return array("I", (random.randrange(1, 2**32) for _ in range(4)))


def walk(kind: int, seed: int, steps: int) -> array[int]:
    """A record after so many mutations, from one good slot on."""
    record = array("I", bytes(4 * RECORD))
    rng = words(seed)
    put_good(rng, record, kind, 0)
    produce(record, kind, 1)
    others = array("I", record)
    operands = array("q", [60, 4242, 0, 0])
    for _ in range(steps):
        mutate(rng, (rng, record, others, 0, operands, kind))
        assert used(record, kind) <= SLOTS[kind]
    return record


@ALL_KINDS
def test_the_same_seed_makes_the_same_record(kind: int) -> None:
    assert walk(kind, 1, 50) == walk(kind, 1, 50) != walk(kind, 2, 50)


@ALL_KINDS
def test_any_walk_stays_inside_of_the_record(kind: int) -> None:
    # An array raises for each index outside of it, and for each value that does not fit a word.
    made = {walk(kind, seed, 60).tobytes() for seed in range(12)}
    assert len(made) == 12


@ALL_KINDS
def test_slots_of_a_ring_lie_behind_its_header_and_inside_of_its_page(kind: int) -> None:
    record = array("I", bytes(4 * RECORD))
    for start in 0, 1, SLOTS[kind] - 1, 2**32 - 1:
        record[START] = start
        places = {place(record, kind, slot) for slot in range(SLOTS[kind])}
        assert len(places) == SLOTS[kind]
        assert min(places) == SRING_HEADER_SIZE // 4
        assert max(places) + STRIDES[kind] <= PAGE_WORDS


def test_random_words_are_those_of_xorshift128() -> None:
    rng = array("I", [123456789, 362436069, 521288629, 88675123])  # Marsaglia's own seeds
    assert [draw(rng) for _ in range(3)] == [3701687786, 458299110, 2500872618]
    assert {below(rng, 3) for _ in range(100)} == {0, 1, 2}


def test_a_chain_says_the_size_of_the_whole_packet_in_its_first_slot() -> None:
    record = array("I", bytes(4 * RECORD))
    rng, right = words(3), 0
    for _ in range(40):
        record[PRODUCED[TX_REQUESTS]] = 0
        make_chain(rng, (rng, record, record, 0, array("q", [0, 0]), TX_REQUESTS))
        slots = [
            TX_REQUEST.read(record.tobytes()[SRING_HEADER_SIZE + 12 * i :][:12])
            for i in range(used(record, TX_REQUESTS))
        ]
        assert [slot.flags for slot in slots] == [4] * (len(slots) - 1) + [0]
        later = sum(slot.size for slot in slots[1:])
        right += slots[0].size == (60 + later) % 65536
    assert right == 40


def test_a_slot_that_is_copied_is_the_same() -> None:
    record = array("I", bytes(4 * RECORD))
    put_good(words(1), record, TX_REQUESTS, 0)
    copy_slot(record, TX_REQUESTS, 0, 9)
    first, ninth = (place(record, TX_REQUESTS, slot) for slot in (0, 9))
    assert record[first : first + 3] == record[ninth : ninth + 3]


def test_tables_have_a_row_for_each_kind_and_each_thing_that_a_field_holds() -> None:
    m = ring_mutations
    assert len(m._FIELD_TABLE) == KINDS * m.FIELDS * m._FIELD
    holds = m._FIELD_TABLE[3 :: m._FIELD]
    assert len(m._VALUES) == (max(holds) + 1) * m._CHOICES
    assert len(STRIDES) == len(SLOTS) == len(PRODUCED) == KINDS
