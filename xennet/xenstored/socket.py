"""The store of a machine on a unix socket, for other programs that look at a run.

The machine has no threads: the loop that makes its deliveries lets the socket work in between.
"""

from __future__ import annotations

import asyncio

from xennet.xenstore.daemon import Daemon
from xennet.xenstore.handlers import Server


class StoreSocket:
    """Serves ``server`` on the socket ``path`` until :meth:`close`.

    Raises xennet.xenstore.daemon.SocketError if somebody serves the socket already, or it cannot be
    made. Not for use inside another asyncio event loop.
    """

    def __init__(self, server: Server, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._daemon = Daemon(server, path)
        try:
            self._loop.run_until_complete(self._daemon.start())
        except BaseException:
            self._loop.close()
            raise

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return self._daemon.clients

    def poll(self) -> None:
        """Serve the requests that have come, a bounded number of bytes from each client. Does not
        wait."""
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def wait(self, seconds: float) -> None:
        """Serve clients for ``seconds``."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """Cut the clients off and remove the socket. May be repeated."""
        if self._loop.is_closed():
            return
        try:
            self._loop.run_until_complete(self._daemon.stop())
            # An interrupt may have left a turn of the event loop unfinished.
            for unfinished in asyncio.all_tasks(self._loop):
                unfinished.cancel()
            self.poll()
        finally:
            self._loop.close()
