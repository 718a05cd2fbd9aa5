"""Two real processes on one memory, at the same time: what the rules of order and the atomic
operations are for. The deterministic proofs are those of tests/adversary; this is the hardware.

A load, a change and a store instead of one operation is what loses updates. That is shown first,
with an adversary, because two processes show it only now and then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xennet.adversary import interleavings
from xennet.engine.choice import shared
from xennet.engine.kernel import U32Words, compare_and_swap, fetch_or
from xennet.engine.libatomic import LibAtomic

LITMUS = Path(__file__).parent / "litmus.py"


def or_in_one_step(words: U32Words, bit: int) -> None:
    fetch_or(words, 0, bit)


def or_in_two(words: U32Words, bit: int) -> None:
    words[0] |= bit


def add_in_one_step(words: U32Words, number: int) -> None:
    seen = words[0]
    while (found := compare_and_swap(words, 0, seen, seen + number)) != seen:
        seen = found


def add_in_two(words: U32Words, number: int) -> None:
    words[0] += number


@pytest.mark.parametrize(
    ("change", "found"),
    [(or_in_one_step, {3}), (or_in_two, {1, 3}), (add_in_one_step, {3}), (add_in_two, {1, 3})],
)
def test_what_is_done_in_two_steps_undoes_what_another_does_between_them(
    change: Callable[[U32Words, int], None], found: set[int]
) -> None:
    """The 2 of the other one is gone if it came between the load of 0 and the store of 1."""
    ends = {
        words[0]
        for _, words in interleavings(
            lambda: shared(memoryview(bytearray(4)).cast("I"), "word"),
            lambda words: change(words, 1),
            lambda words, _: change(words, 2),
        )
    }
    assert ends == found


def missing(engine: str) -> str | None:
    """Why a process cannot change shared words in this way, if it cannot."""
    if engine == "fast":
        return None if find_spec("numba") else "the compiled engine is not installed"
    try:
        LibAtomic()
    except OSError as error:
        return f"there is no libatomic: {error}"
    return None


@pytest.mark.parametrize(
    "engines",
    [("fast", "fast"), ("plain", "plain"), ("fast", "plain"), ("plain", "fast")],
    ids=["compiled", "libatomic", "compiled and libatomic", "libatomic and compiled"],
)
def test_two_processes_lose_nothing_and_neither_sleeps_for_ever(engines: tuple[str, str]) -> None:
    for engine in engines:
        if reason := missing(engine):
            pytest.skip(reason)
    one, other = run(engines)
    # Sleep against publish: one of the two always sees the other.
    assert one["rounds"] >= 100
    assert one["asleep"] == 0
    # Different bits of one word: each bit is what its process made it.
    assert (one["lost bits"], other["lost bits"], one["bits left"]) == (0, 0, 0)
    # A counter: exact.
    assert one["counter"] == one["counted"] + other["counted"]
    assert other["counter"] == one["counter"]


def run(engines: tuple[str, str]) -> list[dict[str, Any]]:
    """What each of two processes found."""
    fd = os.memfd_create("litmus")
    os.ftruncate(fd, os.sysconf("SC_PAGESIZE"))
    children = []
    try:
        for me, engine in enumerate(engines):
            command = [sys.executable, str(LITMUS), str(fd), engine, str(me)]
            children.append(
                subprocess.Popen(
                    command,
                    pass_fds=[fd],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        found = []
        for child in children:
            out, err = child.communicate(timeout=120)
            assert child.returncode == 0, err
            found.append(json.loads(out))
        return found
    finally:
        os.close(fd)
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
