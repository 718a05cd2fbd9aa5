"""Reading a directory of the store: values, numbers and defaults. Errors carry their evidence.

A peer's directory holds whatever the peer likes. ``text`` and ``unsigned`` read nodes that a driver
needs, ``optional_*`` nodes that have a default: as Linux xenbus_read_unsigned, these return the
default for a missing, an unreadable and a garbled node alike.
"""

from __future__ import annotations

import errno

from attrs import frozen

from xennet.interface import StoreTransaction
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.scan import scan_unsigned
from xennet.xenstore.errors import XsError


@frozen
class NodeDirectory:
    """The nodes below ``path``, read through ``store`` (a client, or an open transaction)."""

    store: StoreTransaction
    path: str

    def node(self, name: str) -> str:
        """The path of node ``name``."""
        return f"{self.path}/{name}"

    def sub(self, name: str) -> NodeDirectory:
        """The directory called ``name`` (``queue-0``) in this one."""
        return NodeDirectory(self.store, self.node(name))

    def exists(self) -> bool:
        """Whether the directory can be listed (xenbus_exists)."""
        try:
            self.store.directory(self.path)
        except XsError:
            return False
        return True

    def names(self) -> list[str]:
        """The names of the children; none if the directory cannot be listed."""
        try:
            return self.store.directory(self.path)
        except XsError:
            return []

    def raw(self, name: str) -> bytes:
        """The value of a node. Raises XenbusError with the store's errno (ENOENT, EACCES)."""
        try:
            return self.store.read(self.node(name))
        except XsError as refused:
            raise XenbusError(
                refused.number, f"cannot be read: {refused.errno}", path=self.node(name)
            ) from refused

    def text(self, name: str) -> str:
        """The value as text (bytes that are not ASCII are escaped). Raises XenbusError as
        :meth:`raw` does."""
        return _as_text(self.raw(name))

    def unsigned(self, name: str) -> int:
        """The value as ``%u``, 0..2^32-1. Raises XenbusError as :meth:`raw` does, or EINVAL if it
        is no number."""
        value = self.raw(name)
        number = scan_unsigned(value)
        if number is None:
            raise XenbusError(
                errno.EINVAL, "is not an unsigned number", path=self.node(name), value=value
            )
        return number

    def optional_text(self, name: str, default: str = "") -> str:
        """The value as text; ``default`` if it cannot be read."""
        try:
            return _as_text(self.store.read(f"{self.path}/{name}"))
        except XsError:
            return default

    def optional_unsigned(self, name: str, default: int = 0) -> int:
        """The value as ``%u``; ``default`` if it cannot be read or is no number."""
        try:
            number = scan_unsigned(self.store.read(f"{self.path}/{name}"))
        except XsError:
            return default
        return default if number is None else number


def _as_text(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")
