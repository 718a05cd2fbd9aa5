"""The duration of a short ``xennet run`` as a whole process."""

from __future__ import annotations

import os
import subprocess
import sys

from attrs import frozen

from xennet.engine.choice import VARIABLE


@frozen
class StartUp:
    """A contestant: (frame bytes, runs) -> seconds of CPU time for that many runs.

    Each carries 10 frames in a process of its own; behind the first the compiled code is on disk.
    """

    engine: str

    def __call__(self, size: int, runs: int) -> float:
        command = [sys.executable, "-m", "xennet", "run", "--quiet"]
        command += ["--guest", f"gen:{size}x10", "--host", "null:"]
        environment = {**os.environ, VARIABLE: self.engine}
        before = os.times()
        for _ in range(runs):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        user = after.children_user - before.children_user
        return user + after.children_system - before.children_system
