"""A dumped page of a ring: its indices, and what each slot holds.

A slot holds a request from the moment when the frontend writes it until the backend writes a
response over it, so at one moment the slots from rsp_prod up to req_prod hold requests and the
others responses that the frontend has seen, oldest first (xen 4.17 io/ring.h). Two things cannot be
seen in a page: how far the backend has read, and what either end has written and not published. On
the transmit ring responses need not have the order of requests (netif.h, "Guest transmit"), so the
first slots behind rsp_prod may hold the rest of a packet whose head was answered already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

from attrs import frozen

from xennet.abi import netif
from xennet.abi.codec import Codec
from xennet.abi.xen import PAGE_SIZE
from xennet.ring import MASK32, SharedRing, ctrl_ring, must_notify, rx_ring, tx_ring


class RingKind(Enum):
    """The rings of a vif (xen/io/netif.h), by their usual names."""

    TX = "tx"
    RX = "rx"
    CTRL = "ctrl"


@frozen
class _Layout:
    """What lies in the slots of a ring."""

    ring: Callable[[memoryview, memoryview], SharedRing]
    request: Codec
    response: Codec


_LAYOUTS: Mapping[RingKind, _Layout] = MappingProxyType(
    {
        RingKind.TX: _Layout(tx_ring, netif.TX_REQUEST, netif.TX_RESPONSE),
        RingKind.RX: _Layout(rx_ring, netif.RX_REQUEST, netif.RX_RESPONSE),
        RingKind.CTRL: _Layout(ctrl_ring, netif.CTRL_REQUEST, netif.CTRL_RESPONSE),
    }
)


#: Type of an extra info -> how its union is read.
_EXTRAS: Mapping[int, Codec] = MappingProxyType(
    {
        netif.XEN_NETIF_EXTRA_TYPE_GSO: netif.EXTRA_GSO,
        netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD: netif.EXTRA_MCAST,
        netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL: netif.EXTRA_MCAST,
        netif.XEN_NETIF_EXTRA_TYPE_HASH: netif.EXTRA_HASH,
        netif.XEN_NETIF_EXTRA_TYPE_XDP: netif.EXTRA_XDP,
    }
)


@frozen
class Slot:
    """One slot: the ring ``index`` (0..2^32-1) that it belongs to, its ``number`` in the page, the
    ``structure`` in it with its ``values`` (numbers; bytes in hexadecimal), and its raw bytes."""

    index: int
    number: int
    structure: str
    values: Mapping[str, int | str]
    raw: bytes

    @property
    def words(self) -> str:
        """The raw bytes as 32-bit words, in hexadecimal."""
        return " ".join(f"{word:08x}" for word in memoryview(self.raw).cast("I"))


@frozen
class EventField:
    """req_event or rsp_event: whom it wakes and when.

    ``ahead``: how many more requests (responses) the other end pushes before it notifies; 0: it
    does not notify before this field is set anew.
    """

    name: str
    value: int
    ahead: int


class RingPage:
    """A ring of ``kind`` in the 4096 bytes of ``page``. Raises ValueError for another length."""

    def __init__(self, page: bytes, kind: RingKind) -> None:
        if len(page) != PAGE_SIZE:
            raise ValueError(f"a ring page has {PAGE_SIZE} bytes, not {len(page)}")
        self.kind = kind
        self._layout = _LAYOUTS[kind]
        #: A copy: kernels that judge the page may write to it.
        self.words = memoryview(bytearray(page)).cast("I")
        self.sring = self._layout.ring(self.words.cast("B"), self.words)

    @property
    def nr_ents(self) -> int:
        """The number of slots."""
        return self.sring.nr_ents

    @property
    def unanswered(self) -> int:
        """Requests without a response, by the indices: more than ``nr_ents`` is rule F1 or B1."""
        return (self.sring.req_prod - self.sring.rsp_prod) & MASK32

    @property
    def sound(self) -> bool:
        """Whether the indices are those of a ring, so that its slots mean something."""
        return self.unanswered <= self.nr_ents

    @property
    def begun_before(self) -> bool:
        """Whether there were responses before the oldest one that the page still has."""
        return self.oldest_response != 0

    @property
    def oldest_response(self) -> int:
        """The index of the oldest response that no request was written over; rsp_prod if there is
        none. A ring whose req_prod is less than its size is taken to have begun at 0."""
        oldest = self.sring.req_prod - self.nr_ents
        if self.sring.rsp_prod <= self.sring.req_prod:
            oldest = max(oldest, 0)
        return oldest & MASK32

    def request(self, index: int) -> Slot:
        """The slot of ``index`` as a request."""
        return self._slot(index, self._layout.request)

    def response(self, index: int) -> Slot:
        """The slot of ``index`` as a response."""
        return self._slot(index, self._layout.response)

    def extra(self, index: int) -> Slot:
        """The slot of ``index`` as an extra info (struct netif_extra_info)."""
        raw = self.sring.copy_slot(index)
        return self._slot(index, _EXTRAS.get(raw[0], netif.EXTRA_PAD))

    def requests(self) -> list[int]:
        """The indices of the requests without a response, oldest first; none if not sound."""
        return self._indices(self.sring.rsp_prod, self.unanswered) if self.sound else []

    def responses(self) -> list[int]:
        """The indices of the responses that the page still has, oldest first; none if not
        sound."""
        first = self.oldest_response
        return self._indices(first, (self.sring.rsp_prod - first) & MASK32) if self.sound else []

    def events(self) -> tuple[EventField, EventField]:
        """req_event, by which the backend asks, and rsp_event, by which the frontend does."""
        ring = self.sring
        return (
            self._event("req_event", ring.req_event, ring.req_prod),
            self._event("rsp_event", ring.rsp_event, ring.rsp_prod),
        )

    def tail(self) -> int:
        """The number of bytes up to the last one that is not zero."""
        return len(bytes(self.words.cast("B")).rstrip(b"\0"))

    def end(self) -> int:
        """The number of bytes up to the end of the last slot."""
        return self.sring.slot_offset(self.nr_ents - 1) + self.sring.slot_size

    def _event(self, name: str, value: int, prod: int) -> EventField:
        ahead = (value - prod) & MASK32
        asked = ahead <= self.nr_ents and must_notify(prod, (prod + ahead) & MASK32, value)
        return EventField(name, value, ahead if asked else 0)

    def _indices(self, first: int, count: int) -> list[int]:
        return [(first + i) & MASK32 for i in range(count)]

    def _slot(self, index: int, codec: Codec) -> Slot:
        raw = self.sring.copy_slot(index)
        values = zip(codec.fields, codec.unpack_from(raw), strict=True)
        return Slot(
            index,
            index & (self.nr_ents - 1),
            codec.name,
            {name: v.hex(":") if isinstance(v, bytes) else v for name, v in values},
            raw,
        )
