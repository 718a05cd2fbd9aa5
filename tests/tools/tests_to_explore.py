"""Hypothesis tests for tools/explore.py to run; pytest collects them only where they are named."""

import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

#: What is wrong: "" (nothing), "sum", "hang" or "crash".
FAULT = os.environ.get("XENNET_TESTS_FAULT", "")


class Adding(RuleBasedStateMachine):
    total = 0

    @rule(number=st.integers(0, 1000))
    def add(self, number: int) -> None:
        self.total += number
        assert FAULT != "sum" or self.total < 2000


TestAdding = Adding.TestCase
TestAdding.settings = settings(max_examples=20)


@given(st.integers())
@settings(max_examples=10)
def test_a_number_is_seen(number: int) -> None:
    assert FAULT != "sum" or number < 0
    if "XENNET_TESTS_PID" in os.environ:
        with open(os.environ["XENNET_TESTS_PID"], "a") as file:
            print(os.getpid(), file=file)
    while FAULT == "hang":
        time.sleep(0.1)
    if FAULT == "crash":
        os._exit(3)


def test_without_hypothesis_are_not_explored() -> None:
    raise AssertionError
