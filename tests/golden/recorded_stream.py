"""Plays a recorded netfront's stream against our backend.

The recording is one JSON object a line, in order of time, made inside a real xen-netback:

    tx_packet   raw request slots from ``first_index`` on, and the packet that netback made of them
    rx_batch    packets that netback sent, the raw requests it used and the raw responses it wrote
    push_rsp    a publication of responses: old and new rsp_prod, the rsp_event, whether it notified
    irq         an event arrived
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vif_peers import GUEST, HOST, Stack, announce, back_side

from xennet.abi.netif import (
    EXTRA_GSO,
    RX_REQUEST,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETTXF_extra_info,
)
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.netback.keys import FrontendFeatures, QueueKeys
from xennet.netback.queue import Queue
from xennet.netback.verdict import FrontendError
from xennet.ring import FrontRing, SharedRing, rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalMachine
from xennet.vif.counters import BackendCounters

Event = dict[str, Any]


def events(path: Path) -> Iterator[Event]:
    """The recorded events, one at a time."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield json.loads(line)


class Replay:
    """A backend whose frontend says again what the recorded one said."""

    def __init__(self, *, tx_start: int, rx_start: int) -> None:
        self.machine = MinimalMachine()
        self.guest = self.machine.domain(GUEST)
        self.host = self.machine.domain(HOST)
        self.pages: dict[int, Any] = {}
        self.tx_ring = self._ring(tx_ring, tx_start)
        self.rx_ring = self._ring(rx_ring, rx_start)
        refs = [self.guest.grants.grant_access(HOST, page.first) for page in (self._tx, self._rx)]
        self.stack = Stack()
        self.fatal: list[FrontendError] = []
        self.port = self.guest.alloc_unbound(HOST)
        keys = QueueKeys(refs[0], refs[1], self.port, self.port)
        features = FrontendFeatures(True, 1 << XEN_NETIF_GSO_TYPE_TCPV4)
        side = back_side(self.host, self.fatal, features)
        self.queue = Queue(side, keys, self.stack, BackendCounters())

    def _ring(self, make: Any, start: int) -> FrontRing:
        page = self.guest.alloc_pages(1)
        if make is tx_ring:
            self._tx = page
        else:
            self._rx = page
        sring: SharedRing = make(page.u8, page.u32)
        ring = FrontRing.init(sring)
        ring.req_prod_pvt = ring.rsp_cons = start
        sring.req_prod = sring.rsp_prod = start
        sring.req_event = sring.rsp_event = start + 1
        return ring

    def _publish(self, ring: FrontRing) -> None:
        announce(ring.push_requests_and_check_notify(), self.guest, self.port)
        self.machine.run()

    def _grant(self, gref: int, *, readonly: bool) -> Any:
        """The page behind a recorded reference, which is granted here under the same number."""
        # The minimal machine's own references lie elsewhere: recorded ones are moved up.
        if gref not in self.pages:
            self.pages[gref] = self.guest.alloc_pages(1)
        words = self.guest.grants.words
        words[gref * 2 + 1] = self.pages[gref].first
        words[gref * 2] = 1 | (4 if readonly else 0)
        return self.pages[gref]

    @staticmethod
    def moved(gref: int) -> int:
        """Where a recorded reference is put, out of the way of the replay's own ones."""
        return gref + 1024

    def tx_packet(self, event: Event) -> tuple[bytes, list[int]]:
        """Send a recorded packet; what our backend made of it, and the response statuses."""
        slots = [bytes.fromhex(raw) for raw in event["slots"]]
        data = bytes.fromhex(event["data"])
        requests = [TX_REQUEST.unpack_from(raw) for raw in slots]
        is_extra = [False] * len(slots)
        if requests[0][2] & NETTXF_extra_info:
            is_extra[1] = True
        later = sum(request[4] for i, request in enumerate(requests) if i and not is_extra[i])
        at = 0
        for i, (gref, offset, flags, ident, size) in enumerate(requests):
            raw = slots[i]
            if not is_extra[i]:
                here = size - later if i == 0 else size
                page = self._grant(self.moved(gref), readonly=True)
                page.u8[offset : offset + here] = data[at : at + here]
                at += here
                raw = TX_REQUEST.pack(self.moved(gref), offset, flags, ident, size)
            self.tx_ring.sring.write_slot(self.tx_ring.req_prod_pvt, raw)
            self.tx_ring.req_prod_pvt += 1
        assert at == len(data)
        self._publish(self.tx_ring)
        statuses = []
        while self.tx_ring.unconsumed_responses:
            raw = self.tx_ring.sring.copy_slot(self.tx_ring.rsp_cons)
            statuses.append(TX_RESPONSE.unpack_from(raw)[1])
            self.tx_ring.rsp_cons += 1
        return self.stack.received.pop(), statuses

    def rx_batch(self, event: Event) -> tuple[list[bytes], list[bytes]]:
        """Send the recorded packets; the responses that our backend wrote, and its packets' bytes
        as they lie in the granted pages, slot by slot."""
        for raw in event["requests"]:
            ident, pad, gref = RX_REQUEST.unpack_from(bytes.fromhex(raw))
            self._grant(self.moved(gref), readonly=False)
            self.rx_ring.sring.write_slot(
                self.rx_ring.req_prod_pvt, RX_REQUEST.pack(ident, pad, self.moved(gref))
            )
            self.rx_ring.req_prod_pvt += 1
        self._publish(self.rx_ring)
        for packet in event["packets"]:
            flags = packet["flags"]
            self.stack.gso = (packet["gso_size"], XEN_NETIF_GSO_TYPE_TCPV4)
            if not packet["gso_size"]:
                self.stack.gso = (0, 0)
            self.stack.flags.append(
                (CSUM_BLANK if flags & NETRXF_csum_blank else 0)
                | (DATA_VALIDATED if flags & NETRXF_data_validated else 0)
            )
            self.stack.to_send.append(bytes.fromhex(packet["data"]))
            self.queue.kick()  # the host's network stack has a packet
            self.machine.run()
        responses, payload = [], []
        grefs = [RX_REQUEST.unpack_from(bytes.fromhex(raw))[2] for raw in event["requests"]]
        while self.rx_ring.unconsumed_responses:
            raw = self.rx_ring.sring.copy_slot(self.rx_ring.rsp_cons)
            payload.append(bytes(self.pages[self.moved(grefs[len(responses)])].u8))
            responses.append(raw)
            self.rx_ring.rsp_cons += 1
        return responses, payload


def extra_gso_size(raw: bytes) -> int:
    """The segment size in an extra info slot."""
    size: int = EXTRA_GSO.unpack_from(raw)[2]
    return size
