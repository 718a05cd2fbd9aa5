"""Scenarios count objects again and again: not those of everything that is loaded."""

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_others() -> None:
    gc.collect()
    gc.freeze()
