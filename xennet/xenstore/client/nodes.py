"""Requests on nodes as a driver or a toolstack makes them: values of any kind, inside or outside of
a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Protocol

from xennet.xenstore.errors import XsError
from xennet.xenstore.perms import Perm, format_perms
from xennet.xenstore.watch import WatchEvent
from xennet.xenstore.wire import encode_text

Value = bytes | str | int


class WaitingEvents(Protocol):
    """The watch events that have come and were not taken, oldest first."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[WatchEvent]: ...
    def popleft(self) -> WatchEvent: ...
    def discard(self, unwanted: Callable[[WatchEvent], bool]) -> None: ...


class StoreConnection(Protocol):
    """What a client needs of a connection: :class:`xennet.xenstore.Connection` within the process,
    :class:`xennet.xenstore.WireConnection` over a socket or a ring."""

    name: str
    sink: Callable[[], None] | None

    @property
    def events(self) -> WaitingEvents: ...
    def read(self, path: str, tx: int = 0) -> bytes: ...
    def write(self, path: str, value: bytes, tx: int = 0) -> None: ...
    def mkdir(self, path: str, tx: int = 0) -> None: ...
    def rm(self, path: str, tx: int = 0) -> None: ...
    def directory(self, path: str, tx: int = 0) -> list[str]: ...
    def get_perms(self, path: str, tx: int = 0) -> list[Perm]: ...
    def set_perms(self, path: str, perms: Sequence[str | Perm], tx: int = 0) -> None: ...
    def watch(self, path: str, token: str) -> None: ...
    def unwatch(self, path: str, token: str) -> None: ...
    def transaction_start(self) -> int: ...
    def transaction_end(self, tx: int, commit: bool) -> None: ...
    def get_domain_path(self, domid: int) -> str: ...
    def is_domain_introduced(self, domid: int) -> bool: ...
    def introduce(self, domid: int, gfn: int, port: int) -> None: ...
    def release(self, domid: int) -> None: ...
    def resume(self, domid: int) -> None: ...
    def set_target(self, domid: int, target: int) -> None: ...
    def close(self) -> None: ...


def encode_value(value: Value) -> bytes:
    """The bytes of a node's value: text as UTF-8, numbers in decimal, no nul at the end.

    Raises TypeError for anything else: floats and None are no values in XenStore.
    """
    if isinstance(value, str):
        return encode_text(value)
    if isinstance(value, int):
        return b"%d" % value  # True is 1
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a node's value is bytes, text or a whole number, not {value!r}")


class NodeOperations:
    """Requests on nodes, outside of a transaction (id 0) or inside of one. All raise XsError."""

    def __init__(self, connection: StoreConnection, tx_id: int) -> None:
        self._connection = connection
        self.tx_id = tx_id

    def read(self, path: str, tx: NodeOperations | None = None) -> bytes:
        """Value of a node."""
        return self._connection.read(path, self.tx_id if tx is None else tx.tx_id)

    def read_str(self, path: str, tx: NodeOperations | None = None) -> str:
        """Value of a node as text; bytes that are no UTF-8 become surrogates."""
        return self.read(path, tx).decode(errors="surrogateescape")

    def exists(self, path: str, tx: NodeOperations | None = None) -> bool:
        """Whether a READ succeeds; False on ENOENT, any other error is raised."""
        try:
            self.read(path, tx)
        except XsError as error:
            if error.errno == "ENOENT":
                return False
            raise
        return True

    def write(self, path: str, value: Value, tx: NodeOperations | None = None) -> None:
        """Set a value; the node and its parents are created if they are missing."""
        tx_id = self.tx_id if tx is None else tx.tx_id
        self._connection.write(path, encode_value(value), tx_id)

    def mkdir(self, path: str, tx: NodeOperations | None = None) -> None:
        """Create a node with an empty value if there is none."""
        self._connection.mkdir(path, self._id(tx))

    def rm(self, path: str, tx: NodeOperations | None = None) -> None:
        """Remove a node and everything below it."""
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

    def __repr__(self) -> str:
        return f"<ClientTransaction {self.tx_id}>"


class OpenTransaction(AbstractContextManager[ClientTransaction]):
    """A transaction of ``connection`` for the length of a block: committed at its end, aborted by
    an exception."""

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection
        self._tx_id = 0

    def __enter__(self) -> ClientTransaction:
        self._tx_id = self._connection.transaction_start()
        return ClientTransaction(self._connection, self._tx_id)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if error is None:
            self._connection.transaction_end(self._tx_id, True)
        else:
            # A reset of the connection may have taken the transaction away already.
            with suppress(XsError):
                self._connection.transaction_end(self._tx_id, False)
        return None


class Attempt(OpenTransaction):
    """A transaction whose block is left silently by EAGAIN, which ``conflict`` is then."""

    def __init__(self, connection: StoreConnection) -> None:
        super().__init__(connection)
        self.conflict: XsError | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            super().__exit__(kind, error, trace)
        except XsError as refusal:
            error = refusal
            if refusal.errno != "EAGAIN":
                raise
        if isinstance(error, XsError) and error.errno == "EAGAIN":
            self.conflict = error
            return True
        return False
