"""Kernels as parts of the kernels that call them: no machine code of their own.

Kernels are put in line (``forceinline`` in :data:`~xennet.engine.fast.cache.OPTIONS`). numba would
all the same optimise each as if Python called it, with all that it calls, and make machine code of
it, which nobody runs: two thirds of a compiler's time. A part is kept as numba makes it, with the
parts that it calls, and optimised where it is linked.

numba has no public way to say so. Its versions of which this is known to work are :data:`KNOWN`;
with others, parts have machine code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding
from numba.core.caching import CompileResultCacheImpl
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, compile_result

from xennet.engine.fast.cache import OPTIONS, Cache, Locator, compile_cached, keep

#: The first and the last of numba's versions that were tried.
KNOWN = (0, 59), (0, 68)


class _Library(JITCodeLibrary):
    """Code that is linked into the libraries of its callers, with all that it calls."""

    @classmethod
    def of(cls, codegen: Any, kept: bytes) -> _Library:
        """The library that was kept as ``kept``."""
        library = cls(codegen, "in line")
        library._final_module = library._shared_module = binding.parse_bitcode(kept)
        library._finalized = True
        return library

    def kept(self) -> bytes:
        """All its code."""
        return bytes(self._get_module_for_linking().as_bitcode())

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None: there is no machine code."""
        return 0

    @property
    def codegen(self) -> _Library:
        """What is told where numba's environment is, once there is machine code."""
        return self

    def set_env(self, env_name: str, env: object) -> None:
        """Nothing: a kernel makes no Python objects, so it has no use for an environment."""


class _Compiler(Compiler):
    """numba's, into such a library."""

    def __init__(self, typing: Any, target: Any, library: None, *rest: Any) -> None:
        super().__init__(typing, target, _Library(target.codegen(), "in line"), *rest)


class _Locator(Locator):
    form = "-part"


class _Impl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)

    def reduce(self, compiled: Any) -> Any:
        described = compiled.fndesc
        described.typemap = described.calltypes = None  # as numba does: nobody needs them
        return compiled.library.kept(), described, compiled.environment, compiled.signature

    def rebuild(self, target: Any, kept: Any) -> Any:
        code, described, environment, signature = kept
        library = _Library.of(target.codegen(), code)
        return compile_result(
            target_context=target,
            typing_context=target.typing_context,
            library=library,
            fndesc=described,
            environment=environment,
            signature=signature,
            objectmode=False,
            entry_point=target.get_executable(library, described, environment),
        )


class _Cache(Cache):
    _impl_class = _Impl


def compile_in_line(
    function: Callable[..., Any], prepare: Callable[[], object] = lambda: None
) -> Any:
    """``function`` as a numba dispatcher that compiled code can call, and Python cannot; it is kept
    on disk as :func:`~xennet.engine.fast.cache.compile_cached` does it."""
    (first, last), version = KNOWN, numba.version_info.short
    if version is None or not first <= version <= last:
        return compile_cached(function, prepare)
    part = numba.njit(no_cpython_wrapper=True, pipeline_class=_Compiler, **OPTIONS)(function)
    return keep(part, _Cache(function, prepare))
