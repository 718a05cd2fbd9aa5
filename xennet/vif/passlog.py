"""The log of a driver's kernel calls: silent until somebody wants to see ring events."""

from __future__ import annotations

from typing import Any

from xennet.engine.choice import Engine
from xennet.interface import Hypervisor
from xennet.vif.ring_events import RingEvent, new_log, silent_log, take


class PassLog:
    """:meth:`arg` is what a kernel gets as its log; :meth:`emit` tells observers what it wrote."""

    def __init__(self, hv: Hypervisor, engine: Engine) -> None:
        self._hv = hv
        self._engine = engine
        self._silent = engine.view(silent_log())
        self._log = silent_log()
        self._view: Any = None

    def arg(self) -> Any:
        """A log with room while there are observers, else one without."""
        if not self._hv.observes(RingEvent):
            return self._silent
        if self._view is None:
            self._log = new_log()
            self._view = self._engine.view(self._log)
        return self._view

    def emit(self) -> None:
        """Emit what the last kernel calls noted."""
        if self._view is not None and self._hv.observes(RingEvent):
            for event in take(self._hv.domid, self._log):
                self._hv.emit(event)
