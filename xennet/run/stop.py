"""Ending a run early: no port is asked for frames any more, what is on its way still arrives."""

from __future__ import annotations

from attrs import define

from xennet.port.base import PullStopped


@define(eq=False)
class Stop:
    """Whether a run is to end: ``reason`` says why, "" as long as it is not.

    ``pulling``: a port is being asked for frames; one that reads a pipe may never answer.
    """

    reason: str = ""
    pulling: bool = False

    def ask(self, reason: str) -> None:
        """The run is to end, in order. For signal handlers too."""
        self.reason = self.reason or reason

    def overdue(self) -> None:
        """The run should have ended by now: PullStopped, for a signal handler to raise, if it is a
        port that keeps it from that."""
        if self.pulling:
            raise PullStopped(self.reason)
