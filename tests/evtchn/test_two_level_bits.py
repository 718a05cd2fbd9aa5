"""The bits of the 2-level ABI, at the offsets of xen/xen.h (LP64): pending at byte 2048, mask at
2560, struct vcpu_info every 64 bytes with its upcall byte at 0 and its selector at 8."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.evtchn import TwoLevelBits
from xennet.memory import Memory, PageRun

PENDING, MASK, SELECTOR, VCPU_INFO = 2048, 2560, 8, 64
PORTS = st.integers(1, 4095)


@pytest.fixture
def page() -> PageRun:
    return Memory(1).run(0)


def fresh() -> tuple[PageRun, TwoLevelBits]:
    page = Memory(1).run(0)
    return page, TwoLevelBits(page, 32)


@given(PORTS, st.integers(0, 31))
def test_an_event_is_three_bits_and_a_byte_in_the_shared_info_page(port: int, vcpu: int) -> None:
    page, bits = fresh()
    assert bits.set_pending(port, vcpu)
    expected = bytearray(4096)
    expected[PENDING + port // 8] = 1 << port % 8
    expected[vcpu * VCPU_INFO] = 1
    expected[vcpu * VCPU_INFO + SELECTOR + port // 512] = 1 << port // 64 % 8
    assert page.u8 == expected


@given(PORTS)
def test_a_masked_event_is_one_pending_bit_and_its_mask(port: int) -> None:
    page, bits = fresh()
    bits.mask(port)
    assert not bits.set_pending(port, 0)
    expected = bytearray(4096)
    expected[PENDING + port // 8] = expected[MASK + port // 8] = 1 << port % 8
    assert page.u8 == expected
    assert bits.is_pending(port)
    assert bits.is_masked(port)


@given(PORTS)
def test_taking_the_only_event_leaves_an_empty_page(port: int) -> None:
    page, bits = fresh()
    bits.set_pending(port, 3)
    assert bits.take(port)
    assert page.u8 == bytes(4096)


def test_unmasking_delivers_what_arrived_meanwhile(page: PageRun) -> None:
    bits = TwoLevelBits(page, 1)
    bits.mask(70)
    bits.set_pending(70, 0)
    assert bits.unmask(70, 0)
    assert page.u64[SELECTOR // 8] == 1 << 1
    assert page.u8[0] == 1


def test_the_selector_stays_while_another_port_of_the_word_is_deliverable(page: PageRun) -> None:
    bits = TwoLevelBits(page, 2)
    bits.set_pending(64, 1)
    bits.set_pending(65, 1)
    bits.take(64)
    assert (page.u8[VCPU_INFO], page.u64[(VCPU_INFO + SELECTOR) // 8]) == (1, 1 << 1)
    bits.take(65)
    assert (page.u8[VCPU_INFO], page.u64[(VCPU_INFO + SELECTOR) // 8]) == (0, 0)


def test_the_upcall_stays_pending_while_the_selector_names_another_word(page: PageRun) -> None:
    bits = TwoLevelBits(page, 1)
    bits.set_pending(1, 0)
    bits.set_pending(4095, 0)
    bits.take(1)
    assert (page.u8[0], page.u64[SELECTOR // 8]) == (1, 1 << 63)


def test_masking_everything_sets_the_512_bytes_of_the_mask_only(page: PageRun) -> None:
    TwoLevelBits(page, 1).mask_all()
    assert page.u8 == bytes(MASK) + b"\xff" * 512 + bytes(4096 - MASK - 512)


@pytest.mark.parametrize("vcpus", [0, 33, -1])
def test_the_page_has_room_for_1_to_32_vcpus(page: PageRun, vcpus: int) -> None:
    with pytest.raises(ValueError, match=rf"1\.\.32 vCPUs, not {vcpus}"):
        TwoLevelBits(page, vcpus)


@given(st.integers(0, 2**32), PORTS, st.integers(0, 31))
def test_no_content_of_the_page_makes_an_operation_fail(seed: int, port: int, vcpu: int) -> None:
    page, bits = fresh()
    page.u8[:] = random.Random(seed).randbytes(4096)
    bits.set_pending(port, vcpu)
    bits.unmask(port, vcpu)
    assert bits.is_pending(port)
    assert not bits.is_masked(port)
    assert bits.take(port)
    bits.clear_pending(port)
    bits.mask(port)
