"""What holds for the bits of a port, in whichever of the two ways a guest sees them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.evtchn import FifoBits, PortBits, TwoLevelBits
from xennet.memory import Memory

VCPUS = 2
PORTS = st.integers(1, 1023)


def fresh(abi: str) -> PortBits:
    memory = Memory(VCPUS + 2)
    if abi == "2l":
        return TwoLevelBits(memory.run(0), VCPUS)
    bits = FifoBits(memory.run(0), VCPUS)
    for vcpu in range(VCPUS):
        bits.add_control_block(vcpu, memory.run(2 + vcpu), 0)
    bits.add_array_page(memory.run(1))
    return bits


@pytest.fixture(params=["2l", "fifo"])
def bits(request) -> PortBits:
    return fresh(request.param)


def test_a_quiet_port_is_neither_pending_nor_masked(bits) -> None:
    assert (bits.is_pending(70), bits.is_masked(70), bits.take(70)) == (False, False, False)


def test_an_event_is_taken_once(bits) -> None:
    assert bits.set_pending(70, 1)
    assert bits.is_pending(70)
    assert (bits.take(70), bits.take(70)) == (True, False)
    assert not bits.is_pending(70)


def test_an_event_that_is_pending_already_is_not_delivered_twice(bits) -> None:
    assert bits.set_pending(70, 0)
    assert not bits.set_pending(70, 0)


def test_an_event_that_is_forgotten_is_not_taken(bits) -> None:
    bits.set_pending(70, 0)
    bits.clear_pending(70)
    assert (bits.is_pending(70), bits.take(70)) == (False, False)


def test_a_masked_port_becomes_pending_but_not_deliverable(bits) -> None:
    bits.mask(70)
    assert not bits.set_pending(70, 0)
    assert (bits.is_masked(70), bits.is_pending(70), bits.take(70)) == (True, True, False)


def test_unmasking_delivers_what_arrived_meanwhile(bits) -> None:
    bits.mask(70)
    bits.set_pending(70, 0)
    assert bits.unmask(70, 0)
    assert (bits.is_masked(70), bits.take(70)) == (False, True)


def test_unmasking_a_quiet_or_unmasked_port_delivers_nothing(bits) -> None:
    bits.mask(70)
    assert not bits.unmask(70, 0)
    bits.set_pending(70, 0)
    assert not bits.unmask(70, 0)


def test_a_port_masked_after_its_event_is_not_taken_and_stays_pending(bits) -> None:
    bits.set_pending(70, 0)
    bits.mask(70)
    assert not bits.take(70)
    assert bits.is_pending(70)
    assert bits.unmask(70, 0)
    assert bits.take(70)


def test_masking_everything_masks_every_port_and_forgets_nothing(bits) -> None:
    bits.set_pending(70, 0)
    bits.mask_all()
    assert all(bits.is_masked(port) for port in range(1024))
    assert bits.is_pending(70)


@pytest.mark.parametrize("port", [-1, 4096, 10**9])
def test_nothing_is_taken_from_a_number_without_bits(bits, port: int) -> None:
    assert not bits.take(port)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "mask", "unmask", "take", "poll", "forget"]),
        PORTS,
        st.integers(0, 1),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_both_abis_answer_alike(steps, spread: int) -> None:
    """Few ports, any operations. What one delivers the other has linked to a queue, maybe since
    before: a port that was closed while linked stays so."""
    both = fresh("2l"), fresh("fifo")
    for op, number, vcpu in steps:
        port = 1 + number % spread
        if op == "set":
            deliverable = [bits.set_pending(port, vcpu) for bits in both]
            assert both[1].is_busy(port) or not any(deliverable)
        elif op == "unmask":
            deliverable = [bits.unmask(port, vcpu) for bits in both]
            assert both[1].is_busy(port) or not any(deliverable)
        elif op == "mask":
            [bits.mask(port) for bits in both]
        elif op == "forget":
            [bits.clear_pending(port) for bits in both]
        else:
            taken = [bits.take(port, masked=op == "poll") for bits in both]
            assert taken[0] == taken[1]
        for other in range(1, 1 + spread):
            assert both[0].is_pending(other) == both[1].is_pending(other)
            assert both[0].is_masked(other) == both[1].is_masked(other)
