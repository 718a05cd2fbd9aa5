"""The store of a machine on a unix socket, so that other programs can look at a run.

The machine has no threads: whoever steps its run loop gives the socket a turn now and then.
"""

from __future__ import annotations

import asyncio

from xennet.xenstore.daemon import Daemon
from xennet.xenstore.handlers import Server


class StoreSocket:
    """``server`` on the socket ``path`` until :meth:`close`.

    xennet.xenstore.daemon.SocketError if somebody serves it already, or it cannot be made. Not for
    use inside another asyncio event loop.
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
        """How many clients are connected."""
        return self._daemon.clients

    def poll(self) -> None:
        """Serve what clients have sent by now, a bounded piece of each; does not wait."""
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def wait(self, seconds: float) -> None:
        """Serve clients for that long."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """Cut the clients off and remove the socket. May be repeated."""
        if self._loop.is_closed():
            return
        try:
            self._loop.run_until_complete(self._daemon.stop())
            # An interrupt may have left a turn unfinished.
            for unfinished in asyncio.all_tasks(self._loop):
                unfinished.cancel()
            self.poll()
        finally:
            self._loop.close()
