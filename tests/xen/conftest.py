"""Processes in domains of the machine need the libraries of the Xen tools and a C compiler."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "xenbus"))

from xennet.exec.errors import ExecError
from xennet.exec.shim import shim_path
from xennet.xen.errors import XenError
from xennet.xen.libraries import library


@pytest.fixture(scope="session")
def libraries() -> None:
    """Skips where there are no such libraries, or no compiler."""
    try:
        for name in ("libxengnttab.so.1", "libxenevtchn.so.1", "libxentoollog.so.1"):
            library(name)
        shim_path()
    except (XenError, ExecError) as missing:
        pytest.skip(str(missing))
