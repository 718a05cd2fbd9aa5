"""xennet's own drivers under the suite."""

from __future__ import annotations

import pytest

from xennet.check.builtin_target import BUILTIN
from xennet.check.check import Side, all_checks
from xennet.check.outcome import Outcome
from xennet.check.runner import run_checks


@pytest.mark.parametrize(("side", "name"), BUILTIN)
def test_a_built_in_driver_refuses_a_slot_that_reaches_out_of_its_page(
    side: Side, name: str
) -> None:
    wanted = [one for one in all_checks(side) if one.id.endswith("slot-in-page")]
    (result,) = run_checks(BUILTIN[side, name], wanted)
    assert result.word == ("FAIL" if name == "xnb" else "pass")
    assert result.control is Outcome.ANSWERED
