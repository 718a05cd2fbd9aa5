"""The words of event channels: what is loaded again, and a guest that writes any of them at any
time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import loads

from xennet.adversary import Adversary, RandomWrites, record
from xennet.engine.choice import using
from xennet.evtchn import FifoBits, TwoLevelBits
from xennet.memory import Memory

PORT = 70

Bits = FifoBits | TwoLevelBits


def two_level() -> TwoLevelBits:
    return TwoLevelBits(Memory(1).run(0), 1)


def fifo() -> FifoBits:
    memory = Memory(4)
    bits = FifoBits(memory.run(0), 1)
    bits.add_control_block(0, memory.run(1), 128)
    for page in (2, 3):
        bits.add_array_page(memory.run(page))
    return bits


def pending(make: Callable[[], Bits]) -> Callable[[], Bits]:
    def scene() -> Bits:
        bits = make()
        assert bits.set_pending(PORT, 0)
        return bits

    return scene


def masked(make: Callable[[], Bits]) -> Callable[[], Bits]:
    def scene() -> Bits:
        bits = make()
        bits.mask(PORT)
        assert not bits.set_pending(PORT, 0)
        return bits

    return scene


# A bit is tested, then set or cleared by |= or &=, which loads its word again; only that bit is
# changed by it. Words are 32 bits here: a bit field of 64 bits is two of them.
FOR_THE_BIT = 2


@pytest.mark.parametrize(
    ("scene", "step", "most"),
    [
        pytest.param(two_level, lambda bits: bits.set_pending(PORT, 0), FOR_THE_BIT, id="2l send"),
        pytest.param(
            masked(two_level), lambda bits: bits.unmask(PORT, 0), FOR_THE_BIT, id="2l unmask"
        ),
        # Once more: whether other ports of the word are pending and keep its selector.
        pytest.param(
            pending(two_level), lambda bits: bits.take(PORT), FOR_THE_BIT + 1, id="2l take"
        ),
        pytest.param(fifo, lambda bits: bits.set_pending(PORT, 0), FOR_THE_BIT, id="fifo send"),
        # Unmasked, then judged: two steps (evtchn_fifo_unmask).
        pytest.param(
            masked(fifo), lambda bits: bits.unmask(PORT, 0), FOR_THE_BIT + 1, id="fifo unmask"
        ),
        # Off its queue, then judged.
        pytest.param(pending(fifo), lambda bits: bits.take(PORT), FOR_THE_BIT, id="fifo take"),
    ],
)
def test_how_often_a_word_is_loaded(
    scene: Callable[[], Bits], step: Callable[[Bits], bool], most: int
) -> None:
    done: list[bool] = []
    words = loads(record(scene, lambda bits: done.append(step(bits)))[0])
    assert done == [True]
    assert max(words.values()) == most


@pytest.mark.parametrize("make", [two_level, fifo])
@given(seed=st.integers(0, 1 << 32), every=st.sampled_from([1, 3, 10]))
def test_a_guest_that_writes_any_word_harms_nobody(
    make: Callable[[], Bits], seed: int, every: int
) -> None:
    adversary = Adversary()
    with using(adversary):
        bits = make()
    random = Random(seed)
    names = {"shared info", "event array", "control block"}
    with adversary.watching(RandomWrites(adversary, names, random, every=every)):
        for _ in range(30):
            port = random.randrange(1, 2500)
            step: Any = random.choice(
                [
                    lambda port=port: bits.set_pending(port, 0),
                    lambda port=port: bits.unmask(port, 0),
                    lambda port=port: bits.take(port),
                    lambda port=port: bits.take(port, masked=True),
                    lambda port=port: bits.is_busy(port),
                    lambda port=port: bits.clear_pending(port),
                    lambda port=port: bits.mask(port),
                ]
            )
            assert step() in (True, False, None)
