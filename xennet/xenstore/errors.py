"""The one exception of the store: an errno name as XenStore sends it, with its evidence."""

from __future__ import annotations

import errno as _errno


class XsError(Exception):
    """A request that the store refused.

    ``errno`` is the *name* that travels in an XS_ERROR payload ("ENOENT", see ``xsd_errors`` in
    xen/io/xs_wire.h), ``path`` the path (or other argument) that was refused exactly as the caller
    gave it, ``detail`` says why.
    """

    def __init__(self, errno: str, path: str = "", detail: str = "") -> None:
        super().__init__(errno, path, detail)
        self.errno = errno
        self.path = path
        self.detail = detail

    @property
    def number(self) -> int:
        """The errno number of this host (0 if the host has no such name)."""
        value: int = getattr(_errno, self.errno, 0)
        return value

    def __str__(self) -> str:
        where = f" {self.path!r}" if self.path else ""
        why = f": {self.detail}" if self.detail else ""
        return f"{self.errno}{where}{why}"
