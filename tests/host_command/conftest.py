"""Makes live_hosts importable (tests run with importmode=importlib)."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short name: that of a socket in it has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="xh") as name:
        yield Path(name)
