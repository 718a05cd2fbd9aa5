"""The harness entry for xnb: any bytes at all, and nothing but a verdict comes back."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet import PagePoller, XnbPoller
from xennet.abi.netif import (
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    NETRXF_more_data,
    NETTXF_data_validated,
    NETTXF_more_data,
)
from xennet.frames import DATA_VALIDATED
from xennet.netback.poll_page import FIRST_GREF
from xennet.ring import rx_ring, rx_ring_page, tx_ring, tx_ring_page

M, V = NETTXF_more_data, NETTXF_data_validated


@pytest.fixture
def poller() -> Iterator[XnbPoller]:
    poller = XnbPoller()
    yield poller
    poller.close()


def request(size: int, flags: int = 0, *, gref: int = FIRST_GREF, offset: int = 0) -> bytes:
    return TX_REQUEST.pack(gref, offset, flags, 7, size)


def buffers(count: int) -> bytes:
    return rx_ring_page([RX_REQUEST.pack(i, 0, FIRST_GREF + i) for i in range(count)])


def test_it_has_the_calls_of_the_hardened_backend_s_poller() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_"}

    assert calls(PagePoller) <= calls(XnbPoller)
    theirs, ours = (inspect.signature(kind.poll).parameters for kind in (PagePoller, XnbPoller))
    assert list(ours)[: len(theirs)] == list(theirs)


def test_a_good_page_gives_its_packets_and_its_responses(poller: XnbPoller) -> None:
    poller.pages[:100] = bytes(range(100))
    poller.load(tx_ring_page([request(60, V), request(80, M), request(20, offset=60)]))
    assert poller.poll() == 0
    assert poller.error() is None
    first, second = poller.packets()
    assert (first.data, first.flags) == (bytes(range(60)), DATA_VALIDATED)
    assert (second.data, second.flags) == (bytes(range(80)), 0)
    ring = tx_ring(poller.ring_page, poller.ring_page.cast("I"))
    assert ring.rsp_prod == 3
    assert [TX_RESPONSE.unpack_from(ring.copy_slot(i)) for i in range(3)] == [(7, 0)] * 3


@pytest.mark.parametrize(
    ("slots", "rule"),
    [
        ([request(100, M), request(200)], "A1/A2"),
        ([request(60, gref=400)], "A12/A13"),
    ],
)
def test_a_panic_is_a_verdict_with_the_rows_of_its_defect(
    poller: XnbPoller, slots: list[bytes], rule: str
) -> None:
    poller.load(tx_ring_page(slots))
    assert poller.poll() == 1
    error = poller.error()
    assert error is not None
    assert error.rule == rule


def test_packets_without_end_are_a_panic(poller: XnbPoller) -> None:
    # A response's id and status lie over the gref, which is good again with id FIRST_GREF.
    again = TX_REQUEST.pack(FIRST_GREF, 0, 0, FIRST_GREF, 60)
    poller.load(tx_ring_page([again] * 256, published=2**20))
    assert poller.poll() == 1
    error = poller.error()
    assert error is not None
    assert error.rule == "A14/A15"
    assert len(poller.packets()) == 512


def test_a_recorded_ring_begins_where_its_responses_end(poller: XnbPoller) -> None:
    start = 2**32 - 1
    poller.load(tx_ring_page([request(60)] * 256, start, published=2))
    assert poller.poll(start) == 0
    assert len(poller.packets()) == 2


def test_frames_for_the_guest_go_into_the_posted_buffers(poller: XnbPoller) -> None:
    poller.rx_page[: len(buffers(4))] = buffers(4)
    poller.queue(bytes(range(256)) * 20)
    assert poller.poll() == 0
    ring = rx_ring(poller.rx_page, poller.rx_page.cast("I"))
    assert ring.rsp_prod == 2
    responses = [RX_RESPONSE.read(ring.copy_slot(i)) for i in range(2)]
    assert [(r.flags, r.status) for r in responses] == [(NETRXF_more_data, 4096), (0, 1024)]
    assert bytes(poller.pages[:256]) == bytes(range(256))


def test_a_defect_that_damages_a_packet_in_silence_is_named(poller: XnbPoller) -> None:
    poller.rx_page[: len(buffers(8))] = buffers(8)
    poller.queue(bytes(9000), gso_size=1448)
    assert poller.poll() == 0
    assert [struck.row for struck in poller.struck] == ["B4"]
    poller.poll()
    assert not poller.struck


def test_what_finds_no_buffer_waits_until_reset(poller: XnbPoller) -> None:
    poller.queue(bytes(60))
    poller.poll()
    poller.reset()
    poller.rx_page[: len(buffers(1))] = buffers(1)
    poller.poll()
    assert rx_ring(poller.rx_page, poller.rx_page.cast("I")).rsp_prod == 0


def test_reset_makes_everything_as_at_the_start(poller: XnbPoller) -> None:
    fresh = XnbPoller()
    random = Random(5)
    for view in (poller.ring_page, poller.rx_page, poller.grant_table, poller.pages):
        view[:] = random.randbytes(len(view))
    poller.queue(bytes(3000))
    poller.poll(random.getrandbits(32))
    poller.reset()
    for name in ("ring_page", "rx_page", "grant_table", "pages"):
        assert bytes(getattr(poller, name)) == bytes(getattr(fresh, name)), name
    poller.load(tx_ring_page([request(60)]))
    assert (poller.poll(), len(poller.packets())) == (0, 1)
    fresh.close()


def test_a_panic_costs_no_memory(poller: XnbPoller) -> None:
    used = set()
    for _ in range(50):
        poller.load(tx_ring_page([request(40000), request(60, gref=400)]))
        assert poller.poll() == 1
        used.add(poller.machine.memory.used)
    assert len(used) == 1


def test_too_many_bytes_for_a_page_are_refused_by_name(poller: XnbPoller) -> None:
    with pytest.raises(ValueError, match="a ring page has 4096 bytes, not 5000"):
        poller.load(bytes(5000))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    start=st.sampled_from([0, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    ahead=st.integers(0, 300) | st.integers(0, 2**32 - 1),
    waiting=st.lists(st.integers(1, 9000), max_size=2),
)
def test_any_bytes_give_a_verdict_and_nothing_else(
    seed: int, start: int, ahead: int, waiting: list[int]
) -> None:
    random = Random(seed)
    poller = XnbPoller()
    poller.load(random.randbytes(4096))
    poller.ring_page[0:4] = ((start + ahead) % 2**32).to_bytes(4, "little")
    poller.rx_page[:] = random.randbytes(4096)
    if random.random() < 0.5:
        poller.rx_page[: len(buffers(6))] = buffers(6)
    for length in waiting:
        poller.queue(bytes(length))
    canary = [f for f, owner in enumerate(poller.machine.memory.owner) if owner == 2]
    verdict = poller.poll(start)
    assert (verdict == 1) == (poller.error() is not None)
    memory = poller.machine.memory.u8
    assert not any(any(memory[4096 * f : 4096 * f + 2048]) for f in canary[1:])
    poller.close()
