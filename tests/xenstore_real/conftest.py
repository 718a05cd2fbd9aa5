"""Makes the helper modules of this directory importable by name; says why there is no daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from xennet.bench.real_xenstored import CannotStartError, available, prepare

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def real_xenstored() -> str:
    """Version of a real C xenstored that can be had; skips the test where there is none."""
    try:
        return available()
    except CannotStartError as reason:
        pytest.skip(f"the real xenstored cannot run here: {reason}")


def _need(version: str) -> None:
    try:
        prepare(version)
    except CannotStartError as reason:
        pytest.skip(f"the real xenstored {version} cannot run here: {reason}")


@pytest.fixture(scope="session")
def xenstored_4_17() -> None:
    """Skips the test where this version of the real C xenstored cannot be had."""
    _need("4.17")


@pytest.fixture(scope="session")
def xenstored_4_20() -> None:
    """Skips the test where this version of the real C xenstored cannot be had."""
    _need("4.20")
