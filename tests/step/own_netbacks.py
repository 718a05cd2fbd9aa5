"""Netbacks on xennet.interface alone, for tests of orders: one that sleeps as it has to, and some
that lose a wake-up."""

from __future__ import annotations

from xennet import BackRing, Hypervisor, XsError, tx_ring
from xennet.abi.netif import TX_REQUEST, TX_RESPONSE


class Netback:
    """Answers every request of the transmit ring. It looks in one delivery, and goes to sleep in
    another."""

    def __init__(self, hv: Hypervisor, node: str) -> None:
        self.hv, self.node = hv, node
        self.ring: BackRing | None = None
        self.awake = False
        self.frontend = hv.store.read(f"{node}/frontend").decode()
        hv.store.write(f"{node}/feature-rx-copy", 1)
        hv.store.write(f"{node}/state", 2)
        hv.store.watch(f"{self.frontend}/state", "mine", self.frontend_changed)

    def frontend_changed(self, path: str, token: str) -> None:
        hv = self.hv
        try:
            state = int(hv.store.read(path))
        except XsError:
            return
        if state == 4 and self.ring is None:
            keys = ("tx-ring-ref", "rx-ring-ref", "event-channel")
            tx, rx, port = (int(hv.store.read(f"{self.frontend}/{key}")) for key in keys)
            domid = int(hv.store.read(f"{self.node}/frontend-id"))
            self.mapped = [hv.map_grant(domid, gref) for gref in (tx, rx)]
            page = self.mapped[0].page
            self.ring = BackRing.attach(tx_ring(page.u8, page.u32))
            self.port = hv.bind_interdomain(domid, port)
            hv.on_event(self.port, self.event)
            hv.store.write(f"{self.node}/state", 4)
        elif state in (5, 6) and self.ring is not None:
            self.ring = None
            hv.close_port(self.port)
            for mapping in self.mapped:
                hv.unmap_grant(mapping)
            hv.store.write(f"{self.node}/state", 6)

    def event(self) -> None:
        if not self.awake:
            self.awake = True
            self.hv.defer(self.work)

    def work(self) -> None:
        """Take what is there; go to sleep later."""
        if self.ring is not None:
            self.take(self.ring)
            self.hv.defer(self.sleep)

    def take(self, ring: BackRing) -> None:
        while ring.unconsumed_requests:
            slot = TX_REQUEST.read(ring.sring.copy_slot(ring.req_cons))
            ring.req_cons += 1
            ring.sring.write_slot(ring.rsp_prod_pvt, TX_RESPONSE.pack(slot.id, 0))
            ring.rsp_prod_pvt += 1
        if ring.push_responses_and_check_notify():
            self.hv.notify(self.port)

    def sleep(self) -> None:
        """Ask for an event, then look once more (ring.h, RING_FINAL_CHECK_FOR_REQUESTS)."""
        self.awake = False
        if self.ring is not None and self.ring.final_check_for_requests():
            self.event()


class NeverLooksAgain(Netback):
    """Looked in one delivery, and asks for an event in the next: what came in between is lost."""

    def sleep(self) -> None:
        self.awake = False
        if self.ring is not None:
            self.ring.sring.req_event = self.ring.req_cons + 1


class ControlsTerminals(Netback):
    """Puts what controls a terminal into the store and into the names of its deliveries."""

    def __init__(self, hv: Hypervisor, node: str) -> None:
        super().__init__(hv, node)
        hv.store.write(f"{node}/feature-controls", b"\x1b[2J\x1b]0;owned\x07\x9b31m\r\n")

    def take(self, ring: BackRing) -> None:
        super().take(ring)

        def named() -> None:
            """Nothing."""

        named.__qualname__ = named.__name__ = "\x1b[2J"
        self.hv.defer(named)


class CountsRuns(Netback):
    """Knows how many of it there have been."""

    runs = 0

    def __init__(self, hv: Hypervisor, node: str) -> None:
        super().__init__(hv, node)
        CountsRuns.runs += 1
        self.number = CountsRuns.runs


class AnswersOthers(Netback):
    """Answers requests that nobody made."""

    def take(self, ring: BackRing) -> None:
        if not ring.unconsumed_requests:
            return
        ring.req_cons += ring.unconsumed_requests
        ring.sring.write_slot(ring.rsp_prod_pvt, TX_RESPONSE.pack(77, 0))
        ring.rsp_prod_pvt += 1
        if ring.push_responses_and_check_notify():
            self.hv.notify(self.port)


class Breaks(Netback):
    """Raises at the first packet."""

    def take(self, ring: BackRing) -> None:
        if ring.unconsumed_requests:
            raise ZeroDivisionError("\x1b[31mof a driver")


class Stumbles(Netback):
    """Takes it for granted that nothing comes while it goes to sleep."""

    def sleep(self) -> None:
        if self.ring is not None and self.ring.unconsumed_requests:
            raise ValueError(f"{self.ring.unconsumed_requests} requests")
        super().sleep()
