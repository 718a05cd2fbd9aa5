"""Lets the tests of this directory import their helper, and a machine for each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from calling_program import Program, Site


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.machine.close()


@pytest.fixture
def front(site: Site) -> Program:
    return site.front
