"""How Hypothesis runs here (tests/conftest.py)."""

from __future__ import annotations

import inspect

from hypothesis import settings
from hypothesis.internal.conjecture import engine


def test_the_same_examples_are_tried_every_time() -> None:
    assert settings.get_current_profile_name() == "test"
    assert settings.default.derandomize
    assert settings.default.database is None


def test_the_explorer_tries_others() -> None:
    explore = settings.get_profile("explore")
    assert not explore.derandomize
    assert explore.phases == settings.default.phases


def test_no_example_fails_for_the_time_it_takes() -> None:
    assert settings.default.deadline is None


def test_the_limit_for_making_an_example_smaller_is_the_one_that_hypothesis_reads() -> None:
    assert engine.MAX_SHRINKING_SECONDS == 10
    assert "MAX_SHRINKING_SECONDS" in inspect.getsource(engine.ConjectureRunner)
