"""A bound on the CPU time of code that may loop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

#: Between two exceptions, in case the first is swallowed (seconds of CPU time).
_AGAIN = 0.05


class CpuTimeError(BaseException):
    """The code has used up its CPU time. No Exception, for a driver that catches all of those."""


class cpu_bound:  # a context manager, as those of contextlib are called
    """A context whose code is interrupted by CpuTimeError when the process has spent ``seconds`` of
    CPU time in user mode in it, however busy the machine is.

    Only Python code in the main thread can be interrupted; elsewhere there is no bound. Nothing
    stays armed afterwards, even if the time is over at the very end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = False
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGVTALRM, self._over)
            self._armed = True
            signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds, _AGAIN)

    def __exit__(self, *raised: object) -> None:
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, self._before)

    def _over(self, number: int, frame: FrameType | None) -> None:
        # An exception at the begin of __exit__, or the end of __enter__, would leave it undone.
        own = cpu_bound.__enter__.__code__, cpu_bound.__exit__.__code__
        if self._armed and (frame is None or frame.f_code not in own):
            raise CpuTimeError(f"{self._seconds:g} s of CPU time are over")
