"""What the fuzzer's inputs are to other readers of the same page: the independent model, and the
other backend."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "netback"))

import pytest
from tx_model import ERROR, OKAY, expect

from xennet.abi.netif import TX_REQUEST, TX_RESPONSE
from xennet.abi.ring import SRING_HEADER, SRING_HEADER_SIZE
from xennet.abi.words import TX_SLOTS
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.ring_mutations import NR_POKES, POKE_WORDS, POKES
from xennet.fuzz.targets.tx_differs import TxDiffers
from xennet.fuzz.targets.tx_page import TxTarget
from xennet.netback.guest_tx import R_PACKETS, R_SLOTS

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
    page = SRING_HEADER.pack(1 + additional, 1, 0, 1, b"", b"") + first + b"".join(later)
    finding = target.execute(FuzzInput("tx-differs", (("tx page", page.ljust(4096, b"\0")),)))
    assert (finding.rule if finding else None) == rule
    target.close()
