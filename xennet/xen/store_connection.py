"""The XenStore of a real Xen: a connection whose events are deliveries of a run loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from xennet.frames import Watch
from xennet.runloop import Delivery, RunLoop
from xennet.xen.errors import XenError
from xennet.xenstore.client.channel import FdChannel
from xennet.xenstore.client.client import Client
from xennet.xenstore.client.connection import WireConnection
from xennet.xenstore.client.socket import open_channel
from xennet.xenstore.errors import XsError

#: Seconds for the connection and for each answer.
TIMEOUT = 30.0
_NO_STORE = "; a XenStore is xenstored's socket in domain 0, /dev/xen/xenbus in other domains"


class _Lost:
    """A channel that tells when it is closed: a connection that breaks in the middle of a request
    closes it, and the request's caller may take that for an error of its device."""

    def __init__(self, channel: FdChannel, closing: Callable[[], None]) -> None:
        self._channel, self._closing = channel, closing
        self.send, self.receive = channel.send, channel.receive
        self.deadline, self.wait = channel.deadline, channel.wait

    def close(self) -> None:
        """Close the channel."""
        self._closing()
        self._channel.close()


class StoreConnection:
    """A ``client`` of the store at ``path``, a socket or a device (None: where libxenstore looks).

    ``domid`` is the domain in which this process is. Raises XenError if there is no store.
    """

    def __init__(self, loop: RunLoop, watch: Watch, path: str | None = None) -> None:
        self._loop, self._watch, self._fd = loop, watch, -1
        try:
            with ExitStack() as undo:
                channel = open_channel(path, TIMEOUT)
                undo.callback(channel.close)
                ending = _Lost(channel, self._closing)
                self._connection = WireConnection(ending, "xennet", TIMEOUT)
                self.client = Client(self._connection, "xennet")
                self.domid = int(self.client.read("domid"))
                undo.pop_all()
        except (XsError, ValueError) as error:
            missing = isinstance(error, XsError) and error.errno == "ENOENT"
            raise XenError(f"XenStore: {error}{_NO_STORE if missing else ''}") from None
        self._fd = channel.fileno()
        self._delivery = Delivery("xenstore", self.domid, 1)
        self.client.on_pending = self._pending
        watch(self._fd, self._readable, None)

    def close(self) -> None:
        """Close the connection. May be repeated."""
        self._unwatch()
        self.client.close()

    def _unwatch(self) -> bool:
        """End the watch of the descriptor. Returns whether there was one."""
        watched, self._fd = self._fd, -1
        if watched >= 0:
            self._watch(watched, None, None)
        return watched >= 0

    def _closing(self) -> None:
        if self._unwatch():  # else this is the end of the connection, not its loss
            self._loop.defer(self.domid, self._tell)

    def _tell(self) -> None:
        raise XenError("XenStore: the connection was lost")

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
