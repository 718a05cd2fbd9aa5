"""A backend that is driven by hand, for a frontend under test.

It knows of its machine what :class:`xennet.Hypervisor` gives, and of the other end what the store
and the rings show, so the frontend may be anything: xennet's, one of your own, another process. A
normal life is a few steps, and each can be left out, repeated or done wrong::

    back = RawBackend(host.dom0.kernel, "backend/vif/1/0", settle=host.settle)
    back.announce()                                 # features, InitWait
    back.connect()                                  # keys, rings, Connected
    back.deliver(bytes(60))                         # a well-formed packet
    back.raw_rx(RX_RESPONSE.pack(0, 4000, 0, 200))  # and one that is not
    back.push_rx()
    back.settle()
    print(back.packets(), *back.notes, sep="\\n")   # what the frontend sends, answered OKAY
    back.close()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from attrs import define, field, frozen

from xennet.abi.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    EXTRA_GSO,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.abi.xenbus import XenbusState
from xennet.interface import GrantMapping, HypercallError, Hypervisor
from xennet.ring import BackRing, SharedRing, ctrl_ring, rx_ring, tx_ring
from xennet.testing.raw_peer import NodeValue, Packet, RawPeer, RawQueue, cut, packet_slots

#: What Linux's netback announces, with one CPU.
FEATURES: dict[str, NodeValue] = {
    "feature-sg": 1,
    "feature-gso-tcpv4": 1,
    "feature-gso-tcpv6": 1,
    "feature-ipv6-csum-offload": 1,
    "feature-rx-copy": 1,
    "feature-xdp-headroom": 1,
    "feature-rx-flip": 0,
    "feature-multicast-control": 1,
    "feature-dynamic-multicast-control": 1,
    "feature-split-event-channels": 1,
    "multi-queue-max-queues": 1,
    "feature-ctrl-ring": 1,
}

#: The state of a frontend that is not connected -> the state by which a backend answers it.
ANSWERS: dict[int, int] = {
    XenbusState.Initialising: XenbusState.InitWait,
    XenbusState.Closing: XenbusState.Closing,
    XenbusState.Closed: XenbusState.Closed,
}


@frozen
class TxRequest:
    """A request on the transmit ring: its ring ``index``, its ``raw`` slot, its fields. An extra
    info slot is one as well, by its place."""

    index: int
    raw: bytes
    gref: int
    offset: int
    flags: int
    id: int
    size: int


@frozen
class RxRequest:
    """A request on the receive ring: a buffer that the frontend has posted."""

    index: int
    raw: bytes
    id: int
    gref: int


@frozen
class CtrlRequest:
    """A request on the control ring."""

    index: int
    raw: bytes
    id: int
    type: int
    data: tuple[int, ...]


@define(eq=False)
class BackQueue(RawQueue[BackRing]):
    """A queue with the mappings of its ring pages."""

    mappings: list[GrantMapping] = field(factory=list)


class RawBackend(RawPeer[BackRing]):
    """The backend at ``node`` of the domain of ``hv``; ``settle`` lets everything else happen.

    ``queues`` and ``ctrl_ring`` are there from :meth:`attach` to :meth:`detach`. ``held`` are pages
    of the frontend that :meth:`detach` unmaps as well, ``withheld`` requests to be answered later,
    ``changes`` those of :meth:`announce` where it is given none.
    """

    queues: list[BackQueue]  # type: ignore[assignment]

    def __init__(
        self, hv: Hypervisor, node: str, *, settle: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(hv, node, "frontend", settle)
        self._ctrl_mapping: GrantMapping | None = None
        self.held: list[GrantMapping] = []
        self.withheld: list[TxRequest] = []
        self.changes: dict[str, NodeValue | None] = {}

    # -- life --------------------------------------------------------------------------------------

    def announce(self, changes: Mapping[str, NodeValue | None] | None = None) -> None:
        """Write FEATURES, with ``changes`` (None leaves one out), then InitWait."""
        for name, value in {**FEATURES, **(self.changes if changes is None else changes)}.items():
            if value is not None:
                self.write(name, value)
        self.set_state(XenbusState.InitWait)

    def attach(self) -> None:
        """Read the frontend's keys, map its rings, bind its event channels; no state changes.

        Raises XenbusError for keys that cannot be read, HypercallError for rings and channels that
        cannot be had; what had been attached before stays, for :meth:`detach`. Raises LookupError
        if there are rings already.
        """
        if self.queues:
            raise LookupError(f"{self.node} has rings, which are to be detached first")
        keys = self.otherend
        count = keys.optional_unsigned("multi-queue-num-queues", 1)
        for number in range(count):
            of_queue = keys.sub(f"queue-{number}") if count > 1 else keys
            tx, tx_mapping = self._map_ring(tx_ring, of_queue.unsigned("tx-ring-ref"))
            queue = BackQueue(tx, tx, -1, -1, mappings=[tx_mapping])
            self.queues.append(queue)
            queue.rx, rx_mapping = self._map_ring(rx_ring, of_queue.unsigned("rx-ring-ref"))
            queue.mappings.append(rx_mapping)
            if of_queue.optional_text("event-channel-tx"):
                queue.tx_port = self._bind(of_queue.unsigned("event-channel-tx"))
                queue.rx_port = self._bind(of_queue.unsigned("event-channel-rx"))
            else:
                queue.tx_port = queue.rx_port = self._bind(of_queue.unsigned("event-channel"))
            self._listen(queue)
        if keys.optional_text("ctrl-ring-ref"):
            self.ctrl_ring, self._ctrl_mapping = self._map_ring(
                ctrl_ring, keys.unsigned("ctrl-ring-ref")
            )
            self.ctrl_port = self._bind(keys.unsigned("event-channel-ctrl"))
            self._listen_ctrl()

    def _map_ring(
        self, make: Callable[[memoryview, memoryview], SharedRing], gref: int
    ) -> tuple[BackRing, GrantMapping]:
        mapping = self._map(gref)
        return BackRing.attach(make(mapping.page.u8, mapping.page.u32)), mapping

    def _bind(self, remote: int) -> int:
        port = self.hv.bind_interdomain(self.otherend_id, remote)
        self.note("bound", f"port {port}", f"to port {remote} of domain {self.otherend_id}")
        return port

    def connect(self, changes: Mapping[str, NodeValue | None] | None = None) -> bool:
        """All steps to Connected: :meth:`announce` with ``changes``, then the answers to what the
        frontend shows (Windows' closes once before it starts), :meth:`attach` once that is
        Connected, the state. Returns whether both ends are Connected then."""
        self.settle()
        if self.state not in ANSWERS.values():
            self.announce(changes)
            self.settle()
        self.answer_state()
        if self.otherend_state not in (XenbusState.Initialised, XenbusState.Connected):
            return False
        self.attach()
        self.set_state(XenbusState.Connected)
        self.settle()
        return self.connected

    def answer_state(self) -> None:
        """Answer what the frontend shows while it is not connected, as ANSWERS says, until there is
        nothing to answer, or it has closed eight times."""
        for _ in range(3 * 8):
            due = ANSWERS.get(self.otherend_state, self.state)
            if self.state == due:
                return
            self.set_state(due)
            self.settle()

    def close(self) -> None:
        """Closing, :meth:`detach`, Closed."""
        self.set_state(XenbusState.Closing)
        self.settle()
        self.detach()
        self.set_state(XenbusState.Closed)
        self.settle()

    def detach(self) -> None:
        """Close the channels, unmap all rings and what is ``held``."""
        self.close_ports()
        mappings = [mapping for queue in self.queues for mapping in queue.mappings]
        mappings += self.held
        if self._ctrl_mapping is not None:
            mappings.append(self._ctrl_mapping)
        self.queues.clear()
        self.held.clear()
        self.ctrl_ring = self._ctrl_mapping = None
        for mapping in mappings:
            self.unmap(mapping)

    def reconnect(self, changes: Mapping[str, NodeValue | None] | None = None) -> bool:
        """:meth:`close`, then :meth:`connect` with ``changes``. Returns whether both ends are
        Connected then; a frontend that stays Closed is not."""
        self.close()
        return self.connect(changes)

    # -- pages of the frontend ---------------------------------------------------------------------

    def _map(self, gref: int, *, readonly: bool = False) -> GrantMapping:
        mapping = self.hv.map_grant(self.otherend_id, gref, readonly)
        self.note("mapped", f"gref {gref}", "read-only" if readonly else "")
        return mapping

    def hold(self, gref: int, *, readonly: bool = False) -> GrantMapping:
        """Map a page of the frontend and keep it mapped; :meth:`unmap` ends that. Raises
        HypercallError if it is not granted so."""
        return self._map(gref, readonly=readonly)

    def unmap(self, mapping: GrantMapping) -> None:
        """Unmap a page."""
        self.hv.unmap_grant(mapping)
        self.note("unmapped", f"gref {mapping.gref}")

    def fetch(self, gref: int, offset: int = 0, size: int = PAGE_SIZE) -> bytes:
        """The bytes of a page of the frontend. Raises HypercallError if it may not be read."""
        mapping = self.hv.map_grant(self.otherend_id, gref, True)
        content = bytes(mapping.page.u8[offset : offset + size])
        self.hv.unmap_grant(mapping)
        self.note("read", f"gref {gref}", f"{len(content)} bytes from {offset}")
        return content

    def fill(self, gref: int, payload: bytes, offset: int = 0) -> None:
        """Write into a page of the frontend. Raises HypercallError if it may not be written."""
        mapping = self.hv.map_grant(self.otherend_id, gref)
        mapping.page.u8[offset : offset + len(payload)] = payload
        self.hv.unmap_grant(mapping)
        self.note("filled", f"gref {gref}", f"{len(payload)} bytes from {offset}")

    # -- the transmit ring -------------------------------------------------------------------------

    def slot(self, raw: bytes, *, ring: str = "tx", queue: int = 0) -> int:
        """Put a raw slot at the next response's place. Returns its index."""
        back = self.ring(ring, queue)
        index = back.rsp_prod_pvt
        self.write_slot(index, raw, ring=ring, queue=queue)
        back.rsp_prod_pvt = index + 1
        return index

    def requests(self, queue: int = 0, *, arm: bool = True) -> list[TxRequest]:
        """All new tx request slots, extra info slots among them. ``arm``: ask for an event for the
        next one. Raises RingOverflowError for a req_prod that cannot be."""
        return [
            TxRequest(index, raw, *TX_REQUEST.unpack_from(raw))
            for index, raw in self._take("tx", queue, arm)
        ]

    def _take(self, ring: str, queue: int, arm: bool) -> list[tuple[int, bytes]]:
        back = self.ring(ring, queue)
        taken = []
        while True:
            back.request_prod()
            while back.unconsumed_requests:
                taken.append((back.req_cons, self._took(back.req_cons, ring, queue)))
                back.req_cons += 1
            if not arm or not back.final_check_for_requests():
                return taken

    def answer(self, ident: int, status: int = NETIF_RSP_OKAY, *, queue: int = 0) -> int:
        """Put a tx response. Returns its index."""
        return self.slot(TX_RESPONSE.pack(ident, status), queue=queue)

    def packets(self, queue: int = 0, *, answer: bool = True) -> list[Packet]:
        """The packets of all new tx requests; ``answer``: all are answered OKAY, and pushed. A
        packet whose end has not been published yet comes as it is so far."""
        found = []
        for data, extras in packet_slots(self.requests(queue)):
            # The size of the first slot is that of the whole packet (xen/io/netif.h).
            sizes = [one.size for one in data]
            sizes[0] -= sum(sizes[1:])
            parts = [
                self.fetch(one.gref, one.offset, size)
                for one, size in zip(data, sizes, strict=True)
            ]
            raws, indices = tuple(one.raw for one in extras), tuple(one.index for one in data)
            found.append(Packet(b"".join(parts), data[0].flags, raws, indices))
            if answer:
                self.answer(data[0].id, queue=queue)
                for _ in extras:
                    self.answer(0, NETIF_RSP_NULL, queue=queue)
                for one in data[1:]:
                    self.answer(one.id, queue=queue)
        if answer:
            self.push_tx(queue)
        return found

    def _push(self, ring: str, queue: int) -> bool:
        back = self.ring(ring, queue)
        self.note("set", f"{self._where(ring, queue)}, rsp_prod", back.rsp_prod_pvt)
        return self._announce(back.push_responses_and_check_notify(), ring, queue)

    # -- the receive ring --------------------------------------------------------------------------

    def buffer(self, ahead: int = 0, *, queue: int = 0) -> RxRequest:
        """The rx request ``ahead`` places behind the next one, which stays where it is."""
        index = (self.ring("rx", queue).req_cons + ahead) & 0xFFFFFFFF
        raw = self._took(index, "rx", queue)
        ident, _, gref = RX_REQUEST.unpack_from(raw)
        return RxRequest(index, raw, ident, gref)

    def buffers(self, queue: int = 0) -> int:
        """How many buffers the frontend has posted that are not used yet."""
        return self.ring("rx", queue).unconsumed_requests

    def raw_rx(self, raw: bytes, *, queue: int = 0) -> int:
        """Put a raw slot in place of the next rx response, which uses a request up. Returns its
        index."""
        index = self.slot(raw, ring="rx", queue=queue)
        self.ring("rx", queue).req_cons += 1
        return index

    def rx(
        self,
        payload: bytes = b"",
        flags: int = 0,
        *,
        offset: int = 0,
        status: int | None = None,
        queue: int = 0,
    ) -> int:
        """Fill the next posted buffer from ``offset`` and put its response, with the length as
        ``status`` unless told otherwise. Returns its index."""
        request = self.buffer(queue=queue)
        if payload:
            self.fill(request.gref, payload, offset)
        length = len(payload) if status is None else status
        return self.raw_rx(RX_RESPONSE.pack(request.id, offset, flags, length), queue=queue)

    def extra(
        self,
        kind: int = XEN_NETIF_EXTRA_TYPE_GSO,
        flags: int = 0,
        size: int = 0,
        gso: int = 0,
        *,
        queue: int = 0,
    ) -> int:
        """Put an extra info slot into the rx ring, of the GSO layout, which uses a request up.
        Returns its index."""
        raw = EXTRA_GSO.pack(kind, flags, size, gso, 0, 0)
        return self.raw_rx(raw, queue=queue)

    def deliver(
        self,
        frame: bytes,
        flags: int = 0,
        *,
        sizes: Sequence[int] = (),
        gso_size: int = 0,
        gso_type: int = XEN_NETIF_GSO_TYPE_TCPV4,
        queue: int = 0,
    ) -> int:
        """Put a well-formed packet into posted buffers, of ``sizes`` bytes each, the rest in whole
        pages; with an extra info slot if there is a ``gso_size``. Nothing is published.

        Returns the number of slots. Raises LookupError if the frontend has not posted enough.
        """
        parts = cut(frame, sizes)
        slots = len(parts) + (1 if gso_size else 0)
        if self.buffers(queue) < slots:
            raise LookupError(f"{slots} buffers are needed, {self.buffers(queue)} are posted")
        for number, part in enumerate(parts):
            more = NETRXF_more_data if number < len(parts) - 1 else 0
            with_extra = NETRXF_extra_info if gso_size and not number else 0
            self.rx(part, (0 if number else flags | with_extra) | more, queue=queue)
            if with_extra:
                self.extra(size=gso_size, gso=gso_type, queue=queue)
        return slots

    def echo(self, frame: bytes, *, queue: int = 0) -> Packet | None:
        """Deliver a well-formed packet to a frontend behind which an echo is, and return what it
        sends back, answered OKAY: None if nothing comes or there are no buffers."""
        with suppress(LookupError, HypercallError):
            self.deliver(frame, queue=queue)
            self.push_rx(queue)
            self.settle()
            came = self.packets(queue)
            self.settle()
            return came[-1] if came else None
        return None

    # -- the control ring --------------------------------------------------------------------------

    def ctrl_requests(self, *, arm: bool = True) -> list[CtrlRequest]:
        """All new requests of the control ring."""
        taken = []
        for index, raw in self._take("ctrl", 0, arm):
            ident, kind, *data = CTRL_REQUEST.unpack_from(raw)
            taken.append(CtrlRequest(index, raw, ident, kind, tuple(data)))
        return taken

    def answer_ctrl(self, ident: int, kind: int, status: int = 0, data: int = 0) -> int:
        """Put a response into the control ring. Returns its index."""
        return self.slot(CTRL_RESPONSE.pack(ident, kind, status, data), ring="ctrl")
