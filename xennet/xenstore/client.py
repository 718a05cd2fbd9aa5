"""The store as a driver or a toolstack uses it: values of any kind, callbacks, retried
transactions. Works on any connection, in the process now, over a socket or a ring as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from xennet.xenstore.errors import XsError
from xennet.xenstore.path import is_same_or_below, is_special
from xennet.xenstore.perms import Perm, format_perms
from xennet.xenstore.watch import EventQueue, WatchEvent

_T = TypeVar("_T")

WatchCallback = Callable[[str, str], None]
Value = bytes | str | int


class StoreConnection(Protocol):
    """What the client needs of a connection (:class:`xennet.xenstore.Connection` has it)."""

    name: str
    sink: Callable[[], None] | None

    @property
    def events(self) -> EventQueue: ...
    def read(self, path: str, tx: int = 0) -> bytes: ...
    def write(self, path: str, value: bytes, tx: int = 0) -> None: ...
    def mkdir(self, path: str, tx: int = 0) -> None: ...
    def rm(self, path: str, tx: int = 0) -> None: ...
    def directory(self, path: str, tx: int = 0) -> list[str]: ...
    def get_perms(self, path: str, tx: int = 0) -> list[Perm]: ...
    def set_perms(self, path: str, perms: Sequence[str | Perm], tx: int = 0) -> None: ...
    def watch(self, path: str, token: str) -> None: ...
    def unwatch(self, path: str, token: str) -> None: ...
    def transaction_start(self, tx: int = 0) -> int: ...
    def transaction_end(self, tx: int, commit: bool) -> None: ...
    def close(self) -> None: ...


def encode_value(value: Value) -> bytes:
    """Bytes of a node's value: text as UTF-8, numbers in decimal, no nul at the end."""
    return value if isinstance(value, bytes) else str(value).encode()


class NodeOperations:
    """Requests on nodes, outside a transaction (id 0) or inside one. All raise XsError."""

    def __init__(self, connection: StoreConnection, tx_id: int) -> None:
        self._connection = connection
        self.tx_id = tx_id

    def read(self, path: str, tx: NodeOperations | None = None) -> bytes:
        """Value of a node."""
        return self._connection.read(path, self._id(tx))

    def read_str(self, path: str, tx: NodeOperations | None = None) -> str:
        """Value of a node as text; bytes that are no UTF-8 become surrogates."""
        return self.read(path, tx).decode(errors="surrogateescape")

    def exists(self, path: str, tx: NodeOperations | None = None) -> bool:
        """True if a READ succeeds, False on ENOENT; anything else is raised."""
        try:
            self.read(path, tx)
        except XsError as error:
            if error.errno == "ENOENT":
                return False
            raise
        return True

    def write(self, path: str, value: Value, tx: NodeOperations | None = None) -> None:
        """Set a value; the node and its parents are made if missing."""
        self._connection.write(path, encode_value(value), self._id(tx))

    def mkdir(self, path: str, tx: NodeOperations | None = None) -> None:
        """Make a node with an empty value if there is none."""
        self._connection.mkdir(path, self._id(tx))

    def rm(self, path: str, tx: NodeOperations | None = None) -> None:
        """Remove a node and all below it."""
        self._connection.rm(path, self._id(tx))

    def directory(self, path: str, tx: NodeOperations | None = None) -> list[str]:
        """Names of the children."""
        return self._connection.directory(path, self._id(tx))

    def get_perms(self, path: str, tx: NodeOperations | None = None) -> list[str]:
        """Permissions as text, owner first: ``["n1", "r0"]``."""
        return format_perms(self._connection.get_perms(path, self._id(tx)))

    def set_perms(self, path: str, perms: Sequence[str], tx: NodeOperations | None = None) -> None:
        """Replace the permissions."""
        self._connection.set_perms(path, perms, self._id(tx))

    def _id(self, tx: NodeOperations | None) -> int:
        return self.tx_id if tx is None else tx.tx_id


class ClientTransaction(NodeOperations):
    """The requests of one open transaction."""


class Client(NodeOperations):
    """A connection with callbacks and transactions.

    Nothing is delivered by itself: :meth:`poll` or :meth:`poll_one` calls the callbacks, and
    ``on_pending``, if set, is told when there is something to deliver.
    """

    def __init__(self, connection: StoreConnection, name: str = "") -> None:
        super().__init__(connection, 0)
        if name:
            connection.name = name
        connection.sink = self._woken
        self.on_pending: Callable[[], None] | None = None
        self._callbacks: dict[tuple[str, str], WatchCallback] = {}

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

    def transact(self, body: Callable[[ClientTransaction], _T], retries: int = 100) -> _T:
        """Run ``body(tx)`` and commit; all over again, at most ``retries`` times, on EAGAIN.

        Returns what ``body`` returned. Any exception of ``body`` aborts and is passed on.
        """
        for _ in range(retries + 1):
            try:
                with self.transaction() as tx:
                    result = body(tx)
            except XsError as error:
                if error.errno != "EAGAIN":
                    raise
                last = error.path
            else:
                return result
        raise XsError("EAGAIN", last, f"transaction given up after {retries} retries")

    # -- watches -------------------------------------------------------------------------------

    def watch(self, path: str, token: str, callback: WatchCallback) -> None:
        """Call ``callback(path, token)`` for every change at or below ``path``, and once first.

        If two watches share a token, an event goes to each one whose path covers it.
        """
        if (path, token) in self._callbacks:
            raise XsError("EEXIST", path, f"already watched with token {token!r}")
        # The first event comes with the request: it must find its receiver.
        self._callbacks[path, token] = callback
        try:
            self._connection.watch(path, token)
        except XsError:
            del self._callbacks[path, token]
            raise

    def unwatch(self, path: str, token: str) -> None:
        """End a watch, named as it was set; events of it that still wait are dropped.

        Safe inside a callback. XsError ENOENT if there is none.
        """
        if (path, token) not in self._callbacks:
            raise XsError("ENOENT", path, f"not watched with token {token!r}")
        del self._callbacks[path, token]
        self._connection.events.discard(lambda event: not self._receivers(event))
        self._connection.unwatch(path, token)

    @property
    def pending(self) -> bool:
        """True if an event waits to be delivered."""
        return bool(self._connection.events)

    def poll_one(self) -> bool:
        """Deliver the oldest event; False if there was none. What a callback raises is passed on,
        and the event counts as delivered."""
        if not self._connection.events:
            return False
        event = self._connection.events.popleft()
        for key, callback in self._receivers(event):
            # An earlier callback of this very event may have removed the watch.
            if self._callbacks.get(key) is callback:
                callback(event.path, event.token)
        return True

    def poll(self) -> int:
        """Deliver events, also those that callbacks cause, until none waits; returns how many."""
        count = 0
        while self.poll_one():
            count += 1
        return count

    def close(self) -> None:
        """Drop watches, transactions, waiting events and the connection."""
        self._callbacks.clear()
        self._connection.close()

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
