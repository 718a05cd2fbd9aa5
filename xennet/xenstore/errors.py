"""The exceptions of the store, an errno name as XenStore sends it with its evidence, and of its
server, which has no socket."""

from __future__ import annotations

import errno as _errno


class XsError(Exception):
    """The store refused a request.

    ``errno`` is the *name* that travels in an XS_ERROR payload ("ENOENT"; ``xsd_errors`` in
    xen/io/xs_wire.h), ``path`` the path or other argument as the caller gave it, ``detail`` the
    reason.
    """

    def __init__(self, errno: str, path: str = "", detail: str = "") -> None:
        super().__init__(errno, path, detail)
        self.errno = errno
        self.path = path
        self.detail = detail

    @property
    def number(self) -> int:
        """The errno number on this host, 0 if it has no such name."""
        value: int = getattr(_errno, self.errno, 0)
        return value

    def __str__(self) -> str:
        where = f" {self.path!r}" if self.path else ""
        why = f": {self.detail}" if self.detail else ""
        return f"{self.errno}{where}{why}"


class SocketError(Exception):
    """The server's socket cannot be served. The message names its path."""
