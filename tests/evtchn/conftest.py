"""Makes the helper modules of this directory importable, and every rule tried with either ABI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from evtchn_bench import Bench


@pytest.fixture(params=["2l", "fifo"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """All rules of ports hold with either ABI."""
    return Bench(request.param)
