"""From a kernel module's source to functions that numba compiles.

The source stays as it is written for CPython; this is done to its syntax tree:

* annotations go (numba finds types by itself);
* every value that is loaded from an array becomes a signed 64-bit integer. In CPython all integers
  are alike; in numba the sum of two unsigned 32-bit words has another type than the sum of a word
  and a number, and mixing those gives floats;
* a load is made once: ``a[i]`` becomes ``load_once(a, i)``. Where the annotation of a parameter
  says that nobody else writes there (U32Array, Vector, Bytes, whose payload is copied before it is
  looked at), ``int64(a[i])`` leaves LLVM free to do as it likes. So it is with the names that a
  parameter is unpacked into, if its annotation is a tuple or an alias of one (Ring);
* an index is used as an unsigned number: kernels have no negative ones, and numba would ask at
  each load and store whether to count from the end;
* a slice assigned to a slice, ``a[i:j] = b[k:l]``, becomes one memcpy;
* the functions of xennet/engine/kernel.py are replaced by their compiled twins.

Names that a kernel uses are looked up in its own module: constants are taken as they are, other
kernels become parts of it (:mod:`~xennet.engine.fast.in_line`).
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any, Protocol

import numpy as np

from xennet.engine import kernel as plain_kernel
from xennet.engine.fast import primitives
from xennet.engine.fast.cache import VARIANT, compile_cached, kept_code
from xennet.engine.fast.each import each
from xennet.engine.fast.in_line import compile_in_line

_LOAD = "_xennet_int64"
_ONCE = "_xennet_load_once"
_COPY = "_xennet_copy_bytes"
_INDEX = "_xennet_index"
_EACH = "_xennet_each"


#: Annotations of parameters whose items nobody else writes while a kernel runs.
PRIVATE = frozenset(("U32Array", "Vector", "Bytes"))
#: The annotation of parameters whose items others may write.
SHARED = "U32Words"
#: The annotation of parameters whose items are arrays, or tuples of them.
EACH = "Each"


class _Adapt(ast.NodeTransformer):
    """Loads from arrays as int64 (slices are no loads), slice assignments as copies.

    ``kinds``: the annotations of parameters. ``tuples``: those of the members, for parameters
    whose annotation is a tuple.
    """

    def __init__(self, kinds: dict[str, str], tuples: dict[str, list[str]]) -> None:
        self._kinds = kinds
        self._tuples = tuples

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Name(id=name)):
                for part, kind in zip(names, self._tuples.get(name, ()), strict=False):
                    if isinstance(part, ast.Name) and part.id != "_":
                        self._kinds[part.id] = kind
            case ast.Assign(
                targets=[
                    ast.Subscript(
                        value=dest,
                        slice=ast.Slice(lower=ast.expr() as into, upper=ast.expr() as end),
                    )
                ],
                value=ast.Subscript(value=source, slice=ast.Slice(lower=ast.expr() as start)),
            ):
                count = ast.BinOp(end, ast.Sub(), into)
                call = ast.Call(ast.Name(_COPY, ast.Load()), [dest, into, source, start, count], [])
                return ast.copy_location(ast.Expr(call), node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        match node.target:
            case ast.Subscript(value=ast.Name(id=name)) if self._kinds.get(name) == SHARED:
                raise TypeError(
                    f"line {node.lineno}: {name} is changed by others too, between the load and "
                    "the store of this; use fetch_or, fetch_and or compare_and_swap"
                )
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Slice):
            return node
        if isinstance(node.ctx, ast.Store):
            return _unsigned(node)
        kind = self._kinds.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if kind in PRIVATE:
            call = ast.Call(ast.Name(_LOAD, ast.Load()), [_unsigned(node)], [])
        else:
            name = _EACH if kind == EACH else _ONCE
            call = ast.Call(ast.Name(name, ast.Load()), [node.value, node.slice], [])
        return ast.copy_location(call, node)


def _unsigned(item: ast.Subscript) -> ast.Subscript:
    """The same item, by an unsigned index."""
    index = ast.Call(ast.Name(_INDEX, ast.Load()), [item.slice], [])
    return ast.copy_location(ast.Subscript(item.value, index, item.ctx), item)


def _members(annotation: ast.expr | None, names: Mapping[str, object]) -> list[str]:
    """The annotations in ``tuple[U32Words, int]`` or an alias of it; no names for any other
    annotation."""
    match annotation:
        case ast.Name(id=name) if isinstance(alias := names.get(name), str):
            return _members(ast.parse(alias, mode="eval").body, {})
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)):
            return [ast.unparse(part) for part in parts]
    return []


def translate(tree: ast.Module, names: Mapping[str, object] = MappingProxyType({})) -> ast.Module:
    """The functions of a kernel module, made ready for numba; everything else is left out.

    ``names``: those of the module, in which aliases of annotations are looked up.
    """
    functions: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            kinds, tuples = {}, {}
            for argument in node.args.args:
                if isinstance(argument.annotation, ast.Name):
                    kinds[argument.arg] = argument.annotation.id
                tuples[argument.arg] = _members(argument.annotation, names)
                argument.annotation = None
            adapt = _Adapt(kinds, tuples)
            node.body = [adapt.visit(statement) for statement in node.body]
            functions.append(node)
    return ast.fix_missing_locations(ast.Module(functions, []))


class Added(Protocol):
    """What is added to the source of kernels before they are adapted
    (:mod:`xennet.engine.fast.counted`).

    ``variant``: a name for it, under which what is compiled is cached. ``names``: what the source
    that was added calls.
    """

    variant: str
    names: dict[str, Any]

    def add(self, tree: ast.Module, module: ModuleType) -> ast.Module:
        """The tree of ``module`` with what is added."""
        ...


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _code(tree: ast.Module, module: ModuleType) -> CodeType:
    return compile(translate(tree, vars(module)), inspect.getfile(module), "exec")


class Translator:
    """Makes the compiled forms of kernels, each once."""

    def __init__(self, added: Added | None = None) -> None:
        self._added = added
        self._spaces: dict[str, dict[str, Any]] = {}
        self._twins: dict[Callable[..., Any], Callable[..., Any]] = {
            getattr(plain_kernel, name): twin for name, twin in primitives.TWINS.items()
        }
        self._compiled: dict[Callable[..., Any], Any] = {}
        self._parts: dict[Callable[..., Any], Any] = {}

    def compiled(self, function: Callable[..., Any]) -> Any:
        """The compiled form of a module-level kernel, for callers in Python."""
        if not isinstance(function, FunctionType):
            raise TypeError(f"{function!r} is no kernel: kernels are module-level functions")
        if function not in self._compiled:
            twin = self._twin(function)
            # Code that is kept needs none of the kernels that it calls.
            self._compiled[function] = compile_cached(twin, partial(self._resolve, twin))
        return self._compiled[function]

    def _part(self, function: FunctionType) -> Any:
        """The form of a kernel that compiled ones call."""
        if function not in self._parts:
            twin = self._twin(function)
            self._parts[function] = compile_in_line(twin, partial(self._resolve, twin))
        return self._parts[function]

    def _twin(self, function: FunctionType) -> Callable[..., Any]:
        """The function that is compiled in the place of ``function``."""
        if function not in self._twins:
            twin = self._space(sys.modules[function.__module__])[function.__name__]
            if self._added:
                twin.__dict__[VARIANT] = self._added.variant
            self._twins[function] = twin
        return self._twins[function]

    def _space(self, module: ModuleType) -> dict[str, Any]:
        """The names of ``module``, with translated functions in the place of its own."""
        if module.__name__ not in self._spaces:
            space = dict(vars(module))
            if self._added:
                code = _code(self._added.add(_tree(module), module), module)
                space |= self._added.names
            else:
                code = kept_code(
                    module.__name__,
                    inspect.getfile(module),
                    lambda: _code(_tree(module), module),
                )
            space[_LOAD] = np.int64
            space[_INDEX] = np.uint64
            space[_ONCE] = primitives.load_once
            space[_COPY] = primitives.copy_bytes
            space[_EACH] = each
            exec(code, space)
            self._spaces[module.__name__] = space
        return self._spaces[module.__name__]

    def _resolve(self, twin: Callable[..., Any]) -> None:
        """Put parts into the names of the kernels that ``twin`` calls."""
        space = self._spaces.get(twin.__module__)
        if space is None:  # a primitive, which needs none
            return
        home = sys.modules[twin.__module__]
        for name in twin.__code__.co_names:
            original = getattr(home, name, None)
            if isinstance(original, FunctionType):
                space[name] = self._part(original)
