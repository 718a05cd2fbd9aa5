"""Makes port_helpers importable (tests run with importmode=importlib), and closes ports."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from port_helpers import close_opened


@pytest.fixture(autouse=True)
def _ports_are_closed() -> Iterator[None]:
    yield
    close_opened()
