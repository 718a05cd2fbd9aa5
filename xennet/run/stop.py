"""Ending a run: ports give no more frames, frames on the way still arrive."""

from __future__ import annotations

import time

from attrs import define

from xennet.port.base import PullStopped


@define(eq=False)
class Stop:
    """Whether a run is to end. ``reason``: the signal that asked for it, "" if none did.

    ``pulling``: a port is being asked for frames; one that reads a pipe may never return.
    ``failed``: a port can give no more frames, which ends a live run.
    """

    reason: str = ""
    pulling: bool = False
    failed: bool = False
    _ended: bool = False
    _deadline: float | None = None

    @property
    def over(self) -> bool:
        """Whether the run is to end: somebody has asked for it, it has ended, or its time is
        up."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._ended = True
        return self._ended or bool(self.reason)

    def after(self, seconds: float) -> None:
        """Let the run end ``seconds`` from now."""
        self._deadline = time.monotonic() + seconds

    def end(self) -> None:
        """Note that the run ends by itself."""
        self._ended = True

    def ask(self, reason: str) -> None:
        """Ask the run to end, in order. May be called in a signal handler."""
        self.reason = self.reason or reason

    def overdue(self) -> None:
        """Raise PullStopped, in a signal handler, if a port's pull keeps the run from ending."""
        if self.pulling:
            raise PullStopped(self.reason)
