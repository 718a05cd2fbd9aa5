"""Whether C programs can be compiled here; found out by compiling one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

#: Beginning of a header's name -> the package that has it on Debian.
_PACKAGES = {"xen/": "libxen-dev", "": "libc6-dev"}


@cache
def why_not(*headers: str) -> str:
    """Why gcc compiles no program that includes ``headers`` ("xen/io/ring.h"); "" if it does."""
    includes = ("stdint.h", "stdio.h", "stddef.h", *headers)
    lines = [*(f"#include <{header}>" for header in includes), "int main(void) { return 0; }", ""]
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = subprocess.run(
                ["gcc", "-D__XEN_TOOLS__", "-x", "c", "-o", str(Path(folder, "program")), "-"],
                input="\n".join(lines),
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            return f"no gcc ({error.strerror})"
    if not result.returncode:
        return ""
    absent = re.search(r"error: (\S+): No such file", result.stderr)
    if absent is None:
        return f"gcc makes no program: {(result.stderr.strip() or '?').splitlines()[0]}"
    package = next(p for start, p in _PACKAGES.items() if absent[1].startswith(start))
    return f"gcc finds no {absent[1]} (Debian: {package})"
