"""Makes the helper modules of this directory importable by name; says why there is no daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from xennet.bench.real_xenstored import CannotStartError, prepare

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def real_xenstored() -> None:
    """Skips the test where the real C xenstored cannot be had."""
    try:
        prepare()
    except CannotStartError as reason:
        pytest.skip(f"the real xenstored cannot run here: {reason}")
