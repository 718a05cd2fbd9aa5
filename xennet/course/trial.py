"""A learner's functions, tried in this process: ``python -m xennet.course.trial NUMBER FILE
CPU_SECONDS PARENT TRACE`` prints a verdict as JSON, and writes the trace of the last scene if TRACE
is not empty.

What the functions print is kept apart; an exception, an endless loop or a wrong type ends as a
sentence with file and line.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import sys
import traceback
from inspect import isfunction, signature
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from attrs import asdict, evolve

from xennet.course.contents import load
from xennet.course.lesson import Lesson, MisunderstandingError, Verdict
from xennet.course.recordings import recorded
from xennet.engine.choice import using

#: prctl(2): the signal that this process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
#: Bytes of address space, so that a list without end fails before the machine does.
_ADDRESS_SPACE = 4 << 30
_MOST_PRINTED = 1000
#: Seconds of processor time, beside those of the functions, until the process is ended.
_MORE_CPU_SECONDS = 10


class _TimeUp(BaseException):
    """The functions have had their time."""


class _Printed(io.StringIO):
    """The begin of what is printed."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, _MOST_PRINTED - self.tell())])
        return len(text)


def attempt(lesson: Lesson, file: Path, cpu_seconds: float) -> Verdict:
    """The verdict on the functions in ``file``."""
    with using("plain"):
        return _attempt(lesson, file, cpu_seconds)


def traced(lesson: Lesson, file: Path, cpu_seconds: float, trace: Path) -> Verdict:
    """As :func:`attempt`; the last scene in which the functions were tried is written to ``trace``,
    whose suffix names the form (xennet.trace.writers)."""
    with recorded() as recordings:
        verdict = _attempt(lesson, file, cpu_seconds)
        step = recordings.conclude(verdict)
        if step is None:
            return verdict
        try:
            recordings.write(trace, ("course", "check", str(lesson.number), str(file)))
        except OSError as error:
            return evolve(verdict, trace=f"{trace}: {error.strerror}")
    return evolve(verdict, trace=f"{trace}: look at step {step['n']}, {step['text']}")


def _attempt(lesson: Lesson, file: Path, cpu_seconds: float) -> Verdict:
    try:
        code = compile(file.read_bytes(), str(file), "exec")
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""  # of null bytes there is none
        return Verdict(False, "syntax", f"{file}{line}: {error.msg}.")
    except (OSError, ValueError) as error:
        return Verdict(False, "error", f"{file}: {error}.")
    signal.signal(signal.SIGVTALRM, _time_up)
    # Again and again: an "except:" of theirs may catch it.
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds, 0.1)
    try:
        return _examined(lesson, file, code)
    except MisunderstandingError as error:
        return Verdict(False, error.idea, error.text, error.look)
    except NotImplementedError as error:
        where = _line(file, error)
        return Verdict(False, "untouched", f"{where}: begin here, in place of this line.")
    except _TimeUp as error:
        text = f"still running after {cpu_seconds:g} s: does the loop around this line end?"
        return Verdict(False, "time", f"{_line(file, error)}: {text}")
    except (Exception, SystemExit) as error:
        if _line(file, error) == str(file):
            raise  # none of theirs
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        return Verdict(False, "error", f"{_line(file, error)}: {what}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _examined(lesson: Lesson, file: Path, code: CodeType) -> Verdict:
    names: dict[str, Any] = {"__name__": "exercise", "__file__": str(file)}
    exec(code, names)
    skeleton: dict[str, Any] = {}
    exec(lesson.skeleton, skeleton)
    for name in lesson.functions:
        if not isfunction(names.get(name)):
            return Verdict(False, "error", f"{file}: there is no function {name}() any more.")
        wanted = signature(skeleton[name])
        if len(signature(names[name]).parameters) != len(wanted.parameters):
            return Verdict(False, "error", f"{file}: {name} takes {wanted}, as in the beginning.")
    note = lesson.examine({name: names[name] for name in lesson.functions})
    return Verdict(True, "reference", note)


def _time_up(number: int, frame: FrameType | None) -> None:
    raise _TimeUp


def _line(file: Path, error: BaseException) -> str:
    """``FILE:LINE`` of the innermost line of ``file`` that an error passed; FILE if of none."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return f"{file}:{lines[-1]}" if lines else str(file)


def main(number: str, file: str, cpu_seconds: str, parent: str, trace: str) -> None:
    """Try a file and print the verdict on what was standard output."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it has ended before
        return
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:  # otherwise somebody has chosen one
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, most))
    # For loops whose "except:" takes every _TimeUp. Whatever else a trial does takes less.
    seconds, (_, most) = int(float(cpu_seconds)), resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds + _MORE_CPU_SECONDS, most))
    sys.stdout = printed = _Printed()
    lesson, at_most = load(int(number)), float(cpu_seconds)
    if trace:
        verdict = traced(lesson, Path(file), at_most, Path(trace))
    else:
        verdict = attempt(lesson, Path(file), at_most)
    with open(answers, "w", encoding="utf-8") as stream:
        json.dump(asdict(verdict) | {"printed": printed.getvalue()}, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
