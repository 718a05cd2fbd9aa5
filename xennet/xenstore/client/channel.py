"""The channel that carries the bytes of a client: a file descriptor here, the ring page in
:mod:`xennet.xenstore.ring_client`."""

from __future__ import annotations

import os
import selectors
import time
from typing import Protocol

from xennet.xenstore.client.errors import XsConnectionError

CHUNK = 65536


class Channel(Protocol):
    """Two byte streams. Neither :meth:`send` nor :meth:`receive` waits."""

    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of ``data``. Returns the number of bytes, 0 if there is no room
        now."""
        ...

    def receive(self) -> bytes:
        """The bytes that have come, ``b""`` if there are none.

        Raises XsConnectionError when no more can come.
        """
        ...

    def deadline(self, timeout: float | None) -> float:
        """The time ``timeout`` seconds from now, by the clock of this channel."""
        ...

    def wait(self, deadline: float, sending: bool) -> bool:
        """Wait until there is something to receive, or room if ``sending``.

        Returns False if ``deadline`` is past, or if waiting cannot help.
        """
        ...

    def close(self) -> None:
        """Close the channel. May be repeated."""
        ...


class FdChannel:
    """A connected stream socket or the device /dev/xen/xenbus; owns the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)
        self._interest = selectors.EVENT_READ

    def send(self, data: bytes | memoryview) -> int:
        """See :class:`Channel`."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise XsConnectionError("", f"sending failed: {error.strerror}") from error

    def receive(self) -> bytes:
        """See :class:`Channel`."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise XsConnectionError("", f"receiving failed: {error.strerror}") from error
        if not data:
            raise XsConnectionError("", "the server closed the connection")
        return data

    def deadline(self, timeout: float | None) -> float:
        """See :class:`Channel`. The clock is the monotonic one, in seconds."""
        return float("inf") if timeout is None else time.monotonic() + timeout

    def wait(self, deadline: float, sending: bool) -> bool:
        """See :class:`Channel`."""
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if sending else 0)
        if interest != self._interest:
            self._selector.modify(self._fd, interest)
            self._interest = interest
        if deadline == float("inf"):
            return bool(self._selector.select())
        left = deadline - time.monotonic()
        return left > 0 and bool(self._selector.select(left))

    def fileno(self) -> int:
        """The descriptor, for a caller that waits for several."""
        return self._fd

    def close(self) -> None:
        """See :class:`Channel`."""
        if self._fd >= 0:
            self._selector.close()
            os.close(self._fd)
            self._fd = -1
