"""A ring as the kernel side knows it (struct netmap_kring): what it last accepted, where it is.

The shared ring lies in a region and belongs to the client. Everything in it is loaded once and
judged (:mod:`xennet.netmap.prologue`); the private indices here are what syncs work with.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field

from xennet.abi.netmap import (
    SLOT_WORDS,
    RING_W_cur,
    RING_W_flags,
    RING_W_head,
    RING_W_slot,
    RING_W_tail,
)
from xennet.netmap.region import Region

# Places in Kring.pvt
#: The client's head, cur and tail as they were last accepted.
K_RHEAD = 0
K_RCUR = 1
K_RTAIL = 2
#: What the kernel side has taken up to, and how far the client may go (tx) or has frames (rx).
K_HWCUR = 3
K_HWTAIL = 4
#: What the other end of a pipe has published for this ring.
K_PIPE_TAIL = 5
#: Number of slots; never changes.
K_SLOTS = 6
#: Where the ring is in the region, in words.
K_AT = 7
#: Buffers of the region, the word where buffer 0 lies, and words of a buffer.
K_BUFS = 8
K_BUF_AT = 9
K_BUF_WORDS = 10
#: Largest offset of a frame in its buffer, and the two halves of the mask (offsets option).
K_OFFSET_MAX = 11
K_OFFSET_MASK = 12
K_OFFSET_MASK_HIGH = 13
K_PLACES = 14

Waiter = Callable[[], None]
#: A function that syncs a ring, with flags.
Sync = Callable[["Kring", int], None]


class Port(Protocol):
    """What a ring knows of its adapter."""

    name: str
    region: Region

    def txsync(self, kring: Kring, flags: int) -> None: ...

    def rxsync(self, kring: Kring, flags: int) -> None: ...


@define(eq=False)
class Kring:
    """Ring ``ring_id`` of an adapter, of ``num_slots`` slots. Host rings count on after the others.

    ``offset``: bytes from the start of the region to the shared ring, -1 while there is none.
    ``users``: bindings of clients. ``exclusive``: the one that there is wants no other. ``on``: in
    netmap mode. ``needed``: stays without users (the ring of a pipe's other end). ``fake``: its
    buffers belong to another ring. ``waiters`` are called when a client that sleeps should look.
    ``sync`` and ``notified`` are what is called to sync the ring, and when it has something new; a
    monitor puts its own there.
    """

    na: Port
    ring_id: int
    tx: bool
    host: bool
    num_slots: int
    offset: int = -1
    users: int = 0
    exclusive: bool = False
    on: bool = False
    needed: bool = False
    fake: bool = False
    stopped: bool = False
    #: Frames of the host were put into tx rings, which a poll flushes.
    forwarded: bool = False
    #: Packets for this ring that were dropped because it had no room.
    dropped: int = 0
    offset_mask: int = 0
    pvt: array[int] = field(init=False)
    view: Any = field(init=False, default=None)
    waiters: list[Waiter] = field(factory=list)
    #: Rings of copy monitors, of the first zero-copy one, and up to where the copies are.
    monitors: list[Kring] = field(factory=list)
    zero_copy_monitor: Kring | None = None
    monitored_tail: int = 0
    sync: Sync = field(init=False)
    notified: Waiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        tail = self.num_slots - 1 if self.tx and self.num_slots else 0
        self.restore()
        self.pvt = array("I", [0] * K_PLACES)
        self.pvt[K_SLOTS] = self.num_slots
        self.pvt[K_RTAIL] = self.pvt[K_HWTAIL] = self.pvt[K_PIPE_TAIL] = tail

    def restore(self) -> None:
        """Call the ring's own functions, no monitor's."""
        self.sync = self.na.txsync if self.tx else self.na.rxsync
        self.notified = self.wake

    @property
    def name(self) -> str:
        """Such as "vale0:a tx0"."""
        return f"{self.na.name} {'tx' if self.tx else 'rx'}{self.ring_id}"

    @property
    def head(self) -> int:
        """The client's head, as it is now."""
        return self.na.region.u32[self.offset // 4 + RING_W_head]

    @property
    def ring_flags(self) -> int:
        """The client's flags of the ring, as they are now."""
        return self.na.region.u32[self.offset // 4 + RING_W_flags]

    @property
    def hwcur(self) -> int:
        return self.pvt[K_HWCUR]

    @property
    def hwtail(self) -> int:
        return self.pvt[K_HWTAIL]

    @property
    def pending(self) -> int:
        """Slots from hwcur to hwtail: frames that wait in an rx ring."""
        return (self.pvt[K_HWTAIL] - self.pvt[K_HWCUR]) % self.num_slots

    def publish_tail(self) -> None:
        """Show hwtail to the client (nm_sync_finalize)."""
        tail = self.pvt[K_RTAIL] = self.pvt[K_HWTAIL]
        self.na.region.u32[self.offset // 4 + RING_W_tail] = tail

    def slot_at(self, index: int) -> int:
        """The word of the region where slot ``index`` begins."""
        return self.offset // 4 + RING_W_slot + index * SLOT_WORDS

    def shown(self) -> tuple[int, int, int]:
        """head, cur and tail as they stand in the shared ring."""
        words, at = self.na.region.u32, self.offset // 4
        return words[at + RING_W_head], words[at + RING_W_cur], words[at + RING_W_tail]

    def wake(self) -> None:
        """Wake the clients that sleep on this ring."""
        for waiter in tuple(self.waiters):
            waiter()
