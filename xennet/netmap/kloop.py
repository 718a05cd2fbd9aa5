"""The kernel loop: syncs of the rings of a client that writes head and cur into control blocks.

In the kernel it runs inside the ioctl that starts it, whose thread sleeps between two rounds. Here
that ioctl is unanswered until the loop ends, and each round is a delivery of the device's run loop:

* without event descriptors, or with a ring that has none to be kicked by, the next round is due
  ``sleep_us`` later;
* with them, when the client kicks a ring or the port has something for one, and after 3 seconds;
* in direct mode a kick syncs its ring and no other, and what the port has for a ring is told to the
  client by its event descriptor.

Rules: netmap_kloop.c, netmap_sync_kloop and netmap_sync_kloop_stop.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EINVAL
from functools import partial

from attrs import define, field

from xennet.abi.netmap import (
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NM_OPT_SYNC_KLOOP_DIRECT_RX,
    NM_OPT_SYNC_KLOOP_DIRECT_TX,
    OPT_MODE,
    OPTION,
)
from xennet.netmap.address_space import FaultError
from xennet.netmap.csb import ControlBlocks
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import Kring
from xennet.netmap.loop_events import PAIR_BYTES, LoopEvents
from xennet.netmap.loop_ring import LoopRing
from xennet.netmap.options import Options
from xennet.pump import Pump
from xennet.runloop import Delivery, Timer

#: Most microseconds between two rounds.
MAX_SLEEP_US = 1_000_000
#: ns between two rounds at least: no sleep of a kernel is shorter.
_LEAST_SLEEP = 50_000
#: ns after which a loop with event descriptors looks in any case.
_LOOKS_AFTER = 3_000_000_000


@define(eq=False)
class Kloop:
    """A kernel loop of ``file``. ``sleep_us``: microseconds between rounds, as the client wants;
    ``direct``: which rings are synced by a kick (of tx rings, of rx rings)."""

    file: Descriptor
    blocks: ControlBlocks
    sleep_us: int
    direct: dict[bool, bool]
    events: LoopEvents | None
    number: int
    #: The one that the device had when the loop began.
    pump: Pump
    rings: list[LoopRing] = field(init=False)
    #: The ioctl that started the loop has returned.
    ended: bool = field(init=False, default=False)
    #: Called when it does.
    when_ended: list[Callable[[], None]] = field(init=False, factory=list)
    _timer: Timer | None = field(init=False, default=None)
    _waiting: list[tuple[Kring, Callable[[], None]]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.rings = [self._ring(index, kring) for index, kring in enumerate(self.blocks.rings)]

    def _ring(self, index: int, kring: Kring) -> LoopRing:
        direct, interrupt = self.direct[kring.tx], None
        if self.events is not None and not direct and self.events.irqfds[index] >= 0:
            interrupt = partial(self.events.interrupt, index)
        return LoopRing(self.blocks, index, self.kicked, direct, interrupt)

    @property
    def kicked(self) -> bool:
        """Whether the client has an event descriptor to kick each ring with."""
        return self.events is not None and bool(self.events.ioeventfds)

    @property
    def _delivery(self) -> Delivery:
        return Delivery("kloop", self.file.syncer.state.domid, self.number)

    def begin(self) -> None:
        """Go on from now on."""
        if self.events is not None and self.kicked:
            self.pump.watch(self.events.fileno(), self._kicks)
            for kring in self.blocks.rings:
                waiter = self._due
                if self.direct[kring.tx]:
                    waiter = partial(self._interrupt_all, kring.tx)
                kring.waiters.append(waiter)
                self._waiting.append((kring, waiter))
        self._due()

    def _due(self) -> None:
        if not self.ended:
            self.pump.run_loop.post(self._delivery, self._round)

    def _interrupt_all(self, tx: bool) -> None:
        """A port has something for a ring of a direction that is synced by kicks."""
        assert self.events is not None
        for index, kring in enumerate(self.blocks.rings):
            if kring.tx == tx:
                self.events.interrupt(index)

    def _kicks(self) -> None:
        """The client has written to some of its event descriptors."""
        assert self.events is not None
        for index in self.events.kicks():
            if self.rings[index].direct:
                self._kicked(self.rings[index])
            else:
                self._due()

    def _kicked(self, ring: LoopRing) -> None:
        """A ring that is synced by kicks is due."""

        def work(_delivery: Delivery) -> None:
            if not self._work([ring]):
                self._kicked(ring)

        delivery = self._delivery._replace(kind=f"kloop ring {ring.index}")
        self.pump.run_loop.post(delivery, work)

    def _round(self, _delivery: Delivery) -> None:
        """One round over all rings, and when the next one is due."""
        if not self._work([ring for ring in self.rings if not ring.direct]):
            self._due()
            return
        if self.ended:
            return
        delay = _LOOKS_AFTER if self.kicked else max(1000 * self.sleep_us, _LEAST_SLEEP)
        state = self.file.syncer.state
        if self._timer is not None:
            self.pump.run_loop.cancel_timer(self._timer)
        self._timer = self.pump.run_loop.call_after(delay, state.domid, self._due, background=True)

    def _work(self, rings: list[LoopRing]) -> bool:
        """Sync rings. Returns whether there is nothing left to do. A client that takes its control
        blocks away ends the loop."""
        if self.ended:
            return True
        self.file.syncer.state.caller = self.file.memory
        try:
            done = [ring.work() for ring in rings]
        except FaultError:
            self.end()
            return True
        return all(done)

    def end(self) -> None:
        """The loop is over; the client still syncs by its control blocks."""
        if self.ended:
            return
        self.ended = True
        self.file.kloop = None
        self.file.kloop_stops = False
        pump = self.pump
        while self._waiting:
            kring, waiter = self._waiting.pop()
            kring.waiters.remove(waiter)
        if self._timer is not None:
            pump.run_loop.cancel_timer(self._timer)
        pump.run_loop.cancel(self._delivery)
        if self.events is not None:
            if self.kicked:
                pump.unwatch(self.events.fileno())
            self.events.close()
        while self.when_ended:
            self.when_ended.pop()()


def start(file: Descriptor, sleep_us: int, options: Options) -> Kloop | None:
    """Start a loop. Returns it; None if a stop was waiting, by which it ended at once.

    Raises NetmapError: EINVAL for a sleep that is too long, a client without control blocks, a mode
    or number of event descriptors that does not fit, direct mode with event descriptors that are
    not there for all rings; ENXIO for a file that is not registered; EBUSY while one runs; EBADF
    and EINVAL for an event descriptor that is none.
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
        direct = _modes(options)
        events = _events(file, options, len(blocks.rings), any(direct.values()))
    except NetmapError:
        file.kloop_stops = False
        raise
    state = file.syncer.state
    state.loops += 1
    loop = Kloop(file, blocks, sleep_us, direct, events, state.loops, state.pump)
    file.kloop = loop
    if file.kloop_stops:
        loop.end()
        return None
    loop.begin()
    return loop


def _modes(options: Options) -> dict[bool, bool]:
    """Which rings are synced by kicks: of tx rings, of rx rings."""
    option = options.find(NETMAP_REQ_OPT_SYNC_KLOOP_MODE)
    if option is None:
        return {True: False, False: False}
    mode = option.read(OPT_MODE).mode
    if mode & ~(NM_OPT_SYNC_KLOOP_DIRECT_TX | NM_OPT_SYNC_KLOOP_DIRECT_RX):
        option.status = EINVAL
        raise NetmapError(EINVAL, "no such mode of a kernel loop")
    option.status = 0
    return {
        True: bool(mode & NM_OPT_SYNC_KLOOP_DIRECT_TX),
        False: bool(mode & NM_OPT_SYNC_KLOOP_DIRECT_RX),
    }


def _events(file: Descriptor, options: Options, rings: int, direct: bool) -> LoopEvents | None:
    option = options.find(NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS)
    if option is None:
        return None
    if option.told_size != OPTION.size + PAIR_BYTES * rings:
        option.status = EINVAL
        raise NetmapError(EINVAL, f"{option.told_size} bytes are not those of {rings} rings")
    option.status = 0
    events = LoopEvents.of(file.memory, bytes(option.body))
    if direct and not events.ioeventfds:
        events.close()
        option.status = EINVAL
        raise NetmapError(EINVAL, "direct mode needs an event descriptor to kick each ring with")
    return events


def stop(file: Descriptor) -> None:
    """End the loop of a file; without one the next ends at once. Raises NetmapError(ENXIO)."""
    file.bound()
    file.kloop_stops = True
    if file.kloop is not None:
        file.kloop.end()
