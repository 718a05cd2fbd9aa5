"""What happens on a machine, step by step: one stream of events that everything that shows a run
reads.

The records that a module of this name had before are in xennet.vif.ring_events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.trace.history import History
    from xennet.trace.recorder import Recorder, recording
    from xennet.trace.stream import TraceError
    from xennet.trace.trace import Trace

__all__ = ["History", "Recorder", "Trace", "TraceError", "recording"]

_HOMES = {
    "History": "xennet.trace.history",
    "Recorder": "xennet.trace.recorder",
    "Trace": "xennet.trace.trace",
    "TraceError": "xennet.trace.stream",
    "recording": "xennet.trace.recorder",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
