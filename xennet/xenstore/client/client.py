"""The store as a driver or a toolstack uses it: values of any kind, callbacks, retried
transactions.

One API for connections within the process, over a socket and over a ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, TypeVar, overload, runtime_checkable

from xennet.xenstore.client.channel import Channel
from xennet.xenstore.client.connection import WireConnection
from xennet.xenstore.client.errors import XsTimeoutError
from xennet.xenstore.client.nodes import (
    Attempt,
    ClientTransaction,
    NodeOperations,
    OpenTransaction,
    StoreConnection,
    WaitingEvents,
)
from xennet.xenstore.client.watch import WatchIterator
from xennet.xenstore.errors import XsError
from xennet.xenstore.path import is_same_or_below

_T = TypeVar("_T")

WatchCallback = Callable[[str, str], None]

TIMEOUT = 30.0

_NONE: Mapping[str, WatchCallback] = {}


@runtime_checkable
class EventSource(Protocol):
    """A connection whose events come from outside of the process."""

    def deadline(self, timeout: float | None) -> float: ...
    def fetch(self, deadline: float) -> bool: ...


class Client(NodeOperations):
    """A connection with callbacks, iterators and transactions.

    Callbacks run within :meth:`poll`, :meth:`poll_one` and :meth:`wait` only. ``on_pending()``, if
    set, is called when there is something to deliver. As a context manager it closes at the end.
    Not for several threads at once.
    """

    def __init__(self, connection: StoreConnection, name: str = "") -> None:
        super().__init__(connection, 0)
        if name:
            connection.name = name
        connection.sink = self._woken
        #: The events that have been received and are not delivered yet.
        self.events: WaitingEvents = connection.events
        self.on_pending: Callable[[], None] | None = None
        #: Those of each token by the watched paths.
        self._callbacks: dict[str, dict[str, WatchCallback]] = {}
        self._source = connection if isinstance(connection, EventSource) else None
        self._watches = 0

    def __repr__(self) -> str:
        return f"<Client {self.name!r}, {self._watches} watches>"

    @classmethod
    def connect(
        cls, path: str | None = None, *, timeout: float | None = TIMEOUT, name: str = "client"
    ) -> Self:
        """A client of the server at the socket (or device) ``path``.

        Without a path it looks where libxenstore looks: $XENSTORED_PATH, else ``socket`` in
        $XENSTORED_RUNDIR, else /var/run/xenstored/socket, else the device /dev/xen/xenbus.
        ``timeout``: seconds for the connection and for every answer, None for no limit. Raises
        XsError with the system's errno and the path if no server can be reached.
        """
        from xennet.xenstore.client.socket import open_channel

        return cls.over(open_channel(path, timeout), timeout=timeout, name=name)

    @classmethod
    def over(cls, channel: Channel, *, timeout: float | None = None, name: str = "client") -> Self:
        """A client of the server at the other end of ``channel``, which the client owns from now
        on."""
        return cls(WireConnection(channel, name, timeout))

    @property
    def name(self) -> str:
        """The name of the connection, for observers."""
        return self._connection.name

    # -- transactions --------------------------------------------------------------------------

    def transaction(self) -> AbstractContextManager[ClientTransaction]:
        """A transaction that is committed at the end of the block, and aborted by an exception.

        The commit raises XsError EAGAIN if an accessed node has changed (see :meth:`transact`).
        """
        return OpenTransaction(self._connection)

    def attempts(self, retries: int = 100) -> Iterator[AbstractContextManager[ClientTransaction]]:
        """Transactions one after the other until one commits::

            for attempt in client.attempts():
                with attempt as tx:
                    tx.write("/counter", int(tx.read("/counter")) + 1)

        A block that meets EAGAIN, at its end or inside, is left silently and the next attempt
        begins; after ``retries`` more of them XsError EAGAIN is raised.
        """
        path = ""
        for _ in range(retries + 1):
            attempt = Attempt(self._connection)
            yield attempt
            if attempt.conflict is None:
                return
            path = attempt.conflict.path
        raise XsError("EAGAIN", path, f"transaction given up after {retries} retries")

    def transact(self, body: Callable[[ClientTransaction], _T], retries: int = 100) -> _T:
        """Run ``body(tx)`` in a transaction and commit; start again on EAGAIN, at most ``retries``
        times.

        Returns what ``body`` returned. Any other exception of ``body`` aborts the transaction and
        is passed on.
        """
        for attempt in self.attempts(retries):
            with attempt as tx:
                result = body(tx)
        return result

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

        Without a callback the events are read from the iterator that is returned. It waits
        ``timeout`` seconds for each (None: no limit), and ends the watch when it is closed. If
        several watches have one token, an event goes to each of them whose path covers it.
        """
        if token is None:
            self._watches += 1
            token = f"watch-{self._watches}"
        events = None
        if callback is None:
            events = WatchIterator(self, path, token, timeout)
            callback = events.deliver
        callbacks = self._callbacks.setdefault(token, {})
        if path in callbacks:
            raise XsError("EEXIST", path, f"already watched with token {token!r}")
        # The first event can come before the reply, and needs its receiver by then.
        callbacks[path] = callback
        try:
            self._connection.watch(path, token)
        except XsError:
            self._forget(path, token)
            raise
        return events

    def unwatch(self, path: str, token: str) -> None:
        """End a watch, named as it was set; its events that were not delivered are dropped.

        May be called within a callback. Raises XsError ENOENT if there is no such watch.
        """
        if path not in self._callbacks.get(token, ()):
            raise XsError("ENOENT", path, f"not watched with token {token!r}")
        self._forget(path, token)
        if self.pending:
            # Only events with this token can have lost their receiver.
            left = self._callbacks.get(token, ())
            self.events.discard(
                lambda event: (
                    event.token == token
                    and not any(is_same_or_below(event.path, watched) for watched in left)
                )
            )
        self._connection.unwatch(path, token)

    @property
    def pending(self) -> bool:
        """Whether an event that has been received is not delivered yet."""
        return bool(self.events)

    def poll_one(self) -> bool:
        """Deliver the oldest event; receives what has come and does not wait.

        Returns False if there was no event. An exception of a callback is passed on, and the event
        counts as delivered.
        """
        events, known = self.events, self._callbacks
        while events or self._fetch():
            path, token = events.popleft()
            received = False
            for watched, callback in list(known.get(token, _NONE).items()):
                if path == watched or is_same_or_below(path, watched):
                    # An earlier callback of this very event may have removed the watch.
                    if not received or known.get(token, _NONE).get(watched) is callback:
                        callback(path, token)
                    received = True
            # An event without receivers was sent before the server knew that its watch has ended.
            if received:
                return True
        return False

    def poll(self) -> int:
        """Deliver all events, also those that callbacks cause. Returns their number."""
        count = 0
        while self.poll_one():
            count += 1
        return count

    def wait(self, done: Callable[[], bool], timeout: float | None = None, what: str = "") -> None:
        """Deliver events as they come until ``done()`` is True, for at most ``timeout`` seconds
        (None: no limit).

        Raises XsTimeoutError about ``what`` when the time is over. A connection within the process
        raises it as soon as there is no event: nothing else can happen there while the caller
        waits.
        """
        source = self._source
        deadline = 0.0 if source is None else source.deadline(timeout)
        while not done():
            if not self.poll_one() and (source is None or not source.fetch(deadline)):
                limit = "" if timeout is None else f" within {timeout:g} s"
                raise XsTimeoutError(what, f"no watch event{limit}")

    # -- domains -------------------------------------------------------------------------------

    def get_domain_path(self, domid: int) -> str:
        """The home directory of a domain."""
        return self._connection.get_domain_path(domid)

    def is_domain_introduced(self, domid: int) -> bool:
        """Whether a domain is introduced. Privileged."""
        return self._connection.is_domain_introduced(domid)

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Introduce a domain with its ring page and unbound event channel port. Privileged."""
        self._connection.introduce(domid, gfn, port)

    def release(self, domid: int) -> None:
        """Forget a domain. Privileged."""
        self._connection.release(domid)

    def resume(self, domid: int) -> None:
        """Tell that a domain runs again after a shutdown. Privileged."""
        self._connection.resume(domid)

    def set_target(self, domid: int, target: int) -> None:
        """Give ``domid`` the rights of ``target`` as well. Privileged."""
        self._connection.set_target(domid, target)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection; watches, transactions and undelivered events are dropped."""
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

    def _forget(self, path: str, token: str) -> None:
        del self._callbacks[token][path]
        if not self._callbacks[token]:
            del self._callbacks[token]

    def _woken(self) -> None:
        if self.on_pending is not None and self.events:
            self.on_pending()
