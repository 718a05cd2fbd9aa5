"""Compiled kernels that count their branches (:mod:`xennet.engine.branches`).

Every kernel gets one argument more, the memory of the counters, and hands it to the kernels that it
calls. Those of ``branches`` count; others, such as the loop of a fuzzer around them, only hand it
on.
"""

from __future__ import annotations

import ast
import hashlib
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.misc import unliteral
from numba.extending import intrinsic

from xennet.engine import kernel as plain_kernel
from xennet.engine.branches import Branches, reached
from xennet.engine.counted_plain import BranchCounters
from xennet.engine.fast.primitives import TWINS
from xennet.engine.fast.translate import Translator

_COUNTERS = "_xennet_counters"
_COUNT = "_xennet_count"
_COUNTED = "_xennet_counted"
#: Comparisons: name of what compares and notes, and LLVM's predicate.
_COMPARED = {
    ast.Eq: ("_xennet_eq", "=="),
    ast.NotEq: ("_xennet_ne", "!="),
    ast.Lt: ("_xennet_lt", "<"),
    ast.LtE: ("_xennet_le", "<="),
    ast.Gt: ("_xennet_gt", ">"),
    ast.GtE: ("_xennet_ge", ">="),
}

# What is added is made in line by intrinsics: functions, one for each of hundreds of places, would
# take numba minutes. The counters are one array of bytes, so that they are one argument.


def _add_one(context: Any, builder: Any, counters_type: Any, counters: Any, index: Any) -> None:
    """Add 1 to byte ``index`` unless it is 255."""
    data = context.make_array(counters_type)(context, builder, counters).data
    place = builder.gep(data, [index])
    count = builder.load(place)
    full = builder.icmp_unsigned("==", count, ir.Constant(count.type, 255))
    one_more = builder.add(count, ir.Constant(count.type, 1))
    builder.store(builder.select(full, count, one_more), place)


@intrinsic
def _count(_context, counters, index):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _add_one(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.void(counters, types.int64), generate


@intrinsic
def _counted(_context, counters, index, value):  # type: ignore[no-untyped-def]
    """``value``, counted."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _add_one(context, builder, signature.args[0], *args[:2])
        return args[2]

    kind = unliteral(value)
    return kind(counters, types.int64, kind), generate


def _comparing(predicate: str) -> Any:
    """An intrinsic that compares two integers and keeps them at byte ``at`` of the counters if they
    differ and the comparison does not hold (``!=``: if it does)."""

    @intrinsic
    def compared(_context, counters, at, left, right):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            counters, at, left, right = args
            holds = builder.icmp_signed(predicate, left, right)
            differ = holds if predicate == "!=" else builder.not_(holds)
            with builder.if_then(differ):
                data = context.make_array(signature.args[0])(context, builder, counters).data
                place = builder.bitcast(builder.gep(data, [at]), left.type.as_pointer())
                builder.store(left, place)
                builder.store(right, cgutils.gep_inbounds(builder, place, 1))
            return holds

        return types.boolean(counters, types.int64, types.int64, types.int64), generate

    return compared


_NAMES: dict[str, Any] = {
    _COUNT: _count,
    _COUNTED: _counted,
    **{name: _comparing(predicate) for name, predicate in _COMPARED.values()},
}


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [ast.Name(_COUNTERS, ast.Load()), *args], [])


class _CompiledForm:
    """Counters as calls of intrinsics. ``operands``: where in their memory operands begin."""

    def __init__(self, operands: int) -> None:
        self._operands = operands

    def count(self, index: int) -> ast.stmt:
        return ast.Expr(_call(_COUNT, ast.Constant(index)))

    def counted(self, index: int, value: ast.expr) -> ast.expr:
        return _call(_COUNTED, ast.Constant(index), value)

    def compared(self, index: int, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        at = ast.Constant(self._operands + 16 * index)
        return _call(_COMPARED[type(op)][0], at, left, right)


class _HandsOn(ast.NodeTransformer):
    """Adds the counters to the calls of kernels."""

    def __init__(self, module: ModuleType, kernels: set[FunctionType]) -> None:
        self._names = vars(module)
        self._kernels = kernels

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and self._names.get(node.func.id) in self._kernels:
            node.args.insert(0, ast.Name(_COUNTERS, ast.Load()))
        return node


class _Counters:
    """What is added for the counters of ``branches`` in what ``root`` reaches
    (xennet.engine.fast.translate.Added)."""

    def __init__(self, root: FunctionType, branches: Branches, operands: int) -> None:
        twins = {getattr(plain_kernel, name) for name in TWINS}
        self._branches = branches
        self._form = _CompiledForm(operands)
        self._kernels = {each for each in reached(root) if each not in twins}
        which = "".join(f"{f.__module__}.{f.__qualname__} " for f in (root, *branches.functions))
        which += str(operands)
        self.variant = hashlib.blake2b(which.encode(), digest_size=6).hexdigest()
        self.names = _NAMES

    def add(self, tree: ast.Module, module: ModuleType) -> ast.Module:
        hands_on = _HandsOn(module, self._kernels)
        for i, node in enumerate(tree.body):
            if isinstance(node, ast.FunctionDef):
                function = vars(module).get(node.name)
                if function not in self._kernels:
                    continue
                if function in self._branches:
                    node = self._branches.tree(function, self._form)
                hands_on.visit(node)
                node.args.args.insert(0, ast.arg(_COUNTERS))
                tree.body[i] = node
        return ast.fix_missing_locations(tree)


def counting_kernel(root: FunctionType, counters: BranchCounters) -> Any:
    """The kernel ``root`` compiled, with all that it calls, which counts in ``counters``."""
    added = _Counters(root, counters.branches, len(counters.hits))
    return partial(Translator(added).compiled(root), np.frombuffer(counters.memory, np.uint8))
