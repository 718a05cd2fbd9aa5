"""An exercise's check, in a process of its own with a time limit (:mod:`xennet.course.trial`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from xennet.course.lesson import Verdict

#: Seconds of processor time that learners' functions may take in all.
CPU_SECONDS = 2.0
#: Seconds of real time until a process is ended that waits for something or does not stop.
WALL_SECONDS = 60.0


@frozen
class Checked:
    """The ``verdict`` on an exercise, and the first lines that it ``printed``."""

    verdict: Verdict
    printed: str


def check(
    number: int,
    file: Path,
    trace: Path | None = None,
    *,
    cpu_seconds: float = CPU_SECONDS,
    wall_seconds: float = WALL_SECONDS,
) -> Checked:
    """Try the functions in ``file`` as the exercise of lesson ``number``; ``trace``: where to write
    the last scene that they were tried in, if anywhere.

    Whatever they do ends in a verdict: an error, an endless loop, the end of the process.
    """
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"XENNET_ENGINE": "plain", "PYTHONPATH": os.pathsep.join(paths)}
    command = ["-P", "-m", "xennet.course.trial", str(number), str(file), str(cpu_seconds)]
    try:
        done = subprocess.run(
            [sys.executable, *command, str(os.getpid()), str(trace or "")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | environment,
            timeout=wall_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Checked(
            Verdict(
                False,
                "time",
                f"{file}: it waits for something (sleep, a lock?), and was ended after "
                f"{wall_seconds:.0f} s.",
            ),
            "",
        )
    try:
        answer = json.loads(done.stdout)
        printed = answer.pop("printed")
        return Checked(Verdict(**answer), printed)
    except ValueError:
        if done.returncode == -signal.SIGXCPU:
            text = f"{file}: a loop without end, around an 'except:' that catches all."
            return Checked(Verdict(False, "time", text), "")
        text = f"{file}: the process ended (exit code {done.returncode}) before it was checked."
        return Checked(Verdict(False, "error", text), "")
