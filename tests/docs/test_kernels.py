"""A kernel can be read: it fits a screen or two, and takes what belongs together as one tuple."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

PACKAGE = Path(__file__).parents[2] / "xennet"
#: From ``def`` to the last line, docstring, comments and blank lines included.
MAX_LINES = 80
MAX_PARAMETERS = 12
#: Files whose engines hand kernels on.
ENGINES = {"adversary.py", "recordings.py"}


def given_to_an_engine() -> Iterator[FunctionType]:
    """What the package's files hand to ``Engine.kernel``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "engine" in path.relative_to(PACKAGE).parts or path.name in ENGINES:
            continue
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if ".kernel(" in source else ():
            match node:
                case ast.Call(func=ast.Attribute(attr="kernel"), args=[wanted]):
                    name = ".".join(["xennet", *path.relative_to(PACKAGE).with_suffix("").parts])
                    yield eval(ast.unparse(wanted), vars(import_module(name)))


def with_all_that_they_call(roots: Iterator[FunctionType]) -> set[FunctionType]:
    """Kernels, and the functions that they call, as they are compiled with them."""
    found: set[FunctionType] = set()
    waiting: list[Any] = list(roots)
    while waiting:
        kernel = waiting.pop()
        if isinstance(kernel, FunctionType) and kernel not in found:
            found.add(kernel)
            waiting += (kernel.__globals__.get(name) for name in kernel.__code__.co_names)
    return found


def file_of(kernel: Callable[..., object]) -> str:
    return Path(inspect.getfile(kernel)).relative_to(PACKAGE).as_posix()


def faults(kernel: FunctionType) -> list[str]:
    lines, parameters = len(inspect.getsourcelines(kernel)[0]), kernel.__code__.co_argcount
    found = [f"{lines} lines"] if lines > MAX_LINES else []
    return found + ([f"{parameters} parameters"] if parameters > MAX_PARAMETERS else [])


def test_a_kernel_is_short_and_takes_little() -> None:
    kernels = with_all_that_they_call(given_to_an_engine())
    found = {(file_of(kernel), kernel.__name__): faults(kernel) for kernel in kernels}
    assert {("netback/guest_tx.py", "read_chain"), ("vif/extra.py", "put_gso")} <= set(found)
    assert {kernel: why for kernel, why in found.items() if why} == {}
