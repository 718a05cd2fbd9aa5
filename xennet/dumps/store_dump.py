"""A dumped XenStore: the text that ``xenstore-ls -f`` or ``-fp`` printed on a real host.

A line is ``PATH = "VALUE"``, with ``-p`` followed by ``(n0,r1)``; values have the escapes of
libxenstore (xennet.xenstore.value_text). A node that the tool could not read ends in ``:``. On a
terminal values are cut to its width, which is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from xennet.xenstore.errors import XsError
from xennet.xenstore.perms import Access, Identity, Perms, access, parse_perms
from xennet.xenstore.value_text import parse_value

_LINE = re.compile(
    rb'(?P<path>/[^ =":]*)(?P<value>:| = "(?P<text>.*)")(?: [ .]*)?(?:\((?P<perms>[nrwb0-9,]*)\))?'
)
#: What stands at the end of a value that was cut.
_CUT = b"\\..."


class DumpError(Exception):
    """The text is no dump of a store; the message names the line."""


class DumpedStore:
    """The nodes of a dump, for readers. ``perms`` are empty for a dump without ``-p``."""

    def __init__(self) -> None:
        self._values: dict[str, bytes | None] = {}
        self._perms: dict[str, Perms] = {}
        self._children: dict[str, dict[str, None]] = {}

    def read(self, path: str) -> bytes:
        """The value of a node. Raises XsError: ENOENT, or EACCES if the tool could not read it."""
        try:
            value = self._values[path]
        except KeyError:
            raise XsError("ENOENT", path) from None
        if value is None:
            raise XsError("EACCES", path)
        return value

    def directory(self, path: str) -> list[str]:
        """The names of a node's children. Raises XsError ENOENT."""
        if path not in self._values and path not in self._children:
            raise XsError("ENOENT", path)
        return list(self._children.get(path, ()))

    def may_read(self, path: str, domid: int) -> bool | None:
        """Whether domain ``domid`` may read the node; None if its permissions are not in the
        dump."""
        perms = self._perms.get(path)
        if perms is None:
            return None
        return bool(access(perms, Identity(domid, privileged=domid == 0)) & Access.READ)

    def write(self, path: str, value: bytes | str | int) -> None:
        """Raises XsError EROFS: a dump is only read. So do the other changes."""
        raise XsError("EROFS", path)

    def rm(self, path: str) -> None:
        raise XsError("EROFS", path)

    def mkdir(self, path: str) -> None:
        raise XsError("EROFS", path)

    def set_perms(self, path: str, perms: Sequence[str]) -> None:
        raise XsError("EROFS", path)

    def add(self, path: str, value: bytes | None, perms: Perms) -> None:
        """Add a node; those above it are there as well then. ``value`` is None if it could not be
        read; no ``perms``: they are not known."""
        if path not in self._values:
            self._join(path)
        self._values[path] = value
        if perms:
            self._perms[path] = perms

    def _join(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        while name:
            names = self._children.setdefault(parent or "/", {})
            if name in names:
                return
            names[name] = None
            parent, _, name = parent.rpartition("/")


def read_store_dump(lines: Iterable[bytes]) -> DumpedStore:
    """The store of a dump. Raises DumpError with the number of a line that is none of a dump."""
    store = DumpedStore()
    for number, line in enumerate(lines, 1):
        text = line.rstrip(b"\r\n")
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            shown = text[:60].decode("ascii", "backslashreplace")
            raise DumpError(f"line {number} is none that xenstore-ls -fp prints: {shown!r}")
        value = found["text"]
        if value is not None and value.endswith(_CUT):
            path = found["path"].decode("ascii", "backslashreplace")
            raise DumpError(
                f"line {number}: the value of {path} was cut to the terminal's width: let "
                "xenstore-ls write into a file or a pipe"
            )
        store.add(
            found["path"].decode("ascii", "backslashreplace"),
            None if value is None else parse_value(value),
            _perms(found["perms"] or b"", number),
        )
    return store


def _perms(text: bytes, number: int) -> Perms:
    try:
        return parse_perms(text.decode().split(",")) if text else ()
    except XsError as wrong:
        raise DumpError(
            f"line {number}: {wrong.path!r} is no permission: {wrong.detail}"
        ) from wrong
