"""Makes this directory's helper modules importable by name, and runs tests that have to fail."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from back_world import MUST_FAIL


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    outcome = yield
    reason = pyfuncitem.stash.get(MUST_FAIL, None)
    if reason is None:
        return
    if outcome.excinfo is None:
        outcome.force_exception(AssertionError(f"should have failed: {reason}"))
    else:
        outcome.force_result(True)
