"""A frontend that is driven by hand, for a backend under test.

It knows of its machine what :class:`xennet.Hypervisor` gives, and of the other end what the store
and the rings show, so the backend may be anything: xennet's, one of your own, another process. A
normal life is a few steps, and each can be left out, repeated or done wrong::

    front = RawFrontend(guest.kernel, settle=host.settle)
    front.connect()                                 # features, rings, keys, states
    front.post_rx(8)
    front.push_rx()
    front.send(bytes(60))                           # a well-formed packet
    front.tx(5000, offset=4000)                     # and one that is not
    front.push_tx()
    front.settle()
    print(front.responses(), front.packets(), *front.notes, sep="\\n")
    front.close()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen

from xennet.abi.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    EXTRA_GSO,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xenbus import XenbusState
from xennet.interface import Hypervisor, PageRun, StoreTransaction
from xennet.ring import FrontRing, SharedRing, ctrl_ring, rx_ring, tx_ring
from xennet.testing.raw_peer import (
    NodeValue,
    Packet,
    RawPeer,
    RawQueue,
    cut,
    packet_slots,
    pattern,
)

#: What Linux's netfront publishes beside its rings.
FEATURES: dict[str, NodeValue] = {
    "request-rx-copy": 1,
    "feature-rx-notify": 1,
    "feature-sg": 1,
    "feature-gso-tcpv4": 1,
    "feature-gso-tcpv6": 1,
    "feature-ipv6-csum-offload": 1,
}


@define(eq=False)
class GrantedPage:
    """A page of the peer's that the other end may use; ``gref`` None once that has been ended."""

    run: PageRun
    gref: int | None
    readonly: bool


@frozen
class TxResponse:
    """A response on the transmit ring: its ring ``index``, its ``raw`` slot, its fields."""

    index: int
    raw: bytes
    id: int
    status: int


@frozen
class RxResponse:
    """A response on the receive ring; an extra info slot is one as well, by its place."""

    index: int
    raw: bytes
    id: int
    offset: int
    flags: int
    status: int


@frozen
class CtrlResponse:
    """A response on the control ring."""

    index: int
    raw: bytes
    id: int
    type: int
    status: int
    data: int


@define(eq=False)
class FrontQueue(RawQueue[FrontRing]):
    """A queue with the references of its ring pages; ``buffers`` has the posted receive buffers by
    slot, ``sent`` the pages of transmitted packets by id."""

    tx_ref: int = 0
    rx_ref: int = 0
    buffers: dict[int, GrantedPage] = field(factory=dict)
    sent: dict[int, list[GrantedPage]] = field(factory=dict)


class RawFrontend(RawPeer[FrontRing]):
    """The frontend at ``node`` of the domain of ``hv``; ``settle`` lets everything else happen.

    ``gref`` is a reference to ``data_page``, which holds ``data`` and may be read; requests of
    :meth:`tx` name it unless told otherwise. ``queues`` and ``ctrl_ring`` are there from
    :meth:`allocate` to :meth:`release`. ``changes`` are those of :meth:`publish` where it is given
    none.
    """

    queues: list[FrontQueue]  # type: ignore[assignment]

    def __init__(
        self,
        hv: Hypervisor,
        node: str = "device/vif/0",
        *,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(hv, node, "backend", settle)
        self.data = pattern(PAGE_SIZE)
        self.data_page: GrantedPage
        self.gref = -1
        self.ctrl_ref = -1
        self.changes: dict[str, NodeValue | None] = {}
        self._pages: list[GrantedPage] = []
        self._spare: list[GrantedPage] = []

    # -- life --------------------------------------------------------------------------------------

    def features(self) -> dict[str, str]:
        """The nodes of the backend's directory: its features among them."""
        return self.otherend_nodes()

    def allocate(
        self, *, queues: int = 1, split: bool = False, start: int = 0, ctrl: bool = False
    ) -> None:
        """Make rings, grant their pages and allocate event channels; nothing is published.

        ``split``: a channel for each ring. ``start``: the free-running index of all rings.
        ``ctrl``: a control ring as well. Raises LookupError if there are rings already.
        """
        if self.queues:
            raise LookupError(f"{self.node} has rings, which are to be released first")
        self.data_page = self.page(self.data, readonly=True)
        self.gref = self._number(self.data_page)
        for _ in range(queues):
            tx, tx_ref = self._new_ring(tx_ring, start)
            rx, rx_ref = self._new_ring(rx_ring, start)
            port = self._new_port()
            rx_port = self._new_port() if split else port
            queue = FrontQueue(tx, rx, port, rx_port, tx_ref=tx_ref, rx_ref=rx_ref)
            self._listen(queue)
            self.queues.append(queue)
        if ctrl:
            self.ctrl_ring, self.ctrl_ref = self._new_ring(ctrl_ring, start)
            self.ctrl_port = self._new_port()
            self._listen_ctrl()

    def _new_ring(
        self, make: Callable[[memoryview, memoryview], SharedRing], start: int
    ) -> tuple[FrontRing, int]:
        page = self.page()
        ring = FrontRing.init(make(page.run.u8, page.run.u32))
        ring.req_prod_pvt = ring.rsp_cons = start
        ring.sring.req_prod = ring.sring.rsp_prod = start
        ring.sring.req_event = ring.sring.rsp_event = start + 1
        return ring, self._number(page)

    def _new_port(self) -> int:
        port = self.hv.alloc_unbound(self.otherend_id)
        self.note("bound", f"port {port}")
        return port

    def keys(self) -> dict[str, NodeValue]:
        """The nodes of what :meth:`allocate` has made, and FEATURES, in Linux's order."""
        keys: dict[str, NodeValue] = {}
        if len(self.queues) > 1:
            keys["multi-queue-num-queues"] = len(self.queues)
        for number, queue in enumerate(self.queues):
            where = f"queue-{number}/" if len(self.queues) > 1 else ""
            keys[f"{where}tx-ring-ref"] = queue.tx_ref
            keys[f"{where}rx-ring-ref"] = queue.rx_ref
            if queue.tx_port == queue.rx_port:
                keys[f"{where}event-channel"] = queue.tx_port
            else:
                keys[f"{where}event-channel-tx"] = queue.tx_port
                keys[f"{where}event-channel-rx"] = queue.rx_port
        if self.ctrl_ring is not None:
            keys["ctrl-ring-ref"] = self.ctrl_ref
            keys["event-channel-ctrl"] = self.ctrl_port
        return {**keys, **FEATURES}

    def publish(self, changes: Mapping[str, NodeValue | None] | None = None) -> None:
        """Write the :meth:`keys` in one transaction, with ``changes``: other values, further
        nodes; None leaves one out."""
        keys = {**self.keys(), **(self.changes if changes is None else changes)}
        wanted = {name: value for name, value in keys.items() if value is not None}

        def body(tx: StoreTransaction) -> None:
            for name, value in wanted.items():
                tx.write(self._own.node(name), value)

        self.hv.store.transact(body)
        for name, value in wanted.items():
            self.note("node", self._own.node(name), value)

    def connect(
        self,
        changes: Mapping[str, NodeValue | None] | None = None,
        *,
        queues: int = 1,
        split: bool = False,
        start: int = 0,
        ctrl: bool = False,
    ) -> bool:
        """All steps to Connected: :meth:`allocate` (unless that has been done), :meth:`publish`
        with ``changes``, the state. Returns whether both ends are Connected then."""
        self.settle()
        if not self.queues:
            self.allocate(queues=queues, split=split, start=start, ctrl=ctrl)
        self.publish(changes)
        self.set_state(XenbusState.Connected)
        self.settle()
        return self.connected

    def close(self) -> list[str]:
        """Closing, Closed, and :meth:`release`, whose answer it returns."""
        self.set_state(XenbusState.Closing)
        self.settle()
        self.set_state(XenbusState.Closed)
        self.settle()
        return self.release()

    def release(self) -> list[str]:
        """Close the channels, end all grants, free all pages.

        Returns what the other end still holds, "gref N" for each: their pages are kept, and a later
        call tries again.
        """
        self.close_ports()
        self.queues.clear()
        self.ctrl_ring, self.ctrl_ref, self.gref = None, -1, -1
        self._spare.clear()
        held = []
        for page in self._pages:
            if page.gref is not None and not self.end(page):
                held.append(page)
            else:
                self.hv.free_pages(page.run)
        self._pages = held
        return [f"gref {page.gref}" for page in held]

    def reconnect(
        self,
        changes: Mapping[str, NodeValue | None] | None = None,
        *,
        queues: int = 1,
        split: bool = False,
        start: int = 0,
        ctrl: bool = False,
    ) -> bool:
        """:meth:`close`, Initialising, :meth:`connect`. Returns whether both ends are Connected
        then."""
        self.close()
        self.set_state(XenbusState.Initialising)
        return self.connect(changes, queues=queues, split=split, start=start, ctrl=ctrl)

    # -- pages -------------------------------------------------------------------------------------

    def page(self, content: bytes = b"", *, readonly: bool = False) -> GrantedPage:
        """A page that begins with ``content``, granted to the other end."""
        run = self.hv.alloc_pages(1)
        gref = self.hv.grants.grant_access(self.otherend_id, run.first, readonly)
        run.u8[: len(content)] = content
        page = GrantedPage(run, gref, readonly)
        self._pages.append(page)
        self.note("granted", f"gref {gref}", "read-only" if readonly else "")
        return page

    def end(self, page: GrantedPage) -> bool:
        """End a grant, whatever still refers to it. Returns False while the other end uses it."""
        gref = self._number(page)
        ended = self.hv.grants.end_access(gref)
        self.note("ended", f"gref {gref}", "" if ended else "still in use")
        if ended:
            page.gref = None
        return ended

    @staticmethod
    def _number(page: GrantedPage) -> int:
        if page.gref is None:
            raise ValueError("the grant of this page has been ended")
        return page.gref

    def _take_page(self) -> GrantedPage:
        return self._spare.pop() if self._spare else self.page()

    def _give_back(self, page: GrantedPage) -> None:
        if page.gref is not None:
            self._spare.append(page)

    # -- the transmit ring -------------------------------------------------------------------------

    def slot(self, raw: bytes, *, ring: str = "tx", queue: int = 0) -> int:
        """Put a raw slot at the next request's place. Returns its index."""
        front = self.ring(ring, queue)
        index = front.req_prod_pvt
        self.write_slot(index, raw, ring=ring, queue=queue)
        front.req_prod_pvt = index + 1
        return index

    def tx(
        self,
        size: int,
        flags: int = 0,
        ident: int | None = None,
        offset: int = 0,
        gref: int | None = None,
        *,
        queue: int = 0,
    ) -> int:
        """Put a tx request; ``size`` of the first slot is the whole packet's. ``ident`` None takes
        the index (mod 65536), ``gref`` None the page of ``data``. Returns the id."""
        if ident is None:
            ident = self.ring("tx", queue).req_prod_pvt & 0xFFFF
        raw = TX_REQUEST.pack(self.gref if gref is None else gref, offset, flags, ident, size)
        self.slot(raw, queue=queue)
        return ident

    def extra(
        self,
        kind: int = XEN_NETIF_EXTRA_TYPE_GSO,
        flags: int = 0,
        size: int = 0,
        gso: int = 0,
        *,
        queue: int = 0,
    ) -> int:
        """Put an extra info slot into the tx ring, of the GSO layout: ``size`` is u.gso.size,
        ``gso`` u.gso.type. Returns its index."""
        return self.slot(EXTRA_GSO.pack(kind, flags, size, gso, 0, 0), queue=queue)

    def send(
        self,
        frame: bytes,
        flags: int = 0,
        *,
        sizes: Sequence[int] = (),
        gso_size: int = 0,
        gso_type: int = XEN_NETIF_GSO_TYPE_TCPV4,
        queue: int = 0,
    ) -> list[int]:
        """Put a well-formed packet: ``frame`` (up to 65535 bytes) in pages of its own, of ``sizes``
        bytes each, the rest in whole pages; with an extra info slot if there is a ``gso_size``.

        Returns the ids of its data slots. Nothing is published.
        """
        parts = cut(frame, sizes)
        state = self.queues[queue]
        idents = []
        for number, part in enumerate(parts):
            page = self._take_page()
            page.run.u8[: len(part)] = part
            more = NETTXF_more_data if number < len(parts) - 1 else 0
            with_extra = NETTXF_extra_info if gso_size and not number else 0
            of_first = flags | with_extra if not number else 0
            size = len(frame) if not number else len(part)
            ident = self.tx(size, of_first | more, gref=self._number(page), queue=queue)
            state.sent.setdefault(ident, []).append(page)
            idents.append(ident)
            if with_extra:
                self.extra(size=gso_size, gso=gso_type, queue=queue)
        return idents

    def _push(self, ring: str, queue: int) -> bool:
        front = self.ring(ring, queue)
        self.note("set", f"{self._where(ring, queue)}, req_prod", front.req_prod_pvt)
        return self._announce(front.push_requests_and_check_notify(), ring, queue)

    def responses(self, queue: int = 0, *, arm: bool = True) -> list[TxResponse]:
        """All new tx responses, in ring order; NULL ones have a leftover id. ``arm``: ask for an
        event for the next one. Raises RingOverflowError for a rsp_prod that cannot be."""
        state, taken = self.queues[queue], []
        for index, raw in self._take("tx", queue, arm):
            ident, status = TX_RESPONSE.unpack_from(raw)
            taken.append(TxResponse(index, raw, ident, status))
            for page in state.sent.pop(ident, ()) if status <= 0 else ():
                self._give_back(page)
        return taken

    def statuses(self, queue: int = 0) -> list[int]:
        """The statuses of all new tx responses, in ring order."""
        return [response.status for response in self.responses(queue)]

    def _take(self, ring: str, queue: int, arm: bool) -> list[tuple[int, bytes]]:
        front = self.ring(ring, queue)
        taken = []
        while True:
            prod = front.response_prod()
            while front.rsp_cons != prod:
                taken.append((front.rsp_cons, self._took(front.rsp_cons, ring, queue)))
                front.rsp_cons += 1
            if not arm or not front.final_check_for_responses():
                return taken

    # -- the receive ring --------------------------------------------------------------------------

    def post_rx(
        self, n: int = 1, *, ident: int | None = None, gref: int | None = None, queue: int = 0
    ) -> list[int]:
        """Put ``n`` rx requests, each with a page of its own or the ``gref`` given, and the slot's
        number as id or the ``ident`` given. Returns the ids. Nothing is published."""
        state, idents = self.queues[queue], []
        for _ in range(n):
            place = state.rx.req_prod_pvt & (state.rx.nr_ents - 1)
            if gref is None:
                page = state.buffers.pop(place, None) or self._take_page()
                state.buffers[place] = page
            reference = self._number(page) if gref is None else gref
            idents.append(place if ident is None else ident)
            self.slot(RX_REQUEST.pack(idents[-1], 0, reference), ring="rx", queue=queue)
        return idents

    def rx_responses(self, queue: int = 0, *, arm: bool = True) -> list[RxResponse]:
        """All new rx response slots, extra info slots among them; as for :meth:`responses`."""
        return [
            RxResponse(index, raw, *RX_RESPONSE.unpack_from(raw))
            for index, raw in self._take("rx", queue, arm)
        ]

    def packets(self, queue: int = 0) -> list[Packet]:
        """The packets of all new rx responses. Their buffers are not posted again. A packet whose
        end has not been published yet comes as it is so far."""
        found = []
        for data, extras in packet_slots(self.rx_responses(queue)):
            frame = b"".join(self._received(response, queue) for response in data)
            status = next((one.status for one in data if one.status < 0), 0)
            raws = tuple(extra.raw for extra in extras)
            indices = tuple(one.index for one in data)
            found.append(Packet(frame, data[0].flags, raws, indices, status))
        return found

    def _received(self, response: RxResponse, queue: int) -> bytes:
        state = self.queues[queue]
        page = state.buffers.get(response.index & (state.rx.nr_ents - 1))
        if page is None:
            return b""
        return bytes(page.run.u8[response.offset : response.offset + max(0, response.status)])

    def echo(self, frame: bytes, *, buffers: int = 0, queue: int = 0) -> Packet | None:
        """Send a well-formed packet to a backend behind which an echo is, and return what comes
        back: None if the packet is not answered OKAY, or nothing comes.

        ``buffers``: how many to post for it (0: what the frame needs, and one).
        """
        self.post_rx(buffers or len(frame) // PAGE_SIZE + 2, queue=queue)
        self.push_rx(queue)
        idents = self.send(frame, queue=queue)
        self.push_tx(queue)
        self.settle()
        answered = {one.id: one.status for one in self.responses(queue)}
        came = self.packets(queue)
        okay = all(answered.get(ident) == 0 for ident in idents)
        return came[-1] if okay and came else None

    # -- the control ring --------------------------------------------------------------------------

    def ctrl(self, kind: int, *data: int, ident: int = 0) -> int:
        """Put a control request of type ``kind`` with up to three numbers. Returns its index."""
        words = (*data, 0, 0, 0)[:3]
        return self.slot(CTRL_REQUEST.pack(ident, kind, *words), ring="ctrl")

    def ctrl_responses(self, *, arm: bool = True) -> list[CtrlResponse]:
        """All new responses of the control ring."""
        return [
            CtrlResponse(index, raw, *CTRL_RESPONSE.unpack_from(raw))
            for index, raw in self._take("ctrl", 0, arm)
        ]
