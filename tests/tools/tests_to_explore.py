"""Hypothesis tests for tools/explore.py to run; pytest collects them only where they are named."""

import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

#: What is wrong: "" (nothing), "sum" or "hang".
FAULT = os.environ.get("XENNET_TESTS_FAULT", "")


class Adding(RuleBasedStateMachine):
    total = 0

    @rule(number=st.integers(0, 1000))
    def add(self, number: int) -> None:
        self.total += number
        assert FAULT != "sum" or self.total < 2000


TestAdding = Adding.TestCase


@given(st.integers())
@settings(max_examples=10)
def test_a_number_is_seen(number: int) -> None:
    assert FAULT != "sum" or number < 0
    while FAULT == "hang":
        time.sleep(0.1)


def test_without_hypothesis_are_not_explored() -> None:
    raise AssertionError
