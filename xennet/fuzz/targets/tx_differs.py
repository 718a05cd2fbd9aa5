"""The target ``tx-differs``: one tx ring page, taken by the hardened backend and by FreeBSD's.

They may differ where a defect of the latter is listed, and from a packet of 19 or 20 additional
slots on (F3); any other difference is a finding without a name. What the hardened backend gives a
frontend up for is left out: FreeBSD's has no such verdict. What is known is not repaired: a sound
xnb would differ, too, and its differences would have no names.
"""

from __future__ import annotations

from collections.abc import Sequence

from xennet.abi.netif import (
    NETIF_RSP_NULL,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import REQ_PROD, TX_SLOTS, EXTRA_S_flags, TXREQ_S_flags, TXREQ_W_flags
from xennet.abi.xen import PAGE_SIZE
from xennet.fuzz.compiled_loop import HALVES_PER_PAGE, apply_pokes, undo_pokes
from xennet.fuzz.payload import fill_pages
from xennet.fuzz.ring_mutations import START, TX_REQUESTS, place
from xennet.fuzz.target import Finding
from xennet.fuzz.targets.xnb_rings import XnbTx
from xennet.netback.guest_tx import FATAL_ADDITIONAL_SLOTS, MAX_ADDITIONAL_SLOTS
from xennet.netback.poll_page import PagePoller, PolledGuest
from xennet.netback.xnb.oracle import rows_met
from xennet.ring import MASK32


class TxDiffers(XnbTx):
    """As ``xnb-tx``; a finding is "differs:" and the rows that make a difference there, or F3 if
    only the hardened backend has a limit, or "differs"."""

    name = "tx-differs"

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._hardened = hardened = PagePoller()
        fill_pages(hardened.pages)

    def close(self) -> None:
        super().close()
        self._hardened.close()

    def judge(self) -> Finding | None:
        hardened, record = self._hardened, self.loop.record
        start = record[START]
        hardened.ring_page[:] = self.loop.record8[:PAGE_SIZE]
        undo = self._places[2]
        halves = hardened.memory.u16
        grants = hardened.table.first * HALVES_PER_PAGE
        apply_pokes(record, halves, grants, hardened.payload.first * HALVES_PER_PAGE, undo)
        verdict = hardened.poll(start)
        undo_pokes(halves, undo)
        if verdict:
            return None
        slots = min((record[REQ_PROD] - start) & MASK32, TX_SLOTS)
        mine = [packet.data for packet in hardened.packets()], _answers(hardened, start, slots)
        poller = self.poller
        theirs = [packet.data for packet in poller.packets()], _answers(poller, start, slots)
        if mine == theirs and not poller.error():
            return None
        rows = rows_met(poller, self._replay)
        undo_pokes(poller.memory.u16, undo)
        self._dirty = True
        if not rows and _in_long_packet(record, slots, _first_other(mine[1], theirs[1])):
            rows = {"F3": ""}
        which = f"differs:{'/'.join(rows)}" if rows else "differs"
        return Finding(
            which,
            f"{len(mine[0])} packets and {len(theirs[0])}; the answers are "
            f"{'the same' if mine[1] == theirs[1] else 'others'}",
        )


def _first_other(mine: Sequence[object], theirs: Sequence[object]) -> int:
    """The first slot that is answered otherwise, -1 if none is."""
    pairs = enumerate(zip(mine, theirs, strict=True))
    return next((slot for slot, (one, other) in pairs if one != other), -1)


def _in_long_packet(record: memoryview, slots: int, differing: int) -> bool:
    """Whether the slot ``differing`` is of a packet of 19 or 20 additional slots, which the
    hardened backend answers ERROR (F3)."""
    slot = 0
    while slot <= differing:
        flags, additional = _flags(record, slot), 0
        slot += 1
        if flags & NETTXF_extra_info:
            slot += 1
            while slot < slots and _has_more_extras(record, slot - 1):
                slot += 1
        while flags & NETTXF_more_data and slot < slots:
            flags = _flags(record, slot)
            additional += 1
            slot += 1
        if slot > differing:
            return MAX_ADDITIONAL_SLOTS < additional <= FATAL_ADDITIONAL_SLOTS
    return False


def _flags(record: memoryview, slot: int) -> int:
    """Flags of a request (NETTXF_*)."""
    return int(record[place(record, TX_REQUESTS, slot) + TXREQ_W_flags] >> TXREQ_S_flags)


def _has_more_extras(record: memoryview, slot: int) -> bool:
    """Whether another extra info comes behind this one."""
    flags = record[place(record, TX_REQUESTS, slot)] >> EXTRA_S_flags
    return bool(flags & XEN_NETIF_EXTRA_FLAG_MORE)


def _answers(guest: PolledGuest, start: int, slots: int) -> list[tuple[int, int]]:
    """Id and status in each slot from index ``start`` on; what a NULL response has as its id says
    nothing (A22)."""
    found = []
    for index in range(start, start + slots):
        at = SRING_HEADER_SIZE + index % TX_SLOTS * 12
        response = TX_RESPONSE.read(guest.ring_page, at)
        ident = 0 if response.status == NETIF_RSP_NULL else response.id
        found.append((ident, response.status))
    return found
