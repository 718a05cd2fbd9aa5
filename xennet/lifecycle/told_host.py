"""One host of a scenario, and a narrator who tells what happens in its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import evolve

from xennet.host.capacity import ONE_VIF
from xennet.host.host import Host
from xennet.lifecycle.narrator import Narrator
from xennet.lifecycle.stack import Stack
from xennet.lifecycle.told import Told
from xennet.observe import StoreOperation
from xennet.xenbus.paths import VifPaths


class ToldHost:
    """``host`` and ``network``, what the host's ends of vifs lead to. ``name`` stands in all that
    is told of it, if there is more than one host.
    """

    def __init__(self, tell: Callable[[Told], None], name: str = "") -> None:
        self.name = name
        self.host = Host(ONE_VIF)
        self.network = Stack()
        self._listener = tell
        self._narrator = Narrator(VifPaths(1, 0), self.host.machine.run_loop, self._tell)
        self._stop: Callable[[], None] | None = None
        self._listen()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing is told, and nothing is observed, meanwhile."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        try:
            yield
        finally:
            if stop is not None:
                self._listen()

    def tell_of(self, paths: VifPaths) -> None:
        """From now on the vif of these directories is told of; they are told as well."""
        self._narrator.paths = paths
        for name, path in (("frontend", paths.frontend), ("backend", paths.backend)):
            self._tell(Told("directory", f"{name} = {path}"))

    def _tell(self, told: Told) -> None:
        self._listener(evolve(told, host=self.name))

    def _listen(self) -> None:
        observers = self.host.machine.observers
        self._stop = observers.subscribe(self._narrator.observe, StoreOperation)
