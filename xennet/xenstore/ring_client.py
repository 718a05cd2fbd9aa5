"""A domain's own end of its ring page, as the channel of a
:class:`xennet.xenstore.WireConnection`."""

from __future__ import annotations

from typing import Protocol

from xennet.abi.xs_numbers import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_RECONNECT,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
)
from xennet.xenstore.client.errors import XsConnectionError
from xennet.xenstore.ring_page import ERROR_NAMES, RingIndexError, RingPage


class StorePort(Protocol):
    """The event channel that belongs to the page, at the domain's end."""

    @property
    def up(self) -> bool:
        """Whether the domain runs, so that it can use its page and its port."""
        ...

    def notify(self) -> None:
        """Send an event: the page has changed."""
        ...

    def take_event(self) -> None:
        """Take a pending event of the server, so that it needs no upcall: the page is read next."""
        ...

    def pump(self) -> bool:
        """Let something happen that may make the server work on this page. Returns False if nothing
        can.

        Raises XsConnectionError if the server will never work on the page again.
        """
        ...


class RingChannel:
    """A :class:`~xennet.xenstore.client.channel.Channel` through ``page``.

    The server is notified of every change, and works while it is waited for: no clock is involved.
    """

    def __init__(self, page: RingPage, port: StorePort) -> None:
        self._page = page
        self._port = port
        # What was moved by a call that has not returned: bytes that are in the ring, and bytes that
        # were. What the server meets while it works, an observer that raises for one, goes through.
        self._written = 0
        self._read = b""
        self._closed = False

    def send(self, data: bytes | memoryview) -> int:
        """Write the beginning of ``data`` into the ring. Returns the number of bytes, 0 if the ring
        is full.

        Raises XsConnectionError if the domain does not run, or the server does not serve the ring
        any more. If anything else is raised the bytes may be in the ring: the next call, with the
        same ones, counts them.
        """
        self._check()
        if not self._written:
            try:
                self._written = self._page.requests.write(data)
            except RingIndexError as error:
                raise XsConnectionError("", str(error)) from error
        if self._written:
            self._port.notify()
        sent, self._written = self._written, 0
        return sent

    def receive(self) -> bytes:
        """The bytes in the ring. Raises XsConnectionError as :meth:`send` does."""
        self._check()
        # First the event, then the page: what comes after the look makes a new event.
        self._port.take_event()
        if not self._read:
            try:
                self._read = self._page.responses.read()
            except RingIndexError as error:
                raise XsConnectionError("", str(error)) from error
        if self._read:
            self._port.notify()
        data, self._read = self._read, b""
        return data

    def deadline(self, timeout: float | None) -> float:
        """0.0 for "now", infinity for any other timeout: there is no clock."""
        return 0.0 if timeout is not None and timeout <= 0 else float("inf")

    def wait(self, deadline: float, sending: bool) -> bool:
        """Let the server work. Returns False if it left nothing to receive, and no room if
        ``sending``."""
        if deadline <= 0:
            return False
        while not self._ready(sending):
            if not self._port.pump():
                return False
        return True

    def _ready(self, sending: bool) -> bool:
        """Whether to go on: there are bytes, or room if ``sending``, or an error that ends the
        connection."""
        page = self._page
        if not self._port.up or page.error != XENSTORE_ERROR_NONE or not page.responses.empty:
            return True
        return sending and not page.requests.full

    def close(self) -> None:
        """Stop using the ring; reconnecting makes the server drop what it keeps for this client."""
        if self._closed:
            return
        self._closed = True
        page = self._page
        if (
            self._port.up
            and page.error == XENSTORE_ERROR_NONE
            and page.server_features & XENSTORE_SERVER_FEATURE_RECONNECTION
        ):
            page.connection = XENSTORE_RECONNECT
            self._port.notify()

    def _check(self) -> None:
        if self._closed or not self._port.up:
            raise XsConnectionError("", "the domain does not use its ring any more", "EBADF")
        error = self._page.error
        if error != XENSTORE_ERROR_NONE:
            why = ERROR_NAMES.get(error, "unknown")
            raise XsConnectionError("", f"the server gave the ring up: error {error} ({why})")
        if self._page.connection != XENSTORE_CONNECTED:
            raise XsConnectionError("", f"the ring's connection state is {self._page.connection}")


def reconnect(page: RingPage, port: StorePort) -> None:
    """Begin a new connection on a page in whatever state an earlier user, or an error, left it.

    Raises XsConnectionError if the server does not answer; it does if it has the feature bit.
    """
    page.connection = XENSTORE_RECONNECT
    port.notify()
    while port.up and page.connection != XENSTORE_CONNECTED:
        if not port.pump():
            break
    if not port.up or page.connection != XENSTORE_CONNECTED:
        raise XsConnectionError("", "the server does not answer the wish to reconnect")
