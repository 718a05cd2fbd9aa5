"""EVTCHNOP_init_control, expand_array, set_priority and the way back: Xen's checks and effects."""

from __future__ import annotations

import errno

import pytest
from evtchn_bench import Bench, refused

from xennet.abi.xen import DOMID_SELF

P, M, L = 1 << 31, 1 << 30, 1 << 29


@pytest.fixture
def old() -> Bench:
    """Domains that use the 2-level ABI."""
    return Bench("2l")


@pytest.fixture
def fifo() -> Bench:
    return Bench("fifo")


def control(bench: Bench, domid: int = 1, vcpu: int = 0) -> memoryview:
    return bench.controls[domid, vcpu].u32[32:]


# init_control


@pytest.mark.parametrize(
    ("gfn", "offset", "vcpu", "error"),
    [
        (1, 4096, 2, errno.ENOENT),
        (1, 0, -1, errno.ENOENT),
        (1, 4096 - 64, 0, errno.EINVAL),
        (1, 2**32 - 8, 0, errno.EINVAL),
        (1, 4, 0, errno.EINVAL),
        (2, 0, 0, errno.EINVAL),  # domain 2's page
        (63, 0, 0, errno.EINVAL),  # nobody's
        (2**52, 0, 0, errno.EINVAL),
    ],
)
def test_a_refused_control_block_leaves_the_2_level_abi(old, gfn, offset, vcpu, error) -> None:
    assert refused(old.channels.init_control, 1, gfn, offset, vcpu) == error
    assert old.channels.bits(1).abi == "2l"
    assert old.unmapped == []


def test_a_control_block_may_end_with_its_page_and_share_it(old) -> None:
    page = old.page(1)
    assert old.channels.init_control(1, page.first, 4096 - 72, 0) == 17
    assert old.channels.init_control(1, page.first, 0, 1) == 17
    assert old.channels.bits(1).abi == "fifo"
    assert old.channels.bits(2).abi == "2l"


def test_a_vcpu_gives_its_control_block_once(fifo) -> None:
    assert refused(fifo.channels.init_control, 1, fifo.page(1).first, 0, 0) == errno.EINVAL


def test_what_is_pending_is_raised_again_when_its_word_comes(old) -> None:
    channels = old.channels
    ports = [channels.bind_ipi(1, vcpu) for vcpu in (0, 1, 0)]
    for port in ports[:2]:
        channels.send(1, port)
    old.upcalls.clear()
    for vcpu in (0, 1):
        old.init_control(1, vcpu)
    assert not channels.bits(1).is_pending(ports[0])
    assert old.upcalls == []
    old.expand(1)
    assert old.upcalls == [(1, ports[0]), (1, ports[1])]
    assert [old.words[1][0][port] for port in ports] == [P | L, P | L, 0]
    assert (control(old, vcpu=0)[2 + 7], control(old, vcpu=1)[2 + 7]) == (ports[0], ports[1])


def test_an_event_between_the_two_hypercalls_is_not_lost(old) -> None:
    local, remote = old.connect(1, 2)
    old.init_control(2, 0)
    old.channels.send(1, local)
    assert old.upcalls == []
    old.expand(2)
    assert old.upcalls == [(2, remote)]


def test_an_event_that_was_masked_is_raised_under_the_mask_of_its_word(old) -> None:
    port = old.channels.bind_ipi(1, 0)
    old.channels.send(1, port)
    old.upcalls.clear()
    old.init_control(1, 0)
    page = old.page(1)
    page.u32[port] = M
    old.channels.expand_array(1, page.first)
    assert (page.u32[port], old.upcalls) == (P | M, [])
    old.channels.unmask(1, port)
    assert (page.u32[port], old.upcalls) == (P | L, [(1, port)])


# expand_array


def test_the_array_cannot_grow_before_there_is_a_control_block(old) -> None:
    assert refused(old.channels.expand_array, 1, old.page(1).first) == errno.EOPNOTSUPP


def test_128_pages_are_all_the_event_words_there_are(fifo) -> None:
    page = fifo.page(1)
    for _ in range(127):
        fifo.channels.expand_array(1, page.first)
    assert refused(fifo.channels.expand_array, 1, page.first) == errno.ENOSPC
    assert refused(fifo.channels.expand_array, 1, 63) == errno.ENOSPC


def test_a_page_that_is_not_the_domains_own_is_refused(fifo) -> None:
    for gfn in (fifo.page(2).first, 63, 2**52):
        assert refused(fifo.channels.expand_array, 1, gfn) == errno.EINVAL


def test_ports_beyond_the_array_wait_for_their_page(fifo) -> None:
    ports = [fifo.channels.bind_ipi(1, 0) for _ in range(1030)]
    fifo.channels.send(1, ports[-1])
    assert fifo.upcalls == []
    fifo.expand(1)
    assert fifo.upcalls == [(1, 1030)]
    assert fifo.words[1][1][1030 - 1024] == P | L


# set_priority


def test_set_priority_checks_the_port_then_the_abi_then_the_state_then_the_priority(
    old, fifo
) -> None:
    for bench, port, error in (
        (old, 64, errno.EINVAL),
        (old, 5, errno.ENOSYS),
        (fifo, 64, errno.EINVAL),
        (fifo, 5, errno.EACCES),
    ):
        assert refused(bench.channels.set_priority, 1, port, 99) == error
    port = fifo.channels.bind_ipi(1, 0)
    for priority in (16, -1):
        assert refused(fifo.channels.set_priority, 1, port, priority) == errno.EINVAL
    assert refused(old.channels.set_priority, 1, old.channels.bind_ipi(1, 0), 0) == errno.ENOSYS


@pytest.mark.parametrize("priority", [0, 7, 15])
def test_an_event_goes_to_the_queue_of_its_priority(fifo, priority: int) -> None:
    port = fifo.channels.bind_ipi(1, 1)
    fifo.channels.set_priority(1, port, priority)
    fifo.channels.send(1, port)
    block = control(fifo, vcpu=1)
    assert (block[0], block[2 + priority]) == (1 << priority, port)


def test_the_next_user_of_a_port_starts_with_the_default_priority(fifo) -> None:
    port = fifo.channels.bind_ipi(1, 0)
    fifo.channels.set_priority(1, port, 0)
    fifo.channels.close(1, port)
    assert fifo.channels.bind_ipi(1, 0) == port
    fifo.channels.send(1, port)
    assert control(fifo)[0] == 1 << 7


# Busy ports


def test_a_closed_port_that_is_still_linked_is_not_handed_out(fifo) -> None:
    port = fifo.channels.bind_ipi(1, 0)
    fifo.channels.send(1, port)
    fifo.channels.close(1, port)
    other = fifo.channels.bind_ipi(1, 0)
    assert other == port + 1
    assert not fifo.channels.bits(1).take(port)
    assert fifo.channels.bind_ipi(1, 0) == port


def test_a_guest_whose_words_all_say_linked_gets_ports_beyond_them(fifo) -> None:
    fifo.words[1][0][:] = memoryview(bytes.fromhex("00000020") * 1024).cast("I")
    assert fifo.channels.bind_ipi(1, 0) == 1024
    fifo.expand(1)
    fifo.words[1][1][:] = fifo.words[1][0]
    assert fifo.channels.bind_ipi(1, 0) == 2048


def test_a_guest_that_has_given_all_its_words_and_linked_them_has_no_port(fifo) -> None:
    linked = fifo.page(1)
    linked.u32[:] = memoryview(bytes.fromhex("00000020") * 1024).cast("I")
    fifo.words[1][0][:] = linked.u32
    for _ in range(127):
        fifo.channels.expand_array(1, linked.first)
    assert refused(fifo.channels.bind_ipi, 1, 0) == errno.ENOSPC


# The way back


def test_reset_goes_back_to_the_2_level_abi_and_gives_the_pages_back(fifo) -> None:
    port = fifo.channels.bind_ipi(1, 0)
    fifo.channels.send(1, port)
    fifo.channels.reset(1, DOMID_SELF)
    assert fifo.channels.bits(1).abi == "2l"
    assert fifo.words[1][0][port] == L  # closed with the FIFO ABI still in use
    used = {fifo.controls[1, 0].first, fifo.controls[1, 1].first}
    assert used < set(fifo.unmapped)
    assert len(fifo.unmapped) == 3
    assert not any(map(fifo.channels.pages.mappings, fifo.unmapped))
    fifo.upcalls.clear()
    assert fifo.channels.bind_ipi(1, 0) == port  # and no longer busy
    fifo.channels.send(1, port)
    assert fifo.pages[1].u64[2048 // 8] == 1 << port
    assert fifo.upcalls == [(1, port)]


def test_the_fifo_abi_can_be_chosen_again_after_a_reset(fifo) -> None:
    fifo.channels.set_priority(1, fifo.channels.bind_ipi(1, 0), 3)
    fifo.channels.reset(1, DOMID_SELF)
    fifo.init_control(1, 0)
    fifo.expand(1)
    port = fifo.channels.bind_ipi(1, 0)
    fifo.channels.send(1, port)
    assert (control(fifo)[0], control(fifo)[2 + 7]) == (1 << 7, port)


def test_the_pending_bits_of_the_2_level_abi_are_as_they_were_left(old) -> None:
    port = old.channels.bind_ipi(1, 0)
    old.channels.send(1, port)
    old.init_control(1, 0)
    old.channels.reset(1, DOMID_SELF)
    assert old.channels.bits(1).is_pending(port)


def test_after_a_reset_ports_beyond_4095_are_gone(fifo) -> None:
    for _ in range(5000):
        fifo.channels.bind_ipi(1, 0)
    fifo.channels.reset(1, DOMID_SELF)
    assert [fifo.channels.bind_ipi(1, 0) for _ in range(4095)][-1] == 4095
    assert refused(fifo.channels.bind_ipi, 1, 0) == errno.ENOSPC
    assert refused(fifo.channels.send, 1, 5000) == errno.EINVAL
    fifo.channels.unmask(1, 5000)  # a closed port


def test_a_dying_domain_gives_its_pages_back(fifo) -> None:
    fifo.channels.begin_dying(1)
    assert len(fifo.unmapped) == 3
    fifo.channels.remove_domain(1)
    assert len(fifo.unmapped) == 3


def test_a_page_offered_twice_is_given_back_at_the_end_only(old) -> None:
    page = old.page(1)
    old.channels.init_control(1, page.first, 0, 0)
    old.channels.init_control(1, page.first, 72, 1)
    assert old.channels.pages.mappings(page.first) == 2
    old.channels.reset(1, DOMID_SELF)
    assert old.unmapped == [page.first]
