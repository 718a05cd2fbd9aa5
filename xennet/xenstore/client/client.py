"""The store as a driver or a toolstack uses it: values of any kind, callbacks, retried
transactions. One API over a connection in the process, over a socket and over a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar, overload, runtime_checkable

from xennet.xenstore.client.channel import Channel
from xennet.xenstore.client.connection import WireConnection
from xennet.xenstore.client.errors import XsTimeoutError
from xennet.xenstore.client.nodes import ClientTransaction, NodeOperations, StoreConnection
from xennet.xenstore.client.watch import WatchIterator
from xennet.xenstore.errors import XsError
from xennet.xenstore.path import is_same_or_below, is_special
from xennet.xenstore.watch import WatchEvent

_T = TypeVar("_T")

WatchCallback = Callable[[str, str], None]

TIMEOUT = 30.0


@runtime_checkable
class EventSource(Protocol):
    """A connection whose events come from outside the process."""

    def deadline(self, timeout: float | None) -> float: ...
    def fetch(self, deadline: float) -> bool: ...


class Client(NodeOperations):
    """A connection with callbacks, iterators and transactions.

    Nothing is delivered by itself: :meth:`poll` or :meth:`poll_one` calls the callbacks, and
    ``on_pending``, if set, is told when there is something to deliver. A context manager that
    closes. Not for several threads at once.
    """

    def __init__(self, connection: StoreConnection, name: str = "") -> None:
        super().__init__(connection, 0)
        if name:
            connection.name = name
        connection.sink = self._woken
        self.on_pending: Callable[[], None] | None = None
        self._callbacks: dict[tuple[str, str], WatchCallback] = {}
        self._source = connection if isinstance(connection, EventSource) else None
        self._watches = 0

    @classmethod
    def connect(
        cls, path: str | None = None, *, timeout: float | None = TIMEOUT, name: str = "client"
    ) -> Self:
        """A client of the server at the socket (or device) ``path``.

        Without a path it is found as libxenstore finds it: $XENSTORED_PATH, else ``socket`` in
        $XENSTORED_RUNDIR, else /var/run/xenstored/socket, else the device /dev/xen/xenbus.
        ``timeout``: seconds to wait for the connection and for every answer, None for ever.
        XsError with the system's errno and the path if nobody can be reached.
        """
        from xennet.xenstore.client.socket import open_channel

        return cls.over(open_channel(path, timeout), timeout=timeout, name=name)

    @classmethod
    def over(cls, channel: Channel, *, timeout: float | None = None, name: str = "client") -> Self:
        """A client of the server at the other end of ``channel``, which it owns from now on."""
        return cls(WireConnection(channel, name, timeout))

    @property
    def name(self) -> str:
        """The connection's name, for observers."""
        return self._connection.name

    # -- transactions --------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[ClientTransaction]:
        """A transaction, committed at the end of the block, aborted by any exception.

        The commit raises XsError EAGAIN if a touched node has changed (see :meth:`transact`).
        """
        tx = ClientTransaction(self._connection, self._connection.transaction_start())
        try:
            yield tx
        except BaseException:
            # A reset of the connection may have taken the transaction away already.
            with suppress(XsError):
                self._connection.transaction_end(tx.tx_id, False)
            raise
        self._connection.transaction_end(tx.tx_id, True)

    def attempts(self, retries: int = 100) -> Iterator[AbstractContextManager[ClientTransaction]]:
        """Transactions one after the other until one commits::

            for attempt in client.attempts():
                with attempt as tx:
                    tx.write("/counter", int(tx.read("/counter")) + 1)

        A block that meets EAGAIN, at its end or inside, is left silently and the next attempt
        begins; after ``retries`` more of them XsError EAGAIN is raised.
        """
        for _ in range(retries + 1):
            conflicts: list[XsError] = []
            yield self._attempt(conflicts)
            if not conflicts:
                return
        path = conflicts[-1].path
        raise XsError("EAGAIN", path, f"transaction given up after {retries} retries")

    def transact(self, body: Callable[[ClientTransaction], _T], retries: int = 100) -> _T:
        """Run ``body(tx)`` and commit; all over again, at most ``retries`` times, on EAGAIN.

        Returns what ``body`` returned. Any exception of ``body`` aborts and is passed on.
        """
        for attempt in self.attempts(retries):
            with attempt as tx:
                result = body(tx)
        return result

    @contextmanager
    def _attempt(self, conflicts: list[XsError]) -> Iterator[ClientTransaction]:
        try:
            with self.transaction() as tx:
                yield tx
        except XsError as error:
            if error.errno != "EAGAIN":
                raise
            conflicts.append(error)

    # -- watches -------------------------------------------------------------------------------

    @overload
    def watch(self, path: str, token: str, callback: WatchCallback) -> None: ...

    @overload
    def watch(
        self, path: str, token: str | None = None, *, timeout: float | None = None
    ) -> WatchIterator: ...

    def watch(
        self,
        path: str,
        token: str | None = None,
        callback: WatchCallback | None = None,
        *,
        timeout: float | None = None,
    ) -> WatchIterator | None:
        """Call ``callback(path, token)`` for every change at or below ``path``, and once first.

        Without a callback the events are read from the iterator that is returned, each with
        ``timeout`` seconds (None: no limit) to come; it ends the watch when it is closed. If two
        watches share a token, an event goes to each one whose path covers it.
        """
        if token is None:
            self._watches += 1
            token = f"watch-{self._watches}"
        events = None
        if callback is None:
            events = WatchIterator(self, path, token, timeout)
            callback = events.deliver
        if (path, token) in self._callbacks:
            raise XsError("EEXIST", path, f"already watched with token {token!r}")
        # The first event comes with the request: it must find its receiver.
        self._callbacks[path, token] = callback
        try:
            self._connection.watch(path, token)
        except XsError:
            del self._callbacks[path, token]
            raise
        return events

    def unwatch(self, path: str, token: str) -> None:
        """End a watch, named as it was set; events of it that still wait are dropped.

        Safe inside a callback. XsError ENOENT if there is none.
        """
        if (path, token) not in self._callbacks:
            raise XsError("ENOENT", path, f"not watched with token {token!r}")
        del self._callbacks[path, token]
        # Only events with this token can have lost their receiver.
        self._connection.events.discard(
            lambda event: event.token == token and not self._receivers(event)
        )
        self._connection.unwatch(path, token)

    @property
    def pending(self) -> bool:
        """True if an event waits to be delivered (it has been received; see :meth:`poll`)."""
        return bool(self._connection.events)

    def poll_one(self) -> bool:
        """Deliver the oldest event; False if there was none. What a callback raises is passed on,
        and the event counts as delivered. Receives what has come, but does not wait."""
        while self._connection.events or self._fetch():
            event = self._connection.events.popleft()
            receivers = self._receivers(event)
            for key, callback in receivers:
                # An earlier callback of this very event may have removed the watch.
                if self._callbacks.get(key) is callback:
                    callback(event.path, event.token)
            # What the server sent before it heard that a watch has ended counts for nothing.
            if receivers:
                return True
        return False

    def poll(self) -> int:
        """Deliver events, also those that callbacks cause, until none waits; returns how many."""
        count = 0
        while self.poll_one():
            count += 1
        return count

    def wait(self, done: Callable[[], bool], timeout: float | None = None, what: str = "") -> None:
        """Deliver events as they come until ``done()``, at most ``timeout`` seconds (None: no
        limit).

        XsTimeoutError, about ``what``, if it was not to be; in the process as soon as no event
        waits, for nothing can happen there while the caller waits.
        """
        source = self._source
        deadline = 0.0 if source is None else source.deadline(timeout)
        while not done():
            if not self.poll_one() and (source is None or not source.fetch(deadline)):
                limit = "" if timeout is None else f" within {timeout:g} s"
                raise XsTimeoutError(what, f"no watch event{limit}")

    # -- domains -------------------------------------------------------------------------------

    def get_domain_path(self, domid: int) -> str:
        """Home directory of a domain."""
        return self._connection.get_domain_path(domid)

    def is_domain_introduced(self, domid: int) -> bool:
        """Privileged."""
        return self._connection.is_domain_introduced(domid)

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Make a domain known, with its ring page and unbound event channel port. Privileged."""
        self._connection.introduce(domid, gfn, port)

    def release(self, domid: int) -> None:
        """Forget a domain. Privileged."""
        self._connection.release(domid)

    def resume(self, domid: int) -> None:
        """A domain runs again after a shutdown. Privileged."""
        self._connection.resume(domid)

    def set_target(self, domid: int, target: int) -> None:
        """Give ``domid`` the rights of ``target`` too. Privileged."""
        self._connection.set_target(domid, target)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Drop watches, transactions, waiting events and the connection."""
        self._callbacks.clear()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _fetch(self) -> bool:
        source = self._source
        return source is not None and source.fetch(source.deadline(0))

    def _receivers(self, event: WatchEvent) -> list[tuple[tuple[str, str], WatchCallback]]:
        return [
            (key, callback)
            for key, callback in self._callbacks.items()
            if key[1] == event.token and _covers(key[0], event.path)
        ]

    def _woken(self) -> None:
        if self.on_pending is not None and self.pending:
            self.on_pending()


def _covers(watched: str, path: str) -> bool:
    return watched == path or (not is_special(path) and is_same_or_below(path, watched))
