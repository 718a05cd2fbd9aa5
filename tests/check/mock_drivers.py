"""Drivers on xennet.interface alone, each with one trait that a runner has to tell."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_OKAY,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
)
from xennet.interface import HypercallError
from xennet.ring import BackRing, rx_ring, tx_ring
from xennet.xenstore.errors import XsError

INIT_WAIT, CONNECTED, CLOSING, CLOSED = 2, 4, 5, 6


class EchoNetback:
    """A netback of single slots with an echo; what it does with a bad slot is :meth:`bad`."""

    def __init__(self, hv: Any, node: str) -> None:
        self.hv, self.node, self.ring, self.rx = hv, node, None, None
        self.frontend = hv.store.read(f"{node}/frontend").decode()
        self.domid = int(hv.store.read(f"{node}/frontend-id"))
        self.mapped: list[Any] = []
        self.frames: list[bytes] = []
        hv.store.write(f"{node}/feature-rx-copy", 1)
        hv.store.write(f"{node}/state", INIT_WAIT)
        hv.store.watch(f"{self.frontend}/state", "mock", self.changed)

    def read(self, name: str) -> int:
        return int(self.hv.store.read(f"{self.frontend}/{name}"))

    def changed(self, path: str, token: str) -> None:
        try:
            state = self.read("state")
        except XsError:
            return
        if state == CONNECTED and self.ring is None:
            self.connect()
        elif state in (CLOSING, CLOSED) and self.ring is not None:
            self.give_up()
            self.hv.store.write(f"{self.node}/state", CLOSED)
        elif state == 1 and self.ring is None:
            self.hv.store.write(f"{self.node}/state", INIT_WAIT)

    def connect(self) -> None:
        refs = [self.read(key) for key in ("tx-ring-ref", "rx-ring-ref")]
        self.mapped = [self.hv.map_grant(self.domid, gref) for gref in refs]
        tx, rx = (mapping.page for mapping in self.mapped)
        self.ring = BackRing.attach(tx_ring(tx.u8, tx.u32))
        self.rx = BackRing.attach(rx_ring(rx.u8, rx.u32))
        self.port = self.hv.bind_interdomain(self.domid, self.read("event-channel"))
        self.hv.on_event(self.port, self.event)
        self.hv.store.write(f"{self.node}/state", CONNECTED)

    def give_up(self) -> None:
        self.hv.close_port(self.port)
        for mapping in self.mapped:
            self.hv.unmap_grant(mapping)
        self.ring, self.rx, self.mapped = None, None, []

    def event(self) -> None:
        while self.ring is not None and self.ring.final_check_for_requests():
            slot = TX_REQUEST.read(self.ring.sring.copy_slot(self.ring.req_cons))
            self.ring.req_cons += 1
            self.take(slot)
        self.deliver()

    def take(self, slot: Any) -> None:
        if slot.offset + slot.size > 4096:
            self.bad(slot)
            return
        try:
            page = self.hv.map_grant(self.domid, slot.gref, True)
        except HypercallError:
            self.answer(slot.id, NETIF_RSP_ERROR)
            return
        self.frames.append(bytes(page.page.u8[slot.offset : slot.offset + slot.size]))
        self.hv.unmap_grant(page)
        self.answer(slot.id, NETIF_RSP_OKAY)

    def bad(self, slot: Any) -> None:
        self.answer(slot.id, NETIF_RSP_ERROR)

    def answer(self, ident: int, status: int) -> None:
        self.push(self.ring, TX_RESPONSE.pack(ident, status))

    def push(self, ring: Any, raw: bytes) -> None:
        ring.sring.write_slot(ring.rsp_prod_pvt, raw)
        ring.rsp_prod_pvt += 1
        if ring.push_responses_and_check_notify():
            self.hv.notify(self.port)

    def deliver(self) -> None:
        while self.frames and self.rx is not None and self.rx.final_check_for_requests():
            slot = RX_REQUEST.read(self.rx.sring.copy_slot(self.rx.req_cons))
            self.rx.req_cons += 1
            frame = self.frames.pop(0)
            page = self.hv.map_grant(self.domid, slot.gref)
            page.page.u8[: len(frame)] = frame
            self.hv.unmap_grant(page)
            self.push(self.rx, RX_RESPONSE.pack(slot.id, 0, 0, len(frame)))


class Answers(EchoNetback):
    """Takes a bad slot for a good one."""

    def bad(self, slot: Any) -> None:
        self.answer(slot.id, NETIF_RSP_OKAY)


class Refuses(EchoNetback):
    """Answers a bad slot with an error."""


class RefusesAll(EchoNetback):
    """Answers everything with an error."""

    def take(self, slot: Any) -> None:
        self.answer(slot.id, NETIF_RSP_ERROR)


class ShutsDown(EchoNetback):
    """Goes to Closing at a bad slot."""

    def bad(self, slot: Any) -> None:
        self.give_up()
        self.hv.store.write(f"{self.node}/state", CLOSING)


class Unmaps(EchoNetback):
    """Lets go of everything at a bad slot, and stays Connected."""

    def bad(self, slot: Any) -> None:
        self.give_up()


class FallsSilent(EchoNetback):
    """Does nothing any more after a bad slot, until it is connected again."""

    silent = False

    def connect(self) -> None:
        self.silent = False
        super().connect()

    def event(self) -> None:
        if not self.silent:
            super().event()

    def bad(self, slot: Any) -> None:
        self.silent = True


class Wedges(FallsSilent):
    """Does nothing any more after a bad slot, for ever."""

    stuck = False

    def bad(self, slot: Any) -> None:
        self.silent = self.stuck = True

    def connect(self) -> None:
        if not self.stuck:
            super().connect()


class Loops(EchoNetback):
    """Loops at a bad slot."""

    def bad(self, slot: Any) -> None:
        while True:
            pass


class LoopsStubbornly(EchoNetback):
    """Loops at a bad slot, and catches all exceptions meanwhile."""

    def bad(self, slot: Any) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue


class Busy(EchoNetback):
    """Puts work off at a bad slot, again and again."""

    def bad(self, slot: Any) -> None:
        self.hv.defer(lambda: self.bad(slot))


class Polls(EchoNetback):
    """Looks at its rings every millisecond, and for ever."""

    def connect(self) -> None:
        super().connect()
        self.poll()

    def poll(self) -> None:
        if self.ring is not None:
            self.event()
            self.hv.call_after(1_000_000, self.poll)


class Spins(EchoNetback):
    """Looks at its rings every nanosecond, from a bad slot on."""

    def bad(self, slot: Any) -> None:
        self.hv.call_after(1, lambda: self.bad(slot))


class Crashes(EchoNetback):
    """Raises at a bad slot."""

    def bad(self, slot: Any) -> None:
        raise ValueError(f"slot {slot.id} is bad")


class CrashesInStore(EchoNetback):
    """Asks the store for what is not there at a bad slot."""

    def bad(self, slot: Any) -> None:
        self.hv.store.read(f"{self.node}/no-such-node")


class CrashesInLibrary(EchoNetback):
    """Has a library raise at a bad slot."""

    def bad(self, slot: Any) -> None:
        json.loads("{")


class BlocksAtOnce(EchoNetback):
    """Waits for what never comes, and once more if it is interrupted."""

    def __init__(self, hv: Any, node: str) -> None:
        try:
            time.sleep(1000)
        finally:
            time.sleep(1000)


class BlocksWhenCalled(EchoNetback):
    """Waits for what never comes when it is called back."""

    def changed(self, path: str, token: str) -> None:
        threading.Event().wait()


#: What a report has to survive: control bytes, ends of CDATA and of tags, bytes that are no UTF-8.
NASTY = "\0\x1b[31m]]></failure><b>&amp;\x7f\x9f\udcff\ufffe\n\t\U0001f40d"


class CrashesNastily(EchoNetback):
    """Raises at a bad slot, with a text that breaks reports."""

    def bad(self, slot: Any) -> None:
        raise ValueError(NASTY)


class Exits(EchoNetback):
    """Ends its process at a bad slot, and talks to everybody."""

    def bad(self, slot: Any) -> None:
        print("bye")
        raise SystemExit(0)


class CrashesWhenItCloses(EchoNetback):
    """Raises when it is to close."""

    def give_up(self) -> None:
        raise KeyError("rings")


class CrashesAtOnce:
    """Raises when it is made."""

    def __init__(self, hv: Any, node: str) -> None:
        raise RuntimeError("no driver here")


class NeverConnects:
    """Does nothing at all."""

    def __init__(self, hv: Any, node: str) -> None:
        pass


class KeepsItsRings(EchoNetback):
    """Closes without unmapping its rings."""

    def give_up(self) -> None:
        self.hv.close_port(self.port)
        self.ring, self.rx, self.kept = None, None, self.mapped


class LoopsAtOnce:
    """Loops when it is made."""

    made = 0

    def __init__(self, hv: Any, node: str) -> None:
        type(self).made += 1
        while True:
            pass
