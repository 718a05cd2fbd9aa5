"""The kernel loop: syncs of the rings of a client that writes head and cur into control blocks.

In the kernel it runs inside the ioctl that starts it. Here that ioctl is not over until
:attr:`Kloop.ended`, and :meth:`Kloop.turn` is one round of the loop: the caller makes them. Rules:
netmap_kloop.c, netmap_sync_kloop.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL

from attrs import define, field

from xennet.abi.netmap import (
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NM_OPT_SYNC_KLOOP_DIRECT_RX,
    NM_OPT_SYNC_KLOOP_DIRECT_TX,
    OPT_MODE,
    OPTION,
)
from xennet.engine.choice import current
from xennet.netmap.adapter import NAF_FORCE_READ, NAF_FORCE_RECLAIM
from xennet.netmap.address_space import FaultError
from xennet.netmap.csb import ControlBlocks
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import (
    K_HWCUR,
    K_HWTAIL,
    K_RCUR,
    K_RHEAD,
    K_RTAIL,
    Kring,
)
from xennet.netmap.options import Options
from xennet.netmap.prologue import accepts, reinit

#: Most microseconds between two rounds.
MAX_SLEEP_US = 1_000_000
#: Bytes of a pair of event descriptors in the option.
_EVENTFDS = 8


@define(eq=False)
class Kloop:
    """A kernel loop of ``file``. ``sleep_us``: microseconds between rounds, as the client wants."""

    file: Descriptor
    blocks: ControlBlocks
    sleep_us: int
    #: The ioctl that started the loop has returned.
    ended: bool = field(init=False, default=False)

    def turn(self) -> None:
        """One round over all rings: what the client wrote is judged, the rings are synced, the
        client is answered. A client that takes its control blocks away ends the loop."""
        if self.ended:
            return
        self.file.syncer.state.caller = self.file.memory
        try:
            for index, kring in enumerate(self.blocks.rings):
                self._sync(index, kring)
        except FaultError:
            self.end()

    def _sync(self, index: int, kring: Kring) -> None:
        # Nobody has to kick a loop that only sleeps.
        self.blocks.want_kick(index, 0)
        head, cur = self.blocks.written(index)
        if not _take(kring, head, cur):
            current().kernel(reinit)(kring.na.region.view32, kring.view)
            return
        flags = NAF_FORCE_READ
        if kring.tx:
            pvt = kring.pvt
            space = (pvt[K_HWTAIL] - pvt[K_HWCUR]) % kring.num_slots
            flags = NAF_FORCE_RECLAIM if space <= kring.num_slots // 2 else 0
        try:
            kring.sync(kring, flags)
        except NetmapError:
            return
        kring.pvt[K_RTAIL] = kring.pvt[K_HWTAIL]
        self.blocks.answer(index, kring.pvt[K_HWCUR], kring.pvt[K_HWTAIL])

    def end(self) -> None:
        """The loop is over; the client still syncs by its control blocks."""
        self.ended = True
        self.file.kloop = None
        self.file.kloop_stops = False


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


def start(file: Descriptor, sleep_us: int, options: Options) -> None:
    """Start a loop; ``file.kloop`` is it, unless a stop was waiting, which ends it at once.

    Raises NetmapError: EINVAL for a sleep that is too long, a client without control blocks, a mode
    or number of event descriptors that does not fit; ENXIO for a file that is not registered; EBUSY
    while one runs.
    """
    if sleep_us > MAX_SLEEP_US:
        raise NetmapError(EINVAL, f"{sleep_us} microseconds are more than a second")
    file.bound()
    blocks = file.csb
    if not isinstance(blocks, ControlBlocks):
        raise NetmapError(EINVAL, "the client has no control blocks")
    if file.kloop is not None:
        raise NetmapError(EBUSY, "a kernel loop runs")
    try:
        _check_options(options, len(blocks.rings))
    except NetmapError:
        file.kloop_stops = False
        raise
    loop = Kloop(file, blocks, sleep_us)
    file.kloop = loop
    if file.kloop_stops:
        loop.end()


def _check_options(options: Options, rings: int) -> None:
    mode = options.find(NETMAP_REQ_OPT_SYNC_KLOOP_MODE)
    if mode is not None:
        known = NM_OPT_SYNC_KLOOP_DIRECT_TX | NM_OPT_SYNC_KLOOP_DIRECT_RX
        if mode.read(OPT_MODE).mode & ~known:
            mode.status = EINVAL
            raise NetmapError(EINVAL, "no such mode of a kernel loop")
        mode.status = 0
    eventfds = options.find(NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS)
    if eventfds is not None:
        if eventfds.told_size != OPTION.size + _EVENTFDS * rings:
            eventfds.status = EINVAL
            raise NetmapError(EINVAL, f"{eventfds.told_size} bytes are not those of {rings} rings")
        eventfds.status = 0


def stop(file: Descriptor) -> None:
    """End the loop of a file; without one the next ends at once. Raises NetmapError(ENXIO)."""
    file.bound()
    file.kloop_stops = True
    if isinstance(file.kloop, Kloop):
        file.kloop.end()
