"""The shim that is preloaded into programs: a shared object, built from ``shim.c`` by the first use
on this machine and kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from xennet.exec.errors import ExecError
from xennet.user_cache import VARIABLE, directory
from xennet.whole_file import whole

_SOURCE = Path(__file__).with_name("shim.c")
_FLAGS = ("-O2", "-shared", "-fPIC", "-pthread", "-o")


def shim_path() -> Path:
    """The path of the shared object, which is built if it is not there yet.

    It is found by a digest of its source and of the compiler, and appears all at once, so several
    processes may need it at the same time. Raises ExecError if there is no C compiler, or it
    refuses, or the directory cannot be used.
    """
    compiler = _compiler()
    digest = hashlib.blake2b(_SOURCE.read_bytes(), digest_size=12)
    for part in compiler:
        digest.update(part.encode() + b"\0")
    info = os.stat(compiler[0])
    digest.update(f"{info.st_size} {info.st_mtime_ns}".encode())
    built = directory().absolute() / f"exec-shim-{digest.hexdigest()}.so"
    if set(" :") & set(str(built)):
        raise ExecError(
            f"the cache directory {built.parent}: LD_PRELOAD takes no path with a space or a "
            f"colon; {VARIABLE} names another one"
        )
    try:
        there = built.stat().st_size > 0
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise _unusable(built.parent, error) from None
    if not there:
        _build(compiler, built)
    return built


def _unusable(path: Path, error: OSError) -> ExecError:
    return ExecError(f"the cache directory {path}: {error.strerror or error}")


def _compiler() -> list[str]:
    """The command of the C compiler: that of the variable CC, else cc, else gcc."""
    for command in (os.environ.get("CC", ""), "cc", "gcc"):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ExecError(f"the variable CC is no command: {command}: {error}") from None
        if words and (found := shutil.which(words[0])):
            return [os.path.realpath(found), *words[1:]]
    raise ExecError("a C compiler is needed, once, to run programs in domains: no cc, no gcc")


def _build(compiler: list[str], built: Path) -> None:
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with whole(built) as unready:
            made = subprocess.run(
                [*compiler, *_FLAGS, str(unready), str(_SOURCE), "-ldl"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
            if made.returncode:
                told = (made.stderr.decode(errors="replace").strip().splitlines() or ["?"])[0]
                raise ExecError(f"{compiler[0]} does not build {_SOURCE.name}: {told}")
            unready.chmod(0o644)
    except OSError as error:
        raise _unusable(built.parent, error) from None
