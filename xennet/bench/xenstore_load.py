"""Load for a XenStore server over its socket; the client is the same for every server.

A client sends a request and waits for the reply, as libxenstore does. Several clients all send
before they all wait. What is counted are finished requests (transactions, delivered events).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from xennet.abi.xs_wire import (
    XS_DIRECTORY,
    XS_ERROR,
    XS_READ,
    XS_RM,
    XS_TRANSACTION_END,
    XS_TRANSACTION_START,
    XS_WATCH,
    XS_WRITE,
)
from xennet.xenstore.wire import HEADER, HEADER_SIZE, encode

VALUE = b"0123456789abcdef"
WATCHERS = 100
LISTED = 100
WRITES = 5
OK_SIZE = HEADER_SIZE + 3
_WAIT = socket.MSG_WAITALL

#: (number of requests) -> seconds.
Run = Callable[[int], float]


class Load:
    """``clients`` connections to the server at ``path``; they use nodes below ``/bench``."""

    def __init__(self, path: str, clients: int) -> None:
        self._path = path
        self._peers = [connect(path) for _ in range(clients)]
        self._watchers: list[socket.socket] = []

    def close(self) -> None:
        """Disconnect."""
        for peer in (*self._peers, *self._watchers):
            peer.close()

    def read(self) -> Run:
        """READ of a value of 16 bytes."""
        ask(self._peers[0], XS_WRITE, b"/bench/read\0" + VALUE)
        return self._repeat([encode(XS_READ, 0, 0, b"/bench/read\0")] * len(self._peers))

    def write(self) -> Run:
        """WRITE of 16 bytes to an existing node, each client its own."""
        messages = [
            encode(XS_WRITE, 0, 0, b"/bench/write/%d\0" % i + VALUE)
            for i in range(len(self._peers))
        ]
        return self._repeat(messages)

    def directory(self) -> Run:
        """DIRECTORY of a node with 100 children."""
        for i in range(LISTED):
            ask(self._peers[0], XS_WRITE, b"/bench/list/child%03d\0" % i)
        return self._repeat([encode(XS_DIRECTORY, 0, 0, b"/bench/list\0")] * len(self._peers))

    def transaction(self) -> Run:
        """Transactions that write 5 existing nodes, each client its own."""
        paths = [
            [b"/bench/tx/%d/%d\0" % (i, n) + VALUE for n in range(WRITES)]
            for i in range(len(self._peers))
        ]
        for payloads in paths:
            for payload in payloads:
                ask(self._peers[0], XS_WRITE, payload)
        start = encode(XS_TRANSACTION_START, 0, 0, b"\0")
        turns = list(zip(self._peers, paths, strict=True))

        def run(count: int) -> float:
            began = time.perf_counter()
            for _ in range(-(-count // len(turns))):
                for peer, _payloads in turns:
                    peer.send(start)
                ids = [int(_reply(peer)[:-1]) for peer, _payloads in turns]
                for step in range(WRITES):
                    for (peer, payloads), tx in zip(turns, ids, strict=True):
                        peer.send(encode(XS_WRITE, 0, tx, payloads[step]))
                    for peer, _payloads in turns:
                        peer.recv(OK_SIZE, _WAIT)
                for (peer, _payloads), tx in zip(turns, ids, strict=True):
                    peer.send(encode(XS_TRANSACTION_END, 0, tx, b"T\0"))
                for peer, _payloads in turns:
                    _reply(peer)
            return time.perf_counter() - began

        return run

    def fan_out(self) -> Run:
        """Watch events: a WRITE of each client reaches 100 watchers, each of them a connection."""
        self._watchers = [connect(self._path) for _ in range(WATCHERS)]
        first = encode(XS_WATCH, 0, 0, b"/bench/fan\0t\0")
        for watcher in self._watchers:
            watcher.send(first)
            watcher.recv(OK_SIZE + HEADER_SIZE + 13, _WAIT)
        messages = [
            encode(XS_WRITE, 0, 0, b"/bench/fan/%02d\0" % i + VALUE)
            for i in range(len(self._peers))
        ]
        size = len(messages) * (HEADER_SIZE + 16)
        writers = list(zip(self._peers, messages, strict=True))

        def run(count: int) -> float:
            began = time.perf_counter()
            for _ in range(-(-count // (WATCHERS * len(writers)))):
                for peer, message in writers:
                    peer.send(message)
                for peer, _ in writers:
                    peer.recv(OK_SIZE, _WAIT)
                for watcher in self._watchers:
                    watcher.recv(size, _WAIT)
            return time.perf_counter() - began

        return run

    def _repeat(self, messages: list[bytes]) -> Run:
        turns = []
        for peer, message in zip(self._peers, messages, strict=True):
            peer.send(message)
            turns.append((peer, message, HEADER_SIZE + len(_reply(peer))))

        def run(count: int) -> float:
            began = time.perf_counter()
            for _ in range(-(-count // len(turns))):
                for peer, message, _ in turns:
                    peer.send(message)
                for peer, _, size in turns:
                    peer.recv(size, _WAIT)
            return time.perf_counter() - began

        return run


WORKLOADS: dict[str, Callable[[Load], Run]] = {
    "READ": Load.read,
    "WRITE": Load.write,
    "DIRECTORY of 100": Load.directory,
    "transaction of 5 writes": Load.transaction,
    "events to 100 watchers": Load.fan_out,
}


def connect(path: str) -> socket.socket:
    """A connected socket that waits for an answer no longer than a limit."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(path)
    except OSError:
        peer.close()
        raise
    # Python's timeout makes the socket non-blocking, and MSG_WAITALL useless.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 30, 0))
    return peer


def ask(peer: socket.socket, kind: int, payload: bytes) -> bytes:
    """Send one request. Returns the payload of the reply. Raises RuntimeError if it is an error."""
    peer.send(encode(kind, 0, 0, payload))
    return _reply(peer)


def fill(path: str, nodes: int) -> None:
    """Create ``nodes`` nodes of 8 bytes below ``/many``, at most 1000 in a directory."""
    peer = connect(path)
    with peer:
        for first in range(0, nodes, 100):
            some = range(first, min(first + 100, nodes))
            paths = (b"/many/%d/%d\0" % (i // 1000, i % 1000) for i in some)
            peer.sendall(b"".join(encode(XS_WRITE, 0, 0, p + b"12345678") for p in paths))
            if len(peer.recv(OK_SIZE * len(some), _WAIT)) != OK_SIZE * len(some):
                raise RuntimeError(f"{path} stopped answering at node {first} of {nodes}")


def empty(path: str) -> None:
    """Remove what :func:`fill` made."""
    with connect(path) as peer:
        ask(peer, XS_RM, b"/many\0")


def _reply(peer: socket.socket) -> bytes:
    head = peer.recv(HEADER_SIZE, _WAIT)
    if len(head) < HEADER_SIZE:
        raise RuntimeError("the server closed the connection")
    kind, _, _, size = HEADER.unpack(head)
    payload = peer.recv(size, _WAIT) if size else b""
    if kind == XS_ERROR:
        raise RuntimeError(f"the server answered {payload!r}")
    return payload
