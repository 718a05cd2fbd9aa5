"""Drivers in C, compiled once, and a host for each test, on which nothing may be left."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from foreign_world import World

from xennet.bench.compiler import why_not

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
INCLUDE = HERE.parents[1] / "xennet" / "include"
GUEST = [f"-I{INCLUDE}", str(INCLUDE / "xennet-guest.c")]
XEN = ["-lxengnttab", "-lxenevtchn", "-lxenstore"]
#: Program -> its source and what it is built with.
SOURCES = {
    "netfront": (EXAMPLES / "netfront.c", GUEST),
    "netback": (EXAMPLES / "netback.c", XEN),
    "check_netfront": (HERE / "check_netfront.c", [f"-I{EXAMPLES}", *GUEST]),
    "check_netback": (HERE / "check_netback.c", XEN),
    "guest_calls": (HERE / "guest_calls.c", GUEST),
    "hostile_guest": (HERE / "hostile_guest.c", GUEST),
}
HEADERS = ("xen/io/netif.h", "xengnttab.h", "xenevtchn.h", "xenstore.h")


class Programs(dict[str, str]):
    """Program -> its path; compiled when it is first needed, once for all processes of a test run:
    ``folder`` is theirs. "check_netback-16" is compiled with bug 16."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __missing__(self, name: str) -> str:
        program, _, bug = name.partition("-")
        source, options = SOURCES[program]
        path = self.folder / name
        command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", str(path)]
        command += [f"-DBUG_{bug}", "-O0"] if bug else ["-O1"]
        with open(self.folder / "lock", "w") as lock:
            flock(lock, LOCK_EX)
            if not path.exists():
                made = subprocess.run(
                    [*command, str(source), *options], capture_output=True, text=True
                )
                assert not made.returncode, made.stderr
        self[name] = str(path)
        return self[name]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The paths of the programs in C."""
    if platform.machine() not in ("x86_64", "amd64"):
        pytest.skip("the shared-info page is that of 64-bit x86")
    if reason := why_not(*HEADERS):
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    return Programs((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "foreign")


@pytest.fixture
def worlds(programs: Programs) -> Iterator[Callable[..., World]]:
    """Makes hosts; what they hold at the end is an error."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World.make(programs, **options))
        return made[-1]

    yield make
    try:
        for world in made:
            for running in world.running:
                running.kill()
                world.finish(running)
            assert not world.held()
            assert not world.server.files
    finally:
        for world in made:
            world.close()
