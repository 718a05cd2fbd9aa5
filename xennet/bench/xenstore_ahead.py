"""Clients that send requests ahead: ``python -m xennet.bench.xenstore_ahead PATH CLIENTS``.

Each of them keeps :data:`AHEAD` READs unanswered and reads all replies. It is a process of its own,
which ends with its standard input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from selectors import EVENT_READ, DefaultSelector

from xennet.abi.xs_wire import XS_READ
from xennet.bench.xenstore_load import connect
from xennet.xenstore.wire import HEADER_SIZE, encode

#: Requests of one client that are not answered yet.
AHEAD = 1000
_REQUEST = encode(XS_READ, 0, 0, b"/\0")
_REPLY = HEADER_SIZE  # the value of / is empty


class _Ahead:
    """One client."""

    def __init__(self, path: str) -> None:
        self.socket = connect(path)
        self.socket.setblocking(False)
        self._unsent = b""
        self._answered = 0
        self._send(AHEAD)

    def answered(self) -> bool:
        """Read replies and send as many requests again. Returns False at the end."""
        data = self.socket.recv(1 << 16)
        self._answered += len(data)
        whole, self._answered = divmod(self._answered, _REPLY)
        self._send(whole)
        return bool(data)

    def _send(self, count: int) -> None:
        self._unsent += _REQUEST * count
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self.socket.send(self._unsent) :]


@contextmanager
def sending_ahead(path: str, clients: int) -> Iterator[None]:
    """``clients`` clients of the server at ``path`` send ahead meanwhile."""
    command = [sys.executable, "-m", __spec__.name, path, f"{clients}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError("the clients that send ahead did not begin")
            yield
        finally:
            process.stdin.close()


def main(path: str, clients: int) -> None:
    """Send ahead until standard input ends, or the server."""
    with DefaultSelector() as selector:
        selector.register(sys.stdin, EVENT_READ)
        for _ in range(clients):
            one = _Ahead(path)
            selector.register(one.socket, EVENT_READ, one)
        os.write(1, b"begun\n")
        while True:
            for key, _ in selector.select():
                if key.data is None or not key.data.answered():
                    return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
