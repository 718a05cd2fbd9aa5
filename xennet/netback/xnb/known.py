"""Which of xnb's defects are switched off, and which of the others an input met.

A defect that is *known* plays as if it were fixed, so that what lies behind it can be found. Each
row of :data:`FIXED` says what takes its place: the rule of a robust backend (docs/hardening.md), or
the least that the driver would need. With all rows known xnb is sound: any input, no panic.

A :class:`Rows` belongs to one vif. The driver's functions ask it at the place of a defect, and only
where the defect makes a difference:

    if later > pkt.size and rows.fixed("A1"):
        ...  # what a fixed driver does

so that ``rows.met`` has the rows which an input reached and nobody had fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: Row -> what is done in its place when it is known. Rows without an effect in this emulator say
#: so (xennet.netback.xnb has the rows themselves).
FIXED = {
    "A1": "later slots that claim more than the first one's size: ERROR on every slot (F4)",
    "A2": "later slots that claim more than 65535 bytes in all: ERROR on every slot (F4)",
    "A3": "what is answered is consumed, a packet of no bytes and one without memory alike",
    "A4": "an extra_info flag whose slot is not there yet: the packet is not complete, it waits",
    "A5": "extra infos are read until one has no MORE; each is answered NULL (F12)",
    "A6": "extra_info on a later slot: ERROR for the packet, and its extra infos are part of it",
    "A7": (
        "HASH and XDP extra infos are passed over, multicast ones are answered OKAY without a "
        "packet (F11); other types stay an ERROR"
    ),
    "A8": "a packet that fills the ring and is not complete: ERROR on every slot",
    "A9": "a packet that needs more copies than the table has: ERROR on every slot",
    "A10": "the pass goes on behind a packet in error",
    "A11": "an event is asked for behind what was seen, not behind what was consumed",
    "A12": "a copy that failed: ERROR on every slot, no packet (F13)",
    "A13": "a slot longer than a page: ERROR on every slot (F5)",
    "A14": "req_prod more than a ring ahead: nothing is read, the vif is disabled (F1)",
    "A15": "at most a ring full of packets in one interrupt, the rest in the next",
    "A16": "each slot is copied before it is looked at, and only the copy is used (F14)",
    "A17": (
        "fewer than 14 bytes in the first slot: ERROR (F6); a blank checksum is completed where "
        "its header is found, or the packet is answered OKAY and dropped (F17); others are left"
    ),
    "A18": "five messages about slots, 65 lines, are printed in one interrupt and no more",
    "A19": "csum_blank alone is enough for a checksum to be filled in",
    "A20": (
        "GSO of size 0 or of unknown type: ERROR (F10); other GSO data goes to the host with the "
        "packet, whose checksum stays blank (F16)"
    ),
    "A21": "a packet in error has list_len 0; how many slots it takes is kept apart",
    "A22": "the id of a NULL response is 0",
    "B1": "one response for each slot that was filled, with what was copied into that slot",
    "B2": "the search for a gref ends where the packet's own copies end",
    "B3": "an error response has offset 0 and flags 0",
    "B4": "more_data is decided by data slots, extra info not counted",
    "B5": (
        "a packet whose copy failed: an error response for each of its slots, and it does not "
        "count as sent"
    ),
    "B6": "req_prod more than a ring ahead: nothing is sent, the vif is disabled (F1)",
    "B7": "the gref is read once for each slot",
    "B8": "a packet that needs more copies than the table has is dropped",
    "B9": "lengths of more than 16 bits are kept",
    "B10": (
        "the frontend's features are what is negotiated; a packet that needs others is dropped"
    ),
    "C1": "without feature-no-csum-offload the frontend takes blank checksums",
    "C2": "a ring reference or port of more than 32 bits is an error that names the node",
    "C3": "without request-rx-copy = 1 the connect fails",
    "C4": "the interface is there again at the next connect",
    "C5": "disconnects once for each connect",
    "C6": "no effect: this emulator unmaps the first ring",
    "C7": "rings are entered at the shared rsp_prod (F22)",
    "C8": "states 2, 7 and 8 are passed over, 0 closes",
    "C9": "no effect: here each mapping has a status of its own",
    "C10": "keys, queues, channels and the control ring as Linux's backend has them",
}

#: Where a frontend may come between two looks: a packet's slots have been read, and will be again
#: for the copy (A16); a packet is with the host (A15); the copy into the guest's buffers is
#: planned, its responses are not (B7).
PARSED, DELIVERED, PLANNED = STEPS = ("parsed", "delivered", "planned")

#: Console lines that are printed in one interrupt when A18 is known: five messages about slots.
CONSOLE_LINES = 65


def known_rows(rows: Iterable[str]) -> frozenset[str]:
    """``rows`` as a set. Raises ValueError that lists the rows if one of them is unknown."""
    chosen = frozenset(rows)
    unknown = sorted(chosen - FIXED.keys())
    if unknown:
        raise ValueError(f"unknown rows {', '.join(unknown)}; there are {', '.join(FIXED)}")
    return chosen


class Rows:
    """The rows that are ``known``, and in ``met`` those that were not and made a difference.

    ``met`` grows until :meth:`clear`. ``lines``: console lines of this interrupt, printed or with
    nobody to read them. ``list_len_in_error``: the longest list_len of a packet in error (A21).
    ``meanwhile``: called with each of the :data:`STEPS` at which a frontend may act; while it is
    not set, nobody looks for A16.
    """

    __slots__ = ("known", "lines", "list_len_in_error", "meanwhile", "met")

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.known = known_rows(known)
        self.met: set[str] = set()
        self.list_len_in_error = 0
        self.lines = 0
        self.meanwhile: Callable[[str], None] | None = None

    def fixed(self, row: str) -> bool:
        """Whether ``row`` is known. If not, it was met: what comes next is the defect."""
        if row in self.known:
            return True
        self.met.add(row)
        return False

    def may_print(self, lines: int) -> bool:
        """Whether so many more lines may be printed (A18)."""
        if self.lines + lines > CONSOLE_LINES and self.fixed("A18"):
            return False
        self.lines += lines
        return True

    def clear(self) -> None:
        """Forget what was met."""
        self.met.clear()
        self.list_len_in_error = 0
        self.lines = 0


#: The driver as it was shipped: no row is known.
SHIPPED = Rows()
