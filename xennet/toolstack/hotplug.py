"""The hotplug script, emulated: it plugs the backend's interface into a bridge and reports that.

Only what vif-bridge and vif-common.sh do to the store is here: ``online`` sets the frontend's mtu
and ends with hotplug-status "connected", or with hotplug-error and hotplug-status "error".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from xennet.interface import StoreClient
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifPaths


class HotplugAction(Enum):
    """The script's argument."""

    ONLINE = "online"
    OFFLINE = "offline"


class HotplugRun(NamedTuple):
    """One call of the script. ``done(problem)`` is called when it exits, with "" if all went
    well."""

    action: HotplugAction
    paths: VifPaths
    done: Callable[[str], None]


class HotplugScript:
    """Runs hotplug scripts one after the other, each as a work item of its own (``defer``).

    ``held``: no run begins before :meth:`release`. ``failure``: if not empty, the error text with
    which ``online`` runs end. ``bridge_mtu``: the bridge's MTU in bytes. ``history``: the runs that
    have ended.
    """

    def __init__(
        self,
        store: StoreClient,
        defer: Callable[[Callable[[], None]], None],
        *,
        bridge_mtu: int = 1500,
    ) -> None:
        self.held = False
        self.failure = ""
        self.bridge_mtu = bridge_mtu
        self.history: list[HotplugRun] = []
        self._store = store
        self._defer = defer
        self._queue: deque[HotplugRun] = deque()

    def __repr__(self) -> str:
        return f"<HotplugScript {len(self.history)} runs, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """Number of runs that have not begun."""
        return len(self._queue)

    def run(self, action: HotplugAction, paths: VifPaths, done: Callable[[str], None]) -> None:
        """Queue a run of the script."""
        self._queue.append(HotplugRun(action, paths, done))
        self._defer(self._next)

    def release(self) -> None:
        """Let the runs begin that ``held`` kept back."""
        self.held = False
        for _ in range(len(self._queue)):
            self._defer(self._next)

    def _next(self) -> None:
        if self.held or not self._queue:
            return
        run = self._queue.popleft()
        problem = self._online(run.paths) if run.action is HotplugAction.ONLINE else ""
        self.history.append(run)
        run.done(problem)

    def _online(self, paths: VifPaths) -> str:
        backend = NodeDirectory(self._store, paths.backend_node)
        if paths.backend_domid != 0:
            backend = NodeDirectory(self._store, paths.backend)
        if not backend.exists():
            return f"{paths.backend} has vanished"
        if self.failure:
            self._store.write(backend.node("hotplug-error"), self.failure)
            self._store.write(backend.node("hotplug-status"), "error")
            return self.failure
        mtu = backend.optional_unsigned("mtu", self.bridge_mtu)
        if NodeDirectory(self._store, paths.frontend).exists():
            self._store.write(f"{paths.frontend}/mtu", mtu)
        self._store.write(backend.node("hotplug-status"), "connected")
        return ""
