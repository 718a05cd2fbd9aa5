"""Waiting for a device's state as a toolstack does: with a watch and a time limit."""

from __future__ import annotations

from collections.abc import Callable, Container
from enum import Enum

from attrs import define, field

from xennet.interface import StoreClient
from xennet.xenbus.state import parse_state
from xennet.xenstore.errors import XsError

#: (delay in ns, function): run the function later. What it returns is ignored.
After = Callable[[int, Callable[[], None]], object]


class WaitResult(Enum):
    """How a wait ended."""

    REACHED = "the state was reached"
    GONE = "the state node is gone"
    TIMED_OUT = "the time limit passed"


@define(eq=False, repr=False)
class DeviceStateWait:
    """Waits until the node ``path`` holds one of the states ``wanted`` (libxl__ev_devstate_wait).

    ``done(result)`` is called once, after the watch has ended.
    """

    store: StoreClient
    path: str
    token: str
    wanted: Container[int]
    done: Callable[[WaitResult], None]
    waiting: bool = field(init=False, default=False)

    def start(self, after: After | None = None, limit_ns: int = 0) -> None:
        """Begin to wait, for at most ``limit_ns``; without ``after`` there is no time limit."""
        self.waiting = True
        self.store.watch(self.path, self.token, self._changed)
        if after is not None:
            after(limit_ns, self._out_of_time)

    def _changed(self, _path: str, _token: str) -> None:
        try:
            state = parse_state(self.store.read(self.path))
        except XsError:
            self._end(WaitResult.GONE)
        else:
            if state in self.wanted:
                self._end(WaitResult.REACHED)

    def _out_of_time(self) -> None:
        self._end(WaitResult.TIMED_OUT)

    def _end(self, result: WaitResult) -> None:
        if self.waiting:
            self.waiting = False
            self.store.unwatch(self.path, self.token)
            self.done(result)
