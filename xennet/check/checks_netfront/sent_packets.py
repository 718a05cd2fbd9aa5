"""What a netfront has put on its transmit ring: packets, slot by slot, judged as far as every check
has to rely on it, and answered.

A hand-driven backend (xennet.testing.RawBackend) delivers frames; the echo behind the netfront
sends each of them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from xennet.abi.netif import (
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import Violation
from xennet.check.outcome import Outcome
from xennet.check.peers import BackendPeer
from xennet.interface import HypercallError
from xennet.ring import RingOverflowError
from xennet.testing.raw_backend import TxRequest
from xennet.testing.raw_peer import NodeValue

#: A packet that cannot be used is dropped, or costs the vif; it never goes on.
DROPPED = frozenset({Outcome.REFUSED, Outcome.SHUT_DOWN})
#: What is only odd, or harms its sender alone, may be taken as well.
SURVIVED = DROPPED | {Outcome.ANSWERED}


@frozen
class Sent:
    """One packet of a netfront: its ``data`` slots, the ``extras`` behind the first one, the number
    of bytes in each data slot (``sizes``) and all bytes (``frame``)."""

    data: tuple[TxRequest, ...]
    extras: tuple[TxRequest, ...]
    sizes: tuple[int, ...]
    frame: bytes = field(repr=False)

    @property
    def first(self) -> TxRequest:
        """The first slot."""
        return self.data[0]


def about(request: TxRequest, message: str, hint: str = "") -> Violation:
    """A Violation with one slot of the transmit ring as evidence."""
    return Violation(message, ring="tx", index=request.index, raw=request.raw, hint=hint)


@define
class EchoEnd:
    """The backend's end of a queue, with an echo behind the netfront at the other.

    ``pending``: the requests that are not answered yet, by id.
    """

    peer: BackendPeer
    queue: int = 0
    pending: dict[int, TxRequest] = field(factory=dict)

    # -- to the netfront ---------------------------------------------------------------------------

    def deliver(
        self,
        frame: bytes,
        flags: int = 0,
        *,
        sizes: Sequence[int] = (),
        gso_size: int = 0,
        gso_type: int = XEN_NETIF_GSO_TYPE_TCPV4,
    ) -> None:
        """Deliver one well-formed packet, and let the netfront do what it does."""
        try:
            self.peer.deliver(
                frame,
                flags,
                sizes=sizes,
                gso_size=gso_size,
                gso_type=gso_type,
                queue=self.queue,
            )
        except LookupError as few:
            raise Violation(f"a packet cannot be delivered: {few}", ring="rx") from None
        except HypercallError as refused:
            raise Violation(f"a posted buffer cannot be written: {refused}", ring="rx") from None
        self.push()

    def push(self) -> None:
        """Publish the receive responses, and let the netfront do what it does."""
        self.peer.push_rx(self.queue)
        self.peer.settle()

    # -- from the netfront -------------------------------------------------------------------------

    def take(self) -> list[Sent]:
        """All packets that the netfront has put on the ring meanwhile.

        Raises Violation for a ring that cannot be: more requests than it has slots, a packet that
        is not whole, a slot beyond its page or of no page, an id that is pending.
        """
        try:
            slots = self.peer.requests(self.queue)
        except RingOverflowError as over:
            raise Violation(f"req_prod of the transmit ring cannot be: {over}", ring="tx") from None
        found = []
        while slots:
            first = slots.pop(0)
            data, extras = [first], []
            wanted = bool(first.flags & NETTXF_extra_info)
            while wanted:
                extras.append(_next(slots, first, "extra_info"))
                wanted = bool(extras[-1].raw[1] & XEN_NETIF_EXTRA_FLAG_MORE)
            while data[-1].flags & NETTXF_more_data:
                data.append(_next(slots, data[-1], "more_data"))
            found.append(self._packet(data, extras))
        return found

    def _packet(self, data: list[TxRequest], extras: list[TxRequest]) -> Sent:
        sizes = [request.size for request in data]
        sizes[0] -= sum(sizes[1:])
        frame = bytearray()
        for request, size in zip(data, sizes, strict=True):
            if request.id in self.pending:
                raise about(
                    request,
                    f"id {request.id} is used again though the request at index "
                    f"{self.pending[request.id].index} with that id is not answered",
                    "give an id back when its response comes, not earlier",
                )
            if not 0 <= size <= PAGE_SIZE - request.offset:
                raise about(
                    request,
                    f"a slot of {size} bytes from offset {request.offset} is not in its page",
                    "the first slot's size is the packet's; each later one has its own",
                )
            self.pending[request.id] = request
            try:
                frame += self.peer.fetch(request.gref, request.offset, size)
            except HypercallError as refused:
                raise about(
                    request,
                    f"the page of a request cannot be read: {refused}",
                    "grant the page before the request is published",
                ) from None
        return Sent(tuple(data), tuple(extras), tuple(sizes), bytes(frame))

    def answer(self, *packets: Sent, status: int = NETIF_RSP_OKAY) -> None:
        """Answer packets, slot by slot, and let the netfront do what it does."""
        for packet in packets:
            for request in packet.data:
                self.put(request.id, status)
                if request is packet.first:
                    for _ in packet.extras:
                        self.peer.slot(TX_RESPONSE.pack(0, NETIF_RSP_NULL), queue=self.queue)
        self.peer.push_tx(self.queue)
        self.peer.settle()

    def put(self, ident: int, status: int = NETIF_RSP_OKAY) -> None:
        """Put one response; nothing is published."""
        self.pending.pop(ident, None)
        self.peer.answer(ident, status, queue=self.queue)

    # -- both --------------------------------------------------------------------------------------

    def collect(self, wanted: int) -> list[Sent]:
        """The packets that come in a while: ``wanted`` of them, or those that there are."""
        found: list[Sent] = []

        def enough() -> bool:
            found.extend(self.take())
            return len(found) >= wanted

        self.peer.wait(enough)
        return found

    def returned(self, frame: bytes, flags: int = 0, **shape: Any) -> Sent:
        """Deliver a packet, of a ``shape`` as for :meth:`deliver`; the netfront sends back exactly
        that one. It is not answered."""
        self.deliver(frame, flags, **shape)
        came = self.collect(1)
        if not came:
            raise Violation(
                f"a well-formed packet of {len(frame)} bytes is not sent back",
                ring="rx",
                hint="an echo has to be behind the driver (docs/conformance.md)",
            )
        if len(came) > 1:
            raise about(came[1].first, f"1 packet was delivered and {len(came)} are sent back")
        return came[0]

    def echoed(self, frame: bytes, flags: int = 0, **shape: Any) -> Sent:
        """As :meth:`returned`, byte for byte, and answered OKAY."""
        sent = self.returned(frame, flags, **shape)
        require_same(sent, frame)
        self.answer(sent)
        return sent


def echo_all(end: EchoEnd, frames: Sequence[bytes], status: int = NETIF_RSP_OKAY) -> list[Sent]:
    """Deliver frames, published together, and answer what is sent back with ``status``. Raises
    Violation unless that is every frame, as it was and in order. Returns it."""
    for frame in frames:
        end.peer.deliver(frame, queue=end.queue)
    end.push()
    came = end.collect(len(frames))
    if len(came) != len(frames):
        raise Violation(f"of {len(frames)} packets {len(came)} are sent back", ring="tx")
    for sent, frame in zip(came, frames, strict=True):
        require_same(sent, frame)
    end.answer(*came, status=status)
    return came


def enter_with(peer: BackendPeer, nodes: Mapping[str, NodeValue | None]) -> None:
    """Connect with other features than usually: ``nodes`` beside them, None leaves one out. Raises
    Violation if the netfront does not connect."""
    peer.connect(nodes)
    if not peer.wait(lambda: peer.connected):
        told = ", ".join(f"{name} = {value!r}" for name, value in nodes.items())
        raise Violation(f"it does not connect to a backend with {told}", path=peer.otherend.path)


def require_same(sent: Sent, frame: bytes) -> None:
    """Raises Violation unless the packet has the bytes of ``frame``."""
    if sent.frame == frame:
        return
    if len(sent.frame) != len(frame):
        what = f"it has {len(sent.frame)} bytes in place of {len(frame)}"
    else:
        place = next(i for i, one in enumerate(frame) if sent.frame[i] != one)
        what = f"byte {place} is {sent.frame[place]:#04x} in place of {frame[place]:#04x}"
    raise about(sent.first, f"a packet does not come back as it was delivered: {what}")


def _next(slots: list[TxRequest], last: TxRequest, flag: str) -> TxRequest:
    if slots:
        return slots.pop(0)
    raise about(
        last,
        f"the last request that is published has {flag}",
        "publish req_prod behind whole packets only",
    )
