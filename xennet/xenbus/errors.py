"""The error of a device: an errno, a sentence and the evidence."""

from __future__ import annotations


class XenbusError(Exception):
    """A device cannot go on.

    ``errno`` is a positive errno number (the first word of the device's error node, as Linux
    xenbus_dev_fatal writes it). ``path`` is the node that is wrong, "" if it is no single node;
    ``value`` is what it holds, None if it cannot be read.
    """

    def __init__(
        self, errno: int, message: str, *, path: str = "", value: bytes | None = None
    ) -> None:
        super().__init__(errno, message, path, value)
        self.errno = errno
        self.message = message
        self.path = path
        self.value = value

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        found = "" if self.value is None else f" (found {self.value[:64]!r})"
        return f"{where}{self.message}{found}"
