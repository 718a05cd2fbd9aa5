"""Peak memory of ``xennet run``: it must not grow with the length of the run."""

from __future__ import annotations

import os
import subprocess
import sys


def peak_kib(frames: int, size: int = 60) -> int:
    """Peak resident KiB of a process that carries ``frames`` generated frames."""
    command = [sys.executable, "-m", "xennet", "run", "--quiet"]
    process = subprocess.Popen(
        [*command, "--guest", f"gen:{size}x{frames}", "--host", "null:"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the run of {frames} frames exited {process.returncode}")
    return usage.ru_maxrss
