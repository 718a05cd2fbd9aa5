"""A frontend written by hand, the seed driver at the other end of two real rings.

world.put([100, M], [200])      write tx requests (size, flags)
world.put([60, E], extra())     ... with extra info behind the first
world.push()                    publish them; True if the backend asked for an event
world.post(gref, gref)          post rx buffers
"""

from __future__ import annotations

from vif_peers import announce

from xennet.abi.netif import (
    EXTRA_GSO,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.netback.xnb import Ifnet, MbufPool, XnbSoftc, chain_bytes, intr, recv, send
from xennet.ring import BackRing, FrontRing, rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalMachine

C, V, M, E = NETTXF_csum_blank, NETTXF_data_validated, NETTXF_more_data, NETTXF_extra_info

BACK, FRONT = 0, 3
FIRST_ID = 0x100


def extra(
    type: int = XEN_NETIF_EXTRA_TYPE_GSO,
    flags: int = 0,
    size: int = 1448,
    gso: int = XEN_NETIF_GSO_TYPE_TCPV4,
    pad: int = 0,
    features: int = 0,
) -> bytes:
    return EXTRA_GSO.pack(type, flags, size, gso, pad, features)


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that tell where they come from, and are no IPv4 frame."""
    return bytes((seed + 7 * i + (i >> 8)) & 0xFF for i in range(length))


class World:
    def __init__(self, **pool: int) -> None:
        self.machine = MinimalMachine()
        self.hv = self.machine.domain(BACK)
        self.front_hv = self.machine.domain(FRONT)
        self.tx = FrontRing.init(self._shared(tx_ring, "tx_page"))
        self.rx = FrontRing.init(self._shared(rx_ring, "rx_page"))
        self.console: list[str] = []
        self.delivered: list[bytes] = []
        self.mbufs: list[object] = []
        self.pool = MbufPool(self.hv, **pool)
        self.port = port = self.front_hv.alloc_unbound(BACK)
        self.signals = 0
        self.front_hv.on_event(port, self._signalled)
        self.xnb = XnbSoftc(
            hv=self.hv,
            otherend_id=FRONT,
            txb=BackRing.init(self._mapped(tx_ring, self.tx_page)),
            rxb=BackRing.init(self._mapped(rx_ring, self.rx_page)),
            port=self.hv.bind_interdomain(FRONT, port),
            ifp=Ifnet(if_input=self._input),
            pool=self.pool,
            log=self.console.append,
        )
        self.channel = self.hv.ports[self.xnb.port]
        self.channel.pending = False  # a channel is pending when it is bound: nothing came of it
        self.txb, self.rxb = self.xnb.txb, self.xnb.rxb
        self.data = self.buffer(pattern(4096))

    def _shared(self, make, name):
        page = self.front_hv.alloc_pages(1)
        setattr(self, name, page)
        return make(page.u8, page.u32)

    def _mapped(self, make, page):
        gref = self.front_hv.grants.grant_access(BACK, page.first)
        mapped = self.hv.map_grant(FRONT, gref).page
        return make(mapped.u8, mapped.u32)

    def _input(self, mbufc) -> None:
        self.delivered.append(chain_bytes(mbufc))
        self.pool.m_freem(mbufc)

    def _signalled(self) -> None:
        self.signals += 1

    # What a frontend does

    def buffer(self, payload: bytes = b"", *, readonly: bool = False) -> int:
        """A granted page that begins with ``payload``."""
        page = self.front_hv.alloc_pages(1)
        page.u8[: len(payload)] = payload
        return self.front_hv.grants.grant_access(BACK, page.first, readonly)

    def granted(self, gref: int) -> memoryview:
        """The page behind a gref."""
        number = self.front_hv.grants.words[(gref << 1) + 1]
        return self.machine.frames[number].bytes_of(number)

    def put(self, *slots) -> None:
        """Write tx slots: [size, flags, gref, offset] (cut short at will), or raw bytes."""
        for slot in slots:
            raw = slot
            if not isinstance(slot, bytes):
                size, flags, gref, offset = (*slot, *(0, 0, self.data, 0)[len(slot) :])
                request_id = (FIRST_ID + self.tx.req_prod_pvt) & 0xFFFF
                raw = TX_REQUEST.pack(gref, offset, flags, request_id, size)
            self.tx.sring.write_slot(self.tx.req_prod_pvt, raw)
            self.tx.req_prod_pvt += 1

    def push(self) -> bool:
        """Publish the tx requests, with an event if the backend wants one; whether it does."""
        return announce(self.tx.push_requests_and_check_notify(), self.front_hv, self.port)

    def put_and_push(self, *slots) -> None:
        """put and push."""
        self.put(*slots)
        self.push()

    def start_at(self, index: int) -> None:
        """Both rings as after ``index`` messages, all answered."""
        for front, back in ((self.tx, self.txb), (self.rx, self.rxb)):
            sring = front.sring
            sring.req_prod = sring.rsp_prod = index
            sring.req_event = sring.rsp_event = index + 1
            front.req_prod_pvt = front.rsp_cons = index
            back.rsp_prod_pvt = back.req_cons = index

    def post(self, *grefs: int) -> None:
        """Post rx buffers, and publish them."""
        for gref in grefs:
            index = self.rx.req_prod_pvt
            self.rx.sring.write_slot(
                index, RX_REQUEST.pack(FIRST_ID + index & 0xFFFF, 0xAAAA, gref)
            )
            self.rx.req_prod_pvt += 1
        announce(self.rx.push_requests_and_check_notify(), self.front_hv, self.port)

    def notify(self) -> None:
        """An event, whether or not it is wanted."""
        self.front_hv.notify(self.port)

    # What the backend's kernel does

    def interrupt(self, **how: int) -> None:
        """The event channel's handler, which runs because the frontend sent an event."""
        assert self.channel.pending, "no event has been sent"
        self.channel.pending = False
        intr(self.xnb, **how)

    # What a test looks at

    def tx_responses(self, count: int, start: int = 0) -> list[tuple[int, int]]:
        """(id, status) of response slots, published or not."""
        return [TX_RESPONSE.unpack_from(self.tx.sring.copy_slot(start + i)) for i in range(count)]

    def rx_responses(self, count: int, start: int = 0):
        """Response slots (id, offset, flags, status), published or not."""
        return [RX_RESPONSE.read(self.rx.sring.copy_slot(start + i)) for i in range(count)]

    def recv(self):
        return recv(
            self.txb, FRONT, self.xnb.ifp, self.xnb.tx_gnttab, self.hv, self.pool, self.xnb.log
        )

    def send(self, mbufc) -> int:
        return send(self.rxb, FRONT, mbufc, self.xnb.rx_gnttab, self.hv, self.xnb.log)

    def packet(self, length: int, **how):
        """A chain for the guest."""
        return self.pool.build(pattern(length), **how)
