"""The duration of a short ``xennet run`` as a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from attrs import frozen

from xennet.engine.choice import VARIABLE


@frozen
class StartUp:
    """A contestant: (frame bytes, runs) -> seconds for that many runs with 10 frames each.

    Each run is a process of its own; behind the first the compiled code is on disk.
    """

    engine: str

    def __call__(self, size: int, runs: int) -> float:
        command = [sys.executable, "-m", "xennet", "run", "--quiet"]
        command += ["--guest", f"gen:{size}x10", "--host", "null:"]
        environment = {**os.environ, VARIABLE: self.engine}
        started = time.perf_counter()
        for _ in range(runs):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started
