"""The words and queues of the FIFO ABI, as xen/event_channel.h lays them out: an event word has
PENDING in bit 31, MASKED 30, LINKED 29, BUSY 28 and the next port in bits 0..16; a control block
has the ready word at byte 0 and head[0..15] from byte 8."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xennet.evtchn import FifoBits
from xennet.memory import Memory, PageRun

P, M, L, BUSY, LINK = 1 << 31, 1 << 30, 1 << 29, 1 << 28, (1 << 17) - 1
VCPUS, PAGES, OFFSET = 2, 2, 4096 - 72
PRIORITIES = st.integers(0, 15)


@define
class Guest:
    """A domain with 2048 event words; the control blocks end where their pages end."""

    memory: Memory = field(factory=lambda: Memory(1 + VCPUS + PAGES))
    bits: FifoBits = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bits = FifoBits(self.shared_info, VCPUS)
        for vcpu in range(VCPUS):
            self.bits.add_control_block(vcpu, self.memory.run(1 + vcpu), OFFSET)
        for page in range(PAGES):
            assert self.bits.add_array_page(self.memory.run(1 + VCPUS + page)) == []

    @property
    def shared_info(self) -> PageRun:
        return self.memory.run(0)

    @property
    def words(self) -> memoryview:
        return self.memory.run(1 + VCPUS, PAGES).u32

    def block(self, vcpu: int = 0) -> memoryview:
        return self.memory.run(1 + vcpu).u32[OFFSET // 4 :]

    def ready(self, vcpu: int = 0) -> set[int]:
        return {bit for bit in range(32) if self.block(vcpu)[0] >> bit & 1}

    def queue(self, priority: int = 7, vcpu: int = 0) -> list[int]:
        """The ports of a queue that is ready, by following its links."""
        ports = [self.block(vcpu)[2 + priority]]
        while link := self.words[ports[-1]] & LINK:
            ports.append(link)
        return ports

    def raise_all(self, ports: Iterable[int], vcpu: int = 0) -> list[bool]:
        return [self.bits.set_pending(port, vcpu) for port in ports]


@pytest.fixture
def guest() -> Guest:
    return Guest()


# Layout


@given(port=st.integers(1, 2047), vcpu=st.integers(0, 1), priority=PRIORITIES)
def test_an_event_is_a_word_a_head_a_ready_bit_and_an_upcall(port, vcpu, priority) -> None:
    guest = Guest()
    guest.bits.set_priority(port, priority)
    assert guest.bits.set_pending(port, vcpu)
    expected = bytearray((1 + VCPUS + PAGES) * 4096)
    expected[64 * vcpu] = 1  # vcpu_info[vcpu].evtchn_upcall_pending
    block = 4096 * (1 + vcpu) + OFFSET
    expected[block : block + 4] = (1 << priority).to_bytes(4, "little")
    head = block + 8 + 4 * priority
    expected[head : head + 4] = port.to_bytes(4, "little")
    word = 4096 * (1 + VCPUS) + 4 * port
    expected[word : word + 4] = (P | L).to_bytes(4, "little")
    assert guest.memory.u8 == expected


def test_a_second_event_is_linked_to_the_first(guest) -> None:
    guest.raise_all([5, 9, 2000])
    assert guest.queue() == [5, 9, 2000]
    assert list(guest.words[0:10]) == [0, 0, 0, 0, 0, P | L | 9, 0, 0, 0, P | L | 2000]
    assert guest.words[2000] == P | L


def test_taking_events_off_leaves_no_bit_but_the_stale_head(guest) -> None:
    guest.raise_all([5, 9])
    assert (guest.bits.take(5), guest.bits.take(9)) == (True, True)
    assert not any(guest.words)
    assert guest.ready() == set()
    assert guest.block()[2 + 7] == 5
    assert not any(guest.shared_info.u8)


def test_the_queue_starts_anew_when_the_guest_has_taken_its_tail_off(guest) -> None:
    guest.raise_all([5, 9])
    guest.bits.take(5)
    guest.raise_all([3, 4])
    assert guest.queue() == [3, 4]
    assert guest.words[9] == P


def test_the_same_port_can_be_head_again(guest) -> None:
    guest.raise_all([5])
    guest.bits.take(5)
    guest.raise_all([5, 6])
    assert guest.queue() == [5, 6]


@given(st.lists(st.tuples(st.integers(1, 2047), PRIORITIES), max_size=30))
def test_every_queue_is_in_the_order_of_arrival(events) -> None:
    guest = Guest()
    first = dict(reversed(events))  # later events of a pending port are that port's one event
    for port, _ in events:
        guest.bits.set_priority(port, first[port])
        guest.bits.set_pending(port, 0)
    arrived = list(dict.fromkeys(port for port, _ in events))
    assert guest.ready() == {first[port] for port in arrived}
    for priority in guest.ready():
        assert guest.queue(priority) == [port for port in arrived if first[port] == priority]


def test_vcpus_have_queues_of_their_own(guest) -> None:
    guest.raise_all([5, 6], vcpu=0)
    guest.raise_all([7, 8], vcpu=1)
    assert (guest.queue(vcpu=0), guest.queue(vcpu=1)) == ([5, 6], [7, 8])
    assert (guest.shared_info.u8[0], guest.shared_info.u8[64]) == (1, 1)


# Priorities


def test_a_new_priority_is_for_future_events(guest) -> None:
    guest.raise_all([5])
    guest.bits.set_priority(5, 0)
    assert guest.ready() == {7}
    guest.bits.take(5)
    guest.raise_all([5])
    assert guest.ready() == {0}


def test_a_closed_port_loses_its_priority(guest) -> None:
    guest.bits.set_priority(5, 0)
    guest.bits.clear_pending(5)
    guest.raise_all([5])
    assert guest.ready() == {7}


def test_a_tail_that_moved_to_another_queue_does_not_take_its_successors_along(guest) -> None:
    guest.raise_all([5])
    guest.bits.take(5)
    guest.bits.set_priority(5, 3)
    guest.raise_all([5, 6])
    assert (guest.queue(3), guest.queue(7)) == ([5], [6])
    assert guest.words[5] == P | L


def test_a_tail_that_moved_to_another_vcpu_does_not_take_its_successors_along(guest) -> None:
    guest.raise_all([5], vcpu=0)
    guest.bits.take(5)
    guest.raise_all([5], vcpu=1)
    guest.raise_all([6], vcpu=0)
    assert (guest.queue(vcpu=1), guest.queue(vcpu=0)) == ([5], [6])


def test_a_port_is_behind_another_in_a_lower_queue_of_the_same_vcpu(guest) -> None:
    guest.bits.set_priority(6, 3)
    guest.raise_all([5, 6])
    assert guest.bits.is_behind(5, 6)
    assert not guest.bits.is_behind(6, 5)
    guest.raise_all([8], vcpu=1)
    assert not guest.bits.is_behind(8, 6)


# Masking


def test_a_masked_port_is_pending_but_on_no_queue(guest) -> None:
    guest.bits.mask(5)
    assert guest.raise_all([5]) == [False]
    assert (guest.words[5], guest.ready()) == (P | M, set())
    assert guest.bits.unmask(5, 0)
    assert (guest.words[5], guest.queue()) == (P | L, [5])


def test_masking_while_linked_leaves_the_queue_whole(guest) -> None:
    guest.raise_all([5, 6, 7])
    guest.bits.mask(6)
    assert guest.queue() == [5, 6, 7]
    assert guest.words[6] == P | M | L | 7
    assert [guest.bits.take(port) for port in (5, 6, 7)] == [True, False, True]
    assert guest.words[6] == P | M
    assert guest.bits.unmask(6, 0)
    assert guest.queue() == [6]


def test_unmasking_while_linked_does_not_link_twice(guest) -> None:
    guest.raise_all([5, 6])
    guest.bits.mask(5)
    assert not guest.bits.unmask(5, 0)
    assert guest.queue() == [5, 6]


def test_a_closed_port_stays_linked_and_busy_until_the_guest_looks(guest) -> None:
    guest.raise_all([5, 6])
    guest.bits.clear_pending(5)
    assert guest.bits.is_busy(5)
    assert guest.queue() == [5, 6]
    assert guest.bits.take(6)
    assert not guest.bits.is_busy(5)


def test_an_event_between_taking_off_and_handling_links_the_port_again(guest) -> None:
    guest.raise_all([5, 6])
    guest.bits.take(5)
    assert guest.words[6] == P
    assert guest.raise_all([6]) == [True]
    assert guest.queue() == [6]
    assert guest.bits.take(6)
    assert guest.words[6] == 0


# Pages that are not there


def test_events_of_ports_without_a_word_are_saved(guest) -> None:
    bits = FifoBits(guest.shared_info, 1)
    bits.add_control_block(0, guest.memory.run(1), 0)
    assert not bits.set_pending(1030, 0)
    assert not bits.set_pending(40, 0)
    assert (bits.is_masked(40), bits.is_pending(40), bits.unmask(40, 0)) == (True, False, False)
    assert bits.add_array_page(guest.memory.run(3)) == [40]
    assert bits.add_array_page(guest.memory.run(4)) == [1030]


def test_a_saved_event_is_forgotten_with_its_port(guest) -> None:
    bits = FifoBits(guest.shared_info, 1)
    bits.set_pending(40, 0)
    bits.clear_pending(40)
    assert bits.add_array_page(guest.memory.run(3)) == []


def test_an_event_for_a_vcpu_without_a_control_block_stays_pending(guest) -> None:
    bits = FifoBits(guest.shared_info, 2)
    bits.add_array_page(guest.memory.run(3))
    assert not bits.set_pending(5, 1)
    assert bits.is_pending(5)
    bits.add_control_block(1, guest.memory.run(1), 0)
    assert bits.unmask(5, 1)


# Guests that write what they like


def test_a_link_out_of_range_ends_the_guests_walk(guest) -> None:
    guest.raise_all([5, 6])
    guest.words[5] = P | L | 2048
    assert guest.bits.take(5)
    assert guest.words[6] == P | L


def test_a_loop_of_links_is_walked_once(guest) -> None:
    guest.raise_all([5, 6])
    guest.words[6] = P | L | 5
    assert guest.bits.take(6)
    assert list(guest.words[5:7]) == [P, 0]


def test_a_tail_that_the_guest_unlinked_starts_a_new_queue(guest) -> None:
    guest.raise_all([5, 6])
    guest.words[6] = P
    guest.raise_all([7])
    assert guest.queue() == [7]


def test_the_word_of_port_0_is_no_tail(guest) -> None:
    guest.words[0] = L
    guest.raise_all([5])
    assert (guest.words[0], guest.queue()) == (L, [5])


def test_linking_clears_the_busy_bit_and_the_link_of_the_tail(guest) -> None:
    guest.raise_all([5])
    guest.words[5] |= BUSY | M | 77
    guest.raise_all([6])
    assert guest.words[5] == P | M | L | 6


def test_a_guest_that_says_linked_gets_no_event(guest) -> None:
    guest.words[5] = L
    assert guest.raise_all([5]) == [False]
    assert (guest.words[5], guest.ready()) == (P | L, set())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "mask", "unmask", "take", "clear", "mask_all", "noise", "link"]),
        st.integers(1, 2100),
        st.integers(0, 2**32 - 1),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@example([("noise", 1, 0), ("set", 5, 0), ("set", 6, 0), ("take", 5, 0)])
@given(STEPS)
def test_no_content_of_the_pages_makes_an_operation_fail_or_leave_the_pages(steps) -> None:
    guest = Guest(Memory(1 + VCPUS + PAGES + 1))
    for op, port, value in steps:
        if op == "noise":
            first = port % (1 + VCPUS + PAGES)
            guest.memory.run(first).u8[:] = random.Random(value).randbytes(4096)
        elif op == "link":
            guest.words[port % 2048] = value
        elif op in ("set", "unmask"):
            call = guest.bits.set_pending if op == "set" else guest.bits.unmask
            call(port, value % VCPUS)
            if op == "set":
                assert guest.bits.is_pending(port) == (port < 2048)
        elif op == "mask_all":
            guest.bits.mask_all()
        else:
            {"mask": guest.bits.mask, "take": guest.bits.take, "clear": guest.bits.clear_pending}[
                op
            ](port)
    assert guest.memory.run(1 + VCPUS + PAGES).u8 == bytes(4096)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_queues_work_again_once_the_guest_has_cleared_its_pages(seed: int) -> None:
    guest = Guest()
    noise = random.Random(seed)
    for frame in range(1 + VCPUS + PAGES):
        guest.memory.run(frame).u8[:] = noise.randbytes(4096)
    guest.raise_all(noise.choices(range(1, 2048), k=50), vcpu=noise.randrange(2))
    guest.memory.u8[:] = bytes(len(guest.memory.u8))
    ports = noise.sample(range(1, 2048), k=10)
    assert guest.raise_all(ports) == [True] * 10
    assert guest.queue() == ports
