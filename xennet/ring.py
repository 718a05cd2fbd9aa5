"""Shared rings: everything that xen/io/ring.h does, whatever is in a slot.

A ring is one page (or several): a 64-byte header with four free-running 32-bit indices, then a
power of two of slots in which a request and the response to it share the same bytes. The frontend
produces requests and consumes responses; the backend does the reverse. Index arithmetic is modulo
2^32 throughout, a slot is ``index mod nr_ents``.

Rules obeyed here, each by the name of its macro in xen/io/ring.h:

* an index is published by one aligned 32-bit store, after the slots it announces;
* a producer notifies only if the consumer asked for it: the event index lies in the range just
  produced (RING_PUSH_*_AND_CHECK_NOTIFY);
* a consumer that is about to sleep sets the event index and looks once more
  (RING_FINAL_CHECK_FOR_*);
* a slot is copied out of shared memory once, before anything in it is looked at
  (RING_COPY_REQUEST, RING_COPY_RESPONSE): the peer may rewrite it at any time;
* an index of the peer that runs further ahead than the ring is long is an attack
  (RING_REQUEST_PROD_OVERFLOW, RING_RESPONSE_PROD_OVERFLOW), seen by the unsigned distance, so that
  an index that moved backwards is caught as well.

The private indices live in a two-word array, so that kernels work on the very same state.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from threading import Lock

from xennet.abi.ring import (
    NETIF_CTRL_RING_SIZE,
    NETIF_CTRL_SLOT_SIZE,
    NETIF_RX_RING_SIZE,
    NETIF_RX_SLOT_SIZE,
    NETIF_TX_RING_SIZE,
    NETIF_TX_SLOT_SIZE,
    SRING_HEADER,
    SRING_HEADER_SIZE,
    SRING_WORD_req_event,
    SRING_WORD_req_prod,
    SRING_WORD_rsp_event,
    SRING_WORD_rsp_prod,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import private, shared
from xennet.html_table import html_table

MASK32 = 0xFFFFFFFF

#: Indices of the private indices in ``FrontRing.pvt``.
FRONT_REQ_PROD_PVT = 0
FRONT_RSP_CONS = 1
#: Indices of the private indices in ``BackRing.pvt``.
BACK_RSP_PROD_PVT = 0
BACK_REQ_CONS = 1

#: ``with BARRIER: pass`` is :func:`memory_barrier`, for those who cannot spare the call.
BARRIER = Lock()


def memory_barrier() -> None:
    """A full barrier (xen_mb): orders a store before a later load, also between processes.

    CPython has no fence; taking and releasing a lock is one on every supported machine.
    """
    with BARRIER:
        pass


def must_notify(old: int, new: int, event: int) -> bool:
    """Whether a producer that moved its index from ``old`` to ``new`` has to send an event.

    True if the consumer's event index lies in ``(old, new]``, modulo 2^32
    (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY). This is the only place that decides it, also for kernels
    and for the fast engine, which compiles this source.
    """
    return (new - event) & MASK32 < (new - old) & MASK32


def overflows(prod: int, cons: int, nr_ents: int) -> bool:
    """Whether a producer index is further ahead of a consumer index than the ring is long.

    RING_REQUEST_PROD_OVERFLOW with rsp_prod_pvt, RING_RESPONSE_PROD_OVERFLOW with rsp_cons.
    """
    return (prod - cons) & MASK32 > nr_ents


class RingOverflowError(Exception):
    """The peer published an index that cannot be; the message names the ring and both indices."""


_SHARED_INDICES = {
    "req_prod": SRING_WORD_req_prod,
    "req_event": SRING_WORD_req_event,
    "rsp_prod": SRING_WORD_rsp_prod,
    "rsp_event": SRING_WORD_rsp_event,
}


def _words(indices: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in indices.items())


class SharedRing:
    """A ring in shared memory: header words and raw slots.

    ``u8`` and ``u32`` view the same page(s). ``nr_ents`` is the number of slots, a power of two;
    ``slot_size`` their distance in bytes. ``name`` is for messages ("tx", "rx", "ctrl"), ``whose``
    (the vif or queue: "vif1.0 q0", "" if it is not known) for recordings.
    """

    __slots__ = ("name", "nr_ents", "slot_size", "u8", "u32", "whose")

    def __init__(
        self,
        u8: memoryview,
        u32: memoryview,
        *,
        nr_ents: int,
        slot_size: int,
        name: str = "ring",
        whose: str = "",
    ) -> None:
        if nr_ents < 1 or nr_ents & (nr_ents - 1):
            raise ValueError(f"{name}: {nr_ents} slots are not a power of two")
        if SRING_HEADER_SIZE + nr_ents * slot_size > len(u8):
            raise ValueError(f"{name}: {nr_ents} slots of {slot_size} bytes exceed {len(u8)} bytes")
        self.u8 = shared(u8, f"{name} ring", whose)
        self.u32 = shared(u32, f"{name} ring", whose)
        self.nr_ents = nr_ents
        self.slot_size = slot_size
        self.name = name
        self.whose = whose

    def __repr__(self) -> str:
        try:
            return f"<SharedRing {self.name}: {_words(self.indices())}>"
        except ValueError:  # released by the machine
            return f"<SharedRing {self.name}: its memory is gone>"

    def _repr_html_(self) -> str:
        """A notebook's table of the shared indices and of the slots that are not all zeros."""
        try:
            head, slots = html_table(f"{self.name} ring", (), self.indices().items()), []
        except ValueError:
            return html_table(repr(self), (), ())
        raw = self.u8.tobytes()
        for index in range(self.nr_ents):
            at = self.slot_offset(index)
            if any(slot := raw[at : at + self.slot_size]):
                slots.append((index, slot.hex(" ", 4)))
        return head + html_table("", ("slot", "bytes"), slots)

    def indices(self) -> dict[str, int]:
        """The four shared indices by name, as they are now: for people to read, no access that an
        adversary sees."""
        raw = self.u8.tobytes()[:SRING_HEADER_SIZE]
        return {
            name: int.from_bytes(raw[4 * word : 4 * word + 4], "little")
            for name, word in _SHARED_INDICES.items()
        }

    @property
    def req_prod(self) -> int:
        """The frontend's public producer index."""
        value: int = self.u32[SRING_WORD_req_prod]
        return value

    @req_prod.setter
    def req_prod(self, value: int) -> None:
        self.u32[SRING_WORD_req_prod] = value & MASK32

    @property
    def req_event(self) -> int:
        """The backend asks for an event when req_prod passes this."""
        value: int = self.u32[SRING_WORD_req_event]
        return value

    @req_event.setter
    def req_event(self, value: int) -> None:
        self.u32[SRING_WORD_req_event] = value & MASK32

    @property
    def rsp_prod(self) -> int:
        """The backend's public producer index."""
        value: int = self.u32[SRING_WORD_rsp_prod]
        return value

    @rsp_prod.setter
    def rsp_prod(self, value: int) -> None:
        self.u32[SRING_WORD_rsp_prod] = value & MASK32

    @property
    def rsp_event(self) -> int:
        """The frontend asks for an event when rsp_prod passes this."""
        value: int = self.u32[SRING_WORD_rsp_event]
        return value

    @rsp_event.setter
    def rsp_event(self, value: int) -> None:
        self.u32[SRING_WORD_rsp_event] = value & MASK32

    def init(self) -> None:
        """SHARED_RING_INIT: both producers 0, both event indices 1, the rest of the header 0.

        Only the frontend may do it: a backend would erase requests that are posted already.
        """
        self.u8[:SRING_HEADER_SIZE] = bytes(SRING_HEADER_SIZE)
        self.req_event = 1
        self.rsp_event = 1

    def slot_offset(self, index: int) -> int:
        """Byte offset of slot ``index mod nr_ents`` from the start of the ring page."""
        return SRING_HEADER_SIZE + (index & (self.nr_ents - 1)) * self.slot_size

    def copy_slot(self, index: int) -> bytes:
        """A copy of the slot's bytes, each read once."""
        at = self.slot_offset(index)
        return bytes(self.u8[at : at + self.slot_size])

    def write_slot(self, index: int, raw: bytes) -> None:
        """Overwrite the first ``len(raw)`` bytes of a slot; the bytes behind them stay."""
        if len(raw) > self.slot_size:
            raise ValueError(
                f"{self.name}: {len(raw)} bytes do not fit a {self.slot_size}-byte slot"
            )
        at = self.slot_offset(index)
        self.u8[at : at + len(raw)] = raw


def tx_ring_page(slots: Sequence[bytes], start: int = 0, published: int | None = None) -> bytes:
    """A page with a transmit ring that has carried ``start`` requests, all of them answered, and
    ``slots`` (up to 256) behind them, of which ``published`` (None: all) are published; each end
    asks for the next event."""
    return _ring_page(NETIF_TX_RING_SIZE, NETIF_TX_SLOT_SIZE, slots, start, published)


def rx_ring_page(slots: Sequence[bytes], start: int = 0, published: int | None = None) -> bytes:
    """The same with a receive ring, whose ``slots`` are posted buffers."""
    return _ring_page(NETIF_RX_RING_SIZE, NETIF_RX_SLOT_SIZE, slots, start, published)


def _ring_page(
    nr_ents: int, slot_size: int, slots: Sequence[bytes], start: int, published: int | None
) -> bytes:
    page = bytearray(PAGE_SIZE)
    prod, event = start + (len(slots) if published is None else published), (start + 1) & MASK32
    header = SRING_HEADER.pack(prod & MASK32, event, start, event, b"", b"")
    page[: len(header)] = header
    for place, raw in enumerate(slots, start):
        at = SRING_HEADER_SIZE + place % nr_ents * slot_size
        page[at : at + len(raw)] = raw
    return bytes(page)


def tx_ring(u8: memoryview, u32: memoryview, whose: str = "") -> SharedRing:
    """The netif guest-transmit ring in one page: 256 slots of 12 bytes."""
    size = NETIF_TX_SLOT_SIZE
    return SharedRing(u8, u32, nr_ents=NETIF_TX_RING_SIZE, slot_size=size, name="tx", whose=whose)


def rx_ring(u8: memoryview, u32: memoryview, whose: str = "") -> SharedRing:
    """The netif guest-receive ring in one page: 256 slots of 8 bytes."""
    size = NETIF_RX_SLOT_SIZE
    return SharedRing(u8, u32, nr_ents=NETIF_RX_RING_SIZE, slot_size=size, name="rx", whose=whose)


def ctrl_ring(u8: memoryview, u32: memoryview, whose: str = "") -> SharedRing:
    """The netif control ring in one page: 128 slots of 16 bytes."""
    size = NETIF_CTRL_SLOT_SIZE
    return SharedRing(
        u8, u32, nr_ents=NETIF_CTRL_RING_SIZE, slot_size=size, name="ctrl", whose=whose
    )


class FrontRing:
    """The frontend's end: produces requests, consumes responses.

    ``pvt`` holds req_prod_pvt and rsp_cons (32-bit words FRONT_REQ_PROD_PVT, FRONT_RSP_CONS).
    """

    __slots__ = ("nr_ents", "pvt", "sring")

    def __init__(self, sring: SharedRing) -> None:
        self.sring = sring
        self.nr_ents = sring.nr_ents
        self.pvt = private(array("I", (0, 0)), ("req_prod_pvt", "rsp_cons"), sring.u32)

    def __repr__(self) -> str:
        own = {"req_prod_pvt": self.req_prod_pvt, "rsp_cons": self.rsp_cons}
        return f"<FrontRing {self.sring.name}: {_words(own)}>"

    def _repr_html_(self) -> str:
        """A notebook's table of the private indices, then the shared ring's."""
        own = (("req_prod_pvt", self.req_prod_pvt), ("rsp_cons", self.rsp_cons))
        return html_table("FrontRing", (), own) + self.sring._repr_html_()

    @classmethod
    def init(cls, sring: SharedRing) -> FrontRing:
        """SHARED_RING_INIT and FRONT_RING_INIT: a fresh ring, all indices at their start."""
        sring.init()
        return cls(sring)

    @classmethod
    def attach(cls, sring: SharedRing, index: int) -> FrontRing:
        """FRONT_RING_ATTACH: go on at ``index`` without touching the shared page."""
        ring = cls(sring)
        ring.req_prod_pvt = ring.rsp_cons = index
        return ring

    @property
    def req_prod_pvt(self) -> int:
        """The next request's index; published by :meth:`push_requests`."""
        return self.pvt[FRONT_REQ_PROD_PVT]

    @req_prod_pvt.setter
    def req_prod_pvt(self, value: int) -> None:
        self.pvt[FRONT_REQ_PROD_PVT] = value & MASK32

    @property
    def rsp_cons(self) -> int:
        """The index of the next response to consume."""
        return self.pvt[FRONT_RSP_CONS]

    @rsp_cons.setter
    def rsp_cons(self, value: int) -> None:
        self.pvt[FRONT_RSP_CONS] = value & MASK32

    @property
    def free_requests(self) -> int:
        """RING_FREE_REQUESTS: the number of requests that may still be produced."""
        return self.nr_ents - ((self.req_prod_pvt - self.rsp_cons) & MASK32)

    @property
    def full(self) -> bool:
        """RING_FULL."""
        return self.free_requests == 0

    @property
    def unconsumed_responses(self) -> int:
        """RING_HAS_UNCONSUMED_RESPONSES: the distance of the indices, without a check of the
        peer's."""
        return (self.sring.rsp_prod - self.rsp_cons) & MASK32

    def response_prod(self) -> int:
        """The peer's rsp_prod, read once. Raises RingOverflowError if it cannot be."""
        prod = self.sring.rsp_prod
        if overflows(prod, self.rsp_cons, self.nr_ents):
            raise RingOverflowError(
                f"{self.sring.name} ring: rsp_prod {prod} is more than {self.nr_ents} slots past "
                f"rsp_cons {self.rsp_cons}"
            )
        return prod

    def push_requests(self) -> None:
        """RING_PUSH_REQUESTS: publish what was written up to req_prod_pvt."""
        self.sring.req_prod = self.req_prod_pvt

    def push_requests_and_check_notify(self) -> bool:
        """RING_PUSH_REQUESTS_AND_CHECK_NOTIFY: publish the requests. Returns True if the backend
        asked for an event."""
        old = self.sring.req_prod
        new = self.req_prod_pvt
        self.sring.req_prod = new
        memory_barrier()  # the backend sees the new req_prod before we read req_event
        return must_notify(old, new, self.sring.req_event)

    def final_check_for_responses(self) -> bool:
        """RING_FINAL_CHECK_FOR_RESPONSES: True if there is work; else ask for an event."""
        if self.unconsumed_responses:
            return True
        self.sring.rsp_event = self.rsp_cons + 1
        memory_barrier()
        return self.unconsumed_responses != 0


class BackRing:
    """The backend's end: consumes requests, produces responses.

    ``pvt`` holds rsp_prod_pvt and req_cons (32-bit words BACK_RSP_PROD_PVT, BACK_REQ_CONS).
    """

    __slots__ = ("nr_ents", "pvt", "sring")

    def __init__(self, sring: SharedRing) -> None:
        self.sring = sring
        self.nr_ents = sring.nr_ents
        self.pvt = private(array("I", (0, 0)), ("rsp_prod_pvt", "req_cons"), sring.u32)

    def __repr__(self) -> str:
        own = {"rsp_prod_pvt": self.rsp_prod_pvt, "req_cons": self.req_cons}
        return f"<BackRing {self.sring.name}: {_words(own)}>"

    def _repr_html_(self) -> str:
        """A notebook's table of the private indices, then the shared ring's."""
        own = (("rsp_prod_pvt", self.rsp_prod_pvt), ("req_cons", self.req_cons))
        return html_table("BackRing", (), own) + self.sring._repr_html_()

    @classmethod
    def init(cls, sring: SharedRing) -> BackRing:
        """BACK_RING_INIT: start at index 0, whatever the shared page holds."""
        return cls(sring)

    @classmethod
    def attach(cls, sring: SharedRing) -> BackRing:
        """BACK_RING_ATTACH: start at the shared rsp_prod and keep what the frontend has posted.

        Raises RingOverflowError if req_prod cannot be (hardening rule F22).
        """
        ring = cls(sring)
        start = sring.rsp_prod
        ring.rsp_prod_pvt = ring.req_cons = start
        ring.request_prod()
        return ring

    @property
    def rsp_prod_pvt(self) -> int:
        """The next response's index; published by :meth:`push_responses`."""
        return self.pvt[BACK_RSP_PROD_PVT]

    @rsp_prod_pvt.setter
    def rsp_prod_pvt(self, value: int) -> None:
        self.pvt[BACK_RSP_PROD_PVT] = value & MASK32

    @property
    def req_cons(self) -> int:
        """The index of the next request to consume."""
        return self.pvt[BACK_REQ_CONS]

    @req_cons.setter
    def req_cons(self, value: int) -> None:
        self.pvt[BACK_REQ_CONS] = value & MASK32

    @property
    def unconsumed_requests(self) -> int:
        """RING_HAS_UNCONSUMED_REQUESTS: never more than the ring can hold unanswered."""
        return self.unconsumed_requests_from(self.req_cons)

    def unconsumed_requests_from(self, cons: int) -> int:
        """The same for a tentative consumer index (FreeBSD's RING_HAS_UNCONSUMED_REQUESTS_2)."""
        pending = (self.sring.req_prod - cons) & MASK32
        # Unsigned like the macro: a cons further than the ring wraps to a large number.
        room = (self.nr_ents - ((cons - self.rsp_prod_pvt) & MASK32)) & MASK32
        return min(pending, room)

    def request_cons_overflow(self, cons: int) -> bool:
        """RING_REQUEST_CONS_OVERFLOW: looking at ``cons`` would overtake our own responses."""
        return (cons - self.rsp_prod_pvt) & MASK32 >= self.nr_ents

    def request_prod(self) -> int:
        """The peer's req_prod, read once. Raises RingOverflowError if it cannot be."""
        prod = self.sring.req_prod
        if overflows(prod, self.rsp_prod_pvt, self.nr_ents):
            raise RingOverflowError(
                f"{self.sring.name} ring: req_prod {prod} is more than {self.nr_ents} slots past "
                f"rsp_prod_pvt {self.rsp_prod_pvt}"
            )
        return prod

    def push_responses(self) -> None:
        """RING_PUSH_RESPONSES: publish what was written up to rsp_prod_pvt."""
        self.sring.rsp_prod = self.rsp_prod_pvt

    def push_responses_and_check_notify(self) -> bool:
        """RING_PUSH_RESPONSES_AND_CHECK_NOTIFY: publish the responses. Returns True if the frontend
        asked for an event."""
        old = self.sring.rsp_prod
        new = self.rsp_prod_pvt
        self.sring.rsp_prod = new
        memory_barrier()  # the frontend sees the new rsp_prod before we read rsp_event
        return must_notify(old, new, self.sring.rsp_event)

    def final_check_for_requests(self) -> bool:
        """RING_FINAL_CHECK_FOR_REQUESTS: True if there is work after all; else ask for an event."""
        if self.unconsumed_requests:
            return True
        self.sring.req_event = self.req_cons + 1
        memory_barrier()
        return self.unconsumed_requests != 0
