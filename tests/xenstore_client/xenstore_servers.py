"""Servers for the client's tests: a session in the process, our daemon, the real C xenstored, and
one that says what the test tells it to."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xennet.xenstore import Client, Store, XsConnectionError
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_client import RingChannel
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.ring_server import RingServer
from xennet.xenstore.session import Session

#: Seconds until a thing that has to happen counts as one that does not.
PATIENCE = 60.0


class SessionChannel:
    """The client's end of a session, moving at most ``piece`` bytes a call, as a ring does."""

    def __init__(self, session: Session, piece: int = 1 << 20) -> None:
        self.session = session
        self.piece = piece

    def send(self, data: bytes | memoryview) -> int:
        taken = bytes(data[: self.piece])
        self.session.receive(taken)
        return len(taken)

    def receive(self) -> bytes:
        data = self.session.take(self.piece)
        self.session.resume()
        if not data and self.session.closed:
            raise XsConnectionError("", "the server closed the connection")
        return data

    def deadline(self, timeout: float | None) -> float:
        return float("inf")

    def wait(self, deadline: float, sending: bool) -> bool:
        return sending or self.session.pending

    def close(self) -> None:
        self.session.close()


def session_client(store: Store, domid: int = 0, piece: int = 1 << 20) -> Client:
    """A client whose requests travel as messages to a session of ``store`` in this process."""
    return Client.over(SessionChannel(Session(Server(store), domid), piece))


class OnePage:
    """A page that belongs to nobody, as views of the same bytes."""

    first, count = 0, 1

    def __init__(self) -> None:
        self.u8 = memoryview(bytearray(4096))
        self.u16, self.u32, self.u64 = (self.u8.cast(code) for code in "HIQ")


class ShortLine:
    """An event channel without a machine: whoever is notified runs at once."""

    up = True

    def __init__(self, server: RingServer) -> None:
        self._server = server

    def notify(self) -> None:
        self._server.run()

    def take_event(self) -> None:
        pass

    def pump(self) -> bool:
        return self._server.run()


def ring_client(store: Store) -> Client:
    """A client at the other end of a ring page whose session is domain 0's."""
    page = RingPage.over(OnePage())
    server = RingServer(page, lambda: Session(Server(store), 0), lambda: True)
    return Client.over(RingChannel(page, ShortLine(server)))


def frame(kind: int, req_id: int, tx_id: int, payload: bytes) -> bytes:
    """A message, written down here once more so that the codec is not its own judge."""
    return struct.pack("<4I", kind, req_id, tx_id, len(payload)) + payload


def wait_for_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until somebody accepts connections at ``path``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    process.kill()
    _, errors = process.communicate()
    raise AssertionError(f"no server at {path}: {errors.decode(errors='replace')}")


@contextmanager
def our_daemon(directory: Path) -> Iterator[Path]:
    """``xennet xenstored`` as a process of its own."""
    path = directory / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "xennet", "xenstored", "--socket", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_socket(path, process)
        yield path
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


class Script:
    """A server that answers what the test says: ``answers`` maps the number of a request (from 0)
    to raw bytes; it echoes nothing else and keeps the connection open until the client goes."""

    def __init__(self, *answers: bytes) -> None:
        ours, self.client_end = socket.socketpair()
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, args=(ours, answers), daemon=True)
        self._thread.start()

    def _serve(self, ours: socket.socket, answers: tuple[bytes, ...]) -> None:
        with ours:
            for answer in answers:
                request = ours.recv(65536)
                if not request:
                    return
                self.requests.append(request)
                if answer == HANG_UP:
                    return
                ours.sendall(answer)
            while request := ours.recv(65536):
                self.requests.append(request)

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests have come: two that come together count as one."""
        end = time.monotonic() + PATIENCE
        while len(self.requests) < requests:
            assert time.monotonic() < end
            time.sleep(0.001)

    def fd(self) -> int:
        """The client's descriptor, which the caller owns."""
        return self.client_end.detach()


HANG_UP = b"hang up"


def tool_environment(path: Path) -> dict[str, str]:
    """Where the tools of either kind look for the socket."""
    return {**os.environ, "XENSTORED_PATH": str(path)}
