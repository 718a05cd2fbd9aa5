"""Locks between processes: who has one, who waits, and that nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path

import pytest

from xennet.engine import process_lock
from xennet.engine.process_lock import PATIENCE, ProcessLocks

#: A process that does as each line of its input says, ``acquire NAME`` or ``release NAME``, and
#: answers; the end of its input ends it.
OTHER = """
import sys
from xennet.engine.process_lock import ProcessLocks

locks = ProcessLocks(sys.argv[1])
for line in sys.stdin:
    verb, name = line.split()
    print(getattr(locks, verb)(name), flush=True)
"""


class Clock:
    """Stands for ``time``, in a test; ``asleep`` is called in each sleep."""

    def __init__(self, asleep: Callable[[], object] = lambda: None) -> None:
        self.now = 0.0
        self._asleep = asleep

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._asleep()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def other(path: Path) -> Iterator[Callable[[str], str]]:
    """What another process answers to a line; None ends it at once."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout

        def asked(line: str) -> str:
            if line == "die":
                process.kill()
                process.wait()
                return ""
            print(line, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        try:
            yield asked
        finally:
            process.kill()


def test_one_process_has_a_lock_and_others_go_on_without_it(
    path: Path, other: Callable[[str], str]
) -> None:
    locks = ProcessLocks(path)
    assert other("acquire kernel") == "True"
    assert not locks.acquire("kernel", patience=0)
    assert locks.acquire("another", patience=0)
    assert other("release kernel") == "None"
    assert locks.acquire("kernel", patience=0)
    locks.release("kernel")
    assert other("acquire kernel") == "True"


def test_who_waits_gets_the_lock_when_it_is_released(
    path: Path, other: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_lock, "time", Clock(lambda: other("release kernel")))
    assert other("acquire kernel") == "True"
    assert ProcessLocks(path).acquire("kernel")


def test_the_lock_of_a_process_that_dies_is_free(
    path: Path, other: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_lock, "time", Clock(lambda: other("die")))
    assert other("acquire kernel") == "True"
    assert ProcessLocks(path).acquire("kernel")


def test_nobody_waits_for_ever(
    path: Path, other: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(process_lock, "time", clock)
    assert other("acquire kernel") == "True"
    assert not ProcessLocks(path).acquire("kernel")
    assert PATIENCE <= clock.now < PATIENCE + 1


def test_two_processes_that_hold_a_lock_each_and_want_the_other_part(
    path: Path, other: Callable[[str], str]
) -> None:
    locks = ProcessLocks(path)
    assert locks.acquire("a")
    assert other("acquire b") == "True"
    assert not locks.acquire("b", patience=0)
    locks.release("b")  # which it has not
    locks.release("a")
    assert other("acquire a") == "True"


def test_a_child_that_is_forked_has_no_lock(path: Path) -> None:
    script = """
import os, sys
from xennet.engine.process_lock import ProcessLocks

locks = ProcessLocks(sys.argv[1])
assert locks.acquire("kernel")
if not (child := os.fork()):
    mine = ProcessLocks(sys.argv[1]).acquire("kernel", patience=0)
    locks.release("kernel")  # as one that compiles would: it is the parent's
    os._exit(mine)
assert os.waitpid(child, 0)[1] == 0
if not (child := os.fork()):
    os._exit(ProcessLocks(sys.argv[1]).acquire("kernel", patience=0))
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script, path], check=True)


@pytest.mark.parametrize("place", ["missing/lock", "."])
def test_a_file_that_cannot_be_made_gives_no_lock(tmp_path: Path, place: str) -> None:
    locks = ProcessLocks(tmp_path / place)
    assert not locks.acquire("kernel")
    locks.release("kernel")


def test_the_file_is_open_while_a_lock_is_held(path: Path) -> None:
    def is_open() -> bool:
        return str(path) in map(os.path.realpath, glob("/proc/self/fd/*"))

    locks = ProcessLocks(path)
    for name in ("kernel", "called"):
        assert locks.acquire(name)
        assert is_open()
    locks.release("called")
    assert is_open()
    locks.release("kernel")
    assert not is_open()
