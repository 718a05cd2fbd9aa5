"""A live port for tests: its frames come and go by a socket."""

from __future__ import annotations

import socket

from xennet.frames import FrameBatch, Watch
from xennet.port.base import BasePort, PortError

#: What a peer sends to make the port fail.
BROKEN = b"broken"


class SocketPort(BasePort):
    """Gives what can be read of one end of a SEQPACKET socket pair, until ``peer``, the other end,
    is closed; writes what it gets there, as long as it is taken.

    ``calls`` counts how often the socket was found readable.
    """

    live = True
    expected = None

    def __init__(self, name: str = "socket:") -> None:
        super().__init__(name)
        self.peer, self._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.peer, self._socket):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            end.setblocking(False)
        self.calls = 0
        self._ended = self._broken = False
        self._watch: Watch = lambda fd, readable, writable: None

    @property
    def exhausted(self) -> bool:
        return self._ended

    def watch_descriptors(self, watch: Watch) -> None:
        self._watch(self._socket.fileno(), None, None)
        self._watch = watch
        self._watch(self._socket.fileno(), self._readable, None)

    def _readable(self) -> None:
        self.calls += 1
        self._watch(self._socket.fileno(), None, None)
        self.wake()

    def pull(self, batch: FrameBatch, /) -> int:
        first, used = batch.count, batch.used
        if self._broken:
            raise PortError(f"{self.name}: broken")
        while not self._ended and batch.has_room(65536):
            try:
                frame = self._socket.recv(65536)
            except BlockingIOError:
                self._watch(self._socket.fileno(), self._readable, None)
                break
            except ConnectionResetError:  # closed, with frames that the peer has not read
                frame = b""
            if frame == BROKEN:
                self._broken = True
                break
            if frame:
                batch.append(frame)
            else:
                self._ended = True
        return self._pulled(batch.count - first, batch.used - used)

    def push(self, batch: FrameBatch, /) -> None:
        super().push(batch)
        for frame in batch:
            try:
                self._socket.send(frame)
            except (BlockingIOError, BrokenPipeError):
                break

    def close(self) -> None:
        self._watch(self._socket.fileno(), None, None)
        self._socket.close()
        self.peer.close()
