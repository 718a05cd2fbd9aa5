"""Lets the tests of this directory import their helpers, here and one level up."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pytest  # noqa: E402

from xennet.testing.xnb_world import XnbWorld  # noqa: E402


@pytest.fixture
def world() -> XnbWorld:
    return XnbWorld()
