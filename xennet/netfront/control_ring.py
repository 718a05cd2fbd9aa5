"""The frontend's end of the control ring (xen/io/netif.h, "Control ring", "Control messages").

The frontend owns what is shared: the ring page, an event channel, and one page for the data of a
message that has more than its three numbers (a key, a mapping table, a list of grants). Requests
are sent in the order in which they are made. A request that finds the ring full, or the page in use
by a message that has not been answered, waits with all behind it.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from xennet.abi.netif import (
    CTRL_REQUEST,
    CTRL_RESPONSE,
    GREF,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRLF_GREF_readonly,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import shared
from xennet.interface import Hypervisor
from xennet.netfront.buffers import GrantedPages, Shares
from xennet.netfront.verdict import BackendError
from xennet.ring import MASK32, FrontRing, ctrl_ring


class Reply(NamedTuple):
    """A backend's answer: ``status`` (XEN_NETIF_CTRL_STATUS_*, or any number), ``data``.

    ``payload`` is the content of the message's page when the answer came.
    """

    status: int
    data: int
    payload: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the operation was successful."""
        return self.status == XEN_NETIF_CTRL_STATUS_SUCCESS

    @property
    def gref_statuses(self) -> list[int]:
        """The status of each entry, in the answer to a mapping list."""
        places = range(0, len(self.payload), GREF.size)
        return [GREF.unpack_from(self.payload, at)[2] for at in places]


Done = Callable[[Reply], None]


def _ignore(_: Reply) -> None:
    """Ignore a reply."""


class _Request(NamedTuple):
    """A request; ``payload`` None: it needs no page."""

    kind: int
    data: tuple[int, int, int]
    payload: bytes | None
    done: Done


class ControlClient:
    """A control ring, set up in the constructor, which leaves nothing behind if it fails.

    ``ring_ref`` and ``port`` have to be published (ctrl-ring-ref, event-channel-ctrl). Requests can
    be made at once: the backend finds them when it connects. ``vif`` is the vif's name.
    ``on_broken(error)`` is called when
    the backend breaks the protocol; then, and after :meth:`disconnect`, all requests are forgotten,
    also new ones.
    """

    def __init__(
        self,
        hv: Hypervisor,
        otherend_id: int,
        on_broken: Callable[[BackendError], None],
        vif: str = "",
    ) -> None:
        self.hv = hv
        self._on_broken = on_broken
        self.delivery_name = f"netfront ctrl pass {vif}"
        self._shares = shares = Shares(hv, otherend_id)
        self._running = False
        self._scheduled = False
        self._waiting: deque[_Request] = deque()
        self._in_flight: dict[int, _Request] = {}
        self._next_id = 0
        self._page_taken = False
        try:
            ring, page = shares.page(), shares.page()
            self.port = shares.channel()
        except Exception:
            shares.end()
            raise
        self.ring = FrontRing.init(ctrl_ring(ring.pages.u8, ring.pages.u32, vif))
        self.ring_ref = ring.grefs[0]
        self._page = shared(page.pages.u8, "ctrl page", vif)
        self._page_ref = page.grefs[0]
        self._running = True
        hv.on_event(self.port, self.kick)

    def disconnect(self) -> list[GrantedPages]:
        """Close the channel, end all grants and forget all requests. May be repeated.

        Returns the pages that the backend still holds; the caller tries them again later.
        """
        self._stop()
        return self._shares.end()

    def _stop(self) -> None:
        self._running = False
        self._waiting.clear()
        self._in_flight.clear()

    @property
    def outstanding(self) -> int:
        """Number of requests without an answer, those that wait to be sent included."""
        return len(self._waiting) + len(self._in_flight)

    # Messages

    def request(self, kind: int, *data: int, done: Done = _ignore) -> None:
        """Send a request of type XEN_NETIF_CTRL_TYPE_* with up to three 32-bit numbers.

        ``done(reply)`` is called with the answer. Raises ValueError for more or larger numbers.
        """
        self._make(kind, data, None, done)

    def set_hash_algorithm(self, algorithm: int, done: Done = _ignore) -> None:
        """Set the algorithm, XEN_NETIF_CTRL_HASH_ALGORITHM_*; NONE turns hashing off."""
        self.request(XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM, algorithm, done=done)

    def set_hash_flags(self, types: int, done: Done = _ignore) -> None:
        """Set the types that are hashed, bits XEN_NETIF_CTRL_HASH_TYPE_*."""
        self.request(XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS, types, done=done)

    def set_hash_key(self, key: bytes, done: Done = _ignore) -> None:
        """Set the key, of any length up to a page; an empty one clears it."""
        data = (self._page_ref, len(key))
        self._make(XEN_NETIF_CTRL_TYPE_SET_HASH_KEY, data, key, done)

    def set_hash_mapping_size(self, size: int, done: Done = _ignore) -> None:
        """Set the size of the mapping table, whose entries become 0; a size of 0 stands for the
        modulus."""
        self.request(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE, size, done=done)

    def set_hash_mapping(
        self, queues: Sequence[int], offset: int = 0, done: Done = _ignore
    ) -> None:
        """Set the queue numbers of the entries from ``offset`` on; at most 1024 at a time."""
        data = (self._page_ref, len(queues), offset)
        payload = array("I", queues).tobytes()
        self._make(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING, data, payload, done)

    def add_gref_mapping(
        self, queue: int, grefs: Sequence[int], *, readonly: bool = False, done: Done = _ignore
    ) -> None:
        """Have the backend map grants for ``queue``, all or none; at most 512 at a time."""
        flags = XEN_NETIF_CTRLF_GREF_readonly if readonly else 0
        self._gref_list(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING, queue, grefs, flags, done)

    def del_gref_mapping(self, queue: int, grefs: Sequence[int], done: Done = _ignore) -> None:
        """Have the backend unmap grants. Reply.data is their number; Reply.gref_statuses tells
        which."""
        self._gref_list(XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING, queue, grefs, 0, done)

    def _gref_list(
        self, kind: int, queue: int, grefs: Sequence[int], flags: int, done: Done
    ) -> None:
        payload = b"".join(GREF.pack(gref, flags, 0) for gref in grefs)
        self._make(kind, (queue, self._page_ref, len(grefs)), payload, done)

    def _make(self, kind: int, data: Sequence[int], payload: bytes | None, done: Done) -> None:
        if len(data) > 3 or any(not 0 <= number <= MASK32 for number in data):
            raise ValueError(f"{data!r} are not up to three 32-bit numbers")
        if payload is not None and len(payload) > PAGE_SIZE:
            raise ValueError(f"{len(payload)} bytes do not fit a page")
        if not self._running:
            return
        first, second, third = (*data, 0, 0, 0)[:3]
        self._waiting.append(_Request(kind, (first, second, third), payload, done))
        self._send()

    # The ring

    def kick(self) -> None:
        """Schedule a pass: there may be responses."""
        if self._running and not self._scheduled:
            self._scheduled = True
            self.hv.defer(self._poll)

    def _poll(self) -> None:
        self._scheduled = False
        if not self._running:
            return
        try:
            more = self.poll()
        except BackendError as error:
            self._stop()
            self._on_broken(error)
            return
        except BaseException:
            # Who asked raised at the answer. The others are taken by the next pass.
            self.kick()
            raise
        if more:
            self.kick()

    def poll(self) -> bool:
        """Take the responses, then send requests that wait. Returns True if there are more
        responses already.

        Raises BackendError if the backend broke the protocol, after the responses before that were
        taken.
        """
        ring = self.ring
        prod = ring.sring.rsp_prod
        asked = (ring.req_prod_pvt - ring.rsp_cons) & MASK32
        if (prod - ring.rsp_cons) & MASK32 > asked:
            text = "rsp_prod is past everything that was requested"
            raise BackendError("B1", "ctrl", ring.rsp_cons, prod, text)
        while self._running and ring.rsp_cons != prod:
            self._take()
        if not self._running:
            return False  # a callback disconnected us
        self._send()
        return ring.final_check_for_responses()

    def _take(self) -> None:
        """Copy one response, once, into private memory, and call the function of its request."""
        ring = self.ring
        index, raw = ring.rsp_cons, ring.sring.copy_slot(ring.rsp_cons)
        ident, kind, status, data = CTRL_RESPONSE.unpack_from(raw)
        word = kind << 16 | ident
        request = self._in_flight.get(ident)
        if request is None:
            raise BackendError("B4", "ctrl", index, word, "response to an id that is not pending")
        if kind != request.kind:
            text = f"response of type {kind} to a request of type {request.kind}"
            raise BackendError("B4", "ctrl", index, word, text)
        ring.rsp_cons += 1
        del self._in_flight[ident]
        payload = b""
        if request.payload is not None:
            payload = bytes(self._page[: len(request.payload)])
            self._page_taken = False
        request.done(Reply(status, data, payload))

    def _send(self) -> None:
        """Put requests that wait on the ring, as far as ring and page are free."""
        ring, before = self.ring, self.ring.req_prod_pvt
        while self._running and self._waiting and not ring.full:
            request = self._waiting[0]
            if request.payload is not None:
                if self._page_taken:
                    break
                self._page_taken = True
                self._page[: len(request.payload)] = request.payload
            self._waiting.popleft()
            ident = self._unused_id()
            self._in_flight[ident] = request
            raw = CTRL_REQUEST.pack(ident, request.kind, *request.data)
            ring.sring.write_slot(ring.req_prod_pvt, raw)
            ring.req_prod_pvt += 1
        if ring.req_prod_pvt != before and ring.push_requests_and_check_notify():
            self.hv.notify(self.port)

    def _unused_id(self) -> int:
        """An unused id. Ids count up, so that a late second response to an old one is noticed."""
        while self._next_id in self._in_flight:
            self._next_id = (self._next_id + 1) & 0xFFFF
        ident = self._next_id
        self._next_id = (ident + 1) & 0xFFFF
        return ident
