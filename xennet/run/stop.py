"""Ending a run early: ports give no more frames, frames on the way still arrive."""

from __future__ import annotations

from attrs import define

from xennet.port.base import PullStopped


@define(eq=False)
class Stop:
    """Whether a run is to end; ``reason`` tells why, "" if it is not.

    ``pulling``: a port is being asked for frames; one that reads a pipe may never return.
    """

    reason: str = ""
    pulling: bool = False

    def ask(self, reason: str) -> None:
        """Ask the run to end, in order. May be called in a signal handler."""
        self.reason = self.reason or reason

    def overdue(self) -> None:
        """Raise PullStopped, in a signal handler, if a port's pull keeps the run from ending."""
        if self.pulling:
            raise PullStopped(self.reason)
