"""A bound on the time of code that may loop or block."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

#: Seconds of real time after which code that uses no CPU time is given up, whatever else runs.
REAL_SECONDS = 60.0
#: Between two exceptions, in case the first is swallowed (seconds).
_AGAIN = 0.05


class TimeOverError(BaseException):
    """The code has used up its time. No Exception, for a driver that catches all of those."""


class cpu_bound:  # a context manager, as those of contextlib are called
    """A context whose code is interrupted by TimeOverError when the process has spent ``seconds``
    of CPU time in user mode in it, however busy the machine is; or when ``real`` seconds have
    passed, which is for code that blocks, and has to be more than a busy machine needs.

    Only Python code in the main thread can be interrupted; elsewhere there is no bound. Nothing
    stays armed afterwards, even if the time is over at the very end. A timer of real time
    (SIGALRM) that was armed before goes on afterwards; if it is over before ``real`` seconds it is
    left alone, and there is no bound on real time.
    """

    def __init__(self, seconds: float, real: float = REAL_SECONDS) -> None:
        self._seconds, self._real = seconds, real
        self._armed = False
        self._before: Any = None
        self._alarm: tuple[Any, float, float, float] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGVTALRM, self._over)
            left, interval = signal.getitimer(signal.ITIMER_REAL)
            if not left or left > self._real:
                before = signal.signal(signal.SIGALRM, self._blocks)
                self._alarm = before, left, interval, time.monotonic()
            self._armed = True
            signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds, _AGAIN)
            if self._alarm is not None:
                signal.setitimer(signal.ITIMER_REAL, self._real, _AGAIN)

    def __exit__(self, *raised: object) -> None:
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, self._before)
            if self._alarm is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                before, left, interval, begin = self._alarm
                signal.signal(signal.SIGALRM, before)
                if left:
                    rest = max(left - (time.monotonic() - begin), _AGAIN)
                    signal.setitimer(signal.ITIMER_REAL, rest, interval)

    def _over(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(frame, f"{self._seconds:g} s of CPU time are over")

    def _blocks(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(frame, f"it blocks: {self._real:g} s without coming to rest")

    def _interrupt(self, frame: FrameType | None, text: str) -> None:
        # An exception at the begin of __exit__, or the end of __enter__, would leave it undone;
        # also one that a handler raises in that of the other signal.
        own = cpu_bound.__enter__.__code__, cpu_bound.__exit__.__code__
        while frame is not None:
            if frame.f_code in own:
                return
            frame = frame.f_back
        if self._armed:
            raise TimeOverError(text)
