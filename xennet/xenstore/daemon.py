"""The XenStore server on a unix stream socket.

Every client of a socket counts as the same domain, 0 as a rule (the socket has mode 0600). A client
that does not read its replies is not read from either; it delays no other client. Of requests that
a client sends ahead only a few are read before it is the next client's turn; their replies are sent
together. Nothing here waits: the program calls back when a descriptor is ready
(:class:`Descriptors`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from xennet.xenstore.errors import SocketError, XsError
from xennet.xenstore.handlers import Server
from xennet.xenstore.session import Limits
from xennet.xenstore.tapped_session import open_session

TURN = 128
"""Bytes read from one client, but for the rest of a longer request, before it is the next client's
turn: some 2 requests about a vif, 8 at most. C xenstored reads one request."""

_UNSENT = 64 << 10
"""Bytes of output that are kept for a client's socket; the rest stays with its session."""

_BACKLOG = 128

#: The system has no descriptor or no memory for one more client.
TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Descriptors(Protocol):
    """Who waits for descriptors (a xennet.pump.Pump is one)."""

    def watch(
        self,
        fd: int,
        readable: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None:
        """Call ``readable`` whenever ``fd`` can be read or is at its end, ``writable`` whenever it
        can be written to. With neither, the descriptor is left alone from now on."""


class ByteSession(Protocol):
    """What one client of a socket talks to, without I/O (xennet.xenstore.session.Session)."""

    on_output: Callable[[], object] | None

    @property
    def pending(self) -> bool: ...
    @property
    def wanted(self) -> int: ...
    @property
    def blocked(self) -> bool: ...
    @property
    def closed(self) -> bool: ...

    def receive(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def take(self) -> bytes: ...
    def resume(self) -> bool: ...
    def close(self) -> None: ...


class _Peer:
    """One client of the socket."""

    __slots__ = (
        "_daemon",
        "_ending",
        "_fd",
        "_gone",
        "_reading",
        "_receive",
        "_send_bytes",
        "_size",
        "_socket",
        "_unsent",
        "_writing",
        "session",
    )

    def __init__(
        self,
        daemon: SocketServer,
        connected: socket.socket,
        session: ByteSession,
        gone: Callable[[], object] | None,
    ) -> None:
        self.session = session
        self._gone = gone
        self._daemon = daemon
        self._socket = connected
        self._fd = connected.fileno()
        self._receive = connected.recv
        self._send_bytes = connected.send
        self._size = TURN
        self._unsent = bytearray()
        self._reading = self._writing = False
        self._ending = False
        session.on_output = self._tell
        self._watch(True, False)

    @property
    def hung_up(self) -> bool:
        """Whether the client has closed the connection: it reads no answers either."""
        try:
            self._socket.send(b"")  # a client that has ended its requests only still takes it
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """End the session and the connection."""
        self._watch(False, False)
        self._socket.close()
        self.session.close()
        self._daemon.gone(self)
        if self._gone is not None:
            self._gone()

    # -- when the socket is ready ------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._receive(self._size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset by the client
            self.close()
            return
        if data:
            self.session.receive(data)
            # Of a longer request the rest is read at once.
            self._size = TURN if len(data) < self._size else max(TURN, self.session.wanted)
            self._send()
            return
        # It may have closed one half only, and still read its answers.
        self._unsent += self.session.take()
        if self._unsent:
            self._end()
        else:
            self.close()

    def _writable(self) -> None:
        try:
            del self._unsent[: self._send_bytes(self._unsent)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # nobody reads any more
            self.close()
            return
        if not self._ending:
            self._send()
        elif not self._unsent:
            self.close()

    # -- output ------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Send what the session has got by the request of another client, or before others hear of
        its own."""
        if self._writing or not self._reading or self._ending or self.session.closed:
            self._send()
        else:
            self._move()
            if self._unsent:
                self._watch(True, True)

    def _send(self) -> None:
        """Send what the session has, as far as there is room, and let it go on.

        It may be called in the middle of another client's request, so nothing is closed here.
        """
        session, unsent = self.session, self._unsent
        if self._ending:
            return
        while self._move() and session.resume():
            pass
        blocked = session.blocked
        if blocked and session.closed:
            # The answers to what came before are still sent, if the client reads them.
            if len(unsent) >= _UNSENT:
                unsent.clear()
            self._end()
            return
        if blocked == self._reading or bool(unsent) != self._writing:
            self._watch(not blocked, bool(unsent))

    def _move(self) -> bool:
        """Send all output that there is. Returns False if there is none, or no room for it."""
        unsent = self._unsent
        if len(unsent) >= _UNSENT or not (output := self.session.take()):
            return False
        try:
            sent = 0 if unsent else self._send_bytes(output)
        except OSError:
            sent = 0  # if the connection is broken, its descriptor tells so
        if sent < len(output):
            unsent += output[sent:]
        return True

    def _end(self) -> None:
        """Close the connection soon: when nothing is unsent."""
        self._ending = True
        self.session.close()
        if not self._unsent:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # so there is its end to be read
        self._watch(not self._unsent, bool(self._unsent))

    def _watch(self, reading: bool, writing: bool) -> None:
        if (reading, writing) != (self._reading, self._writing):
            self._reading, self._writing = reading, writing
            self._daemon.descriptors.watch(
                self._fd,
                self._readable if reading else None,
                self._writable if writing else None,
            )


class SocketServer:
    """A server on the socket ``path``, from :meth:`start` to :meth:`stop`, with a session for each
    client. ``descriptors`` tells when its sockets are ready."""

    def __init__(self, path: str, descriptors: Descriptors) -> None:
        self.path = path
        self.descriptors = descriptors
        self.peers: set[_Peer] = set()
        self._accepted = 0
        self._listening: socket.socket | None = None
        self._inode: tuple[int, int] | None = None

    def session(self, number: int) -> ByteSession | None:
        """A session for the ``number``-th client, from 1; None if there shall be none."""
        raise NotImplementedError

    @property
    def clients(self) -> int:
        """Number of clients connected."""
        return len(self.peers)

    def start(self) -> None:
        """Listen. Raises SocketError if a server is there already or the path cannot be used."""
        self._listening = listen(self.path)
        self._listening.setblocking(False)
        info = os.stat(self.path)
        self._inode = info.st_dev, info.st_ino
        self.descriptors.watch(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Close all clients' connections and remove the socket, if it is still the one that was
        made. May be repeated."""
        listening, self._listening = self._listening, None
        if listening is not None:
            self.descriptors.watch(listening.fileno())
            listening.close()
        for peer in list(self.peers):
            peer.close()
        if listening is None:
            return
        with suppress(OSError):
            info = os.stat(self.path)
            if (info.st_dev, info.st_ino) == self._inode:
                os.unlink(self.path)

    def gone(self, peer: _Peer) -> None:
        """``peer`` was closed."""
        self.peers.discard(peer)
        if self._listening is not None:
            self.descriptors.watch(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        listening = self._listening
        assert listening is not None
        try:
            connected = listening.accept()[0]
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in TOO_MANY:
                raise
            if self.peers:  # until one of them goes
                self.descriptors.watch(listening.fileno())
            return
        self.adopt(connected)

    def adopt(self, connected: socket.socket, gone: Callable[[], object] | None = None) -> None:
        """Serve one more client, whose end of the connection is the other one of ``connected``,
        which is closed in the end; ``gone()`` is called then."""
        connected.setblocking(False)
        self._accepted += 1
        session = self.session(self._accepted)
        if session is not None:
            self.peers.add(_Peer(self, connected, session, gone))
            return
        connected.close()
        if gone is not None:
            gone()


class Daemon(SocketServer):
    """The XenStore ``server`` on a socket, whose clients are domain ``domid``. ``limits`` are those
    of each client. A client is hung up on while the domain is not introduced."""

    def __init__(
        self,
        server: Server,
        path: str,
        descriptors: Descriptors,
        limits: Limits | None = None,
        domid: int = 0,
    ) -> None:
        super().__init__(path, descriptors)
        self._server = server
        self._limits = limits or Limits()
        self._domid = domid

    def tell_events(self) -> None:
        """Send clients the events of others' requests, all since the last call together: from the
        first call on they wait for the next one."""
        store = self._server.store
        store.held = False
        if store.woken:
            store.wake()
        store.held = True

    def session(self, number: int) -> ByteSession | None:
        name = f"socket{number}" if self._domid == 0 else f"dom{self._domid}-socket{number}"
        try:
            return open_session(self._server, self._domid, name=name, limits=self._limits)
        except XsError:
            return None


def listen(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Create a listening socket of mode 0600 at ``path``, and its directory if that is missing.

    A stale socket, without a server, is replaced. Raises :class:`SocketError` if it has a server,
    if it is something else than a socket, or if the system refuses.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path) or ".", 0o755)
        with _locked_directory(path):
            _remove_stale(path)
            return _bind(path, kind)
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


def _bind(path: str, kind: socket.SocketKind) -> socket.socket:
    """A listening socket at ``path``.

    It is bound under another name and renamed when it listens, so that who sees ``path`` can
    connect.
    """
    # As long as the name itself: the system limits the length.
    unready = path[:-1] + ("~" if path[-1:] != "~" else "_")
    _remove_stale(unready)
    listening = socket.socket(socket.AF_UNIX, kind)
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
