"""The handshake as a story: who wrote which XenStore node, and each state change of both ends."""

from __future__ import annotations

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.observe import StoreOperation
from xennet.report.model import TimelineEntry
from xennet.runloop import RunLoop
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state
from xennet.xenstore.path import canonical, is_same_or_below

_KINDS = {"WRITE": "write", "RM": "rm"}


@define(eq=False, repr=False)
class Timeline:
    """Collects what happens in the two device directories of one vif.

    The toolstack's private copy and plain directory creation are left out; reads and watches too.
    """

    paths: VifPaths
    run_loop: RunLoop
    entries: list[TimelineEntry] = field(factory=list)
    _states: dict[str, str] = field(factory=dict)

    def observe(self, event: object) -> None:
        """An observer for machine.observers (StoreOperation events)."""
        if not isinstance(event, StoreOperation) or event.error:
            return
        kind = _KINDS.get(event.op)
        if kind is None:
            return
        path = canonical(event.path, event.domid)
        for root in (self.paths.frontend, self.paths.backend):
            if is_same_or_below(path, root):
                self._add(event, kind, path)

    def _add(self, event: StoreOperation, kind: str, path: str) -> None:
        entry = TimelineEntry(
            step=len(self.entries) + 1,
            who=event.who,
            kind=kind,
            path=path,
            value=event.value.decode("ascii", "backslashreplace") if kind == "write" else None,
            time_ns=self.run_loop.now,
        )
        if kind == "write" and path.endswith("/state"):
            new = _state_name(event.value)
            entry = TimelineEntry(
                entry.step, entry.who, "state", path, entry.value, self._states.get(path), new
            )
            self._states[path] = new
        self.entries.append(entry)


def _state_name(value: bytes) -> str:
    number = parse_state(value)
    try:
        return XenbusState(number).name
    except ValueError:
        return str(number)
