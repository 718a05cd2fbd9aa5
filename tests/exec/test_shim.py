"""The library that is preloaded, in programs that do what is allowed and seldom done."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from exec_world import GNTALLOC, World

from xennet.exec import shim
from xennet.exec.launch import launch, socket_paths

HERE = Path(__file__).parent
_STRICT = ("-Wall", "-Wextra", "-Werror", "-O2", "-pthread")


def compiled(directory: Path, source: str, *flags: str) -> Path:
    """The path of what a file of this directory is compiled to."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = directory / Path(source).stem
    command = [compiler, *_STRICT, "-o", str(path), str(HERE / source), *flags]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, and a library it needs whose constructor is called before any other's."""
    directory = tmp_path_factory.mktemp("shim")
    early = compiled(directory, "early.c", "-shared", "-fPIC")
    return compiled(
        directory, "shim_cases.c", "-rdynamic", "-Wl,--no-as-needed", str(early), "-ldl"
    )


def run(world: World, cases: Path, case: str) -> None:
    """Run a case in domain 2. It ends itself after a minute."""
    program = launch([str(cases), case], socket_paths(world.directory, 2)[0])
    pidfd = os.pidfd_open(program.pid)
    try:
        world.hold(lambda: program.poll() is not None, pidfd, program.poll)
    finally:
        program.kill()
        program.wait()
        os.close(pidfd)
    assert program.returncode == 0


@pytest.mark.parametrize("case", ["early", "end", "signals", "forks"])
def test_a_program_finds_what_it_would_find_alone(world: World, cases: Path, case: str) -> None:
    run(world, cases, case)


def test_more_pieces_of_mappings_than_are_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every other page goes, then more is mapped, then all goes: the server knows of each."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    monkeypatch.setenv("CC", f"{compiler} -DMAX_RANGES=4")
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    program = world.caller()
    fd = program.open(GNTALLOC)
    offset, _ = program.alloc(fd, 1, 16)
    address = program.mmap(fd, offset, 16)
    left = set(range(16))
    for page in range(1, 16, 2):
        program.munmap(address + page * 4096)
        left.discard(page)
        assert mapped(world, address) == left
    for _ in range(6):
        other = program.mmap(fd, offset)
        program.munmap(other)
    again = program.mmap(fd, offset)
    program.munmap(address, 16)
    program.munmap(again)
    assert not mapped(world, address)
    assert not [view for one in world.server.programs.values() for view in one.views]


def mapped(world: World, address: int) -> set[int]:
    """The pages from an address on that the server takes for mapped."""
    views = [view for one in world.server.programs.values() for view in one.views]
    return {
        (view.lo - address) // 4096 + page
        for view in views
        for page in range(view.count)
        if 0 <= (view.lo - address) // 4096 + page < 16
    }


def test_the_compiler_has_nothing_to_say(tmp_path: Path) -> None:
    # <poll.h> of glibc 2.36 says that poll() reads nothing of its array.
    source = str(Path(shim.__file__).with_name("shim.c"))
    compiled(tmp_path, source, "-shared", "-fPIC", "-Wno-maybe-uninitialized", "-ldl")
