"""The strategies give what they say: what is well-formed is taken, what is damaged is judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from xennet.abi.netif import NETTXF_more_data
from xennet.netback.poll_page import PagePoller
from xennet.netback.xnb.poller import XnbPoller
from xennet.ring import tx_ring_page
from xennet.testing.backend_moves import BACKEND_LIFE
from xennet.testing.frontend_moves import FRONTEND_LIFE
from xennet.testing.moves import live
from xennet.testing.strategies import (
    GREFS,
    RingPage,
    TxPacket,
    backend_features,
    damaged_pages,
    frontend_features,
    odd_pages,
    odd_rx_requests,
    odd_rx_responses,
    odd_slots,
    odd_tx_responses,
    packets,
    ring_pages,
    start_indices,
    walks,
)
from xennet.testing.vif_setup import VifSetup


@pytest.fixture(scope="module")
def poller() -> PagePoller:
    return PagePoller()


@pytest.fixture(scope="module")
def xnb() -> XnbPoller:
    return XnbPoller()


def polled(poller: PagePoller | XnbPoller, page: RingPage) -> Any:
    """The error of a pass over a page, None if there was none."""
    poller.reset()
    poller.load(page.raw)
    poller.poll(page.start)
    return poller.error()


@settings(max_examples=40)
@given(page=ring_pages())
def test_a_ring_page_is_taken_whole(poller: PagePoller, page: RingPage) -> None:
    assert polled(poller, page) is None
    # Frames with a blank checksum that are no IP packets are answered OKAY, and dropped (F17).
    plain = [packet.size for packet in page.packets if not packet.slots[0][6] & 0x08]
    assert [len(packet.data) for packet in poller.packets()] == plain
    answered = sum(len(packet.slots) for packet in page.packets)
    prod = int.from_bytes(bytes(poller.ring_page[8:12]), "little")
    assert (prod - page.start) & 0xFFFFFFFF == answered


@settings(max_examples=30)
@given(packet=packets(gso=False))
def test_a_packet_is_well_formed(packet: TxPacket) -> None:
    assert 1 <= len(packet.slots) <= 19
    assert 14 <= packet.size <= 65535
    assert all(len(raw) == 12 for raw in packet.slots)
    more = [bool(raw[6] & NETTXF_more_data) for raw in packet.slots]
    assert more == [True] * (len(more) - 1) + [False]
    assert {int.from_bytes(raw[:4], "little") for raw in packet.slots} <= set(GREFS)


@pytest.mark.parametrize("rule", ["F1", "F5", "F9"])
def test_pages_that_are_nearly_right_get_to_the_rules(poller: PagePoller, rule: str) -> None:
    def ends_at_it(page: RingPage) -> bool:
        error = polled(poller, page)
        return error is not None and error.rule == rule

    found = settings(max_examples=5000, phases=[Phase.generate], derandomize=True, database=None)
    assert find(damaged_pages(odd_pages()) | damaged_pages(), ends_at_it, settings=found)


@settings(max_examples=30)
@given(page=damaged_pages() | odd_pages())
def test_no_exception_leaves_xnb(xnb: XnbPoller, page: RingPage) -> None:
    polled(xnb, page)


@given(start=start_indices())
def test_a_start_index_is_one_of_a_ring(start: int) -> None:
    assert 0 <= start < 1 << 32


def test_indices_around_the_wrap_are_near() -> None:
    assert find(start_indices(), lambda start: start > 1 << 31 and start + 5 >= 1 << 32)


@given(st.one_of(odd_slots(), odd_tx_responses(), odd_rx_requests(), odd_rx_responses()).map(len))
def test_slots_have_the_sizes_of_their_structures(size: int) -> None:
    assert size in (4, 8, 12)


def test_a_page_has_its_slots_where_their_indices_say() -> None:
    raw = tx_ring_page([b"a" * 12, b"b" * 12], 255)
    assert raw[64 + 255 * 12 : 64 + 256 * 12] == b"a" * 12
    assert raw[64:76] == b"b" * 12
    assert int.from_bytes(raw[:4], "little") == 257


@settings(max_examples=30)
@given(features=frontend_features(), steps=walks(FRONTEND_LIFE), settle=st.booleans())
def test_netback_survives_any_walk_of_a_frontend(
    features: Any, steps: list[str], settle: bool
) -> None:
    setup = VifSetup.make(frontend="raw")
    setup.frontend.changes.update(features)
    live(setup.frontend, FRONTEND_LIFE, steps=steps, settle=settle)
    left = setup.finish()
    assert not left, str(left)
    setup.host.destroy()


@settings(max_examples=30)
@given(features=backend_features(), steps=walks(BACKEND_LIFE), settle=st.booleans())
def test_netfront_survives_any_walk_of_a_backend(
    features: Any, steps: list[str], settle: bool
) -> None:
    setup = VifSetup.make(backend="raw")
    setup.backend.changes.update(features)
    live(setup.backend, BACKEND_LIFE, steps=steps, settle=settle)
    left = setup.finish()
    assert not left, str(left)
    setup.host.destroy()
