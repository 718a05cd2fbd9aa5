"""Plain code that counts its branches (:mod:`xennet.engine.branches`).

:func:`counting_kernel` makes a copy of a kernel and of all that it calls, which counts.
:class:`CountedCode` lends counting code to the functions and methods of whole modules, for drivers
that are no kernels (xnb), and takes it back.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from xennet.engine.branches import MOST, Branches

_HITS = "_xennet_hits"
_NEXT = "_xennet_next"
_COUNTED = "_xennet_counted"
_MISSED = "_xennet_missed"
#: Counter -> counter after one more.
_NEXT_COUNT = bytes([*range(1, MOST + 1), MOST])
#: Operands that are kept fit into a signed 64-bit integer.
_LIMIT = 1 << 63


class BranchCounters:
    """The counters of ``branches``, one byte each, and the operands of their comparisons: two
    signed 64-bit integers each. ``more``: counters behind them, for states. ``memory``: the bytes
    of both, the operands behind the counters."""

    def __init__(self, branches: Branches, more: int = 0) -> None:
        self.branches = branches
        size = len(branches.names) + more
        size += -size % 8
        self.memory = memoryview(bytearray(size + 16 * (len(branches.comparisons) or 1)))
        self.hits = self.memory[:size]
        self.operands = self.memory[size:].cast("q")

    def names(self) -> dict[str, Any]:
        """What counting code calls by name."""
        hits, operands = self.hits, self.operands

        def counted(index: int, value: Any) -> Any:
            hits[index] = _NEXT_COUNT[hits[index]]
            return value

        def missed(index: int, left: Any, right: Any) -> bool:
            if type(left) is type(right) is int and -_LIMIT <= left < _LIMIT > right >= -_LIMIT:
                operands[2 * index] = left
                operands[2 * index + 1] = right
            return False

        return {_HITS: hits, _NEXT: _NEXT_COUNT, _COUNTED: counted, _MISSED: missed}


class _PlainForm:
    """Counters as Python runs them."""

    def count(self, index: int) -> ast.stmt:
        return ast.parse(f"{_HITS}[{index}] = {_NEXT}[{_HITS}[{index}]]").body[0]

    def counted(self, index: int, value: ast.expr) -> ast.expr:
        return ast.Call(ast.Name(_COUNTED, ast.Load()), [ast.Constant(index), value], [])

    def compared(self, index: int, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        kept = [ast.Name(f"_xennet_{side}{index}", ast.Load()) for side in "ab"]
        sides = [
            ast.NamedExpr(ast.Name(name.id, ast.Store()), value)
            for name, value in zip(kept, (left, right), strict=True)
        ]
        call = ast.Call(ast.Name(_MISSED, ast.Load()), [ast.Constant(index), *kept], [])
        compare = ast.Compare(sides[0], [op], [sides[1]])
        if isinstance(op, ast.NotEq):  # what is noted are values that differ
            differ = ast.UnaryOp(ast.Not(), call)
            return ast.BoolOp(ast.And(), [compare, differ])
        return ast.BoolOp(ast.Or(), [compare, call])


_FORM = _PlainForm()


def counting_kernel(root: FunctionType, counters: BranchCounters) -> Callable[..., Any]:
    """A copy of the kernel ``root``, and of those that it calls, which counts in ``counters``."""
    branches = counters.branches
    spaces: dict[str, dict[str, Any]] = {}
    twins: dict[FunctionType, FunctionType] = {}

    def twin(function: FunctionType) -> FunctionType:
        if function not in twins:
            name = function.__module__
            if name not in spaces:
                spaces[name] = {**vars(sys.modules[name]), **counters.names()}
            space = spaces[name]
            code = _code(branches, function) if function in branches else function.__code__
            twins[function] = FunctionType(
                code, space, function.__name__, function.__defaults__, function.__closure__
            )
            for called in function.__code__.co_names:
                callee = function.__globals__.get(called)
                if isinstance(callee, FunctionType):
                    space[called] = twin(callee)
        return twins[function]

    return twin(root)


def _code(branches: Branches, function: FunctionType) -> CodeType:
    tree = branches.tree(function, _FORM)
    for argument in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs):
        argument.annotation = None
    tree.returns = None
    tree.args.defaults = [ast.Constant(None) for _ in tree.args.defaults]
    tree.args.kw_defaults = [each and ast.Constant(None) for each in tree.args.kw_defaults]
    module = ast.fix_missing_locations(ast.Module([tree], []))
    compiled = compile(module, function.__code__.co_filename, "exec", dont_inherit=True)
    code = next(each for each in compiled.co_consts if isinstance(each, CodeType))
    return code.replace(co_qualname=function.__code__.co_qualname)


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that are written in ``module``, properties' among them."""
    for value in list(vars(module).values()):
        members = list(vars(value).values()) if isinstance(value, type) else [value]
        for member in members:
            for part in (member.fget, member.fset) if isinstance(member, property) else (member,):
                if (
                    isinstance(part, FunctionType)
                    and part.__module__ == module.__name__
                    and part.__code__.co_filename == module.__file__
                    and not part.__code__.co_freevars
                    and part.__name__ != "<lambda>"
                ):
                    yield part


class CountedCode:
    """While it is open, the functions and methods of ``modules`` count in ``counters``.

    They stay the same objects, so those who have imported one have the counting code. Functions
    that refer to variables around them (``super()`` does) are left as they are.
    """

    def __init__(self, modules: list[ModuleType], more: int = 0) -> None:
        found = dict.fromkeys(each for module in modules for each in functions_of(module))
        self.counters = BranchCounters(Branches(found), more)
        self._modules = modules
        self._plain: dict[FunctionType, CodeType] = {}
        #: What had the names of counting code in each module: nothing, or those of other counters.
        self._hidden: list[dict[str, Any]] = []
        self._users = 0

    def open(self) -> None:
        """Lend the counting code, if it is not lent already."""
        self._users += 1
        if self._users > 1:
            return
        names = self.counters.names()
        for module in self._modules:
            space = vars(module)
            self._hidden.append({name: space[name] for name in names if name in space})
            space.update(names)
        for function in self.counters.branches.functions:
            self._plain[function] = function.__code__
            function.__code__ = _code(self.counters.branches, function)

    def close(self) -> None:
        """Take it back when each who has opened it has closed it; nothing if nobody has it open."""
        if not self._users:
            return
        self._users -= 1
        if self._users:
            return
        for function, code in self._plain.items():
            function.__code__ = code
        self._plain.clear()
        for module, hidden in zip(self._modules, self._hidden, strict=True):
            space = vars(module)
            for name in self.counters.names():
                space.pop(name, None)
            space.update(hidden)
        self._hidden.clear()

    def __enter__(self) -> CountedCode:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
