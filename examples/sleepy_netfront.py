"""Netfronts on xennet.interface alone that look for responses in one delivery and go to sleep in
another: one that does so as it has to, and one that loses a wake-up (docs/step.md)."""

from __future__ import annotations

from xennet import FrontRing, Hypervisor, XsError, rx_ring, tx_ring
from xennet.abi.netif import RX_REQUEST, RX_RESPONSE


class Netfront:
    """Posts four receive buffers, and takes what comes."""

    def __init__(self, hv: Hypervisor, node: str) -> None:
        self.hv, self.node, self.taken = hv, node, 0
        self.pages = tx, rx, self.incoming = [hv.alloc_pages(1) for _ in range(3)]
        self.grefs = [hv.grants.grant_access(0, page.first) for page in self.pages]
        self.tx = FrontRing.init(tx_ring(tx.u8, tx.u32))
        self.rx = FrontRing.init(rx_ring(rx.u8, rx.u32))
        self.port = hv.alloc_unbound(0)
        hv.on_event(self.port, self.event)
        for ident in range(4):
            self.post(ident)
        self.rx.push_requests()
        self.backend = hv.store.read(f"{node}/backend").decode()
        hv.store.watch(f"{self.backend}/state", "mine", self.backend_changed)

    def post(self, ident: int) -> None:
        self.rx.sring.write_slot(self.rx.req_prod_pvt, RX_REQUEST.pack(ident, 0, self.grefs[2]))
        self.rx.req_prod_pvt += 1

    def event(self) -> None:
        while self.rx.unconsumed_responses:
            got = RX_RESPONSE.read(self.rx.sring.copy_slot(self.rx.rsp_cons))
            self.rx.rsp_cons += 1
            self.taken += 1
            self.post(got.id)
        if self.rx.push_requests_and_check_notify():
            self.hv.notify(self.port)
        self.hv.defer(self.sleep)

    def sleep(self) -> None:
        """Ask for an event, then look once more (ring.h, RING_FINAL_CHECK_FOR_RESPONSES)."""
        if self.rx.final_check_for_responses():
            self.event()

    def backend_changed(self, path: str, token: str) -> None:
        store = self.hv.store
        try:
            state = int(store.read(path))
        except XsError:
            state = 6  # its directory is gone, and the backend with it
        if state == 2:  # InitWait
            keys = {"tx-ring-ref": self.grefs[0], "rx-ring-ref": self.grefs[1], "state": 4}
            for key, value in {"event-channel": self.port, "request-rx-copy": 1, **keys}.items():
                store.write(f"{self.node}/{key}", value)
        elif state == 5 and store.exists(f"{self.node}/state"):  # Closing
            store.write(f"{self.node}/state", 6)
        elif state == 6 and self.pages:  # Closed: it has unmapped the rings
            self.hv.close_port(self.port)
            while self.pages:
                assert self.hv.grants.end_access(self.grefs.pop())
                self.hv.free_pages(self.pages.pop())


class NeverLooksAgain(Netfront):
    """Looked in one delivery, and asks for an event in the next: what came in between is lost."""

    def sleep(self) -> None:
        self.rx.sring.rsp_event = self.rx.rsp_cons + 1
