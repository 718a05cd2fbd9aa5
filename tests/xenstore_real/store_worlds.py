"""The same small world twice: sockets A and B, guest 5, and a store to serve them.

In one the store is the real C xenstored, in the other it is ours. :meth:`round_trip` sends bytes on
one connection and returns everything that then arrived anywhere.
"""

from __future__ import annotations

import socket
import struct
from typing import Protocol

from declared_differences import GUEST_DOMID

from xennet.abi.xs_wire import XS_GET_DOMAIN_PATH
from xennet.bench.real_xenstored import EXISTS, SHUT_DOWN, RealXenstored
from xennet.memory import PageRun
from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.ring_server import RingServer
from xennet.xenstore.session import Session

SOCKETS = ("A", "B")
GUEST = "G"
RING = 1024
# Words of struct xenstore_domain_interface
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, ERROR = 512, 513, 514, 515, 518

Arrived = dict[str, bytes]
"""Connection -> bytes."""


def message(kind: int, payload: bytes, req_id: int = 0, tx_id: int = 0) -> bytes:
    return struct.pack("<4I", kind, req_id, tx_id, len(payload)) + payload


# Asked on every connection to know that nothing more is under way on it.
_BARRIER = message(XS_GET_DOMAIN_PATH, b"0\0", 0xBA88_1E88)
_BARRIER_REPLY = message(XS_GET_DOMAIN_PATH, b"/local/domain/0\0", 0xBA88_1E88)


class World(Protocol):
    def round_trip(self, who: str, pieces: list[bytes]) -> Arrived: ...
    def create_guest(self) -> Arrived: ...
    def shut_guest_down(self) -> Arrived: ...
    def destroy_guest(self) -> Arrived: ...
    def reconnect(self, who: str) -> Arrived: ...
    def is_open(self, who: str) -> bool: ...
    def close(self) -> None: ...


class RealWorld:
    """The C xenstored; the guest talks over its ring page and event channel."""

    def __init__(self, version: str) -> None:
        self.daemon = RealXenstored(version=version)
        self._sockets = {who: self._connect() for who in SOCKETS}
        self._closed: set[str] = set()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.daemon.socket_path)
        connection.settimeout(60)
        return connection

    def round_trip(self, who: str, pieces: list[bytes]) -> Arrived:
        early = b""
        for piece in pieces:
            if who == GUEST:
                early += self._ring_send(piece)
                continue
            try:
                self._sockets[who].sendall(piece)
            except BrokenPipeError:
                break  # closed at the header; the answers so far are still to be read
        arrived = self._settle(first=who)
        arrived[who] = early + arrived.get(who, b"")
        return {name: data for name, data in arrived.items() if data}

    def _settle(self, first: str = "A") -> Arrived:
        """The connection that asked goes first: what it caused is done when it has its answer."""
        order = sorted((*SOCKETS, GUEST), key=lambda who: who != first)
        arrived = {}
        for who in order:
            if who not in self._closed:
                arrived[who] = self._drain_ring() if who == GUEST else self._drain_socket(who)
        return {name: data for name, data in arrived.items() if data}

    def _drain_socket(self, who: str) -> bytes:
        connection = self._sockets[who]
        data = b""
        try:
            connection.sendall(_BARRIER)
            while not data.endswith(_BARRIER_REPLY):
                more = connection.recv(65536)
                if not more:
                    self._closed.add(who)
                    return data
                data += more
        except (BrokenPipeError, ConnectionResetError):
            self._closed.add(who)
            return data
        return data.removesuffix(_BARRIER_REPLY)

    def is_open(self, who: str) -> bool:
        return who not in self._closed if who != GUEST else self._guest_is_served()

    def _guest_port(self) -> int | None:
        try:
            return self.daemon.port_of(GUEST_DOMID)
        except KeyError:
            return None

    def _ring_words(self) -> memoryview:
        """The page as words: an index must be read and written whole."""
        return self.daemon.ring_page(GUEST_DOMID).cast("I")

    def _guest_is_served(self) -> bool:
        words = self._ring_words()
        if self._guest_port() is None:
            words[ERROR] = 0
            return False
        return not words[ERROR]

    def _ring_send(self, data: bytes) -> bytes:
        """Puts ``data`` into the request ring as there is room; what was answered meanwhile."""
        page, words = self.daemon.ring_page(GUEST_DOMID), self._ring_words()
        answers = b""
        while data and self._guest_is_served():
            cons, prod = words[REQ_CONS], words[REQ_PROD]
            free = RING - (prod - cons)
            if not free:
                self.daemon.listen(60)
                answers += self._ring_take()
                continue
            for i, byte in enumerate(data[:free]):
                page[(prod + i) & (RING - 1)] = byte
            written = min(free, len(data))
            words[REQ_PROD] = prod + written
            data = data[written:]
            self._kick()
        return answers

    def _ring_take(self) -> bytes:
        page, words = self.daemon.ring_page(GUEST_DOMID), self._ring_words()
        cons, prod = words[RSP_CONS], words[RSP_PROD]
        if cons == prod:
            return b""
        taken = bytes(page[RING + (i & (RING - 1))] for i in range(cons, prod))
        words[RSP_CONS] = prod
        self._kick()
        return taken

    def _kick(self) -> None:
        port = self._guest_port()
        if port is not None:
            self.daemon.fire(port)

    def _drain_ring(self) -> bytes:
        data = self._ring_send(_BARRIER)
        while not data.endswith(_BARRIER_REPLY):
            if not self._guest_is_served():
                return data + self._ring_take()
            more = self._ring_take()
            if not more:
                self.daemon.listen(60)
            data += more
        return data.removesuffix(_BARRIER_REPLY)

    def create_guest(self) -> Arrived:
        self.daemon.create_domain(GUEST_DOMID)
        return {}

    def shut_guest_down(self) -> Arrived:
        self.daemon.set_domain(GUEST_DOMID, EXISTS | SHUT_DOWN)
        return self._settle()

    def destroy_guest(self) -> Arrived:
        self.daemon.set_domain(GUEST_DOMID, 0)
        return self._settle()

    def reconnect(self, who: str) -> Arrived:
        self._sockets[who].close()
        self._closed.discard(who)
        self._sockets[who] = self._connect()
        return self._settle()

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()
        self.daemon.stop()


class OurGuest:
    """Guest 5 of our store, on a ring page served by :class:`RingServer` (a ``RingHost``)."""

    def __init__(self, server: Server) -> None:
        self._server = server
        u8 = memoryview(bytearray(4096))
        self._page = RingPage.over(PageRun(0, 1, u8, u8.cast("H"), u8.cast("I"), u8.cast("Q")))
        self._ring: RingServer | None = None
        server.store.rings = self

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        if domid != GUEST_DOMID:
            return
        if self._ring is not None:
            self._ring.introduced_again()
            return
        self._server.store.introduce(domid)
        self._page.reset()
        self._page.error = 0
        self._ring = RingServer(self._page, self._session, lambda: True, features=0)

    def _session(self) -> Session:
        return Session(self._server, GUEST_DOMID, name=GUEST, on_output=self.run)

    def forget(self, domid: int) -> None:
        if domid == GUEST_DOMID and self._ring is not None:
            self._ring.close()
            self._ring = None

    @property
    def is_served(self) -> bool:
        return self._ring is not None and not self._ring.dead

    def run(self) -> None:
        if self._ring is not None:
            self._ring.run()

    def send(self, data: bytes) -> bytes:
        """Writes as there is room; what was answered meanwhile."""
        answers = b""
        while data and self.is_served:
            data = data[self._page.requests.write(data) :]
            self.run()
            answers += self.take()
        return answers

    def take(self) -> bytes:
        taken = b""
        while self._ring is not None and (data := self._page.responses.read()):
            taken += data
            self.run()
        return taken


class OurWorld:
    """Our store behind sessions that are fed by hand; the guest is behind a ring page."""

    def __init__(self, like: str) -> None:
        self.store = Store(like=like)
        self._server = Server(self.store)
        self._guest = OurGuest(self._server)
        self._sessions = {who: Session(self._server, 0, name=who) for who in SOCKETS}

    def round_trip(self, who: str, pieces: list[bytes]) -> Arrived:
        arrived: Arrived = {}
        for piece in pieces:
            early = b""
            if who == GUEST:
                early = self._guest.send(piece)
            else:
                self._sessions[who].receive(piece)
            for name, data in ((GUEST, early), *self._collect().items()):
                arrived[name] = arrived.get(name, b"") + data
        return {name: data for name, data in arrived.items() if data}

    def _collect(self) -> Arrived:
        arrived: Arrived = {GUEST: self._guest.take()}
        for who, session in self._sessions.items():
            while data := session.take():
                arrived[who] = arrived.get(who, b"") + data
        return arrived

    def is_open(self, who: str) -> bool:
        return self._guest.is_served if who == GUEST else not self._sessions[who].closed

    def create_guest(self) -> Arrived:
        self.store.domain_created(GUEST_DOMID)
        return self._collect()

    def shut_guest_down(self) -> Arrived:
        self.store.domain_shut_down(GUEST_DOMID)
        return self._collect()

    def destroy_guest(self) -> Arrived:
        self.store.domain_died(GUEST_DOMID)
        return self._collect()

    def reconnect(self, who: str) -> Arrived:
        self._sessions[who].close()
        self._sessions[who] = Session(self._server, 0, name=who)
        return self._collect()

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
