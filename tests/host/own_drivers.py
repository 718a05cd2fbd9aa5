"""A netfront and a netback that are not xennet's: one queue, one slot a frame, one page a slot.

They know of the machine what every driver does (xennet.interface), and of the vif where it is and
what its network stack is.
"""

from __future__ import annotations

from xennet.abi.grant_table import (
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
)
from xennet.abi.netif import RX_REQUEST, RX_RESPONSE, TX_REQUEST, TX_RESPONSE
from xennet.abi.xen import DOMID_SELF
from xennet.frames import Endpoint, FrameBatch
from xennet.host.domains import PluggedVif
from xennet.interface import Hypervisor
from xennet.netfront.counters import NetfrontCounters
from xennet.ring import BackRing, FrontRing, rx_ring, tx_ring
from xennet.vif.counters import BackendCounters
from xennet.vif.end import BaseEnd
from xennet.xenstore import XsError

#: Pages of each ring that a frontend has in use at most.
PAGES = 8
CLOSED = 6


def pulled(endpoint: Endpoint, most: int) -> list[bytes]:
    """Up to ``most`` frames of a network stack."""
    batch = FrameBatch(memoryview(bytearray(4096 * PAGES)), max_frames=most)
    endpoint.pull(batch)
    return [bytes(frame) for frame in batch]


def push(endpoint: Endpoint, frame: bytes) -> None:
    """Give one frame to a network stack."""
    batch = FrameBatch(memoryview(bytearray(4096)))
    batch.append(frame)
    endpoint.push(batch)


def state_of(hv: Hypervisor, path: str) -> int:
    try:
        return int(hv.store.read(path))
    except XsError:
        return CLOSED  # its directory is gone


class OwnFrontend(BaseEnd):
    """``faults``: what it leaves undone or does wrong, by name."""

    def __init__(self, vif: PluggedVif, hv: Hypervisor, faults: tuple[str, ...] = ()) -> None:
        self.hv, self.node, self.stack = hv, vif.paths.frontend_node, vif.guest_end
        self.faults = faults
        self.counters = NetfrontCounters()
        self.carrier = False
        self.kicks = 0
        self.connect()

    def connect(self) -> None:
        """Look for the backend and wait until it is in InitWait."""
        hv = self.hv
        self.port = -1
        self.gone = False
        self.backend = hv.store.read(f"{self.node}/backend").decode()
        self.domid = int(hv.store.read(f"{self.node}/backend-id"))
        hv.store.watch(f"{self.backend}/state", f"own-{self.node}", self.backend_changed)

    def backend_changed(self, path: str, token: str) -> None:
        state = state_of(self.hv, path)
        if self.gone:
            return  # an event that was on its way
        if state == 2 and self.port < 0:
            self.publish()
        elif state == 4 and self.port >= 0:
            self.carrier = True
            self.kick()
        elif state in (5, CLOSED):
            self.carrier = False
            if state == CLOSED:
                self.give_back()
            if state_of(self.hv, f"{self.node}/state") != CLOSED:
                self.hv.store.write(f"{self.node}/state", CLOSED)
            if state == CLOSED:
                self.gone = True
                self.hv.store.unwatch(f"{self.backend}/state", f"own-{self.node}")

    def publish(self) -> None:
        hv, to = self.hv, 999 if "wrong domain" in self.faults else self.domid
        self.pages = [hv.alloc_pages(1) for _ in range(2 + 2 * PAGES)]
        self.grefs = [hv.grants.grant_access(to, page.first) for page in self.pages]
        tx, rx = self.pages[:2]
        self.tx = FrontRing.init(tx_ring(tx.u8, tx.u32))
        self.rx = FrontRing.init(rx_ring(rx.u8, rx.u32))
        self.free = list(range(2, 2 + PAGES))
        self.port = hv.alloc_unbound(self.domid)
        hv.on_event(self.port, self.event)
        if "no buffers" not in self.faults:
            for number in range(2 + PAGES, 2 + 2 * PAGES):
                self.post(number)
        keys = {"tx-ring-ref": self.grefs[0], "rx-ring-ref": self.grefs[1]}
        keys |= {"event-channel": self.port, "request-rx-copy": 1, "feature-rx-notify": 1}
        for key, value in (*keys.items(), ("state", 4)):
            hv.store.write(f"{self.node}/{key}", value)

    def post(self, number: int) -> None:
        self.rx.sring.write_slot(
            self.rx.req_prod_pvt, RX_REQUEST.pack(number, 0, self.grefs[number])
        )
        self.rx.req_prod_pvt += 1
        self.announce(self.rx)

    def announce(self, ring: FrontRing) -> None:
        if ring.push_requests_and_check_notify() and "no events" not in self.faults:
            self.hv.notify(self.port)

    def kick(self) -> None:
        self.kicks += 1
        if not self.carrier:
            return
        for frame in pulled(self.stack, len(self.free)) if self.free else ():
            number = self.free.pop()
            self.pages[number].u8[: len(frame)] = frame
            slot = TX_REQUEST.pack(self.grefs[number], 0, 0, number, len(frame))
            self.tx.sring.write_slot(self.tx.req_prod_pvt, slot)
            self.tx.req_prod_pvt += 1
            self.counters.tx.packets += 1
            self.announce(self.tx)

    def event(self) -> None:
        while self.tx.final_check_for_responses():
            answer = TX_RESPONSE.read(self.tx.sring.copy_slot(self.tx.rsp_cons))
            self.tx.rsp_cons += 1
            self.free.append(answer.id)
            self.counters.tx.errors += answer.status != 0
        while self.rx.final_check_for_responses():
            got = RX_RESPONSE.read(self.rx.sring.copy_slot(self.rx.rsp_cons))
            self.rx.rsp_cons += 1
            self.counters.rx.packets += 1
            push(self.stack, bytes(self.pages[got.id].u8[got.offset : got.offset + got.status]))
            self.post(got.id)
        self.kick()

    def give_back(self) -> None:
        if self.port < 0:
            return
        self.hv.close_port(self.port)
        self.port = -1
        while self.pages:
            assert self.hv.grants.end_access(self.grefs.pop())
            self.hv.free_pages(self.pages.pop())


class MovableFrontend(OwnFrontend):
    """One that goes on in another domain."""

    def moved(self, hv: Hypervisor) -> None:
        self.hv, self.carrier = hv, False  # what was shared stayed in the old domain
        self.connect()


class OwnBackend(BaseEnd):
    """``faults``: what it leaves undone or does wrong, by name."""

    def __init__(self, vif: PluggedVif, hv: Hypervisor, faults: tuple[str, ...] = ()) -> None:
        self.hv, self.node, self.stack = hv, vif.paths.backend_node, vif.host_end
        self.faults, self.domid = faults, vif.paths.frontend_domid
        self.counters = BackendCounters()
        self.error: Exception | None = None
        self.carrier = False
        self.kicks = 0
        self.port = -1
        self.page = hv.alloc_pages(1)
        self.frontend = hv.store.read(f"{self.node}/frontend").decode()
        hv.store.write(f"{self.node}/feature-rx-copy", 1)
        hv.store.write(f"{self.node}/state", 2)
        hv.store.watch(f"{self.frontend}/state", f"own-{self.node}", self.frontend_changed)

    def frontend_changed(self, path: str, token: str) -> None:
        state = state_of(self.hv, path)
        if state == 4 and self.port < 0:
            self.attach()
            self.hv.store.write(f"{self.node}/state", 4)
            self.carrier = self.port >= 0
            self.kick()
        elif state == CLOSED and self.page is not None:
            self.carrier = False
            self.detach()
            self.hv.free_pages(self.page)
            self.page = None
            self.hv.store.unwatch(f"{self.frontend}/state", f"own-{self.node}")
            if state_of(self.hv, f"{self.node}/state") != CLOSED:
                self.hv.store.write(f"{self.node}/state", CLOSED)

    def attach(self) -> None:
        if "nothing attached" in self.faults:
            return
        hv, read = self.hv, self.hv.store.read
        keys = ("tx-ring-ref", "rx-ring-ref", "event-channel")
        tx, rx, port = (int(read(f"{self.frontend}/{key}")) for key in keys)
        refs = (tx,) if "no rx ring" in self.faults else (tx, rx)
        self.mapped = [hv.map_grant(self.domid, gref) for gref in refs]
        if "no rx ring" in self.faults:
            return
        tx_page, rx_page = (mapping.page for mapping in self.mapped)
        self.tx = BackRing.attach(tx_ring(tx_page.u8, tx_page.u32))
        self.rx = BackRing.attach(rx_ring(rx_page.u8, rx_page.u32))
        self.port = hv.bind_interdomain(self.domid, port)
        if "deaf" not in self.faults:
            hv.on_event(self.port, self.event)

    def detach(self) -> None:
        if self.port >= 0:
            self.hv.close_port(self.port)
            self.port = -1
        for mapping in self.__dict__.pop("mapped", ()):
            self.hv.unmap_grant(mapping)

    def copy(
        self, source: tuple[int, int, int], to: tuple[int, int, int], size: int, how: int
    ) -> int:
        form = GNTTAB_COPY_BY_FLAGS[how]
        element = memoryview(bytearray(form.pack(*source, *to, size, how, 0)))
        self.hv.grant_copy(element.cast("I"), 1)
        return form.read(element).status

    def event(self) -> None:
        own = (self.page.first, DOMID_SELF, 0)
        while self.tx.final_check_for_requests():
            slot = TX_REQUEST.read(self.tx.sring.copy_slot(self.tx.req_cons))
            self.tx.req_cons += 1
            refused = self.copy(
                (slot.gref, self.domid, slot.offset), own, slot.size, GNTCOPY_source_gref
            )
            if not refused:
                push(self.stack, bytes(self.page.u8[: slot.size]))
            self.counters.tx.packets += not refused
            self.answer(self.tx, TX_RESPONSE.pack(slot.id, -1 if refused else 0))
        self.kick()

    def kick(self) -> None:
        self.kicks += 1
        if not self.carrier:
            return
        while self.rx.unconsumed_requests and (frames := pulled(self.stack, 1)):
            slot = RX_REQUEST.read(self.rx.sring.copy_slot(self.rx.req_cons))
            self.rx.req_cons += 1
            self.page.u8[: len(frames[0])] = frames[0]
            own = (self.page.first, DOMID_SELF, 0)
            to = (slot.gref, self.domid, 0)
            refused = self.copy(own, to, len(frames[0]), GNTCOPY_dest_gref)
            status = -1 if refused else len(frames[0])
            self.answer(self.rx, RX_RESPONSE.pack(slot.id, 0, 0, status))

    def answer(self, ring: BackRing, response: bytes) -> None:
        ring.sring.write_slot(ring.rsp_prod_pvt, response)
        ring.rsp_prod_pvt += 1
        if ring.push_responses_and_check_notify():
            self.hv.notify(self.port)
