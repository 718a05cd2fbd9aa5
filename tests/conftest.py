"""Makes the shared helper modules of this directory importable, and both engines choosable."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# A CI run judges a change, so it must give the same answer twice; new examples are tried elsewhere.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

sys.path.insert(0, str(Path(__file__).parent))

NO_NUMBA = pytest.mark.skipif(
    find_spec("numba") is None, reason="numba is not installed: no fast engine"
)


@pytest.fixture(
    params=[
        "plain",
        pytest.param("fast", marks=NO_NUMBA),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once with each engine."""
    from xennet.engine import using

    with using(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _plain_unless_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests run plain kernels, which need no compiling, unless they take the engine fixture."""
    from xennet.engine import using

    if "engine" in request.fixturenames:
        yield
    else:
        with using("plain"):
            yield
