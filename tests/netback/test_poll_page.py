"""The harness entry: any bytes at all, and nothing but a verdict comes back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.netif import TX_REQUEST, NETTXF_more_data
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.netback import guest_tx
from xennet.netback.poll_page import FIRST_GREF, GUEST, HOST, PagePoller, poll_page
from xennet.ring import tx_ring_page


def request(size: int, flags: int = 0, *, gref: int = FIRST_GREF, offset: int = 0) -> bytes:
    return TX_REQUEST.pack(gref, offset, flags, 7, size)


def test_a_good_page_gives_its_packets() -> None:
    poller = PagePoller()
    poller.pages[:100] = bytes(range(100))
    slots = [request(60), request(80, NETTXF_more_data), request(20, offset=60)]
    poller.ring_page[:] = tx_ring_page(slots)
    assert poller.poll() == guest_tx.OK
    assert [packet.data for packet in poller.packets()] == [
        bytes(range(60)),
        bytes(range(60)) + bytes(range(60, 80)),
    ]
    assert poller.error() is None
    poller.close()


def test_a_fatal_page_gives_the_rule_and_the_evidence() -> None:
    poller = PagePoller()
    page = tx_ring_page([request(200, offset=4000)])
    poller.ring_page[:] = page
    assert poller.poll() == guest_tx.CROSSES_PAGE
    error = poller.error()
    assert error is not None
    assert (error.rule, error.index) == ("F5", 0)
    poller.close()


def test_one_call_is_enough_for_one_page() -> None:
    (packet,) = poll_page(tx_ring_page([request(60)]))
    assert packet.data == bytes(60)
    # A grant table of zeroes grants nothing: the packet is dropped.
    assert poll_page(tx_ring_page([request(60)]), bytes(4096)) == []


def test_a_poller_can_be_used_again() -> None:
    poller = PagePoller()
    page = tx_ring_page([request(60)])
    for _ in range(3):
        poller.ring_page[:] = page
        assert poller.poll() == guest_tx.OK
        assert len(poller.packets()) == 1
    poller.close()


def test_load_fills_up_with_zeroes_and_refuses_what_is_too_long() -> None:
    poller = PagePoller()
    poller.ring_page[:] = b"x" * 4096
    poller.load(b"abc")
    assert bytes(poller.ring_page) == b"abc" + bytes(4093)
    for page, table, what in ((bytes(4097), None, "ring page"), (b"d", bytes(5000), "grant table")):
        with pytest.raises(ValueError, match=f"a {what} has 4096 bytes, not"):
            poller.load(page, table)
    assert bytes(poller.ring_page[:3]) == b"abc", "nothing was written"
    with pytest.raises(ValueError, match="not 9000"):
        poll_page(bytes(9000))
    poller.close()


def test_a_packet_whose_reference_grants_nothing_is_counted() -> None:
    poller = PagePoller()
    poller.load(tx_ring_page([request(60, gref=400), request(60)]))
    assert poller.poll() == guest_tx.OK
    assert (poller.errors, len(poller.packets())) == (1, 1)
    poller.close()


def test_reset_makes_everything_as_at_the_start() -> None:
    poller, fresh = PagePoller(), PagePoller()
    for view in (poller.ring_page, poller.grant_table, poller.pages):
        view[:] = Random(3).randbytes(len(view))
    poller.config[0] = 77
    poller.poll()
    poller.reset()
    for name in ("ring_page", "grant_table", "pages"):
        assert bytes(getattr(poller, name)) == bytes(getattr(fresh, name)), name
    assert poller.config == fresh.config
    for used in (poller, fresh):
        used.close()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    start=st.sampled_from([0, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    ahead=st.integers(0, 300) | st.integers(0, 2**32 - 1),
    max_packets=st.integers(0, 256),
)
def test_any_bytes_give_a_verdict_and_touch_nobody_else(
    seed: int, start: int, ahead: int, max_packets: int
) -> None:
    random = Random(seed)
    poller = PagePoller()
    memory = poller.machine.memory
    poller.ring_page[:] = random.randbytes(4096)
    poller.ring_page[0:4] = ((start + ahead) % 2**32).to_bytes(4, "little")
    if random.random() < 0.7:
        poller.grant_table[:] = random.randbytes(4096)
    for i in range(256):
        if random.random() < 0.5:
            at = SRING_HEADER_SIZE + 12 * i
            poller.ring_page[at : at + 12] = request(
                random.choice([14, 60, 4096]), gref=random.randrange(520)
            )
    stage = range(poller._stage.first, poller._stage.first + poller._stage.count)
    before = {
        frame: bytes(memory.u8[4096 * frame : 4096 * frame + 4096])
        for frame in range(memory.nr_frames)
        if memory.owner[frame] != GUEST and frame not in stage
    }
    verdict = poller.poll(start, max_packets)
    assert 0 <= verdict <= guest_tx.BAD_GSO_TYPE
    assert len(poller.packets()) <= max_packets
    assert (verdict != guest_tx.OK) == (poller.error() is not None)
    for frame, content in before.items():
        assert bytes(memory.u8[4096 * frame : 4096 * frame + 4096]) == content, (
            f"frame {frame} of domain {memory.owner[frame]} was written, only those of domain "
            f"{GUEST} and the stage of domain {HOST} may be"
        )
    poller.close()
