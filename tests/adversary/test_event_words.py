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

from xennet.adversary import (
    UPDATE,
    Access,
    Adversary,
    RandomWrites,
    interleavings,
    record,
)
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


def words(*offsets: int) -> list[tuple[str, str]]:
    """The two 32-bit words of each 64-bit word of the shared-info page that has port 70."""
    return [
        ("shared info", f"word {(at + 8 * (PORT // 64)) // 4 + half}")
        for at in offsets
        for half in (0, 1)
    ]


#: evtchn_pending and evtchn_mask of struct shared_info.
PENDING, MASK = 2048, 2560


@pytest.mark.parametrize(
    ("scene", "step", "again"),
    [
        pytest.param(two_level, lambda bits: bits.set_pending(PORT, 0), {}, id="2l send"),
        pytest.param(masked(two_level), lambda bits: bits.unmask(PORT, 0), {}, id="2l unmask"),
        # Was it deliverable? Is another port of the word, which keeps its selector then? Has one
        # become so while the selector was cleared?
        pytest.param(
            pending(two_level),
            lambda bits: bits.take(PORT),
            dict.fromkeys(words(PENDING, MASK), 3),
            id="2l take",
        ),
        pytest.param(fifo, lambda bits: bits.set_pending(PORT, 0), {}, id="fifo send"),
        pytest.param(masked(fifo), lambda bits: bits.unmask(PORT, 0), {}, id="fifo unmask"),
        pytest.param(pending(fifo), lambda bits: bits.take(PORT), {}, id="fifo take"),
    ],
)
def test_how_often_a_word_is_loaded(
    scene: Callable[[], Bits], step: Callable[[Bits], bool], again: dict[tuple[str, str], int]
) -> None:
    """A bit that both sides change is tested and set, or cleared, in one step, which is no load."""
    done: list[bool] = []
    counts = loads(record(scene, lambda bits: done.append(step(bits)))[0])
    assert done == [True]
    assert {word: count for word, count in counts.items() if count > 1} == again


# What the other side does between any two accesses is neither undone nor overlooked.

OTHER = 71  # in the same 64-bit word as PORT
FAR = 1500  # in another word, or on another page of event words
ABIS = pytest.mark.parametrize("make", [two_level, fifo])


def heard_of(bits: Bits, port: int) -> bool:
    """Whether a guest that looks now finds a pending port, having been told to look, or is to find
    it in the upcall that goes on."""
    return (
        announced_2l(bits, port) if isinstance(bits, TwoLevelBits) else announced_fifo(bits, port)
    )


def announced_2l(bits: TwoLevelBits, port: int) -> bool:
    page = bits.page
    return bool(page.u8[0] and page.u64[1] >> port // 64 & 1)


def announced_fifo(bits: FifoBits, port: int) -> bool:
    if not bits.is_busy(port):
        return True  # off its queue and still pending: what an upcall handles
    block = bits._blocks[0]
    assert block is not None
    heads = [block[2 + priority] for priority in range(16) if block[0] >> priority & 1]
    reached = set()
    for head in heads if bits._shared_info[0] else []:
        at = head
        while at:
            reached.add(at)
            at = bits._word(at) & (1 << 17) - 1
    return port in reached


def urgent() -> FifoBits:
    """FIFO words in which port FAR goes to a queue of its own."""
    bits = fifo()
    bits.set_priority(FAR, 3)
    return bits


@pytest.mark.parametrize("make", [two_level, fifo, urgent])
@pytest.mark.parametrize("other", [OTHER, FAR])
def test_an_event_that_comes_while_the_guest_takes_another_is_heard_of(
    make: Callable[[], Bits], other: int
) -> None:
    came = 0
    for access, bits in interleavings(
        pending(make), lambda bits: bits.take(PORT), lambda bits, _: bits.set_pending(other, 0)
    ):
        assert bits.is_pending(other), access
        assert heard_of(bits, other), access
        came += 1
    assert came >= 7


@ABIS
@pytest.mark.parametrize("other", [OTHER, FAR])
def test_a_guest_that_takes_events_while_another_is_sent_hears_of_it(
    make: Callable[[], Bits], other: int
) -> None:
    def scene() -> Bits:
        bits = make()
        assert bits.set_pending(other, 0)
        return bits

    for access, bits in interleavings(
        scene, lambda bits: bits.set_pending(PORT, 0), lambda bits, _: bits.take(other)
    ):
        assert not bits.is_pending(other), access
        assert bits.is_pending(PORT), access
        assert heard_of(bits, PORT), access


def change_other(bits: Bits, access: Access) -> None:
    """A peer sets bits of another port, and clears some of a third."""
    bits.mask(OTHER)
    bits.set_pending(OTHER, 0)
    bits.unmask(OTHER + 1, 0)
    bits.clear_pending(OTHER + 2)


@ABIS
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda bits: bits.set_pending(PORT, 0), id="send"),
        pytest.param(lambda bits: bits.clear_pending(PORT), id="close"),
        pytest.param(lambda bits: bits.unmask(PORT, 0), id="unmask"),
        pytest.param(lambda bits: bits.mask(PORT), id="mask"),
        pytest.param(lambda bits: bits.take(PORT), id="take"),
        pytest.param(lambda bits: bits.take(PORT, masked=True), id="poll"),
    ],
)
def test_what_is_done_to_other_ports_meanwhile_stays_done(
    make: Callable[[], Bits], step: Callable[[Bits], object]
) -> None:
    def scene() -> Bits:
        bits = make()
        bits.set_pending(PORT, 0)
        bits.mask(OTHER + 1)
        bits.mask(OTHER + 2)
        bits.set_pending(OTHER + 2, 0)
        return bits

    for access, bits in interleavings(scene, step, change_other):
        seen = [(bits.is_masked(port), bits.is_pending(port)) for port in range(OTHER, OTHER + 3)]
        assert seen == [(True, True), (False, False), (True, False)], access


@pytest.mark.parametrize("linked", [False, True], ids=["idle", "tail"])
def test_a_guest_that_masks_the_very_port_just_then_is_not_overruled(linked: bool) -> None:
    """MASKED is the guest's: sending to a port, and linking another behind it, keep it."""

    def scene() -> FifoBits:
        bits = fifo()
        if linked:
            bits.set_pending(PORT, 0)
        return bits

    sent = OTHER if linked else PORT
    for access, bits in interleavings(
        scene, lambda bits: bits.set_pending(sent, 0), lambda bits, _: bits.mask(PORT)
    ):
        assert bits.is_masked(PORT), access
        assert bits.is_pending(sent), access
        assert heard_of(bits, sent), access


def test_a_tail_that_the_guest_never_leaves_alone_costs_it_the_event_and_nobody_else_anything() -> (
    None
):
    adversary = Adversary()
    with using(adversary):
        bits = fifo()
        bits.set_pending(PORT, 0)
    tries = 0

    def flip(access: Access) -> None:
        nonlocal tries
        if access.memory == "event array" and access.word == PORT:
            tries += access.kind == UPDATE
            bits._pages[0][PORT] ^= 1 << 30

    with adversary.watching(flip):
        assert bits.set_pending(OTHER, 0)
    # Five tries to link, BUSY set before the second and cleared behind the last.
    assert tries == 5 + 2
    assert not bits._word(PORT) >> 28 & 1
    assert bits.take(PORT, masked=True)


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
