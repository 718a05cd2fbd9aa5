"""The one error of the device: an errno, as ioctl, mmap and the like report it."""

from __future__ import annotations

from errno import errorcode


class NetmapError(Exception):
    """A request was refused. ``errno`` is the number that the client gets; the message says why."""

    def __init__(self, errno: int, why: str) -> None:
        super().__init__(f"{errorcode.get(errno, errno)}: {why}")
        self.errno = errno
