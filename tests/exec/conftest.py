"""A machine that serves programs, and programs in C that are compiled once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from exec_world import World


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the program that makes the system calls it is told to."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("exec") / "caller"
    subprocess.run(
        [compiler, "-O1", "-w", "-o", str(path), str(Path(__file__).with_name("caller.c"))],
        check=True,
    )
    return str(path)


@pytest.fixture
def world(caller: str) -> Iterator[World]:
    """A host of two guests whose domains programs can run in; nothing of them is left at the
    end."""
    with World(caller) as made:
        yield made
