"""What the fuzzer's inputs are to other readers of the same page: the independent model, and the
other backend."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "netback"))

import pytest
from tx_model import ERROR, OKAY, expect

from xennet.abi.netif import TX_REQUEST, TX_RESPONSE
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import TX_SLOTS
from xennet.fuzz.compiled_loop import RECORD_BYTES
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.ring_mutations import NR_POKES, POKE_WORDS, POKES
from xennet.fuzz.targets import tx_differs
from xennet.fuzz.targets.tx_differs import TxDiffers
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.guest_tx import R_PACKETS, R_SLOTS
from xennet.ring import tx_ring_page

_SLOT = 12


def test_the_model_answers_every_input_of_a_corpus_as_the_backend_does() -> None:
    target = TxTarget()
    target.seed(21)
    assert target.burst(1200).finding is None
    compared = Counter[str]()
    for given in target.corpus():
        record = target._record(given)
        if any(record[POKES : POKES + NR_POKES * POKE_WORDS]):
            continue  # the model knows no grants
        page, start, ahead = given.section("tx page"), record[4096 // 4], record[0]
        ahead = (ahead - start) % 2**32
        places = [SRING_HEADER_SIZE + _SLOT * ((start + i) % TX_SLOTS) for i in range(TX_SLOTS)]
        wanted = expect([page[at : at + _SLOT] for at in places], ahead)
        assert target.execute(given) is None
        poller = target._poller
        error = poller.error()
        assert (error.rule if error else "") == wanted.rule
        assert poller.res[R_SLOTS] == len(wanted.statuses)
        assert poller.res[R_PACKETS] <= len(wanted.packets)
        for at, (ident, status) in zip(places, wanted.statuses, strict=False):
            response = TX_RESPONSE.read(poller.ring_page, at)
            assert ident is None or response.id == ident
            # A copy may fail, of which the model knows nothing.
            assert response.status == status or (status, response.status) == (OKAY, ERROR)
        compared[wanted.rule] += 1
        compared["packets"] += poller.res[R_PACKETS]
    target.close()
    assert compared["packets"] > 100
    assert {"", "F1", "F2", "F5", "F8", "F9"} <= compared.keys()


def test_every_difference_from_the_other_backend_is_a_listed_defect() -> None:
    target = TxDiffers()
    target.seed(4)
    rows, left = set[str](), 400
    while left > 0:
        burst = target.burst(left)
        left -= burst.executions
        if burst.finding is not None:
            rule, _, which = burst.finding.rule.partition(":")
            assert rule == "differs"
            assert which, burst.found_by
            rows |= set(which.split("/"))
    target.close()
    assert len(rows) > 5


@pytest.mark.parametrize(
    ("additional", "rule"), [(18, None), (19, "differs:F3"), (20, "differs:F3")]
)
def test_a_packet_of_many_slots_is_one_for_the_other_backend(
    additional: int, rule: str | None
) -> None:
    target = TxDiffers()
    first = TX_REQUEST.pack(8, 0, 4, 0, 60 + additional)
    later = [TX_REQUEST.pack(9, 0, 4 * (i < additional), i, 1) for i in range(1, additional + 1)]
    page = tx_ring_page([first, *later])
    finding = target.execute(FuzzInput("tx-differs", (("tx page", page),)))
    assert (finding.rule if finding else None) == rule
    target.close()


@pytest.mark.parametrize(
    ("sizes", "rule"),
    [
        ([], "differs:F3"),
        ([60], "differs:F3"),
        ([13], "differs"),  # answered otherwise (A17), which the oracle here has no name for
    ],
)
def test_only_a_difference_in_a_packet_of_many_slots_is_the_limit(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], rule: str
) -> None:
    monkeypatch.setattr(tx_differs, "rows_met", lambda *_: {})
    before = [TX_REQUEST.pack(8, 0, 0, 0, size) for size in sizes]
    first = TX_REQUEST.pack(8, 0, 4, 0, 79)
    later = [TX_REQUEST.pack(9, 0, 4 * (i < 19), i, 1) for i in range(1, 20)]
    page = tx_ring_page([*before, first, *later])
    target = TxDiffers()
    finding = target.execute(FuzzInput("tx-differs", (("tx page", page),)))
    target.close()
    assert finding is not None
    assert finding.rule == rule


@pytest.mark.parametrize("extras", [0, 1, 3])
@pytest.mark.parametrize("additional", [18, 19, 20, 21])
def test_slots_of_a_long_packet_are_told_from_others(extras: int, additional: int) -> None:
    """A packet before, one of ``additional`` slots with extra infos, one behind."""
    one = TX_REQUEST.pack(8, 0, 0, 0, 60)
    first = TX_REQUEST.pack(8, 0, 4 | 8 * (extras > 0), 0, 60 + additional)
    infos = [bytes([1, i < extras - 1]) + bytes(10) for i in range(extras)]
    later = [TX_REQUEST.pack(9, 0, 4 * (i < additional), i, 1) for i in range(1, additional + 1)]
    slots = [one, first, *infos, *later, one]
    record = array("I", (bytes(64) + b"".join(slots)).ljust(RECORD_BYTES, b"\0"))
    of_packet = range(1, len(slots) - 1)
    for slot in range(-1, len(slots)):
        wanted = slot in of_packet and additional in (19, 20)
        assert tx_differs._in_long_packet(memoryview(record), len(slots), slot) is wanted
