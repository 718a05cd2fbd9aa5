"""Counters at the branches of functions, added to their source: the functions stay as they are.

A fuzzer wants to know which way an execution went. :class:`Branches` numbers the places where
functions branch, and puts into a copy of their syntax trees

* a count at each entry, arm of an ``if`` or ``match``, body of a loop, ``except``, arm of a
  conditional expression, and operand of ``and`` / ``or`` behind the first;
* a note of both operands at each comparison that does not hold (of ``==`` and ``!=``: that differ),
  from which mutations take values.

How a count looks is the :class:`Form`'s matter: plain code (:mod:`xennet.engine.counted_plain`) and
compiled code (:mod:`xennet.engine.fast.counted`) count the same places under the same numbers. A
counter stays at 255. Source that is not given here has no counters and costs nothing.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Protocol

from attrs import frozen

#: The most that a counter counts to.
MOST = 255


@frozen
class Branch:
    """A place that has a counter. ``kind``: "entry", "if", "else", "loop", "case", "except",
    "then", "otherwise" (of a conditional expression), "and" or "or"."""

    file: str
    line: int
    function: str
    kind: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} {self.function} ({self.kind})"


class Form(Protocol):
    """How counters look in source."""

    def count(self, index: int) -> ast.stmt:
        """A statement that counts branch ``index``."""
        ...

    def counted(self, index: int, value: ast.expr) -> ast.expr:
        """``value``, which is counted when it is evaluated."""
        ...

    def compared(self, index: int, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        """``left op right``; if it does not hold, both are noted as comparison ``index``."""
        ...


def reached(root: FunctionType, apart: tuple[str, ...] = ()) -> list[FunctionType]:
    """``root`` and the module-level functions that it calls by name, and those that they call, in
    an order that depends on nothing but the source.

    What lies in a module whose name begins with one of ``apart``, and what only that calls, is left
    out.
    """
    found: dict[FunctionType, None] = {}

    def visit(function: FunctionType) -> None:
        if function not in found and not function.__module__.startswith(apart or "\0"):
            found[function] = None
            for name in function.__code__.co_names:
                callee = function.__globals__.get(name)
                if isinstance(callee, FunctionType):
                    visit(callee)

    visit(root)
    return list(found)


class Branches:
    """The numbered branches of ``functions``. ``names``: by index; ``comparisons``: file and line
    of each comparison."""

    def __init__(self, functions: Iterable[FunctionType]) -> None:
        self.functions = tuple(functions)
        self.names: list[Branch] = []
        self.comparisons: list[tuple[str, int]] = []
        self._first: dict[FunctionType, tuple[int, int]] = {}
        for function in self.functions:
            self._first[function] = len(self.names), len(self.comparisons)
            adder = _Adder(_Numbers(), function, 0, 0)
            adder.visit_function(definition(function))
            self.names += adder.names
            self.comparisons += adder.comparisons

    def __contains__(self, function: object) -> bool:
        return function in self._first

    def tree(self, function: FunctionType, form: Form) -> ast.FunctionDef:
        """The definition of one of the functions, with counters; without decorators."""
        adder = _Adder(form, function, *self._first[function])
        return ast.fix_missing_locations(adder.visit_function(definition(function)))

    def lines(self, counters: bytes | bytearray | memoryview) -> dict[str, dict[int, int]]:
        """Counts by file and line, as a coverage report has them: of the branches at a line, the
        one that is counted most. Lines without a branch belong to the branch before them."""
        found: dict[str, dict[int, int]] = defaultdict(dict)
        for branch, count in zip(self.names, counters, strict=False):
            lines = found[branch.file]
            lines[branch.line] = max(lines.get(branch.line, 0), count)
        return {file: dict(sorted(lines.items())) for file, lines in found.items()}


@cache
def _definitions(file: str) -> dict[tuple[str, int], ast.FunctionDef]:
    """The functions and methods of a source file, by name and first line, decorators included."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.FunctionDef):
            line = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[node.name, line] = node
    return found


def definition(function: FunctionType) -> ast.FunctionDef:
    """A copy of the syntax tree of a function, without decorators."""
    file = inspect.getsourcefile(function) or sys.modules[function.__module__].__file__ or ""
    node = _definitions(file)[function.__name__, function.__code__.co_firstlineno]
    copy = deepcopy(node)
    copy.decorator_list = []
    return copy


#: Whose value is no branch of the function, or which have names of their own.
_APART = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef)
_OPERATORS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class _Numbers:
    """The form of those who only number: nothing is added."""

    def count(self, index: int) -> ast.stmt:
        return ast.Pass()

    def counted(self, index: int, value: ast.expr) -> ast.expr:
        return value

    def compared(self, index: int, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        return ast.Compare(left, [op], [right])


class _Adder(ast.NodeTransformer):
    """Adds the counters of one function, numbered from ``first`` and ``first_comparison`` on."""

    def __init__(
        self, form: Form, function: FunctionType, first: int, first_comparison: int
    ) -> None:
        self.names: list[Branch] = []
        self.comparisons: list[tuple[str, int]] = []
        self._form = form
        self._file = function.__code__.co_filename
        self._function = function.__qualname__
        self._first = first
        self._first_comparison = first_comparison

    def visit_function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        begins = 1 if ast.get_docstring(node, clean=False) is not None else 0
        entry = self._count(node, "entry")
        body = list(self._statements(node.body[begins:]))
        node.body = [*node.body[:begins], entry, *body]
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _APART):
            return node
        visited: ast.AST = super().visit(node)
        return visited

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self._value(node.test)
        node.body = self._arm(node, "if", node.body)
        node.orelse = self._arm(node, "else", node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        node.test = self._value(node.test)
        return self._loop(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self._value(node.iter)
        return self._loop(node)

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        node.body = self._arm(node.pattern, "case", node.body)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.body = self._arm(node, "except", node.body)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._value(node.test)
        node.body = self._counted("then", node.body)
        node.orelse = self._counted("otherwise", node.orelse)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        kind = "and" if isinstance(node.op, ast.And) else "or"
        first, *others = node.values
        node.values = [self._value(first), *(self._counted(kind, value) for value in others)]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1 or not isinstance(node.ops[0], _OPERATORS):
            return node
        index = self._first_comparison + len(self.comparisons)
        self.comparisons.append((self._file, node.lineno))
        noted = self._form.compared(index, node.left, node.ops[0], node.comparators[0])
        return ast.copy_location(noted, node)

    def _value(self, node: ast.expr) -> ast.expr:
        visited = self.visit(node)
        assert isinstance(visited, ast.expr)
        return visited

    def _statements(self, body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            visited = self.visit(statement)
            assert isinstance(visited, ast.stmt)
            yield visited

    def _arm(self, node: ast.AST, kind: str, body: list[ast.stmt]) -> list[ast.stmt]:
        place = body[0] if body else node
        return [self._count(place, kind), *self._statements(body)]

    def _loop(self, node: ast.While | ast.For) -> ast.AST:
        node.body = self._arm(node, "loop", node.body)
        node.orelse = list(self._statements(node.orelse))
        return node

    def _number(self, node: ast.AST, kind: str) -> int:
        line = node.lineno  # type: ignore[attr-defined]
        self.names.append(Branch(self._file, line, self._function, kind))
        return self._first + len(self.names) - 1

    def _count(self, node: ast.AST, kind: str) -> ast.stmt:
        return ast.copy_location(self._form.count(self._number(node, kind)), node)

    def _counted(self, kind: str, node: ast.expr) -> ast.expr:
        index = self._number(node, kind)
        return ast.copy_location(self._form.counted(index, self._value(node)), node)
