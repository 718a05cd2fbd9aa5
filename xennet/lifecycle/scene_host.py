"""One host of a scenario, and the entries of a transcript about its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import define, evolve

from xennet.host.capacity import ONE_VIF
from xennet.host.host import Host
from xennet.lifecycle.stack import Stack
from xennet.lifecycle.transcript import Entry
from xennet.observe import StoreOperation
from xennet.runloop import RunLoop
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state, state_name
from xennet.xenstore.path import canonical, is_same_or_below


@define(eq=False)
class NodeObserver:
    """An observer of StoreOperation events that calls ``tell(entry)`` for each change of a vif's
    nodes.

    Changes are writes and removals in the directories of ``paths`` and in their error nodes.
    Refused operations are left out.
    """

    paths: VifPaths
    run_loop: RunLoop
    tell: Callable[[Entry], None]

    def observe(self, event: object) -> None:
        """The callback for Observers.subscribe."""
        if not isinstance(event, StoreOperation) or event.error or event.op not in ("WRITE", "RM"):
            return
        path = canonical(event.path, event.domid)
        if any(is_same_or_below(path, root) for root in self._roots()):
            self.tell(
                self._removed(event, path) if event.op == "RM" else self._written(event, path)
            )

    def _removed(self, event: StoreOperation, path: str) -> Entry:
        text, now = f"{event.who} removes {path}", self.run_loop.now
        return Entry("rm", text, who=event.who, path=path, time_ns=now, paths=self.paths)

    def _written(self, event: StoreOperation, path: str) -> Entry:
        value = event.value.decode("ascii", "backslashreplace")
        shown, state = f'"{value}"', None
        if path.endswith("/state"):
            shown = state_name(parse_state(event.value))
            state = shown.partition(" ")[0]
        return Entry(
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


class SceneHost:
    """A host, and ``network``, the network stack at the host's ends of its vifs.

    ``name`` is in all entries about this host, "" if there is only one.
    """

    def __init__(self, tell: Callable[[Entry], None], name: str = "") -> None:
        self.name = name
        self.host = Host(ONE_VIF)
        self.network = Stack()
        self._listener = tell
        self._node_observer = NodeObserver(VifPaths(1, 0), self.host.machine.run_loop, self._tell)
        self._stop: Callable[[], None] | None = None
        self._listen()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """A context in which this host's store is not observed."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        try:
            yield
        finally:
            if stop is not None:
                self._listen()

    def tell_of(self, paths: VifPaths) -> None:
        """Observe the vif of these directories from now on, and tell the directories."""
        self._node_observer.paths = paths
        for name, path in (("frontend", paths.frontend), ("backend", paths.backend)):
            self._tell(Entry("directory", f"{name} = {path}"))

    def _tell(self, entry: Entry) -> None:
        self._listener(evolve(entry, host=self.name))

    def _listen(self) -> None:
        observers = self.host.machine.observers
        self._stop = observers.subscribe(self._node_observer.observe, StoreOperation)
