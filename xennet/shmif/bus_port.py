"""``shmif:FILE``: a place on a bus that other processes share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import evolve

from xennet.frames import NOTHING, FrameBatch, Watch
from xennet.port.base import BasePort
from xennet.shmif.doorbell import Doorbell
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import MAX_BUS_FRAME, Bus, Reader, Station


class ShmifPort(BasePort):
    """``shmif:FILE``: what is pushed goes to the bus, what others have sent is pulled.

    FILE is made if it is not there. It is attached to as upstream: the newest frame that is on the
    bus already is pulled first. Frames of its own are not pulled; of those of others it takes, in
    this order, what is for its address, for a group, and the rest if ``station`` is promiscuous,
    which it is by default, as a bridge's is.

    The bus takes plain frames of up to 1514 bytes (``carries``); a longer one is a BusError (a
    PortError), as is a damaged bus, or a lock that cannot be had for ten seconds. A bus never fills
    up: what is written takes the place of the oldest frames. Who reads too slowly loses them, which
    ``counters.faults`` tells with how often it was; holders of the lock that died are told there
    too. Frames keep their time stamps, to the microsecond; those without one get the time since
    boot, as upstream.
    """

    expected = None
    carries = evolve(NOTHING, max_frame=MAX_BUS_FRAME)

    def __init__(self, path: str, *, station: Station | None = None, form: str = "64") -> None:
        super().__init__(f"shmif:{path}")
        if path == "-":
            raise BusError("shmif: a bus is a file, not standard input")
        self._told: list[str] = []
        self.station = station or Station.random(promiscuous=True)
        self._bus = Bus(path, create=True, form=form, tell=self._tell)
        self._reader = Reader(self._bus.memory, self.station)
        self._card = self.station.card()
        self._doorbell = Doorbell(self._bus.fileno)
        self._unwatch: Callable[[], None] = _nothing
        self._finished = False
        self._quiet = False
        try:
            self.up()
        except BaseException:
            self.close()
            raise

    def up(self) -> None:
        """Begin anew before the newest frame, as an interface that is set up. BusError for a
        damaged bus."""
        self._bus.attach(self._reader)

    def set_link(self, up: bool) -> None:
        """Whether the link is up. While it is down what is pushed is counted and not written, and
        what others send is dropped when it is read."""
        self.station.link = up
        self._reader.stand(self.station)

    @property
    def exhausted(self) -> bool:
        return self._finished and self._quiet

    @property
    def overruns(self) -> int:
        """How often it fell behind, and lost frames."""
        return self._reader.taken.overruns

    def watch_descriptors(self, watch: Watch) -> None:
        """What can be read when there may be frames. None where a bus can only be looked at again
        and again."""
        self._end_watch()
        if self._doorbell.fileno >= 0:
            self._unwatch = partial(watch, self._doorbell.fileno, None, None)
            watch(self._doorbell.fileno, self._rung, None)

    def _end_watch(self) -> None:
        unwatch, self._unwatch = self._unwatch, _nothing
        unwatch()

    def _rung(self) -> None:
        if self._doorbell.heard():
            self.wake()

    def wait(self, seconds: float) -> None:
        """Sleep until somebody writes to the bus, or ``seconds`` are over. It may be nothing."""
        self._doorbell.wait(seconds)

    def pull(self, batch: FrameBatch, /) -> int:
        used = batch.used
        try:
            pulled = self._bus.take(self._reader, batch)
        finally:
            self._note_faults()
        self._quiet = not pulled
        return self._pulled(pulled, batch.used - used)

    def push(self, batch: FrameBatch, /) -> None:
        if self.station.link and batch.count:
            try:
                self._bus.send(batch, self._card)
            finally:
                self._note_faults()
        super().push(batch)

    def finish(self) -> None:
        self._finished = True

    def close(self) -> None:
        if self._bus.fileno >= 0:
            self._bus.ring()  # as an interface that is stopped
        self._end_watch()
        self._doorbell.close()
        self._bus.close()

    def _tell(self, message: str) -> None:
        self._told.append(message)

    def _note_faults(self) -> None:
        times = self.overruns
        if not times and not self._told:
            return
        faults = list(self._told)
        if times:
            often = "once" if times == 1 else f"{times} times"
            faults.append(f"{self._bus.path}: fell behind {often}, frames were lost (overrun)")
        self._counters.faults = tuple(faults)


def _nothing() -> None:
    """Ends no watch."""
