"""The backend's end of the control ring (xen/io/netif.h, "Control ring").

The ring page is the frontend's, mapped through its grant. Requests are answered in order, in passes
of at most one ring full that an event starts and the run loop continues.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.abi.netif import CTRL_REQUEST, CTRL_RESPONSE, XEN_NETIF_CTRL_STATUS_SUCCESS
from xennet.flow.hash_config import HashConfig
from xennet.interface import Hypervisor
from xennet.netback.control_messages import ControlMessages, ControlPage
from xennet.netback.gref_mappings import GrefMappings
from xennet.netback.verdict import FrontendError
from xennet.ring import BackRing, ctrl_ring, overflows
from xennet.vif.late_eoi import EventCounters, LateEoi
from xennet.vif.refusals import CONTROL_REFUSED
from xennet.vif.ring_events import tell_refused


class ControlRing:
    """A control ring, connected in the constructor, which leaves nothing behind if it fails.

    ``config`` is what the messages about hashing change; it is reset at disconnect. ``queues`` is
    the number of connected queues. ``static_grefs``: how many grants each queue keeps mapped; with
    0 the messages about them are NOT_SUPPORTED, as in Linux. ``on_fatal(error)`` is called for a
    req_prod that cannot be; the ring answers nothing then until it is connected anew. ``counters``
    counts spurious events, which delay the next ones if ``late_eoi`` (xennet.vif.late_eoi). ``vif``
    is the vif's name.

    Raises HypercallError if the ring page cannot be mapped or the channel not bound,
    RingOverflowError for a ring whose req_prod cannot be (hardening rule F22).
    """

    def __init__(
        self,
        hv: Hypervisor,
        otherend_id: int,
        ring_ref: int,
        event_channel: int,
        config: HashConfig,
        *,
        on_fatal: Callable[[FrontendError], None],
        counters: EventCounters,
        queues: int = 1,
        static_grefs: int = 0,
        late_eoi: bool = True,
        vif: str = "",
    ) -> None:
        self.hv = hv
        self.delivery_name = f"netback ctrl pass {vif}"
        self.config = config
        self._on_fatal = on_fatal
        self._undo: list[Callable[[], None]] = []
        self._disabled = False
        self._scheduled = False
        #: The static grants of each queue; empty if they are not supported.
        self.mappings = tuple(
            GrefMappings(hv, otherend_id, static_grefs)
            for _ in range(queues if static_grefs else 0)
        )
        try:
            self._connect(otherend_id, ring_ref, event_channel, queues, vif)
            name, seen = f"netback ctrl {vif}", self.ring.req_cons
            self._eoi = LateEoi(hv, self.port, counters, seen=seen, delays=late_eoi, name=name)
            self._undo.append(self._eoi.cancel)
            hv.on_event(self.port, self._event)
        except Exception:
            self.disconnect()
            raise
        # For requests that are on the ring already no event will come.
        self.kick()

    def _connect(
        self, otherend_id: int, ring_ref: int, event_channel: int, queues: int, vif: str
    ) -> None:
        hv = self.hv
        mapping = hv.map_grant(otherend_id, ring_ref)
        self._undo.append(lambda: hv.unmap_grant(mapping))
        # Attach, never init: the frontend may have posted requests already.
        self.ring = BackRing.attach(ctrl_ring(mapping.page.u8, mapping.page.u32, vif))
        page = ControlPage(hv, otherend_id)
        self._undo.append(page.free)
        self._messages = ControlMessages(self.config, page, queues, self.mappings)
        self.port = hv.bind_interdomain(otherend_id, event_channel)
        self._undo.append(lambda: hv.close_port(self.port))
        self._undo += [static.clear for static in self.mappings]
        self._undo.append(self.config.reset)

    def disconnect(self) -> None:
        """Unbind, free and unmap everything, and reset the configuration. May be repeated."""
        self._disabled = True
        while self._undo:
            self._undo.pop()()

    def _event(self) -> None:
        self._eoi.heard(self.ring.sring.req_prod)
        self.kick()

    def kick(self) -> None:
        """Schedule a pass: there may be requests."""
        if not self._scheduled and not self._disabled:
            self._scheduled = True
            self.hv.defer(self._poll)

    def _poll(self) -> None:
        self._scheduled = False
        if self._disabled:
            return
        try:
            more = self.poll()
        except FrontendError as error:
            # The ring is abandoned, its page stays mapped until the frontend closes.
            self._disabled = True
            self._on_fatal(error)
            return
        if more:
            self.kick()

    def poll(self) -> bool:
        """Answer the requests on the ring. Returns True if there are more already.

        Raises FrontendError for an impossible req_prod (hardening rule F1).
        """
        ring = self.ring
        prod = ring.sring.req_prod
        if overflows(prod, ring.rsp_prod_pvt, ring.nr_ents):
            text = "req_prod is more than a ring past req_cons"
            raise FrontendError("F1", "ctrl", ring.req_cons, (prod,), text)
        if ring.req_cons == prod:
            return ring.final_check_for_requests()
        while ring.req_cons != prod:
            self._serve()
        if ring.push_responses_and_check_notify():
            self.hv.notify(self.port)
        return ring.final_check_for_requests()

    def _serve(self) -> None:
        """Copy one request, once, into private memory, and write its response."""
        ring = self.ring
        index = ring.req_cons
        ident, kind, *data = CTRL_REQUEST.unpack_from(ring.sring.copy_slot(index))
        ring.req_cons += 1
        status, result = self._messages.answer(kind, (data[0], data[1], data[2]))
        if status != XEN_NETIF_CTRL_STATUS_SUCCESS:
            says = {"type": kind, "status": status}
            tell_refused(self.hv, "ctrl", "message refused", index, CONTROL_REFUSED, **says)
        # All bytes of the slot, also those behind the response: none is a leftover (XSA-216).
        response = CTRL_RESPONSE.pack(ident, kind, status, result)
        ring.sring.write_slot(ring.rsp_prod_pvt, response.ljust(ring.sring.slot_size, b"\0"))
        ring.rsp_prod_pvt += 1
