"""A port of a live vif: behind an edge, and woken for whichever driver it has."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from xennet.frames import Watch, attach
from xennet.port import Port
from xennet.port.base import flush
from xennet.vif.end import VifEnd
from xennet.wrap.offload_edge import OffloadEdge


class LivePort:
    """``port`` behind its ``edge``, which is the end of one vif after the other: ``driver`` is the
    one that is kicked when there is something to do. ``watch`` watches the port's descriptors."""

    def __init__(self, port: Port, watch: Watch) -> None:
        self.port = port
        self.edge = OffloadEdge(port)
        self.driver: VifEnd[Any] | None = None
        attach(self.edge, self._wake, watch)

    def _wake(self) -> None:
        if self.driver is not None:
            self.driver.kick()

    def flush(self) -> None:
        """Have the port hand on what it keeps back. Raises PortError if the outside does not take
        it."""
        flush(self.port)

    def close(self) -> None:
        """Close the port; what was pushed is complete there."""
        self.driver = None
        self.edge.finish()
        self.edge.close()

    def report(self) -> dict[str, Any]:
        """The port's name, its counters, and what the edge did to frames, for JSON."""
        return {
            "name": self.port.name,
            "counters": asdict(self.port.counters),
            "from_port": asdict(self.edge.pulled),
            "to_port": asdict(self.edge.pushed),
        }
