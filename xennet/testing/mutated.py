"""Bugs on demand: functions of this process that run with one place of their source changed.

A check, a fuzz target or an exercise is worth what it finds. A mutation says which text of a source
file is replaced by which; while it is applied, the function that the text stands in has the code of
the changed source. Everybody who holds the function runs it, objects that exist already as well::

    with Mutation("xennet/netback/guest_tx.py", "if first_at + left > PAGE_SIZE:  # F5",
                  "if False:").applied():
        ...  # the backend copies beyond the page

Only ``function.__code__`` changes, and is set back at the end. So it works for plain kernels and
drivers, not for compiled ones (choose the engine "plain"), and not for what a module does when it
is imported. Mutations of functions that are running take effect with the next call. It is for one
thread.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from attrs import frozen


class MutationError(Exception):
    """A mutation cannot be made: the text is not there, or more than once, or in no function."""


@frozen
class Mutation:
    """``before`` is replaced by ``after`` in ``file``, a path from the root of the sources
    ("xennet/netback/guest_tx.py"). The text stands there once, inside one function."""

    file: str
    before: str
    after: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The function is mutated within the block. Raises MutationError, and then nothing is."""
        with mutated(function_with(self.file, self.before), self.before, self.after):
            yield


@frozen
class Mutant:
    """Mutations that make one bug, called ``id``; ``bug`` says in words what it does."""

    id: str
    bug: str
    mutations: tuple[Mutation, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """All of them are applied within the block. Raises MutationError, and then none is."""
        with ExitStack() as stack:
            for mutation in self.mutations:
                stack.enter_context(mutation.applied())
            yield


@contextmanager
def mutated(function: Any, before: str, after: str) -> Iterator[None]:
    """``function`` (also a method, a property) has the code of its source with ``before``, which
    stands there once, replaced by ``after`` within the block. Raises MutationError."""
    plain = _plain(function)
    old = plain.__code__
    source = _replaced(inspect.getsource(plain), before, after, plain.__qualname__)
    plain.__code__ = _compiled(plain, textwrap.dedent(source))
    try:
        yield
    finally:
        plain.__code__ = old


def function_with(file: str, text: str) -> FunctionType:
    """The function of ``file`` in which ``text`` stands. Raises MutationError."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    source = inspect.getsource(module)
    if source.count(text) != 1:
        raise MutationError(f"{file} has {source.count(text)} times, not once: {text!r}")
    line = source[: source.index(text)].count("\n") + 1
    last = line + text.rstrip("\n").count("\n")
    path = _path_to(ast.parse(source), line, last)
    found: Any = module
    for name in path:
        found = inspect.getattr_static(found, name)
    if not path or inspect.isclass(found):
        raise MutationError(f"{file}, line {line}: {text!r} is in no function")
    return _plain(found)


def load_mutants(file: Path | str) -> dict[str, Mutant]:
    """The mutants of a TOML file, or of text as of one, by id.

    Each ``[[mutant]]`` has an ``id``, a ``bug`` in words, and either ``file``, ``before`` and
    ``after`` or ``mutations``, an array of tables with these three; other keys are for others.
    """
    found = {}
    text = file if isinstance(file, str) else file.read_text()
    for row in tomllib.loads(text)["mutant"]:
        places = row.get("mutations", [row])
        found[row["id"]] = Mutant(
            row["id"],
            row["bug"],
            tuple(Mutation(one["file"], one["before"], one["after"]) for one in places),
        )
    return found


def _plain(function: Any) -> FunctionType:
    """The function that a method, a property or a decorated function is made of."""
    if isinstance(function, property):
        function = function.fget
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, FunctionType):
        raise MutationError(f"{function!r} is no function of Python source")
    return function


def _replaced(source: str, before: str, after: str, where: str) -> str:
    """The source of a function with one replacement, whatever the indentation of the text."""
    if source.count(before) == 1:
        return source.replace(before, after)
    old, new = textwrap.dedent(before).strip("\n"), textwrap.dedent(after).strip("\n")
    pattern = re.compile(r"\n".join(rf"([ ]*){re.escape(line)}" for line in old.split("\n")))
    found = list(pattern.finditer(source))
    if len(found) != 1:
        raise MutationError(f"{where} has {len(found)} times, not once: {before!r}")
    begin, end = found[0].span()
    indented = textwrap.indent(new, found[0][1])
    return source[:begin] + indented + source[end:]


def _path_to(tree: ast.AST, line: int, last: int) -> list[str]:
    """Names of the classes and the function around lines ``line`` to ``last``; of nested functions
    the outer one."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        if node.lineno <= line and last <= (node.end_lineno or 0):
            inner = _path_to(node, line, last) if isinstance(node, ast.ClassDef) else []
            return [node.name, *inner]
    return []


def _compiled(function: FunctionType, source: str) -> CodeType:
    """The code of ``source``, a function that stands where ``function`` does."""
    old = function.__code__
    tree = ast.parse(source)
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.increment_lineno(tree, old.co_firstlineno - 1)
    if old.co_freevars:  # as in the function or class that it was defined in
        outer = ast.parse(f"def outer({', '.join(old.co_freevars)}): pass").body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body = [definition]
        tree.body = [outer]
    flags = old.co_flags & __future__.annotations.compiler_flag
    code = compile(tree, old.co_filename, "exec", flags=flags, dont_inherit=True)
    if old.co_freevars:
        code = _inner(code, "outer")
    code = _inner(code, old.co_name)
    if code.co_freevars != old.co_freevars:
        raise MutationError(
            f"{function.__qualname__}: the change uses other variables of the function around it"
        )
    return code


def _inner(code: CodeType, name: str) -> CodeType:
    """The code of the function ``name`` that is defined in ``code``."""
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
