"""Makes this directory's helper modules importable by name; sites to run both ends on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["minimal", "grant table v1", "grant table v2"])
def site(request: pytest.FixtureRequest) -> Iterator[object]:
    """Two domains on the minimal hypervisor, and on the emulator."""
    from control_sites import EmulatorSite, MinimalSite

    if request.param == "minimal":
        yield MinimalSite()
        return
    site = EmulatorSite(int(request.param[-1]))
    yield site
    site.close()
