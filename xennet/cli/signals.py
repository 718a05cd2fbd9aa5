"""SIGINT, SIGTERM and SIGHUP during a run, or while checks are played."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from xennet.run.stop import Stop

#: Seconds after which a port whose call does not return is abandoned.
_PATIENCE = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], None]


class Signalled(KeyboardInterrupt):
    """One of these signals, raised where the program was: code that catches everything but
    KeyboardInterrupt lets it pass. ``number``: which of them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextmanager
def raising() -> Iterator[None]:
    """A context in which these signals raise Signalled, SIGHUP once: see :func:`stopping`."""

    def asked(number: int, frame: FrameType | None) -> None:
        _once(number)
        raise Signalled(number)

    with _handling(dict.fromkeys(_SIGNALS, asked)):
        yield


@contextmanager
def stopping(stop: Stop, silent: bool) -> Iterator[None]:
    """A context in which the first signal asks the run to end and the second ends it at once.

    The second one raises KeyboardInterrupt, or SystemExit with the exit code of the signal. SIGHUP
    comes several times when a terminal is closed, of the system and of the shell: from the first
    one on it is ignored, to the end of the process, and it is never the second signal.
    """

    def asked(number: int, frame: FrameType | None) -> None:
        _once(number)
        if stop.reason:
            if number == signal.SIGHUP:
                return
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        stop.ask(signal.Signals(number).name)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        # On a terminal this line would tear the progress bars.
        if not silent and not sys.stderr.isatty():
            again = "SIGTERM" if number == signal.SIGHUP else "once more"
            _tell(f"{stop.reason}: the run ends, {again} ends it at once")

    def overdue(number: int, frame: FrameType | None) -> None:
        stop.overdue()

    with _handling({**dict.fromkeys(_SIGNALS, asked), signal.SIGALRM: overdue}):
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _once(number: int) -> None:
    """Ignore SIGHUP from now on, if ``number`` is that."""
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handling(handlers: Mapping[signal.Signals, _Handler]) -> Iterator[None]:
    """A context with these handlers, if this is the main thread, whose signals are. What is ignored
    (SIGINT for ``command &`` in a script, SIGHUP below nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if number not in _SIGNALS or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, old)


def _tell(text: str) -> None:
    """Write to stderr's descriptor: the signal may have interrupted a write to sys.stderr.

    What cannot be written is dropped: the run has to end in order all the same.
    """
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"xennet: {text}\n".encode())
