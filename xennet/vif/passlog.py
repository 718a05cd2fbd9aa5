"""The log of a driver's kernel calls; it is off until an observer wants ring events."""

from __future__ import annotations

from typing import Any

from xennet.engine.choice import Engine
from xennet.interface import Hypervisor
from xennet.vif.ring_events import RingEvent, new_log, silent_log, take


class PassLog:
    """The log that a driver gives its kernels (:meth:`arg`), and whose records it emits
    (:meth:`emit`)."""

    def __init__(self, hv: Hypervisor, engine: Engine) -> None:
        self._hv = hv
        self._engine = engine
        self._silent = engine.view(silent_log())
        self._log = silent_log()
        self._view: Any = None

    def arg(self) -> Any:
        """The log for a kernel call: one with room if there are observers, else one without."""
        if not self._hv.observes(RingEvent):
            return self._silent
        if self._view is None:
            self._log = new_log()
            self._view = self._engine.view(self._log)
        return self._view

    def emit(self) -> None:
        """Emit the records of the last kernel calls."""
        if self._view is not None and self._hv.observes(RingEvent):
            for event in take(self._hv.domid, self._log):
                self._hv.emit(event)
