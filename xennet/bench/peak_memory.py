"""Peak memory of ``xennet run``: it must not grow with the length of the run."""

from __future__ import annotations

import subprocess
import sys

#: Carries the frames and prints its peak memory. wait4's maxrss would begin with the memory of the
#: parent at the fork.
_RUN = """
import sys
from pathlib import Path
from xennet.cli import main
code = main(["run", "--quiet", "--guest", sys.argv[1], "--host", "null:"])
status = Path("/proc/self/status").read_text()
print(code, status.partition("VmHWM:")[2].split()[0])
"""


def peak_kib(frames: int, size: int = 60) -> int:
    """Peak resident KiB of a process that carries ``frames`` generated frames."""
    command = [sys.executable, "-c", _RUN, f"gen:{size}x{frames}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code, peak = output.splitlines()[-1].split()
    if code != "0":
        raise RuntimeError(f"the run of {frames} frames exited {code}")
    return int(peak)
