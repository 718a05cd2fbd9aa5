"""A plugin of pytest: a test that kills mutants runs once for each of them, with it applied.

``python -m pytest -p unseen TEST...``, with this folder in the path. In place of reports it writes
{mutant: words of the first failure} into the file that XENNET_ZOO_KILLED names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from zoo import exhibits

RESULTS = "XENNET_ZOO_KILLED"

_KILLED: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    for mutant in exhibits().values():
        killers = (mutant.killer, f"{mutant.killer}[")
        if not mutant.killer or mutant.id in _KILLED:
            continue
        if item.nodeid != killers[0] and not item.nodeid.startswith(killers[1]):
            continue
        assert mutant.mutant is not None
        with mutant.mutant.applied():
            reports = runtestprotocol(item, log=False, nextitem=None)
        item._initrequest()  # type: ignore[attr-defined] # for the next one, as for a repetition
        for report in reports:
            if report.failed and report.when == "call":
                _KILLED[mutant.id] = str(report.longrepr).splitlines()[-1]
    return True


def pytest_sessionfinish() -> None:
    Path(os.environ[RESULTS]).write_text(json.dumps(_KILLED))
