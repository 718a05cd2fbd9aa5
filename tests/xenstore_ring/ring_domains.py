"""A ring page of its own, played by hand from the domain's side; and a machine with some guests."""

from __future__ import annotations

from collections.abc import Callable

from xennet.abi.xs_wire import XS_GET_DOMAIN_PATH, XS_WATCH, XS_WATCH_EVENT, XS_WRITE
from xennet.hypervisor import Domain, Machine
from xennet.memory import PageRun
from xennet.xenstore import Client, Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.ring_server import FEATURES, RingServer
from xennet.xenstore.session import Session
from xennet.xenstore.wire import Decoder, Message, encode
from xennet.xenstored.service import XenStoreService

PAGE = 4096
#: Word numbers in the page.
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES, CONNECTION, ERROR = range(512, 519)


def blank_page() -> PageRun:
    u8 = memoryview(bytearray(PAGE))
    return PageRun(0, 1, u8, u8.cast("H"), u8.cast("I"), u8.cast("Q"))


class RawDomain:
    """Domain ``domid`` of a store without a machine: its page, and messages written by hand.

    ``before(bytes, words)`` writes into the page before the domain is introduced.
    """

    def __init__(
        self,
        server: Server,
        domid: int = 1,
        features: int = FEATURES,
        connection: int = 0,
        before: Callable[[memoryview, memoryview], object] = lambda u8, u32: None,
    ) -> None:
        store = server.store
        store.domain_created(domid)
        store.introduce(domid)
        self.domid = domid
        self.store = store
        self.pages = blank_page()
        self.u32 = self.pages.u32
        self.u8 = self.pages.u8
        self.u32[CONNECTION] = connection
        before(self.u8, self.u32)
        self.page = RingPage.over(self.pages)
        self.notified = 0
        self.reachable = True
        self.on_notify: Callable[[], object] = lambda: None
        self.server = RingServer(
            self.page,
            lambda: Session(server, domid, on_output=self.serve),
            self._notify,
            features,
        )
        self._decoder = Decoder()

    def _notify(self) -> bool:
        self.notified += 1
        self.on_notify()
        return self.reachable

    def serve(self) -> None:
        self.server.run()

    def put(self, data: bytes) -> None:
        """Write without any notification; the data must fit."""
        assert self.page.requests.write(data) == len(data)

    def send(self, data: bytes) -> None:
        """Write all of ``data`` and let the server work whenever the ring is full."""
        while data:
            data = data[self.page.requests.write(data) :]
            self.serve()

    def receive(self) -> list[Message]:
        """All messages that come."""
        messages = []
        while data := self.page.responses.read():
            messages += self._decoder.feed(data)
            self.serve()
        return messages

    def ask(self, kind: int, payload: bytes, tx_id: int = 0, req_id: int = 7) -> Message:
        """One request; its reply is the only message that comes."""
        self.send(encode(kind, req_id, tx_id, payload))
        (message,) = self.receive()
        return message

    def ask_for_events(self, path: str) -> None:
        """A watch on ``path``; its first event is received."""
        self.send(encode(XS_WATCH, 7, 0, path.encode() + b"\0token\0"))
        assert [message.type for message in self.receive()] == [XS_WATCH, XS_WATCH_EVENT]

    def works(self) -> bool:
        """Whether a request is answered."""
        return self.ask(XS_GET_DOMAIN_PATH, b"1\0").payload == b"/local/domain/1\0"


def raw_pair() -> tuple[Server, RawDomain, RawDomain]:
    """A server with two domains that may write below /d1 and /d2."""
    server = Server(Store(), features=FEATURES)
    one, two = RawDomain(server, 1), RawDomain(server, 2)
    root = Client(server.store.connect(0))
    for domid in (1, 2):
        root.write(f"/d{domid}", "")
        root.set_perms(f"/d{domid}", [f"n{domid}"])
    return server, one, two


def write(path: str, value: bytes = b"x") -> bytes:
    return encode(XS_WRITE, 9, 0, path.encode() + b"\0" + value)


class Site:
    """A machine with a store service and ``guests`` domains that were built but not introduced.
    ``deliveries``: their requests are deliveries."""

    def __init__(self, guests: int = 2, *, deliveries: bool = False) -> None:
        self.machine = Machine(2048, max_grant_frames=4)
        self.dom0 = self.machine.create_domain(name="Domain-0")
        self.service = XenStoreService(self.machine, deliveries=deliveries)
        self.store = self.service.store
        self.root = self.service.connect(self.dom0, "root")
        self.loop = self.machine.run_loop
        self.guests = [self.machine.create_domain(name=f"g{n}") for n in range(1, guests + 1)]

    def run(self) -> int:
        return self.loop.run_until_idle(limit=5000)

    def own_directory(self, domain: Domain) -> None:
        """A home that the domain may write to."""
        path = f"/local/domain/{domain.domid}"
        self.root.write(path, "")
        self.root.set_perms(path, [f"n{domain.domid}"])
