"""Tells what happens to a vif in the store: who did what to which node."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from xennet.lifecycle.told import Told
from xennet.observe import StoreOperation
from xennet.runloop import RunLoop
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state, state_name
from xennet.xenstore.path import canonical, is_same_or_below


@define(eq=False)
class Narrator:
    """An observer of StoreOperation events; ``tell`` gets each thing.

    Told are writes and removals in the directories of ``paths`` and of their error nodes. Refused
    operations are left out.
    """

    paths: VifPaths
    run_loop: RunLoop
    tell: Callable[[Told], None]

    def observe(self, event: object) -> None:
        """For Observers.subscribe."""
        if not isinstance(event, StoreOperation) or event.error or event.op not in ("WRITE", "RM"):
            return
        path = canonical(event.path, event.domid)
        if any(is_same_or_below(path, root) for root in self._roots()):
            self.tell(
                self._removed(event, path) if event.op == "RM" else self._written(event, path)
            )

    def _removed(self, event: StoreOperation, path: str) -> Told:
        text, now = f"{event.who} removes {path}", self.run_loop.now
        return Told("rm", text, who=event.who, path=path, time_ns=now, paths=self.paths)

    def _written(self, event: StoreOperation, path: str) -> Told:
        value = event.value.decode("ascii", "backslashreplace")
        shown, state = f'"{value}"', None
        if path.endswith("/state"):
            shown = state_name(parse_state(event.value))
            state = shown.partition(" ")[0]
        return Told(
            "write",
            f"{event.who} writes {path} = {shown}",
            who=event.who,
            path=path,
            value=value,
            state=state,
            time_ns=self.run_loop.now,
            paths=self.paths,
        )

    def _roots(self) -> tuple[str, ...]:
        paths = self.paths
        return paths.frontend, paths.backend, paths.frontend_error, paths.backend_error
