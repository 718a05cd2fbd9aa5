"""A cache of compiled code on disk, machine code and the Python code that it is compiled from, so
that both are made once and not in every process.

It lies in the user's cache directory (xennet.user_cache). Cached code is used if it was compiled
from these very sources. Where the cache cannot be written (read-only, missing, full), code is
compiled again next time, and nothing fails. What several processes miss at once is compiled by one
of them (xennet.engine.process_lock).
"""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from types import CodeType
from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    _CacheLocator,
)
from numba.core.compiler_lock import global_compiler_lock

from xennet.engine.process_lock import ProcessLocks
from xennet.user_cache import directory

#: The attribute of a function that is compiled in another form than its source has; its value goes
#: into the name under which it is cached.
VARIANT = "_xennet_variant"
#: Generations of compiled code that are kept: other versions and checkouts may be in use.
KEPT = 8
#: Bytes of a digest.
_DIGEST = 16

_PACKAGE = Path(__file__).resolve().parents[2]
#: Where kernels have constants and helpers from: the package and folders of it, and single files.
_ROOMS = (
    "",
    "abi",
    "engine",
    "engine/fast",
    "flow",
    "fuzz",
    "gnttab",
    "link",
    "netback",
    "netfront",
    "netmap",
    "offload",
    "port",
    "shmif",
    "vif",
)
_FILES = ("host/timeslices.py",)


def sources() -> Iterator[str]:
    """The paths of every source that the package's kernels can depend on."""
    for room in _ROOMS:
        folder = os.path.join(_PACKAGE, room)
        yield from (
            os.path.join(folder, name)
            for name in sorted(os.listdir(folder))
            if name.endswith(".py")
        )
    yield from (os.path.join(_PACKAGE, name) for name in _FILES)


@cache
def stamp() -> str:
    """A digest of :func:`sources`."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for path in sources():
        with open(path, "rb") as source:
            digest.update(source.read())
    return digest.hexdigest()


def _mine() -> Path:
    """The directory for code of this stamp."""
    return directory() / stamp()


@cache
def _prepare(mine: Path) -> None:
    """Make the directory for code of this stamp, and delete what old sources left behind."""
    with suppress(OSError):
        if not mine.exists():
            mine.mkdir(parents=True)
            kept = (path for path in mine.parent.iterdir() if path.is_dir())
            others = sorted(kept, key=lambda path: path.stat().st_mtime)
            for old in others[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)


def kept_code(module: str, file: str, make: Callable[[], CodeType]) -> CodeType:
    """The code that ``make`` makes of the kernels of ``module``, whose source is ``file``; it is
    made once for these very sources, where they lie (code names its file, which numba reads), and
    this Python."""
    place = _digest(os.fsencode(file) + bytes.fromhex(_digest_of(file)))
    name = f"{module}-{place}.{sys.implementation.cache_tag}"
    kept = _mine() / name
    with suppress(OSError):
        content = kept.read_bytes()
        written, code = content[:_DIGEST].hex(), content[_DIGEST:]
        if written == _digest(code):  # not cut, not damaged
            loaded: CodeType = marshal.loads(code)
            return loaded
    made = make()
    content = marshal.dumps(made)
    with suppress(OSError):
        from xennet.whole_file import write_whole  # a start that finds its code has no use for it

        _prepare(kept.parent)
        write_whole(kept, bytes.fromhex(_digest(content)) + content)
    return made


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST).hexdigest()


@cache
def _digest_of(file: str) -> str:
    return _digest(Path(file).read_bytes())


class Locator(_CacheLocator):
    """Locates all functions in one directory; the index of a kernel of another package has its
    file's digest as well."""

    #: A name for the form in which functions are compiled.
    form = ""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        variant = function.__dict__.get(VARIANT, "")
        self._name = f"{function.__code__.co_firstlineno}{variant}{self.form}"
        self._own = _digest_of(file)

    def get_cache_path(self) -> str:
        return str(_mine())

    def get_source_stamp(self) -> str:
        return stamp() + self._own

    def get_disambiguator(self) -> str:
        return self._name

    def ensure_cache_path(self) -> None:
        _prepare(_mine())

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Locator:
        locator = cls(function, file)
        locator.ensure_cache_path()
        return locator


class _Impl(CompileResultCacheImpl):
    _locator_classes = (Locator,)


class _Files(IndexDataCacheFile):
    """The index of a kernel's compiled code, and a file for each signature.

    Each ends with the digest of what is before it, behind the end of numba's pickle. One without
    is taken for missing: a computer that lost its power leaves files of zeroes, and damaged machine
    code would run.
    """

    def _load_index(self) -> Any:
        with suppress(FileNotFoundError):
            if _is_whole(self._index_path):
                return super()._load_index()
        return {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        if not _is_whole(path):
            raise OSError(f"{path} is damaged")  # numba goes on as if it were not there
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[BytesIO]:
        with super()._open_for_write(path) as file:
            content = BytesIO()
            yield content
            file.write(content.getvalue() + bytes.fromhex(_digest(content.getvalue())))


def _is_whole(path: str) -> bool:
    """Whether a file is as :class:`_Files` has written it."""
    with open(path, "rb") as file:
        content = file.read()
    return content[-_DIGEST:].hex() == _digest(content[:-_DIGEST])


@cache
def _locks(directory: str) -> ProcessLocks:
    """The locks of the kernels whose code is kept in ``directory``."""
    return ProcessLocks(Path(directory) / "lock")


class Cache(FunctionCache):
    """A cache that never fails: code that it cannot read or write is compiled.

    ``prepare`` is called before a function is compiled. Of processes that miss the same code at the
    same time, one compiles it, and the others wait. A kernel that is compiled takes the locks of
    those that it calls, never the other way.
    """

    _impl_class = _Impl

    def __init__(self, function: Callable[..., Any], prepare: Callable[[], object]) -> None:
        super().__init__(function)
        impl = self._impl
        self._cache_file = _Files(
            self._cache_path, impl.filename_base, impl.locator.get_source_stamp()
        )
        self._prepare = prepare

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        code = self._loaded(sig, target_context)
        if code is None and _locks(self._cache_path).acquire(self._impl.filename_base):
            code = self._loaded(sig, target_context)
        if code is None:
            self._prepare()
        return code

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        # Not FunctionCache.load_overload(): it fills numba's registries first (0.2 s), which only
        # a compiler looks into, and which the compiler fills by itself.
        with suppress(OSError, EOFError), self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
        return None

    def in_turn(self, compile: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """``compile`` of a dispatcher, which loads from this cache and saves to it; behind it the
        next process can have what was compiled."""

        def compile_in_turn(sig: Any) -> Any:
            with global_compiler_lock:  # one thread at a time
                try:
                    return compile(sig)
                finally:
                    _locks(self._cache_path).release(self._impl.filename_base)

        return compile_in_turn

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


#: How kernels are compiled: nopython, with C division rules. They allocate nothing, so numba's
#: reference counts are left out: two atomic operations for each array argument of each call cost
#: more than many a slot. Kernels that kernels call are put in line, as a C compiler would do with
#: static functions. No form for callers in C is made of them, which is a tenth of the compiler's
#: time.
OPTIONS = {"error_model": "numpy", "forceinline": True, "_nrt": False, "no_cfunc_wrapper": True}


def compile_cached(
    function: Callable[..., Any], prepare: Callable[[], object] = lambda: None
) -> Any:
    """Compile ``function`` to a numba dispatcher that uses this cache. ``prepare()`` is called
    before it is compiled, not where it is found in the cache."""
    return keep(numba.njit(**OPTIONS)(function), Cache(function, prepare))


def keep(dispatcher: Any, kept: Cache) -> Any:
    """Let ``dispatcher``, of numba, use the cache ``kept``."""
    dispatcher._cache = kept
    dispatcher.compile = kept.in_turn(dispatcher.compile)
    return dispatcher
