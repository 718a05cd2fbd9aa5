"""Makes gnttab_world importable, and runs tests with both table versions."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gnttab_world import World


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def world(request: pytest.FixtureRequest) -> World:
    """Domains 0, 1 and 2 with tables of one version."""
    return World((request.param,) * 3)


@pytest.fixture
def v2() -> World:
    """Domains 0, 1 and 2 with version 2 tables."""
    return World((2, 2, 2))
