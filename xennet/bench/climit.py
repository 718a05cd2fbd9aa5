"""The same work in C: climit.c, compiled if there are a compiler and the headers."""

from __future__ import annotations

import subprocess
from importlib.resources import as_file, files
from pathlib import Path

from xennet.bench.compiler import why_not

#: Without -fno-builtin-memcpy the compiler unrolls the 60-byte copies, which no netback can.
FLAGS = ("-O2", "-fno-builtin-memcpy")


class CLimit:
    """A contestant: (frame bytes, frames) -> seconds, measured in the C program."""

    def __init__(self, directory: Path) -> None:
        """Compile the program into ``directory``. Raises CalledProcessError if that fails."""
        self._program = directory / "climit"
        with as_file(files("xennet.bench") / "climit.c") as source:
            subprocess.run(
                ["gcc", *FLAGS, str(source), "-o", str(self._program)],
                check=True,
                capture_output=True,
            )

    def __call__(self, size: int, frames: int) -> float:
        result = subprocess.run(
            [str(self._program), str(size), str(frames)], check=True, capture_output=True
        )
        return float(result.stdout)


def missing() -> str:
    """Why the C program cannot be compiled here; "" if it can."""
    return why_not("xen/io/ring.h")
