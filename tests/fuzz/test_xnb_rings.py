"""The targets of xnb: each row is found from an empty corpus, and is told with an input that shows
it again."""

from __future__ import annotations

from random import Random

import pytest

from xennet.fuzz.targets.xnb_rings import ROWS, XnbIntr, XnbRx, XnbTarget, XnbTx
from xennet.netback.xnb import tx

ALL = frozenset(ROWS)
_MEANWHILE = {"A15", "A16"}
FOR_HOST = {row for row in ROWS if row[0] == "A"}


@pytest.mark.parametrize(
    ("made", "wanted", "executions"),
    [
        (XnbTx, FOR_HOST - _MEANWHILE, 3000),
        (XnbRx, set(ROWS) - FOR_HOST, 8000),
        (XnbIntr, _MEANWHILE, 8000),
    ],
)
def test_every_row_is_found_from_an_empty_corpus(
    made: type[XnbTarget], wanted: set[str], executions: int
) -> None:
    target = made()
    target.seed(1)
    found = {}
    while executions > 0 and not wanted <= found.keys():
        burst = target.burst(executions)
        executions -= burst.executions
        if burst.finding is not None:
            assert burst.found_by is not None
            found[burst.finding.rule] = target.known, burst
            target.known |= {burst.finding.rule}
    target.close()
    assert wanted - found.keys() == set()
    other = made()
    for known, burst in found.values():
        other.known = known
        assert burst.found_by is not None
        assert other.execute(burst.found_by) == burst.finding
    other.close()


def test_with_all_rows_known_there_is_nothing_to_find() -> None:
    for made in XnbTx, XnbRx, XnbIntr:
        target = made(ALL)
        target.seed(3)
        burst = target.burst(300)
        assert (burst.executions, burst.finding) == (300, None)
        assert burst.packets > 0
        assert target.corpus_size > 5
        target.close()


def test_a_row_is_a_state_that_a_counter_shows() -> None:
    target = XnbTx(ALL - {"A3"})
    begun = target.start(Random(1))
    assert target.execute(begun) is None
    empty = begun.with_section("tx page", begun.section("tx page")[:64])
    finding = target.execute(empty)
    assert finding is not None
    assert finding.rule == "A3"
    assert target.counters[target.states + ROWS.index("A3")] == 1
    target.close()


def test_the_driver_has_its_own_code_again_when_no_target_is_open() -> None:
    code = tx.recv.__code__
    first, second = XnbTx(), XnbRx()
    counting = tx.recv.__code__
    assert counting is not code
    first.close()
    assert tx.recv.__code__ is counting
    second.close()
    assert tx.recv.__code__ is code
