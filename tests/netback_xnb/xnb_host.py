"""A host of the emulator with the seed's backend, and a guest of which the test writes every key
and every slot by hand."""

from __future__ import annotations

from vif_peers import Stack, announce

from xennet.abi.netif import EXTRA_GSO, RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xennet.abi.xen import PAGE_SIZE
from xennet.host.host import Host
from xennet.netback.policies import policy
from xennet.ring import FrontRing, rx_ring, tx_ring
from xennet.xenbus.nodes import NodeDirectory

BACK = 0


class XnbHost:
    """The vif waits in InitWait; ``stack`` is the host's side of it."""

    def __init__(self) -> None:
        self.host = Host()
        self.stack = Stack()
        self.host.dom0.load()
        self.plugged = self.host.plug(
            self.host.add_guest(), 0, Stack(), self.stack, policy=policy("xnb")
        )
        self.guest = self.plugged.guest.kernel
        self.events = 0
        self.host.settle()

    # What a frontend does

    def prepare(self, start: int = 0, **changes: str | None) -> None:
        """Rings whose indices are all ``start``, a channel, and the keys for them."""
        grants = self.guest.grants
        pages = [self.guest.alloc_pages(1) for _ in range(3)]
        self.tx = FrontRing.init(tx_ring(pages[0].u8, pages[0].u32))
        self.rx = FrontRing.init(rx_ring(pages[1].u8, pages[1].u32))
        for ring in (self.tx, self.rx):
            ring.req_prod_pvt = ring.rsp_cons = start
            ring.sring.req_prod = ring.sring.rsp_prod = start
            ring.sring.req_event = ring.sring.rsp_event = start + 1
        self.tx_ref, self.rx_ref, self.data = (
            grants.grant_access(BACK, page.first) for page in pages
        )
        self.payload = bytes((7 * i + (i >> 8)) & 0xFF for i in range(PAGE_SIZE))
        pages[2].u8[:] = self.payload
        self.port = self.guest.alloc_unbound(BACK)
        self.guest.on_event(self.port, self._event)
        keys: dict[str, str | None] = {
            "tx-ring-ref": str(self.tx_ref),
            "rx-ring-ref": str(self.rx_ref),
            "event-channel": str(self.port),
            "request-rx-copy": "1",
            "feature-sg": "1",
            "feature-gso-tcpv4": "1",
            "feature-no-csum-offload": "0",
        }
        for name, value in changes.items():
            keys[name.replace("_", "-")] = value
        for name, value in keys.items():
            if value is not None:
                self.guest.store.write(f"{self.plugged.paths.frontend_node}/{name}", value)

    def state(self, number: int) -> None:
        """The guest writes its state."""
        self.guest.store.write(f"{self.plugged.paths.frontend_node}/state", str(number))
        self.host.settle()

    def connect(self, start: int = 0, **changes: str | None) -> XnbHost:
        self.prepare(start, **changes)
        self.state(4)
        return self

    def put_and_push(self, *slots: list[int] | bytes) -> bool:
        """Push tx slots [size, flags, gref, offset] or raw extras; send an event if one is asked
        for, and say so."""
        for slot in slots:
            raw = slot
            if not isinstance(slot, bytes):
                size, flags, gref, offset = (*slot, *(0, 0, self.data, 0)[len(slot) :])
                raw = TX_REQUEST.pack(gref, offset, flags, self.tx.req_prod_pvt & 0xFFFF, size)
            self.tx.sring.write_slot(self.tx.req_prod_pvt, raw)
            self.tx.req_prod_pvt += 1
        asked = announce(self.tx.push_requests_and_check_notify(), self.guest, self.port)
        self.host.settle()
        return asked

    def post(self, *grefs: int) -> None:
        """Push rx buffers."""
        for gref in grefs:
            raw = RX_REQUEST.pack(self.rx.req_prod_pvt & 0xFFFF, 0xAAAA, gref)
            self.rx.sring.write_slot(self.rx.req_prod_pvt, raw)
            self.rx.req_prod_pvt += 1
        announce(self.rx.push_requests_and_check_notify(), self.guest, self.port)
        self.host.settle()

    def buffer(self) -> int:
        """A granted page."""
        return self.guest.grants.grant_access(BACK, self.guest.alloc_pages(1).first)

    # What a host does

    def send(self, *lengths: int, gso: int = 0) -> None:
        self.stack.gso = (gso, 1 if gso else 0)
        self.stack.to_send += [self.payload * (length // PAGE_SIZE + 1) for length in lengths]
        self.stack.to_send = [
            frame[:length] for frame, length in zip(self.stack.to_send, lengths, strict=True)
        ]
        self.plugged.kick_host()
        self.host.settle()

    # What a test looks at

    @property
    def vif(self):
        return self.plugged.netback

    def own(self, name: str) -> str:
        """A node of the backend, empty if there is none."""
        return NodeDirectory(self.host.store, self.plugged.paths.backend).optional_text(name)

    @property
    def said(self) -> str:
        return self.host.states(self.plugged)

    def statuses(self) -> list[int]:
        """All new tx responses."""
        taken = []
        while self.tx.unconsumed_responses:
            taken.append(TX_RESPONSE.unpack_from(self.tx.sring.copy_slot(self.tx.rsp_cons))[1])
            self.tx.rsp_cons += 1
        return taken

    def rx_responses(self):
        """All new rx responses."""
        taken = []
        while self.rx.unconsumed_responses:
            taken.append(RX_RESPONSE.read(self.rx.sring.copy_slot(self.rx.rsp_cons)))
            self.rx.rsp_cons += 1
        return taken

    def _event(self) -> None:
        self.events += 1


def gso_extra(kind: int = 1, flags: int = 0) -> bytes:
    return EXTRA_GSO.pack(kind, flags, 1448, 1, 0, 0)
