"""The harness entry for FreeBSD's xnb: arbitrary bytes as its ring pages, one interrupt over them.

The same calls as :class:`~xennet.netback.poll_page.PagePoller`, so that one fuzz target drives
both. What xnb does is done: tx requests become mbuf chains, payload is copied through the grant
table, responses are written and published, then what waits for the guest is sent into the posted
buffers of the rx ring.

    poller = XnbPoller()
    poller.load(fuzzed)             # up to 4096 bytes: the tx ring
    poller.rx_page[:] = fuzzed_too  # 4096 bytes: the rx ring, if one likes
    poller.queue(bytes(5000))       # a frame that waits for the guest
    poller.poll()                   # 0, or 1: the kernel of the driver domain is gone
    poller.error()                  # the BackendPanic; its rule names the defect rows ("A1/A2")
    poller.reset()                  # all as at the start

This file is no driver: it stands outside the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.netback.defects import BackendPanic, DefectStruck
from xennet.netback.poll_page import GUEST, HOST, PolledGuest, PolledPacket
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.dump import Log
from xennet.netback.xnb.known import FIXED, Rows, known_rows
from xennet.netback.xnb.mbuf import (
    CSUM_DELAY_DATA,
    CSUM_TSO,
    MCLBYTES,
    Ifnet,
    Mbuf,
    MbufPool,
    chain_bytes,
    offload_of,
)
from xennet.netback.xnb.rx import EVERY_FEATURE, SoftcFeatures
from xennet.netback.xnb.softc import XnbSoftc, intr
from xennet.ring import BackRing, rx_ring, tx_ring
from xennet.xenstored.service import XenStoreService

#: Frames of the machine, and how many of them mbufs may use: a ring full of the longest packets.
_FRAMES = 8192
_POOL_PAGES = 6144
#: Packets after which an interrupt counts as one that never returns (rows A14, A15).
ENDLESS = 2 * TX_SLOTS


class XnbPoller(PolledGuest):
    """One interrupt of xnb at a time, over the guest's memory as it is.

    ``rx_page``: 4096 writable bytes, the rx ring. ``struck``: the defects that damaged a packet of
    the last pass in silence. ``log`` takes the driver's console lines, without limit (A18).

    ``known``: defect rows that play as if they were fixed (xennet.netback.xnb.known); the attribute
    of that name may be set between passes. After a pass ``met`` has the rows that are not known and
    made a difference. ``features``: what the frontend takes (B10). ``meanwhile``, if it is set, is
    called with each step at which a frontend may act (xennet.netback.xnb.known.STEPS).

    Raises ValueError that lists the rows if one of ``known`` is unknown.
    """

    def __init__(self, log: Log = None, *, known: Iterable[str] = ()) -> None:
        rows = Rows(known)
        super().__init__(_FRAMES)
        self._rx_ring = self._guest.alloc_pages(1)
        self.rx_page = self._rx_ring.u8
        self.struck: list[DefectStruck] = []
        self._packets: list[PolledPacket] = []
        self._panic: BackendPanic | None = None
        store = XenStoreService(self.machine).connect(self._host, "xnb")
        kernel = GuestKernel(self._host, store)
        port = kernel.bind_interdomain(GUEST, self._guest.alloc_unbound(GUEST, HOST))
        self._xnb = XnbSoftc(
            hv=kernel,
            otherend_id=GUEST,
            txb=BackRing.init(tx_ring(self._ring.u8, self._ring.u32)),
            rxb=BackRing.init(rx_ring(self._rx_ring.u8, self._rx_ring.u32)),
            port=port,
            ifp=Ifnet(if_input=self._input),
            pool=MbufPool(kernel, max_pages=_POOL_PAGES),
            log=log,
            rows=rows,
        )
        self.machine.observers.subscribe(self._observe, DefectStruck)

    def __repr__(self) -> str:
        return f"<XnbPoller {len(self._packets)} packets, {len(self.struck)} defects struck>"

    @property
    def softc(self) -> XnbSoftc:
        """The driver's state."""
        return self._xnb

    @property
    def known(self) -> frozenset[str]:
        """The rows that play as if they were fixed."""
        return self._xnb.rows.known

    @known.setter
    def known(self, rows: Iterable[str]) -> None:
        self._xnb.rows.known = known_rows(rows)

    @property
    def met(self) -> frozenset[str]:
        """The rows that the last pass came to, and that are not known."""
        return frozenset(self._xnb.rows.met)

    @property
    def meanwhile(self) -> Callable[[str], None] | None:
        """What a frontend does while xnb works."""
        return self._xnb.rows.meanwhile

    @meanwhile.setter
    def meanwhile(self, act: Callable[[str], None] | None) -> None:
        self._xnb.rows.meanwhile = act

    @property
    def features(self) -> SoftcFeatures:
        """What the frontend takes."""
        return self._xnb.features

    @features.setter
    def features(self, features: SoftcFeatures) -> None:
        self._xnb.features = features

    def queue(
        self, frame: bytes, *, csum_blank: bool = False, gso_size: int = 0, segment: int = MCLBYTES
    ) -> None:
        """Queue ``frame`` for the guest; the next :meth:`poll` tries to send it.

        It lies in mbufs of ``segment`` bytes each, 1..2048. Raises MemoryError if too much is
        queued.
        """
        whole, rest = divmod(len(frame), segment)
        segments = [segment] * whole + [rest] * (rest > 0 or not frame)
        mbufc = self._xnb.pool.build(frame, segments=segments)
        assert mbufc.pkthdr is not None
        if csum_blank:
            mbufc.pkthdr.csum_flags |= CSUM_DELAY_DATA
        if gso_size:
            mbufc.pkthdr.csum_flags |= CSUM_TSO
            mbufc.pkthdr.tso_segsz = gso_size
        self._xnb.ifp.if_snd.append(mbufc)

    def poll(self, start: int = 0, max_packets: int = ENDLESS, *, rx_start: int = 0) -> int:
        """One interrupt (xnb_intr). Returns 0, or 1 if the driver domain's kernel ended.

        The driver's private indices are ``start`` for the tx ring and ``rx_start`` for the rx ring.
        After ``max_packets`` packets the interrupt counts as endless (the driver has no bound).
        When the kernel has ended, the queue for the guest is empty.
        """
        xnb = self._xnb
        xnb.txb.rsp_prod_pvt = xnb.txb.req_cons = start
        xnb.rxb.rsp_prod_pvt = xnb.rxb.req_cons = rx_start
        xnb.carrier = True
        xnb.rows.clear()
        self._packets, self._panic = [], None
        self.struck.clear()
        try:
            intr(xnb, max_packets)
        except BackendPanic as panic:
            self._panic = panic
            xnb.rows.met |= FIXED.keys() & set(panic.rule.split("/"))
            self._boot()
        return int(self._panic is not None)

    def error(self) -> BackendPanic | None:
        """The BackendPanic in which the last pass ended; None if it did not."""
        return self._panic

    def packets(self) -> list[PolledPacket]:
        """The packets of the last pass, up to a panic. GSO data is lost (A20)."""
        return self._packets

    def reset(self) -> None:
        super().reset()
        self.rx_page[:] = bytes(PAGE_SIZE)
        ifp = self._xnb.ifp
        ifp.ipackets = ifp.ierrors = ifp.iqdrops = ifp.opackets = ifp.oerrors = 0
        self.features, self.meanwhile = EVERY_FEATURE, None
        self._boot()

    def _boot(self) -> None:
        """Forget what a kernel that boots does not have: mbufs, queued packets, leftovers in copy
        tables (row B2 reads those)."""
        xnb = self._xnb
        xnb.ifp.if_snd.clear()
        xnb.pool.close()
        xnb.tx_gnttab, xnb.rx_gnttab = GnttabCopyTable(), GnttabCopyTable()

    def _input(self, mbufc: Mbuf) -> None:
        self._packets.append(PolledPacket(chain_bytes(mbufc), *offload_of(mbufc)))
        self._xnb.pool.m_freem(mbufc)

    def _observe(self, event: object) -> None:
        assert isinstance(event, DefectStruck)
        self.struck.append(event)
