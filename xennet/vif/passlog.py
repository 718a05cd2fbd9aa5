"""The log of a driver's kernel calls; it is off until an observer wants ring events."""

from __future__ import annotations

from typing import Any

from xennet.engine.choice import Engine
from xennet.interface import Hypervisor
from xennet.vif.ring_events import RingEvent, new_log, silent_log, take


class PassLog:
    """The log that a driver gives its kernels, and whose records it emits.

    While ``interest.any`` is False, :attr:`silent` is the log, and there is nothing to emit: the
    driver sees to that itself, since it costs it no call. Else :meth:`arg` is the log.
    """

    def __init__(self, hv: Hypervisor, engine: Engine) -> None:
        self._hv = hv
        self._engine = engine
        self.interest = hv.interest(RingEvent)
        #: A log without room, for kernels.
        self.silent: Any = engine.view(silent_log())
        self._log = silent_log()
        self._view: Any = None

    def __repr__(self) -> str:
        return f"<PassLog {'on' if self.interest.any else 'off'}>"

    def arg(self) -> Any:
        """A log with room, for a kernel."""
        if self._view is None:
            self._log = new_log()
            self._view = self._engine.view(self._log)
        return self._view

    def emit(self) -> None:
        """Emit the records of the last kernel calls."""
        for event in take(self._hv.domid, self._log):
            self._hv.emit(event)
