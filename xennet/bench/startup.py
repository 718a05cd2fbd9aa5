"""The duration of short commands as whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from resource import RUSAGE_CHILDREN, getrusage

from attrs import define, field

from xennet.engine.choice import VARIABLE

_RUN = ("-m", "xennet", "run", "--quiet", "--guest", "gen:60x10", "--host", "null:")
_NAMES = "from xennet import Host, PagePoller, VifLink, XnbPoller, open_port, why"
#: What is started: name -> (engine, arguments of Python).
PROCESSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "xennet run, plain": ("plain", _RUN),
    "xennet run, compiled": ("fast", _RUN),
    "xennet --help": ("plain", ("-m", "xennet", "--help")),
    "import of the README's names": ("plain", ("-c", _NAMES)),
    "Python alone": ("plain", ("-c", "")),
}


@define
class StartUp:
    """A contestant: (ignored, runs) -> seconds of CPU time for that many runs of a process.

    Behind the first, the compiled kernels are on disk, and Python's bytecode is, as on a user's
    machine, whatever is asked of this process. ``walls``: seconds by the clock of a run, for each
    call.
    """

    engine: str
    arguments: tuple[str, ...]
    walls: list[float] = field(factory=list)

    def __call__(self, _size: int, runs: int) -> float:
        environment = {**os.environ, VARIABLE: self.engine}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, *self.arguments]
        before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
        for _ in range(runs):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        after, ended = getrusage(RUSAGE_CHILDREN), time.perf_counter()
        self.walls.append((ended - began) / runs)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
