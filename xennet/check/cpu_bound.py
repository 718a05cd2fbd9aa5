"""A bound on the CPU time of code that may loop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Between two exceptions, in case the first is swallowed (seconds of CPU time).
_AGAIN = 0.05


class CpuTimeError(BaseException):
    """The code has used up its CPU time. No Exception, for a driver that catches all of those."""


@contextmanager
def cpu_bound(seconds: float) -> Iterator[None]:
    """A context whose code is interrupted by CpuTimeError when the process has spent ``seconds`` of
    CPU time in user mode in it, however busy the machine is.

    Only Python code in the main thread can be interrupted; elsewhere there is no bound.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise CpuTimeError(f"{seconds:g} s of CPU time are over")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
