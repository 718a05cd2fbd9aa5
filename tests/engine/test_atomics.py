"""Words that both sides change: the same operations in every form, and which form is taken."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.adversary import Adversary
from xennet.engine import atomics, kernel
from xennet.engine.atomics import AtomicsError, OwnMap
from xennet.engine.choice import named, shared, using
from xennet.engine.libatomic import LibAtomic, address_of
from xennet.memory import Memory

FORMATS = "BHIQ"
OPERATIONS = ("compare_and_swap", "fetch_or", "fetch_and")


def memfd(size: int = 4096) -> mmap.mmap:
    """Memory as another process could map it."""
    fd = os.memfd_create("atomics")
    os.ftruncate(fd, size)
    try:
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def forms() -> Iterator[Any]:
    """(name, the three operations on a memoryview) of each way there is."""

    def plain() -> Any:
        return kernel

    def libatomic() -> Any:
        try:
            return LibAtomic()
        except OSError as error:
            pytest.skip(f"no libatomic here: {error}")

    def compiled() -> Any:
        pytest.importorskip("numba", reason="the compiled engine is not installed")
        from xennet.engine.fast.primitives import CompiledAtomics

        return CompiledAtomics()

    for form in plain, libatomic, compiled:
        yield pytest.param(form, id=form.__name__)


@pytest.fixture(params=forms())
def form(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.mark.parametrize("fmt", FORMATS)
def test_each_form_changes_an_item_and_says_what_was_there(form: Any, fmt: str) -> None:
    raw = bytearray(b"\xa5" * 64)
    words = memoryview(raw).cast(fmt)
    size, at = words.itemsize, 3
    top = 1 << 8 * size - 1
    words[at] = top | 5
    assert form.compare_and_swap(words, at, 5, 9) == top | 5
    assert words[at] == top | 5
    assert form.compare_and_swap(words, at, top | 5, top | 9) == top | 5
    assert form.fetch_or(words, at, 6) == top | 9
    assert form.fetch_and(words, at, ~(top | 1)) == top | 15
    assert words[at] == 14
    assert form.fetch_and(words, at, 0) == 14
    assert words[at] == 0
    # And nothing beside it.
    assert raw[: at * size] == b"\xa5" * (at * size)
    assert raw[(at + 1) * size :] == b"\xa5" * (64 - (at + 1) * size)


@pytest.fixture(scope="module")
def three() -> list[Any]:
    found = []
    for param in forms():
        try:
            found.append(param.values[0]())
        except pytest.skip.Exception:
            continue
    return found


STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    max_size=20,
)


@given(steps=STEPS, start=st.integers(0, 0xFFFF))
def test_all_forms_agree(three: list[Any], steps: list[tuple[str, int, int]], start: int) -> None:
    def run(form: Any) -> list[int]:
        words = memoryview(array("H", (1, start, 2)))
        seen = []
        for name, first, second in steps:
            # Often what is there: a swap that succeeds.
            old = words[1] if first & 1 else first
            extra = (old, second) if name == "compare_and_swap" else (first,)
            seen += [getattr(form, name)(words, 1, *extra), *words]
        return seen

    plain, *others = (run(form) for form in three)
    assert all(other == plain for other in others)


def test_kernels_have_the_same_operations_compiled() -> None:
    pytest.importorskip("numba", reason="the compiled engine is not installed")
    engine = named("fast")
    words = array("I", (0, 0x8000_0005))
    view = engine.view(words)
    assert engine.kernel(kernel.compare_and_swap)(view, 1, 0x8000_0005, 7) == 0x8000_0005
    assert engine.kernel(kernel.fetch_or)(view, 1, 8) == 7
    assert engine.kernel(kernel.fetch_and)(view, 1, ~1) == 15
    assert words[1] == 14


# Which form is taken


@pytest.mark.parametrize(
    "make", [lambda: OwnMap(4096), lambda: bytearray(4096), lambda: array("B", bytes(4096))]
)
def test_memory_of_this_process_alone_takes_no_atomic_operation(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomics, "of_processes", lambda: pytest.fail("it would"))
    words = memoryview(make()).cast("B").cast("I")[8:]
    assert kernel.fetch_or(words, 2, 6) == 0
    assert kernel.fetch_and(words, 2, 3) == 6
    assert kernel.compare_and_swap(words, 2, 2, 1) == 2
    assert words[2] == 1


class Recorder:
    """Says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def compare_and_swap(self, words: memoryview, at: int, old: int, new: int) -> int:
        self.asked.append(("compare_and_swap", at, old, new))
        return 1

    def fetch_or(self, words: memoryview, at: int, bits: int) -> int:
        self.asked.append(("fetch_or", at, bits))
        return 2

    def fetch_and(self, words: memoryview, at: int, bits: int) -> int:
        self.asked.append(("fetch_and", at, bits))
        return 3


@pytest.mark.parametrize(
    "make", [memfd, lambda: mmap.mmap(-1, 4096)], ids=["a memfd", "a map that children inherit"]
)
def test_memory_that_others_may_map_takes_atomic_operations_whatever_view_it_is_seen_by(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(atomics, "of_processes", lambda: recorder)
    words = memoryview(make())[64:].cast("I")[8:]
    assert kernel.compare_and_swap(words, 2, 0, 9) == 1
    assert kernel.fetch_or(words, 1, 6) == 2
    assert kernel.fetch_and(words, 0, ~6) == 3
    assert recorder.asked == [
        ("compare_and_swap", 2, 0, 9),
        ("fetch_or", 1, 6),
        ("fetch_and", 0, ~6),
    ]
    assert not any(words)


def test_memory_that_is_quiet_takes_plain_operations_until_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(atomics, "of_processes", lambda: recorder)
    memory = Memory(1, shared=True)
    assert not memory.quiet
    memory.quiet = True
    assert kernel.fetch_or(memory.u32, 2, 6) == 0
    assert kernel.alone(memory.u32)
    memory.quiet = False
    assert not kernel.alone(memory.u32)
    assert kernel.fetch_or(memory.u32, 2, 1) == 2
    assert memory.u32[2] == 6
    assert recorder.asked == [("fetch_or", 2, 1)]
    memory.close()


@pytest.mark.usefixtures("sharing")
def test_the_views_of_an_arena_say_by_themselves_whether_it_is_shared() -> None:
    with closing(Memory(2)) as own:
        assert atomics.of(own.run(1).u16) is None
        assert kernel.alone(own.run(1).u16)
    with closing(Memory(2, shared=True)) as common:
        run = common.run(1)
        for view in run.u8, run.u16, run.u32, run.u64:
            assert atomics.of(view) is atomics.of_processes()
            assert not kernel.alone(view)
        run.revoke()


@pytest.mark.usefixtures("sharing")
def test_an_adversary_watches_both_kinds_of_memory() -> None:
    adversary = Adversary()
    with using(adversary):
        views = [shared(memoryview(make).cast("I"), "words") for make in (bytearray(8), memfd())]
    assert not any(map(kernel.alone, views))
    seen: list[str] = []
    with adversary.watching(lambda access: seen.append(str(access))):
        for view in views:
            assert kernel.fetch_or(view, 1, 5) == 0
            assert kernel.compare_and_swap(view, 1, 4, 6) == 5
            assert kernel.fetch_and(view, 1, 4) == 5
    values = (5, 5, 4)
    assert seen == [
        f"point {i + 1}: update of {values[i % 3]:#x}, words, bytes 4..7" for i in range(6)
    ]


# What is refused


def test_without_libatomic_and_without_numba_nothing_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ctypes.PyDLL", missing)
    monkeypatch.setattr(atomics, "find_spec", lambda name: None)
    atomics.of_processes.cache_clear()
    try:
        with pytest.raises(AtomicsError, match=r"install libatomic .* or the extra .xennet.fast"):
            Memory(4, shared=True)
        with pytest.raises(AtomicsError, match="install libatomic"):
            kernel.fetch_or(memoryview(memfd()), 0, 1)
        with closing(Memory(4)) as memory:
            assert kernel.fetch_or(memory.u32, 0, 1) == 0
    finally:
        atomics.of_processes.cache_clear()


def missing(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


def test_without_libatomic_the_compiled_engine_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the compiled engine is not installed")
    monkeypatch.setattr("ctypes.PyDLL", missing)
    atomics.of_processes.cache_clear()
    try:
        assert type(atomics.of_processes()).__name__ == "CompiledAtomics"
    finally:
        atomics.of_processes.cache_clear()


class LockingLibrary:
    """A libatomic of a machine that cannot change eight bytes in one step."""

    def __init__(self, name: str) -> None:
        pass

    def __getitem__(self, name: str) -> Any:
        def function(size: int = 0, *_: Any) -> bool:
            return size < 8

        return function


def test_a_libatomic_that_takes_locks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.PyDLL", LockingLibrary)
    with pytest.raises(OSError, match="takes a lock for 8 bytes"):
        LibAtomic()


@pytest.mark.parametrize("at", [-1, 4])
def test_an_item_outside_of_the_view_is_not_touched(at: int) -> None:
    with pytest.raises(IndexError, match=f"item {at} of a view of 4"):
        address_of(memoryview(bytearray(16)).cast("I"), at)


def test_an_item_that_is_not_aligned_is_refused() -> None:
    odd = memoryview(bytearray(16))[1:9].cast("I")
    with pytest.raises(ValueError, match="item 1 of 4 bytes lies at 0x"):
        address_of(odd, 1)


@pytest.mark.usefixtures("sharing")
def test_a_page_that_is_mapped_readonly_is_not_changed() -> None:
    with closing(Memory(1, shared=True)) as memory:
        words = memory.u32.toreadonly()
        with pytest.raises(TypeError, match="not writable"):
            kernel.fetch_or(words, 0, 1)
        words.release()
