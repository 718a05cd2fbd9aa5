"""A domain's own end of its ring page, as a channel of :class:`xennet.xenstore.WireConnection`."""

from __future__ import annotations

from typing import Protocol

from xennet.abi.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_RECONNECT,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
)
from xennet.xenstore.client.errors import XsConnectionError
from xennet.xenstore.ring_page import ERROR_NAMES, RingIndexError, RingPage


class Line(Protocol):
    """The event channel that belongs to the page."""

    @property
    def up(self) -> bool:
        """Whether the domain still runs, so that it can reach its page and its port."""
        ...

    def notify(self) -> None:
        """Tell the server that the page has changed."""
        ...

    def take_event(self) -> None:
        """Take the event that the server may have sent: the page is looked at next, which needs no
        upcall any more."""
        ...

    def pump(self) -> bool:
        """Let something happen that may make the server work on this page; False if there is
        nothing. XsConnectionError if the server will never work on it again."""
        ...


class RingChannel:
    """Requests into ``page``, answers out of it (xennet.xenstore.client.channel.Channel).

    The server is notified of every change, and works when it is waited for: no clock is involved.
    """

    def __init__(self, page: RingPage, line: Line) -> None:
        self._page = page
        self._line = line
        self._closed = False

    def send(self, data: bytes | memoryview) -> int:
        """Write a beginning of ``data``; returns how many bytes, 0 if the ring is full.

        XsConnectionError if the domain does not run any more, or the server gave the ring up.
        """
        self._check()
        try:
            sent = self._page.requests.write(data)
        except RingIndexError as error:
            raise XsConnectionError("", str(error)) from error
        if sent:
            self._line.notify()
        return sent

    def receive(self) -> bytes:
        """The bytes that have come. XsConnectionError as :meth:`send`."""
        self._check()
        # First the event, then the page: what comes after the look makes a new event.
        self._line.take_event()
        try:
            data = self._page.responses.read()
        except RingIndexError as error:
            raise XsConnectionError("", str(error)) from error
        if data:
            self._line.notify()
        return data

    def deadline(self, timeout: float | None) -> float:
        """Only "now" and "as long as it takes" can be told apart."""
        return 0.0 if timeout is not None and timeout <= 0 else float("inf")

    def wait(self, deadline: float, sending: bool) -> bool:
        """Let the server work; False if it left nothing to receive and no room to send."""
        if deadline <= 0:
            return False
        while not self._ready(sending):
            if not self._line.pump():
                return False
        return True

    def _ready(self, sending: bool) -> bool:
        """Whether to go on is of use: for bytes, for room, or for the error that ends it all."""
        page = self._page
        if not self._line.up or page.error != XENSTORE_ERROR_NONE or not page.responses.empty:
            return True
        return sending and not page.requests.full

    def close(self) -> None:
        """Use the ring no more; what the server kept for this client is dropped by reconnecting."""
        if self._closed:
            return
        self._closed = True
        page = self._page
        if (
            self._line.up
            and page.error == XENSTORE_ERROR_NONE
            and page.server_features & XENSTORE_SERVER_FEATURE_RECONNECTION
        ):
            page.connection = XENSTORE_RECONNECT
            self._line.notify()

    def _check(self) -> None:
        if self._closed or not self._line.up:
            raise XsConnectionError("", "the domain does not use its ring any more", "EBADF")
        error = self._page.error
        if error != XENSTORE_ERROR_NONE:
            why = ERROR_NAMES.get(error, "unknown")
            raise XsConnectionError("", f"the server gave the ring up: error {error} ({why})")
        if self._page.connection != XENSTORE_CONNECTED:
            raise XsConnectionError("", f"the ring's connection state is {self._page.connection}")


def reconnect(page: RingPage, line: Line) -> None:
    """Start anew on a page that an earlier user (or an error) left in whatever state.

    XsConnectionError if the server does not answer, which it does only with the feature bit.
    """
    page.connection = XENSTORE_RECONNECT
    line.notify()
    while line.up and page.connection != XENSTORE_CONNECTED:
        if not line.pump():
            break
    if not line.up or page.connection != XENSTORE_CONNECTED:
        raise XsConnectionError("", "the server does not answer the wish to reconnect")
