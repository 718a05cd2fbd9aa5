"""The timeline of a handshake: who wrote which XenStore node, and the state changes of both
ends."""

from __future__ import annotations

from attrs import define, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.observe import StoreOperation
from xennet.runloop import RunLoop
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state
from xennet.xenstore.path import canonical, is_same_or_below

_KINDS = {"WRITE": "write", "RM": "rm"}
#: Most entries; a connection takes about 60.
MOST_ENTRIES = 2000


@frozen
class TimelineEntry:
    """One event while the device came up or went away.

    ``step``: its number in the run, from 1. ``time_ns``: virtual time. ``who``: "domU1", "dom0",
    "toolstack", "hotplug" ... ``kind``: "write", "rm", "mkdir", "state" ... ``path``: absolute
    XenStore path, "" if there is none. ``value``: what was written, or a text; None for nothing.
    ``old``, ``new``: XenbusState names of a state change, else None.
    """

    step: int
    who: str
    kind: str
    path: str = ""
    value: str | None = None
    old: str | None = None
    new: str | None = None
    time_ns: int = 0


@define(eq=False, repr=False)
class Timeline:
    """Collects the changes in the two directories of one vif.

    The toolstack's private copy and mere creation of directories are left out, and so are reads and
    watches. ``left_out`` counts the entries after the first MOST_ENTRIES: other programs may write
    without end.
    """

    paths: VifPaths
    run_loop: RunLoop
    entries: list[TimelineEntry] = field(factory=list)
    left_out: int = 0
    _states: dict[str, str] = field(factory=dict)

    def __repr__(self) -> str:
        return f"<Timeline {len(self.entries)} entries, {self.left_out} left out>"

    def observe(self, event: object) -> None:
        """The observer for machine.observers (StoreOperation events)."""
        if not isinstance(event, StoreOperation) or event.error:
            return
        kind = _KINDS.get(event.op)
        if kind is None:
            return
        path = canonical(event.path, event.domid)
        for root in (self.paths.frontend, self.paths.backend):
            if is_same_or_below(path, root):
                self._add(event, kind, path)

    def told(self) -> tuple[TimelineEntry, ...]:
        """The entries, and if any were left out, a last one with their number."""
        if not self.left_out:
            return tuple(self.entries)
        note = f"{self.left_out} later changes are not shown"
        step, now = len(self.entries) + 1, self.run_loop.now
        return (*self.entries, TimelineEntry(step, "xennet", "note", value=note, time_ns=now))

    def _add(self, event: StoreOperation, kind: str, path: str) -> None:
        if len(self.entries) >= MOST_ENTRIES:
            self.left_out += 1
            return
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
