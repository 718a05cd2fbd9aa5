"""The same work in C: climit.c, compiled if there are a compiler and the headers."""

from __future__ import annotations

import subprocess
from importlib.resources import as_file, files
from pathlib import Path

from xennet.bench.compiler import why_not

#: Without -fno-builtin-memcpy the compiler unrolls the 60-byte copies, which no netback can.
FLAGS = ("-O2", "-fno-builtin-memcpy")


class CLimit:
    """A contestant: (frame bytes, frames) -> seconds, measured in the C program.

    ``guests``: so many share the frames, which are their first ones: transmit pages are touched for
    the first time. 0: one guest, whose pages are warm.
    """

    def __init__(self, directory: Path, guests: int = 0) -> None:
        """Compile the program into ``directory``. Raises CalledProcessError if that fails."""
        self._guests = guests
        self._program = directory / f"climit-{guests}"
        with as_file(files("xennet.bench") / "climit.c") as source:
            subprocess.run(
                ["gcc", *FLAGS, str(source), "-o", str(self._program)],
                check=True,
                capture_output=True,
            )

    def __call__(self, size: int, frames: int) -> float:
        guests = self._guests
        numbers = (size, frames // guests, guests) if guests else (size, frames)
        result = subprocess.run(
            [str(self._program), *map(str, numbers)], check=True, capture_output=True
        )
        return float(result.stdout)


def missing() -> str:
    """Why the C program cannot be compiled here; "" if it can."""
    return why_not("xen/io/ring.h")
