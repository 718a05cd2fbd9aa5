"""Targets of the tests are plain, and so are those of the processes that they start: one file
compares them with compiled ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xennet.engine.choice import VARIABLE, using

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, "plain")
    with using("plain"):
        yield
