"""Drivers in C, compiled once, and a host for each test, on which nothing may be left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
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
#: Program -> its source and what it is built with.
SOURCES = {
    "netfront": (EXAMPLES / "netfront.c", GUEST),
    "netback": (EXAMPLES / "netback.c", ["-lxengnttab", "-lxenevtchn", "-lxenstore"]),
    "guest_calls": (HERE / "guest_calls.c", GUEST),
    "hostile_guest": (HERE / "hostile_guest.c", GUEST),
}
HEADERS = ("xen/io/netif.h", "xengnttab.h", "xenevtchn.h", "xenstore.h")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the compiled programs."""
    if reason := why_not(*HEADERS):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("foreign")
    built = {}
    for name, (source, options) in SOURCES.items():
        built[name] = str(folder / name)
        command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-o"]
        made = subprocess.run(
            [*command, built[name], str(source), *options], capture_output=True, text=True
        )
        assert not made.returncode, made.stderr
    return built


@pytest.fixture
def worlds(programs: dict[str, str]) -> Iterator[Callable[..., World]]:
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
