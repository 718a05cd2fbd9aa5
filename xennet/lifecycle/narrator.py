"""Tells what happens to a vif in the store, one line for each event: who did what to which node."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from xennet.observe import StoreOperation
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state, state_name
from xennet.xenstore.path import canonical, is_same_or_below

_VERBS = {"WRITE": "writes", "RM": "removes"}


@define(eq=False)
class Narrator:
    """An observer of StoreOperation events; ``say`` gets each line.

    Told are writes and removals in the directories of ``paths`` and of their error nodes. Refused
    operations are left out.
    """

    paths: VifPaths
    say: Callable[[str], None]

    def observe(self, event: object) -> None:
        """For Observers.subscribe."""
        if not isinstance(event, StoreOperation) or event.error:
            return
        verb = _VERBS.get(event.op)
        if verb is None:
            return
        path = canonical(event.path, event.domid)
        if any(is_same_or_below(path, root) for root in self._roots()):
            self.say(f"{event.who} {verb} {path}{_shown(event, path)}")

    def _roots(self) -> tuple[str, ...]:
        paths = self.paths
        return paths.frontend, paths.backend, paths.frontend_error, paths.backend_error


def _shown(event: StoreOperation, path: str) -> str:
    if event.op != "WRITE":
        return ""
    if path.endswith("/state"):
        return f" = {state_name(parse_state(event.value))}"
    return f' = "{event.value.decode("ascii", "backslashreplace")}"'
