"""The hardened backend, asked one ring at a time: what it makes of the slots of a guest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from attrs import frozen

from xennet.abi.netif import (
    EXTRA_GSO,
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.xen import PAGE_SIZE
from xennet.course.recordings import acting
from xennet.course.ring_scene import BACKEND
from xennet.engine.choice import using
from xennet.netback.poll_page import FIRST_GREF, PAGES, PagePoller, PolledPacket
from xennet.ring import tx_ring_page

#: Bytes of a slot, and of what extra info takes of one.
SLOT = TX_REQUEST.size
EXTRA = EXTRA_GSO.size
STATUS = {NETIF_RSP_OKAY: "OKAY", NETIF_RSP_ERROR: "ERROR", NETIF_RSP_NULL: "NULL"}


def tx(size: int, flags: int = 0, offset: int = 0, gref: int = FIRST_GREF, ident: int = 0) -> bytes:
    """A transmit request."""
    return TX_REQUEST.pack(gref, offset, flags, ident, size)


def gso(size: int, flags: int = 0, kind: int = XEN_NETIF_EXTRA_TYPE_GSO) -> bytes:
    """An extra info slot: TCPv4 in segments of ``size`` bytes."""
    return EXTRA_GSO.pack(kind, flags, size, 1, 0, 0)


@frozen
class Outcome:
    """What the backend did: ``why`` the frontend was given up, "" if it was not; the ``statuses``
    that it answered; the ``packets`` that its host received."""

    why: str
    statuses: tuple[str, ...]
    packets: tuple[PolledPacket, ...]

    @property
    def verdict(self) -> str:
        """``"fatal"``, ``"ERROR"`` or ``"OKAY"``, for a ring with one packet."""
        return "fatal" if self.why else "OKAY" if self.packets else "ERROR"


class Backend:
    """A backend, and the pages of its guest: page ``n``, ``pages[n]``, is granted by reference
    FIRST_GREF + n."""

    def __init__(self) -> None:
        self._poller = PagePoller()
        self.machine = self._poller.machine

    def fill(self, contents: Sequence[bytes]) -> None:
        """Put ``contents`` into the first pages."""
        for number, content in enumerate(contents):
            at = number * PAGE_SIZE
            self._poller.pages[at : at + len(content)] = content

    def part(self, gref: int, offset: int, size: int) -> bytes:
        """Bytes of a granted page; empty if there is no such page."""
        if not FIRST_GREF <= gref < FIRST_GREF + PAGES:
            return b""
        at = (gref - FIRST_GREF) * PAGE_SIZE
        return bytes(self._poller.pages[at + offset : at + min(PAGE_SIZE, offset + size)])

    def take(self, slots: Sequence[bytes], published: int | None = None) -> Outcome:
        """Let the backend make one pass over a new ring with ``slots``, of which ``published`` are
        published (None: all)."""
        poller = self._poller
        poller.load(tx_ring_page(slots, published=published))
        with acting(BACKEND, "the backend takes the slots"):
            poller.poll()
        error = poller.error()
        page = bytes(poller.ring_page)
        answered = int.from_bytes(page[8:12], "little")
        statuses = tuple(
            STATUS[TX_RESPONSE.unpack_from(page, SRING_HEADER_SIZE + SLOT * index)[1]]
            for index in range(answered)
        )
        return Outcome(str(error) if error else "", statuses, tuple(poller.packets()))


@cache
def numbered_pages() -> Backend:
    """A backend whose guest's page ``n`` is full of bytes ``n + 1``."""
    with using("plain"):
        backend = Backend()
    backend.fill([bytes([number + 1]) * PAGE_SIZE for number in range(PAGES)])
    return backend
