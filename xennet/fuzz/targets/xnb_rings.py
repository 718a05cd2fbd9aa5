"""The targets ``xnb-tx``, ``xnb-rx`` and ``xnb-intr``: an interrupt of FreeBSD's netback, with its
defects.

They differ in what their inputs have beside a ring page, in the words of the record that are left
to the target (MORE):

========= ==================================================================================
xnb-tx    nothing
xnb-rx    frames that wait for the guest, the frontend's features, acts; the page is the rx ring's
xnb-intr  acts: what the frontend does between two looks of the driver; frames, too
========= ==================================================================================

The driver is plain Python, so its counters are plain too; mutations are compiled where the fast
engine is in force.
"""

from __future__ import annotations

from array import array
from collections import Counter
from functools import cache

from xennet.abi.netif import RX_REQUEST
from xennet.abi.words import REQ_PROD
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.counted_plain import CountedCode
from xennet.fuzz.compiled_loop import (
    HALVES_PER_PAGE,
    apply_pokes,
    size_class,
    undo_pokes,
)
from xennet.fuzz.payload import fill_pages
from xennet.fuzz.record_target import PlainTarget
from xennet.fuzz.ring_mutations import (
    MORE,
    NR_POKES,
    RX_REQUESTS,
    START,
    STRIDES,
    TX_REQUESTS,
    place,
)
from xennet.fuzz.target import Finding
from xennet.netback.poll_page import FIRST_GREF, PAGES
from xennet.netback.xnb import cksum, defects, pkt, rx, softc, tx
from xennet.netback.xnb.copytable import GnttabCopyTable
from xennet.netback.xnb.known import DELIVERED, FIXED, PARSED, PLANNED
from xennet.netback.xnb.mbuf import MCLBYTES
from xennet.netback.xnb.oracle import rows_met
from xennet.netback.xnb.poller import XnbPoller
from xennet.netback.xnb.rx import SoftcFeatures
from xennet.ring import rx_ring_page, tx_ring_page

#: Frames of an input (two words each), its features (one word), its acts (two words each).
_FRAMES, _FEATURES, _ACTS = 3, 6, 3
_ACTS_AT = _FEATURES + 1
#: Longest frame of an input.
_LONGEST = 0x10000 + 4096
#: Bytes of a TCP segment, where none is said.
_SEGMENT = 1448
#: Most mbufs of a frame, more than a table has copies (B8).
_FRAGMENTS = 128
#: When an act is done; "" is never.
_STEPS = ("", PARSED, DELIVERED, PLANNED, "")
#: The act that is done each time: the first request once more.
_EACH_TIME = 4

#: Rows that a ring can trigger.
ROWS = tuple(row for row in FIXED if row[0] in "AB")
_CLASSES = 10
#: Counters of states: rows, then classes of packets, slots consumed of either ring, and waiting.
_STATES = len(ROWS) + 4 * _CLASSES


@cache
def _counted() -> CountedCode:
    """The counters of xnb's functions, which all targets that are open share."""
    return CountedCode([tx, rx, softc, pkt, cksum, defects], _STATES)


class XnbTarget(PlainTarget):
    """One interrupt over a page. ``known``: rows that play as if they were fixed; it may be changed
    between executions.

    A finding names a row: what the driver does is something else when that row is fixed.
    ``has_more``: inputs have frames, features and acts.
    """

    has_more = True

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__(_counted())
        self.known = known.intersection(FIXED)
        self.poller = poller = XnbPoller(known=self.known)
        fill_pages(poller.pages)
        self._filled = bytes(poller.pages)
        poller.reset()
        poller.pages[:] = self._filled
        self._places = (
            poller.table.first * HALVES_PER_PAGE,
            poller.payload.first * HALVES_PER_PAGE,
            array("q", bytes(16 * NR_POKES)),
        )
        self._posted = _posted()
        self._dirty = False

    def close(self) -> None:
        super().close()
        self.poller.close()

    def trace(self) -> bytes:
        """Nothing: an oracle names the row that an input comes to, and a row is one finding,
        whichever way leads to it."""
        return bytes(8)

    def execute_record(self) -> None:
        """Restore what the last execution changed, and execute the record."""
        poller, loop = self.poller, self.loop
        softc = poller.softc
        poller.known = self.known
        if self._dirty:
            poller.pages[:] = self._filled
            self._dirty = False
        softc.ifp.if_snd.clear()
        softc.pool.close()  # mbufs that are reused have the bytes of the last execution
        softc.tx_gnttab, softc.rx_gnttab = GnttabCopyTable(), GnttabCopyTable()
        hits = loop.hits
        hits[:] = bytes(len(hits))
        halves = poller.memory.u16
        apply_pokes(loop.record, halves, *self._places)
        opackets = softc.ifp.opackets
        self._play(poller)
        undo_pokes(halves, self._places[2])
        for row in poller.met:
            hits[self.states + _ROW_NUMBER[row]] = 1
        self.packets = len(poller.packets()) + softc.ifp.opackets - opackets
        start = loop.record[START]
        rx_start = start if self.kind == RX_REQUESTS else 0
        tx_start = 0 if self.kind == RX_REQUESTS else start
        at = self.states + len(ROWS)
        for count in (
            len(poller.packets()),
            (softc.txb.req_cons - tx_start) & 0xFFFFFFFF,
            (softc.rxb.req_cons - rx_start) & 0xFFFFFFFF,
            len(softc.ifp.if_snd),
        ):
            hits[at + size_class(count, _CLASSES - 1)] = 1
            at += _CLASSES

    def judge(self) -> Finding | None:
        """The first of the rows met that makes a difference."""
        if not self.poller.met:
            return None
        found = rows_met(self.poller, self._replay, self.known)
        undo_pokes(self.poller.memory.u16, self._places[2])
        self._dirty = True
        if not found:
            return None
        row = min(found, key=_ROW_NUMBER.__getitem__)
        return Finding(row, found[row])

    def _replay(self, poller: XnbPoller) -> None:
        """The record once more, in a poller that has been reset."""
        poller.pages[:] = self._filled
        halves = poller.memory.u16
        apply_pokes(self.loop.record, halves, *self._places)
        self._play(poller)

    def _play(self, poller: XnbPoller) -> None:
        """One interrupt over what the record says."""
        record, record8 = self.loop.record, self.loop.record8
        start = record[START]
        if self.kind == TX_REQUESTS:
            poller.ring_page[:] = record8[:PAGE_SIZE]
            poller.rx_page[:] = self._posted
        else:
            poller.ring_page[:] = _EMPTY
            poller.rx_page[:] = record8[:PAGE_SIZE]
        if self.has_more:
            self._queue_frames(poller)
            self._plan_acts(poller)
        if self.kind == TX_REQUESTS:
            poller.poll(start)
        else:
            poller.poll(0, rx_start=start)

    def _queue_frames(self, poller: XnbPoller) -> None:
        more = self.loop.record[MORE : MORE + _ACTS_AT]
        for i in range(0, 2 * _FRAMES, 2):
            word, other = more[i], more[i + 1]
            length = min(word & 0x4FFFF, _LONGEST)
            if not length:
                continue
            self._dirty = True
            poller.queue(
                _FRAME[:length],
                csum_blank=bool(word >> 24 & 1),
                gso_size=(other >> 16 or _SEGMENT) if word >> 25 & 1 else 0,
                segment=max((other & 0xFFFF) % MCLBYTES or MCLBYTES, 1 + length // _FRAGMENTS),
            )
        features = more[_FEATURES]  # 0 is all of them
        poller.features = SoftcFeatures(
            ~features & 1, ~features >> 1 & 1, features >> 2 & 1, not features >> 3 & 1
        )

    def _plan_acts(self, poller: XnbPoller) -> None:
        """What the frontend does meanwhile: at the n-th time of a step it writes a word of a slot,
        or it produces the first request once more each time."""
        record, kind = self.loop.record, self.kind
        once: list[tuple[str, int, int, int]] = []
        each_time = False
        for at in range(MORE + _ACTS_AT, MORE + _ACTS_AT + 2 * _ACTS, 2):
            how = record[at]
            step = (how & 0xFF) % len(_STEPS)
            if step == _EACH_TIME:
                each_time = True
            elif step:
                word = place(record, kind, (how >> 16 & 0xFF) % 4)
                word += (1 + (how >> 24 & 0xFF)) % STRIDES[kind]
                once.append((_STEPS[step], 1 + (how >> 8 & 0xFF) % 3, word, record[at + 1]))
        if not once and not each_time:
            poller.meanwhile = None
            return
        ring = poller.ring_page if kind == TX_REQUESTS else poller.rx_page
        words, turns = ring.cast("I"), Counter[str]()
        first, stride = place(record, kind, 0), STRIDES[kind]

        def act(step: str) -> None:
            turns[step] += 1
            for when, turn, word, value in once:
                if (when, turn) == (step, turns[step]):
                    words[word] = value
            if each_time and step == DELIVERED:
                end = place(record, kind, words[REQ_PROD] - record[START])
                words[end : end + stride] = record[first : first + stride]
                words[REQ_PROD] = (words[REQ_PROD] + 1) & 0xFFFFFFFF

        poller.meanwhile = act


class XnbTx(XnbTarget):
    """Guest transmit: a page of tx requests, grants, payload."""

    name = "xnb-tx"
    page = "tx page"
    kind = TX_REQUESTS
    has_more = False


class XnbRx(XnbTarget):
    """Guest receive: a page of rx requests, and frames that wait."""

    name = "xnb-rx"
    page = "rx page"
    kind = RX_REQUESTS


class XnbIntr(XnbTarget):
    """The whole interrupt, with a frontend that goes on meanwhile."""

    name = "xnb-intr"
    page = "tx page"
    kind = TX_REQUESTS


def _posted() -> bytes:
    """An rx ring page with as many buffers as the guest has pages."""
    return rx_ring_page([RX_REQUEST.pack(i, 0, FIRST_GREF + i) for i in range(PAGES)])


_EMPTY = tx_ring_page([])
_FRAME = bytes(i % 251 for i in range(_LONGEST))
_ROW_NUMBER = {row: number for number, row in enumerate(ROWS)} | {
    row: len(ROWS) for row in FIXED if row[0] == "C"
}
