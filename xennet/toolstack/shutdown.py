"""The node control/shutdown: how a toolstack asks a guest to suspend, and how the guest answers.

The toolstack writes a command ("suspend", "poweroff", "reboot"); the guest empties the node as its
answer and then obeys (docs/misc/xenstore-paths, libxl__domain_suspend, Linux shutdown_handler).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from xennet.interface import StoreClient, StoreTransaction
from xennet.toolstack.devstate import After
from xennet.xenstore.errors import XsError
from xennet.xenstore.path import domain_path

_NODE = "control/shutdown"
#: Time that libxl waits for the answer, in ns.
ACKNOWLEDGE_TIMEOUT = 60_000_000_000


@define(eq=False)
class GuestControl:
    """The guest's side. ``handlers`` maps a command to what the guest does then.

    A command without a handler is ignored and not acknowledged.
    """

    store: StoreClient
    handlers: Mapping[str, Callable[[], None]]

    def start(self) -> None:
        """Publish which commands are understood, then watch the node."""
        for command in self.handlers:
            self.store.write(f"control/feature-{command}", "1")
        self.store.watch(_NODE, _NODE, self._changed)

    def stop(self) -> None:
        """End the watch."""
        self.store.unwatch(_NODE, _NODE)

    def _changed(self, _path: str, _token: str) -> None:
        try:
            command = self.store.transact(self._take)
        except XsError:
            return  # the domain's nodes are being removed
        if command is not None:
            self.handlers[command]()

    def _take(self, tx: StoreTransaction) -> str | None:
        command = tx.read(_NODE).decode("ascii", "replace")
        if command not in self.handlers:
            return None
        tx.write(_NODE, "")
        return command


@define(eq=False)
class GuestRequest:
    """The toolstack's side: one command to domain ``domid``.

    ``done(problem)`` is called with "" when the guest has acknowledged the command. A command that
    is not acknowledged in time is withdrawn.
    """

    store: StoreClient
    domid: int
    command: str
    done: Callable[[str], None]
    _waiting: bool = field(init=False, default=False)

    def start(self, after: After | None = None) -> None:
        """Write the command and wait for the answer; without ``after`` there is no time limit."""
        self.store.write(self._node, self.command)
        self._waiting = True
        self.store.watch(self._node, self._token, self._changed)
        if after is not None:
            after(ACKNOWLEDGE_TIMEOUT, self._out_of_time)

    @property
    def _node(self) -> str:
        return f"{domain_path(self.domid)}/{_NODE}"

    @property
    def _token(self) -> str:
        return f"control-{self.domid}"

    def _changed(self, _path: str, _token: str) -> None:
        try:
            value = self.store.read(self._node)
        except XsError:
            self._end("the domain is gone")
        else:
            if not value:
                self._end("")

    def _out_of_time(self) -> None:
        if self._waiting:
            self._waiting = False
            self.store.unwatch(self._node, self._token)
            self.store.write(self._node, "")
            self.done(f"{self._node}: the guest did not take {self.command!r} in 60 s")

    def _end(self, problem: str) -> None:
        if self._waiting:
            self._waiting = False
            self.store.unwatch(self._node, self._token)
            self.done(problem)
