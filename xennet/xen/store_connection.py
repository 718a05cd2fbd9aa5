"""The XenStore of a real Xen: a connection whose events are deliveries of a run loop."""

from __future__ import annotations

from xennet.frames import Watch
from xennet.runloop import Delivery, RunLoop
from xennet.xen.errors import XenError
from xennet.xenstore.client.client import Client
from xennet.xenstore.client.connection import WireConnection
from xennet.xenstore.client.socket import open_channel
from xennet.xenstore.errors import XsError

#: Seconds for the connection and for each answer.
TIMEOUT = 30.0


class StoreConnection:
    """A ``client`` of the store at ``path``, a socket or a device (None: where libxenstore looks).

    ``domid`` is the domain in which this process is. Raises XenError if there is no store.
    """

    def __init__(self, loop: RunLoop, watch: Watch, path: str | None = None) -> None:
        try:
            channel = open_channel(path, TIMEOUT)
            self._connection = WireConnection(channel, "xennet", TIMEOUT)
            self.client = Client(self._connection, "xennet")
            self.domid = int(self.client.read("domid"))
        except (XsError, ValueError) as error:
            raise XenError(f"XenStore: {error}") from None
        self._loop, self._watch, self._fd = loop, watch, channel.fileno()
        self._delivery = Delivery("xenstore", self.domid, 1)
        self.client.on_pending = self._pending
        watch(self._fd, self._readable, None)

    def close(self) -> None:
        """Close the connection. May be repeated."""
        if self._fd >= 0:
            self._watch(self._fd, None, None)
            self._fd = -1
            self.client.close()

    def _readable(self) -> None:
        try:
            self._connection.arrived()
        except XsError as error:
            raise XenError(f"XenStore: {error}") from None

    def _pending(self) -> None:
        self._loop.post(self._delivery, self._deliver)

    def _deliver(self, _: Delivery) -> None:
        # What was pending may have been dropped with its watch since.
        if self.client.pending:
            try:
                self.client.poll_one()
            finally:
                if self.client.pending:
                    self._pending()
