"""SIGINT and SIGTERM during a run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from xennet.run.stop import Stop

#: Seconds after which a port whose call does not return is abandoned.
_PATIENCE = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: Stop, silent: bool) -> Iterator[None]:
    """A context in which the first signal asks the run to end and the second ends it at once.

    The second one raises KeyboardInterrupt, or SystemExit with the exit code of SIGTERM. A signal
    that is ignored (``command &`` in a script) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.reason:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        stop.ask(signal.Signals(number).name)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        # On a terminal this line would tear the progress bars.
        if not silent and not sys.stderr.isatty():
            _tell(f"{stop.reason}: the run ends, once more ends it at once")

    def overdue(number: int, frame: FrameType | None) -> None:
        stop.overdue()

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, asked) for number in heeded}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, overdue)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(text: str) -> None:
    """Write to stderr's descriptor: the signal may have interrupted a write to sys.stderr.

    What cannot be written is dropped: the run has to end in order all the same.
    """
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"xennet: {text}\n".encode())
