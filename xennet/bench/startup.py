"""The duration of a short ``xennet run`` as a whole process."""

from __future__ import annotations

import os
import subprocess
import sys

from attrs import define, field

from xennet.engine.choice import VARIABLE


@define
class StartUp:
    """A contestant: (frame bytes, runs) -> seconds of CPU time for that many runs.

    Each carries 10 frames in a process of its own; behind the first, the compiled kernels are on
    disk, and Python's bytecode is, as on a user's machine, whatever is asked of this process.
    ``walls``: seconds by the clock of a run, for each call.
    """

    engine: str
    walls: list[float] = field(factory=list)

    def __call__(self, size: int, runs: int) -> float:
        command = [sys.executable, "-m", "xennet", "run", "--quiet"]
        command += ["--guest", f"gen:{size}x10", "--host", "null:"]
        environment = {**os.environ, VARIABLE: self.engine}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        before = os.times()
        for _ in range(runs):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        self.walls.append((after.elapsed - before.elapsed) / runs)
        user = after.children_user - before.children_user
        return user + after.children_system - before.children_system
