"""One ring of a kernel loop: what the client has written is judged and synced, it is told how far
the ring is, until there is nothing more to do.

Rules: netmap_kloop.c, netmap_sync_kloop_tx_ring and netmap_sync_kloop_rx_ring.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from xennet.engine.choice import current
from xennet.netmap.adapter import NAF_FORCE_RECLAIM
from xennet.netmap.csb import ControlBlocks, Written
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RCUR, K_RHEAD, K_RTAIL, Kring
from xennet.netmap.prologue import accepts, reinit

#: Syncs of an rx ring that bring nothing, after which it is left (SYNC_LOOP_RX_DRY_CYCLES_MAX).
_DRY_CYCLES = 2
#: Syncs at once. The kernel goes on as long as the client writes more; here others have a turn.
_MOST_SYNCS = 64


@define(eq=False)
class LoopRing:
    """Ring ``index`` of the control blocks.

    ``kicked``: the client says when it has written something, and wants to know whether it has to.
    ``direct``: the ring is synced by the kick itself. ``interrupt`` tells the client of news; None:
    it looks by itself.
    """

    blocks: ControlBlocks
    index: int
    kicked: bool
    direct: bool
    interrupt: Callable[[], None] | None

    @property
    def kring(self) -> Kring:
        """The ring."""
        return self.blocks.rings[self.index]

    def work(self) -> bool:
        """Sync until the client has to write more, or the port to bring more. Returns False if it
        ended for having gone on for long. Raises FaultError."""
        if not self.direct:
            self._want_kick(0)
        return self._work_tx() if self.kring.tx else self._work_rx()

    def _want_kick(self, wanted: int) -> None:
        self.blocks.want_kick(self.index, wanted)

    def _work_tx(self) -> bool:
        pvt, slots = self.kring.pvt, self.kring.num_slots
        told = self.blocks.written(self.index)
        news = False
        for _ in range(_MOST_SYNCS):
            flags = told.flags
            if (pvt[K_HWTAIL] - pvt[K_HWCUR]) % slots <= slots >> 1:
                flags |= NAF_FORCE_RECLAIM
            if not self._sync(told, flags):
                break
            news = self._answer() or news
            news = news and not self._interrupt()
            told = self.blocks.written(self.index)
            if told.head == pvt[K_RHEAD]:
                more = self._asks_for_kick(lambda told: told.head != pvt[K_RHEAD])
                if more is None:
                    break
                told = more
            elif pvt[K_RHEAD] == pvt[K_HWTAIL]:
                break  # the port tells when there is room
        else:
            return False
        if news:
            self._interrupt()
        return True

    def _work_rx(self) -> bool:
        pvt = self.kring.pvt
        told = self.blocks.written(self.index)
        news = False
        dry = 0
        for _ in range(_MOST_SYNCS):
            if not self._sync(told, told.flags):
                break
            brought = self._answer()
            dry = 0 if brought else dry + 1
            news = news or brought
            news = news and not self._interrupt()
            told = self.blocks.written(self.index)
            if self._no_slots(told):
                more = self._asks_for_kick(lambda told: not self._no_slots(told))
                if more is None:
                    break
                told = more
            elif pvt[K_HWTAIL] == pvt[K_RHEAD] or dry >= _DRY_CYCLES:
                break  # the port tells when there are frames
        else:
            return False
        if news:
            self._interrupt()
        return True

    def _no_slots(self, told: Written) -> bool:
        """Whether the port has filled all slots up to the client's head."""
        slots = self.kring.num_slots
        before = (told.head or slots) - 1
        return self.kring.pvt[K_HWTAIL] == before

    def _asks_for_kick(self, more: Callable[[Written], bool]) -> Written | None:
        """The client has nothing for the ring. Returns what it has written meanwhile if there is
        ``more`` in that; None if not, and it has been asked for a kick."""
        if not self.kicked:
            return None
        self._want_kick(1)
        told = self.blocks.written(self.index)
        if not more(told):
            return None
        self._want_kick(0)
        return told

    def _sync(self, told: Written, flags: int) -> bool:
        """Returns whether the client kept the ring contract, and the port could be synced."""
        kring = self.kring
        if not _take(kring, told.head, told.cur):
            current().kernel(reinit)(kring.na.region.view32, kring.view)
        else:
            try:
                kring.sync(kring, flags)
                return True
            except NetmapError:
                pass
        if self.kicked:
            self._want_kick(1)
        return False

    def _answer(self) -> bool:
        """Tell the client how far the ring is. Returns whether that is news."""
        pvt = self.kring.pvt
        self.blocks.answer(self.index, pvt[K_HWCUR], pvt[K_HWTAIL])
        news = pvt[K_RTAIL] != pvt[K_HWTAIL]
        pvt[K_RTAIL] = pvt[K_HWTAIL]
        return news

    def _interrupt(self) -> bool:
        """Tell the client of news, if it wants that. Returns whether it was told."""
        if self.interrupt is None or not self.blocks.wants_interrupt(self.index):
            return False
        self.interrupt()
        return True


def _take(kring: Kring, head: int, cur: int) -> bool:
    """The ring contract, of values that are not in the ring."""
    pvt = kring.pvt
    if kring.tx:
        kept = accepts(pvt[K_RHEAD], pvt[K_RTAIL], kring.num_slots, head, cur)
        if not kept:
            return False
    else:
        kept = accepts(pvt[K_HWCUR], pvt[K_HWTAIL], kring.num_slots, head, cur)
    pvt[K_RHEAD], pvt[K_RCUR] = head, cur
    return bool(kept)
