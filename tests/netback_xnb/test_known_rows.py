"""Defects that are switched off: each alone, all but one, all; and the oracle that names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_inputs import (
    INPUTS,
    NO_GRANT,
    C,
    E,
    Input,
    M,
    V,
    extra,
    request,
    ring,
    to_guest,
    udp,
)

from xennet import XnbPoller
from xennet.abi.netif import TX_RESPONSE
from xennet.netback import xnb
from xennet.netback.poll_page import FIRST_GREF
from xennet.netback.xnb.defects import WHAT
from xennet.netback.xnb.keys import read_softc_features
from xennet.netback.xnb.known import CONSOLE_LINES, FIXED, Rows
from xennet.netback.xnb.oracle import difference, outcome, rows_met
from xennet.netback.xnb.policy import xnb_policy
from xennet.ring import rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalMachine, MinimalStore
from xennet.xenbus.nodes import NodeDirectory

ON_RINGS = [row for row in FIXED if row[0] in "AB"]


@pytest.fixture(scope="module")
def poller() -> Iterator[XnbPoller]:
    poller = XnbPoller()
    yield poller
    poller.close()


def statuses(poller: XnbPoller) -> list[int]:
    sring = tx_ring(poller.ring_page, poller.ring_page.cast("I"))
    return [TX_RESPONSE.unpack_from(sring.copy_slot(i))[1] for i in range(sring.rsp_prod)]


def played(poller: XnbPoller, play: Input, known: frozenset[str] = frozenset()) -> XnbPoller:
    poller.reset()
    poller.known = known
    play(poller)
    return poller


# -- rows ------------------------------------------------------------------------------------------


def test_every_row_of_the_package_says_what_takes_its_place() -> None:
    described = set(re.findall(r"^([ABC]\d+) ", xnb.__doc__ or "", re.M))
    assert described == set(FIXED)
    assert set(INPUTS) == set(ON_RINGS)
    assert set(WHAT) <= set(FIXED)


@pytest.mark.parametrize("take", [XnbPoller, xnb_policy], ids=["poller", "policy"])
def test_an_unknown_row_is_one_error_that_lists_the_rows(take: type) -> None:
    with pytest.raises(ValueError, match=r"unknown rows A23, Z1; there are A1, A2, .*, C10$"):
        take(known={"A1", "Z1", "A23"})
    with pytest.raises(ValueError, match="unknown rows B11"):
        rows_met(XnbPoller(), INPUTS["A1"], known={"B11"})


@pytest.mark.parametrize("row", ON_RINGS)
def test_the_oracle_names_the_row_as_it_is_and_behind_all_others(
    poller: XnbPoller, row: str
) -> None:
    assert row in rows_met(poller, INPUTS[row])
    assert list(rows_met(poller, INPUTS[row], known=FIXED.keys() - {row})) == [row]
    assert rows_met(poller, INPUTS[row], known=FIXED) == {}


def test_the_oracle_tells_what_is_different(poller: XnbPoller) -> None:
    found = rows_met(poller, INPUTS["A3"], known=FIXED.keys() - {"A3"})
    assert found == {"A3": "tx cons 0 instead of 1"}
    panic = rows_met(poller, INPUTS["A13"])["A13"]
    assert panic.startswith("panic A12/A13 instead of none; tx cons 0 instead of 1")
    slots = rows_met(poller, INPUTS["A22"], known=FIXED.keys() - {"A22"})["A22"]
    assert slots.startswith("tx slots 0100")
    assert "at byte 12 instead of 0000" in slots


def test_the_oracle_leaves_the_poller_with_the_input_as_it_is(poller: XnbPoller) -> None:
    rows_met(poller, INPUTS["A1"], known={"B1"})
    assert poller.known == {"B1"}
    assert poller.error() is not None


def test_a_row_that_is_known_lets_the_next_one_be_found(poller: XnbPoller) -> None:
    both = ring(request(100, M), request(200), request(60, gref=NO_GRANT))
    assert list(rows_met(poller, both)) == ["A1"]
    assert "A12" in rows_met(poller, both, known={"A1", "A10"})


def test_C1_a_missing_node_is_a_byte_of_the_stack_or_its_default() -> None:
    machine = MinimalMachine()
    machine.domain(0)
    keys = NodeDirectory(MinimalStore(machine, 0), "/local/domain/1/device/vif/0")
    assert not read_softc_features(keys).ip_csum
    assert not read_softc_features(keys, Rows(FIXED.keys() - {"C1"})).ip_csum
    assert read_softc_features(keys, Rows({"C1"})).ip_csum


# -- all known: sound ------------------------------------------------------------------------------

tx_slot = st.one_of(
    st.builds(
        request,
        st.sampled_from([0, 1, 13, 14, 60, 60, 100, 1514, 4096, 4097, 40000, 65535]),
        st.sampled_from([0, 0, 0, M, M, E, E | M, C, C | V, V, 0xFFFF]),
        gref=st.sampled_from([FIRST_GREF, FIRST_GREF, FIRST_GREF + 1, NO_GRANT, 0xFFFFFFFF]),
        offset=st.sampled_from([0, 0, 0, 100, 4000, 65535]),
        ident=st.integers(0, 300),
    ),
    st.builds(
        extra,
        st.sampled_from([1, 1, 2, 3, 4, 5, 0, 9]),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([1448, 1448, 0]),
        st.sampled_from([1, 2, 0, 9]),
    ),
    st.binary(min_size=12, max_size=12),
)
tx_slots = st.lists(tx_slot, max_size=30) | st.builds(
    lambda slot, n, rest: [slot] * n + rest, tx_slot, st.integers(20, 256), st.lists(tx_slot)
)
rx_grefs = st.lists(
    st.sampled_from([FIRST_GREF, FIRST_GREF, FIRST_GREF + 1, FIRST_GREF + 2, NO_GRANT]), max_size=30
)


def both_rings(
    slots: list[bytes],
    ahead: int,
    memory: bytes,
    grefs: list[int],
    frames: list[int],
    gso: int,
    far: int,
    segments: int,
) -> Input:
    up = ring(*slots[:256], produced=len(slots) + ahead, memory=memory)
    return up + to_guest(grefs, frames, gso=gso, ahead=far, segments=segments)


anything = st.builds(
    both_rings,
    tx_slots,
    st.sampled_from([0, 0, 0, 0, 3, 1000, 2**32 - 300]),
    st.binary(max_size=60) | st.builds(udp),
    rx_grefs,
    st.lists(st.sampled_from([1, 60, 1514, 4096, 4097, 9000, 65535, 65636]), max_size=3),
    st.sampled_from([0, 0, 1448]),
    st.sampled_from([0, 0, 0, 1000, 2**31]),
    st.sampled_from([2048, 2048, 700]),
)


@settings(max_examples=150, deadline=None)
@given(play=anything)
def test_with_all_rows_known_any_input_is_handled_soundly(poller: XnbPoller, play: Input) -> None:
    played(poller, play, frozenset(FIXED))
    assert poller.error() is None
    assert (poller.met, poller.struck) == (frozenset(), [])
    softc, up = poller.softc, tx_ring(poller.ring_page, poller.ring_page.cast("I"))
    down = rx_ring(poller.rx_page, poller.rx_page.cast("I"))
    if softc.carrier:
        # All that was consumed is answered, in both rings, and what comes next is announced.
        assert up.rsp_prod == softc.txb.req_cons == softc.txb.rsp_prod_pvt
        assert up.req_event == up.req_prod + 1
        assert down.rsp_prod == softc.rxb.req_cons == softc.rxb.rsp_prod_pvt
        assert down.req_event == down.req_prod + 1
    assert softc.rows.lines <= CONSOLE_LINES
    waits = sum(1 for mbufc in softc.ifp.if_snd for _ in xnb.chain(mbufc))
    assert softc.pool.in_use == waits
    assert all(len(packet.data) >= 14 for packet in poller.packets())


@settings(max_examples=100, deadline=None)
@given(play=anything, row=st.sampled_from(ON_RINGS), others=st.sets(st.sampled_from(ON_RINGS)))
def test_a_row_that_was_not_met_makes_no_difference(
    poller: XnbPoller, play: Input, row: str, others: set[str]
) -> None:
    known = frozenset(others - {row})
    before = outcome(played(poller, play, known))
    if row not in poller.met:
        assert difference(before, outcome(played(poller, play, known | {row}))) == ""


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), start=st.integers(0, 2**32 - 1))
def test_with_all_rows_known_random_pages_are_no_panic(
    poller: XnbPoller, seed: int, start: int
) -> None:
    random = Random(seed)
    poller.reset()
    poller.known = frozenset(FIXED)
    poller.load(random.randbytes(4096))
    poller.rx_page[:] = random.randbytes(4096)
    ahead = (start + random.randrange(300)).to_bytes(5, "little")[:4]
    poller.ring_page[:4] = poller.rx_page[:4] = ahead
    poller.queue(bytes(random.randrange(1, 9000)))
    assert poller.poll(start, rx_start=start) == 0
    assert not poller.met
