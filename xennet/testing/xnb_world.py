"""FreeBSD's netback on rings of the minimal machine, and a frontend that is driven by hand.

Nothing stands between a test and the functions of :mod:`xennet.netback.xnb`: no store, no life
cycle, no events that are delivered by themselves::

    world = XnbWorld()
    world.put([100, M], [200])      # tx requests: size, flags
    world.put([60, E], extra())     # one with extra info behind it
    world.push()                    # publish them: True if the backend asked for an event
    world.post(gref, gref)          # rx buffers
    world.interrupt()               # what the backend does then
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
from xennet.interface import PageRun
from xennet.netback.xnb import Ifnet, MbufPool, XnbSoftc, chain_bytes, intr, recv, send
from xennet.netback.xnb.mbuf import Mbuf
from xennet.ring import BackRing, FrontRing, SharedRing, rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalMachine
from xennet.testing.raw_peer import pattern

#: Flags of tx requests, in one letter each.
C, V, M, E = NETTXF_csum_blank, NETTXF_data_validated, NETTXF_more_data, NETTXF_extra_info

#: The domains of the backend and the frontend.
BACK, FRONT = 0, 3
#: The id of the request at index 0.
FIRST_ID = 0x100

MakeRing = Callable[[memoryview, memoryview], SharedRing]


def extra(
    type: int = XEN_NETIF_EXTRA_TYPE_GSO,
    flags: int = 0,
    size: int = 1448,
    gso: int = XEN_NETIF_GSO_TYPE_TCPV4,
    pad: int = 0,
    features: int = 0,
) -> bytes:
    """An extra info slot of the GSO layout."""
    return EXTRA_GSO.pack(type, flags, size, gso, pad, features)


class XnbWorld:
    """A backend ``xnb`` and the frontend of its rings ``tx`` and ``rx``; ``pool`` are options of
    its MbufPool.

    ``data`` is a reference to a page with :func:`pattern`. ``delivered`` are the frames that the
    backend gave to its network stack, ``console`` what it logged, ``signals`` the events that the
    frontend was sent.
    """

    def __init__(self, **pool: int) -> None:
        self.machine = MinimalMachine()
        self.hv = self.machine.domain(BACK)
        self.front_hv = self.machine.domain(FRONT)
        self.tx_page, self.rx_page = (self.front_hv.alloc_pages(1) for _ in range(2))
        self.tx = FrontRing.init(tx_ring(self.tx_page.u8, self.tx_page.u32))
        self.rx = FrontRing.init(rx_ring(self.rx_page.u8, self.rx_page.u32))
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

    def _mapped(self, make: MakeRing, page: PageRun) -> SharedRing:
        gref = self.front_hv.grants.grant_access(BACK, page.first)
        mapped = self.hv.map_grant(FRONT, gref).page
        return make(mapped.u8, mapped.u32)

    def _input(self, mbufc: Mbuf) -> None:
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

    def put(self, *slots: Sequence[int] | bytes) -> None:
        """Write tx slots: [size, flags, gref, offset] (cut short at will), or raw bytes."""
        for slot in slots:
            if isinstance(slot, bytes):
                raw = slot
            else:
                size, flags, gref, offset = (*slot, *(0, 0, self.data, 0)[len(slot) :])
                request_id = (FIRST_ID + self.tx.req_prod_pvt) & 0xFFFF
                raw = TX_REQUEST.pack(gref, offset, flags, request_id, size)
            self.tx.sring.write_slot(self.tx.req_prod_pvt, raw)
            self.tx.req_prod_pvt += 1

    def push(self) -> bool:
        """Publish the tx requests, with an event if the backend wants one. Returns whether."""
        return self._publish(self.tx)

    def _publish(self, ring: FrontRing) -> bool:
        wanted = ring.push_requests_and_check_notify()
        if wanted:
            self.notify()
        return wanted

    def put_and_push(self, *slots: Sequence[int] | bytes) -> None:
        """:meth:`put`, then :meth:`push`."""
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
        self._publish(self.rx)

    def notify(self) -> None:
        """An event, whether or not it is wanted."""
        self.front_hv.notify(self.port)

    # What the backend's kernel does

    def interrupt(self, **how: int) -> None:
        """The event channel's handler, which runs because the frontend sent an event."""
        if not self.channel.pending:
            raise AssertionError("no event has been sent")
        self.channel.pending = False
        intr(self.xnb, **how)

    # What a test looks at

    def tx_responses(self, count: int, start: int = 0) -> list[tuple[int, int]]:
        """(id, status) of response slots, published or not."""
        return [TX_RESPONSE.unpack_from(self.tx.sring.copy_slot(start + i)) for i in range(count)]

    def rx_responses(self, count: int, start: int = 0) -> list[Any]:
        """Response slots (id, offset, flags, status), published or not."""
        return [RX_RESPONSE.read(self.rx.sring.copy_slot(start + i)) for i in range(count)]

    def recv(self) -> tuple[int, Mbuf | None]:
        """xnb_recv of the next packet."""
        return recv(
            self.txb, FRONT, self.xnb.ifp, self.xnb.tx_gnttab, self.hv, self.pool, self.xnb.log
        )

    def send(self, mbufc: Mbuf) -> int:
        """xnb_send of a chain."""
        return send(self.rxb, FRONT, mbufc, self.xnb.rx_gnttab, self.hv, self.xnb.log)

    def packet(self, length: int, **how: Any) -> Mbuf:
        """A chain for the guest."""
        return self.pool.build(pattern(length), **how)
