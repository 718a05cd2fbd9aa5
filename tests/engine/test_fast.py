"""The compiled engine: its cache, and what it refuses."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from array import array
from collections.abc import Callable
from functools import partial, reduce
from glob import glob
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TypeAlias

import branching
import numpy as np
import pytest
from numba.core.errors import TypingError

from xennet.engine import kernel as kernels
from xennet.engine.branches import reached
from xennet.engine.choice import named
from xennet.engine.fast import FastEngine, in_line
from xennet.engine.fast.cache import kept_code, sources
from xennet.engine.fast.translate import translate
from xennet.engine.kernel import Each, U32Array, U32Words
from xennet.netback import guest_tx

PACKAGE = Path(kernels.__file__).parents[1]

#: A kernel of the package on a ring of its own, in a process of its own.
RUN = """
from array import array
from xennet.engine.choice import current
from xennet.netback.guest_tx import await_requests

engine = current()
ring = engine.view(array("I", bytes(4096))), engine.view(array("I", (0, 0)))
print(engine.kernel(await_requests)(ring))
"""


def run(cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XENNET_ENGINE": "fast", "XENNET_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False
    )


def compiled(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}


def test_compiled_code_is_kept_on_disk_and_found_again(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 0
    first = compiled(tmp_path)
    assert any("await_requests" in name for name in first)
    assert run(tmp_path).returncode == 0
    assert compiled(tmp_path) == first


def translated(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("*.cpython-*")}


@pytest.mark.parametrize("damage", [b"", b"half", bytes(200)])
def test_translated_code_that_is_damaged_is_made_again(tmp_path: Path, damage: bytes) -> None:
    assert run(tmp_path).returncode == 0
    first = translated(tmp_path)
    assert any(name.startswith("xennet.netback.guest_tx-") for name in first)
    for path in tmp_path.rglob("*.cpython-*"):
        path.write_bytes(damage)
    result = run(tmp_path)
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr
    assert translated(tmp_path) == first


def flipped(content: bytes) -> bytes:
    """All bits of a byte in the middle of the machine code are others."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("nbi", lambda content: b""),
        ("nbi", lambda content: bytes(len(content))),
        ("nbc", lambda content: bytes(len(content))),
        ("nbc", flipped),
    ],
    ids=["an index without bytes", "an index of zeroes", "code of zeroes", "bits of code"],
)
def test_compiled_code_that_is_damaged_is_made_again(
    tmp_path: Path, kind: str, damaged: Callable[[bytes], bytes]
) -> None:
    assert run(tmp_path).returncode == 0
    kept = sorted(tmp_path.rglob(f"*.{kind}"))
    assert kept
    for path in kept:
        path.write_bytes(damaged(path.read_bytes()))
    result = run(tmp_path)
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr
    first = compiled(tmp_path)
    assert run(tmp_path).returncode == 0
    assert compiled(tmp_path) == first  # and kept


def test_translated_code_that_cannot_be_kept_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    code = compile("1", "made", "eval")
    assert kept_code("a.kernel", __file__, lambda: code) == code
    (kept,) = tmp_path.rglob("a.kernel-*")
    kept.unlink()
    kept.mkdir()  # nothing can be put in its place
    assert kept_code("a.kernel", __file__, lambda: code) == code
    assert list(kept.parent.iterdir()) == [kept]


def test_translated_code_belongs_to_the_place_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path / "cache"))
    files = [tmp_path / place / "kernel.py" for place in ("here", "moved")]
    for file in files:
        file.parent.mkdir()
        file.write_text("1")
        code = kept_code("a.kernel", str(file), partial(compile, "1", str(file), "eval"))
        assert code.co_filename == str(file)


def test_code_from_the_cache_leaves_numbas_registries_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "XENNET_ENGINE": "fast", "XENNET_CACHE_DIR": str(tmp_path)}
    loaded = RUN + "import sys\nprint('numba.np.linalg' in sys.modules)\n"
    found = [
        subprocess.run(
            [sys.executable, "-c", loaded], env=environment, capture_output=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert found == [[b"0", b"True"], [b"0", b"False"]]


def test_code_from_the_cache_needs_none_of_the_kernels_that_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    prepared = []
    for _ in range(2):
        engine = FastEngine()
        kinds = engine.kernel(branching.kinds)
        kinds(np.zeros(1, np.uint32), np.zeros(1, np.int64))
        prepared.append(branching.called in engine._translator._parts)
    assert prepared == [True, False]


def test_machine_code_is_made_of_kernels_that_python_calls_and_the_others_are_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))

    def machine_code() -> list[str]:
        made = (path for path in tmp_path.rglob("*.nbc") if b"\x7fELF" in path.read_bytes())
        return sorted(path.name.split("-")[0] for path in made)

    words, res = np.array([1 << 20, 7], np.uint32), np.zeros(1, np.int64)
    engine = FastEngine()
    assert engine.kernel(branching.kinds)(words, res) == 199
    assert machine_code() == ["branching.kinds"]
    assert engine.kernel(branching.called)(5, 0) == 2
    assert machine_code() == ["branching.called", "branching.kinds"]
    for path in tmp_path.rglob("branching.kinds-*"):
        path.unlink()
    another = FastEngine()
    assert another.kernel(branching.kinds)(words, res) == 199
    assert another._translator._parts[branching.called].stats.cache_hits.total() == 1


def test_parts_have_machine_code_with_a_version_of_numba_that_was_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(in_line, "KNOWN", ((0, 1), (0, 2)))
    words, res = np.array([1 << 20, 7], np.uint32), np.zeros(1, np.int64)
    assert FastEngine().kernel(branching.kinds)(words, res) == 199
    called = [path.read_bytes() for path in tmp_path.rglob("branching.called-*.nbc")]
    assert called
    assert all(b"\x7fELF" in code for code in called)


def kernels_of_the_package() -> set[FunctionType]:
    """What the package asks an engine for, and what that calls."""
    found: set[FunctionType] = set()
    for path in PACKAGE.rglob("*.py"):
        names = re.findall(r"\.kernel\(([a-z_.]+)\)", path.read_text())
        space = vars(import_module(module_of(path))) if names else {}
        for first, *rest in (name.split(".") for name in names):
            root = reduce(getattr, rest, space[first]) if first in space else None
            if isinstance(root, FunctionType):
                found.update(reached(root))
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def test_cached_code_is_stamped_with_every_file_that_kernels_have_names_from() -> None:
    stamped = {module_of(Path(path)) for path in sources()}
    every = kernels_of_the_package()
    assert len(every) > 200
    missing = set()
    for kernel in every:
        module = sys.modules[kernel.__module__]
        tree = ast.parse(inspect.getsource(module))
        imported = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if not isinstance(vars(module).get(alias.name), ModuleType)
        }
        names = imported.keys() & set(kernel.__code__.co_names)
        missing |= {(imported[name], name) for name in names if imported[name] not in stamped}
    assert not missing


def test_a_cache_that_cannot_be_made_does_no_harm(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    result = run(blocked / "cache")
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr


#: As RUN; tells when it waits for another process, and how often it compiled the kernel.
WAIT = (
    "input()\n"
    "from xennet.engine import process_lock\n"
    "pause = process_lock.time.sleep\n"
    "process_lock.time.sleep = lambda seconds: (print('waits', flush=True), pause(seconds))\n"
    + RUN
    + "print('compiled', engine.kernel(await_requests).stats.cache_misses.total())\n"
)


def test_a_process_waits_for_the_code_that_another_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XENNET_ENGINE", "fast")
    await_requests = FastEngine().kernel(guest_tx.await_requests)
    compiler = await_requests._compiler
    compile_now = compiler.compile
    with subprocess.Popen(
        [sys.executable, "-c", WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def compile_when_the_other_waits(*args: object) -> object:
            print(file=other.stdin, flush=True)
            assert other.stdout.readline() == "waits\n"
            return compile_now(*args)

        monkeypatch.setattr(compiler, "compile", compile_when_the_other_waits)
        ring = tuple(np.zeros(1024, np.uint32) for _ in range(2))
        try:
            assert await_requests(ring) == 0
            printed = other.stdout.read().splitlines()
            assert [line for line in printed if line != "waits"] == ["0", "compiled 0"]
        finally:
            other.kill()
    assert sum("await_requests" in name for name in compiled(tmp_path)) == 1


def test_a_kernel_that_cannot_be_compiled_is_left_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    with pytest.raises(TypingError):
        FastEngine().kernel(guest_tx.await_requests)(None)
    (lock,) = tmp_path.rglob("lock")
    assert str(lock) not in map(os.path.realpath, glob("/proc/self/fd/*"))


def test_kernels_read_memory_that_the_caller_owns() -> None:
    engine = named("fast")
    words = array("I", bytes(4096))
    pvt = array("I", (0, 0))
    words[0] = 5
    await_requests = engine.kernel(guest_tx.await_requests)
    ring = (engine.view(words), engine.view(pvt))
    assert await_requests(ring) == 1
    words[0] = 0
    assert await_requests(ring) == 0
    assert words[1] == 1  # req_event


def test_a_view_does_not_hinder_the_release_of_what_it_views() -> None:
    buffer = memoryview(bytearray(16))
    view = named("fast").view(buffer)
    buffer.release()
    assert len(view) == 16


def test_only_module_level_functions_are_kernels() -> None:
    with pytest.raises(TypeError, match="module-level"):
        named("fast").kernel(print)


def test_translation_makes_each_load_one_load_and_turns_slice_copies_into_calls() -> None:
    tree = translate(
        ast.parse(
            "def f(a: U32Words, b: U32Array, pair: Pair) -> int:\n"
            "    a[1:3] = b[4:6]\n"
            "    a[0] = b[1]\n"
            "    b[2] += 1\n"
            "    c, _ = pair\n"
            "    return a[0] + c[0] + b[a[1]]\n"
        )
    )
    assert ast.unparse(tree) == (
        "def f(a, b, pair):\n"
        "    _xennet_copy_bytes(a, 1, b, 4, 3 - 1)\n"
        "    a[_xennet_index(0)] = _xennet_int64(b[_xennet_index(1)])\n"
        "    b[_xennet_index(2)] += 1\n"
        "    c, _ = pair\n"
        "    return _xennet_load_once(a, 0) + _xennet_load_once(c, 0)"
        " + _xennet_int64(b[_xennet_index(_xennet_load_once(a, 1))])"
    )


def test_shared_words_are_not_changed_by_a_load_and_a_store() -> None:
    with pytest.raises(TypeError, match=r"line 2: a is changed by others too.* use fetch_or"):
        translate(ast.parse("def f(a: U32Words) -> None:\n    a[1] |= 8\n"))


def test_what_a_tuple_is_unpacked_into_is_what_its_alias_says() -> None:
    source = "def f(ring: Ring) -> int:\n    page, pvt = ring\n    return page[0] + pvt[1]\n"
    tree = translate(ast.parse(source), {"Ring": kernels.Ring})
    loads = "_xennet_load_once(page, 0) + _xennet_int64(pvt[_xennet_index(1)])"
    assert ast.unparse(tree).endswith(loads)
    source = source.replace("Ring", "tuple[U32Words, Vector]")
    assert ast.unparse(translate(ast.parse(source))) == ast.unparse(tree)
    source = "def f(ring: Ring) -> None:\n    page, pvt = ring\n    page[1] += 1\n"
    with pytest.raises(TypeError, match=r"line 3: page is changed by others too"):
        translate(ast.parse(source), {"Ring": kernels.Ring})


#: name, (words, weight), bytes
Holder: TypeAlias = "tuple[int, tuple[U32Array, int], U32Array]"


def weigh(holders: Each, sums: Each, which: int) -> int:
    """Notes the item ``which``, and returns its name, words by weight, and length."""
    name, weighted, content = holders[which]
    words, weight = weighted
    sums[which][0] += words[0] * weight
    return name + 10 * sums[which][0] + 1000 * len(content)


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_an_item_of_several_is_chosen_when_the_kernel_runs(engine: str, count: int) -> None:
    by = named(engine)
    words = [array("I", (2 + i, 77)) for i in range(count)]
    content = [bytearray(3 + i) for i in range(count)]
    sums = [array("q", (0,)) for _ in range(count)]
    holders = [
        (i, (by.view(words[i]), 3 - i), by.view(memoryview(content[i]))) for i in range(count)
    ]
    seen = list(map(by.view, sums))
    kernel = by.kernel(weigh)
    args = by.each(holders), by.each(seen)
    for _ in range(2):
        words[-1][0] += 1
        got = [kernel(*args, i) for i in range(count)]
        assert got == [i + 10 * sums[i][0] + 1000 * (3 + i) for i in range(count)]
    last = count - 1
    assert [each[0] for each in sums[:-1]] == [2 * (2 + i) * (3 - i) for i in range(last)]
    assert sums[-1][0] == (3 + last + 4 + last) * (3 - last)


@pytest.mark.parametrize(
    "other", [(1, array("q", (2,))), (array("I", (2,)), 1), (1, array("I", (2,)), 0)]
)
def test_items_of_several_are_alike(other: tuple[object, ...]) -> None:
    engine = named("fast")
    first = (1, engine.view(array("I", (2,))))
    alike = tuple(engine.view(part) if isinstance(part, array) else part for part in other)
    engine.each([first, first])
    with pytest.raises(TypeError, match="items of different kinds"):
        engine.each([first, alike])


def test_items_without_a_table_are_not_taken_for_some_with_one() -> None:
    engine = named("fast")
    words = engine.view(array("I", (1,)))
    with pytest.raises(TypingError, match="no table"):
        engine.kernel(weigh)((words, words), engine.each([words]), 0)


def read_twice_of_shared(words: U32Words, other: U32Words) -> int:
    first = words[3]
    other[0] = first + 1
    return first - words[3]


def read_twice_of_private(words: U32Array, other: U32Array) -> int:
    return words[3] - words[3]


def read_once(words: U32Words, other: U32Words) -> int:
    found = words[3]
    other[0] = found
    if found > 100:
        other[1] = found
    return found + other[2]


@pytest.mark.parametrize(
    ("kernel", "loads"),
    [(read_twice_of_shared, 2), (read_twice_of_private, 0), (read_once, 2)],
)
def test_machine_code_loads_a_shared_word_as_often_as_the_source_does(
    kernel: Callable[..., int], loads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))  # code out of a cache shows no loads
    engine = named("fast")
    views = engine.view(array("I", range(8))), engine.view(array("I", bytes(32)))
    compiled = engine.kernel(kernel)
    compiled(*views)
    (code,) = compiled.inspect_llvm().values()
    body = code[code.index("define ") : code.index("\n}\n")]
    assert len(re.findall(r"= load atomic i32, .* acquire", body)) == loads
    assert not re.findall(r"= load i32,", body)
