"""Makes the helper module here importable, and folders of distributions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from distributions import Install, install

from xennet.port.spec import PORTS
from xennet.run.links import LINKS


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs into a folder of the test that is on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    for registry in (PORTS, LINKS):
        registry.forget()
    yield lambda *what: install(tmp_path, *what)
    for registry in (PORTS, LINKS):
        registry.forget()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
