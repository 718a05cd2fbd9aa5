"""The XenStore server on a unix stream socket, in one asyncio event loop.

Every client counts as domain 0 (the socket has mode 0600). A client that does not read its replies
is not read from either; it delays no other client.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Limits, Session

_RECEIVE = 16 << 10
"""Bytes read from one client before it is the next client's turn."""

_BACKLOG = 128


class SocketError(Exception):
    """The socket cannot be served. The message names its path."""


class _Peer(asyncio.BufferedProtocol):
    """One client of the socket."""

    __slots__ = ("_buffer", "_clients", "_read_paused", "_session", "_transport", "_write_paused")

    def __init__(
        self, server: Server, limits: Limits, name: str, clients: set[_Peer], buffer: bytearray
    ) -> None:
        self._session = Session(server, name=name, limits=limits, on_output=self._flush)
        self._clients = clients
        # Read and used up within one callback: all clients share it.
        self._buffer = memoryview(buffer)
        self._transport: asyncio.Transport | None = None
        self._read_paused = False
        self._write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._clients.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._session.receive(self._buffer[:nbytes])
        self._flush()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._clients.discard(self)
        self._session.close()

    def abort(self) -> None:
        """Cut the client off."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        transport, session = self._transport, self._session
        # asyncio tells of a client that has gone only in the next turn of the loop.
        if transport is None or transport.is_closing():
            return
        while session.pending and not self._write_paused:
            transport.write(session.take())
            session.resume()
        if session.closed:
            # Answers to what came before are still sent, if the client reads them.
            transport.close() if not self._write_paused else transport.abort()
        elif session.blocked != self._read_paused:
            self._read_paused = session.blocked
            (transport.pause_reading if self._read_paused else transport.resume_reading)()


class Daemon:
    """A server that listens on the socket ``path``: :meth:`start`, then :meth:`stop`, in one event
    loop."""

    def __init__(self, server: Server, path: str, limits: Limits | None = None) -> None:
        self.path = path
        self._server = server
        self._limits = limits or Limits()
        self._peers: set[_Peer] = set()
        self._buffer = bytearray(_RECEIVE)
        self._accepted = 0
        self._listener: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return len(self._peers)

    async def start(self) -> None:
        """Begin to listen. Raises :class:`SocketError` if a server is there already or the path is
        bad."""
        listening = listen(self.path)
        info = os.stat(self.path)
        self._inode = info.st_dev, info.st_ino
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(self._peer, sock=listening, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Cut all clients off and remove the socket, unless somebody has replaced it."""
        if self._listener is None:
            return
        self._listener.close()
        for peer in list(self._peers):
            peer.abort()
        with suppress(OSError):
            info = os.stat(self.path)
            if (info.st_dev, info.st_ino) == self._inode:
                os.unlink(self.path)
        self._listener = None
        # connection_lost is called in the next turn of the loop.
        while self._peers:
            await asyncio.sleep(0)

    def _peer(self) -> _Peer:
        self._accepted += 1
        name = f"socket{self._accepted}"
        return _Peer(self._server, self._limits, name, self._peers, self._buffer)


def listen(path: str) -> socket.socket:
    """Create a listening socket of mode 0600 at ``path``, and its directory if that is missing.

    A stale socket, which nobody serves, is replaced. Raises :class:`SocketError` if somebody serves
    it, if it is something else than a socket, or if the system refuses.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path) or ".", 0o755)
        with _locked_directory(path):
            _remove_stale(path)
            return _bind(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SocketError(f"{path}: cannot listen there: {reason}") from None


class _locked_directory:
    """A lock on the directory of the socket, so that two servers cannot replace one stale socket at
    once."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path}: exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN: a server listens, and its backlog is full.
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise SocketError(f"{path}: another XenStore server answers there")
    os.unlink(path)


def _bind(path: str) -> socket.socket:
    """A listening socket at ``path``.

    It is bound under another name and renamed when it listens, so that who sees ``path`` can
    connect.
    """
    # As long as the name itself: the system limits the length.
    unready = path[:-1] + ("~" if path[-1:] != "~" else "_")
    _remove_stale(unready)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # bind gives the file the descriptor's mode, so it is never open to others.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(unready)
        listening.listen(_BACKLOG)
        os.chmod(unready, 0o600)
        os.rename(unready, path)
    except BaseException:
        listening.close()
        raise
    return listening


async def serve(daemon: Daemon, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``ready()`` is called when clients can connect."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await daemon.start()
        ready()
        await ended.wait()
    finally:
        await daemon.stop()
