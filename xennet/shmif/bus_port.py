"""``shmif:FILE``: a port that is a station on a bus shared with other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from attrs import evolve

from xennet.frames import NOTHING, FrameBatch, Watch
from xennet.port.base import BasePort
from xennet.shmif.doorbell import Doorbell
from xennet.shmif.errors import BusError
from xennet.shmif.shared_bus import MAX_BUS_FRAME, Bus, Reader, Station


class ShmifPort(BasePort):
    """``shmif:FILE``: frames that are pushed go to the bus, frames that others have sent are
    pulled.

    FILE is created if it does not exist. The port joins the bus as upstream's interface does: the
    newest frame that is on the bus already is pulled first. Its own frames are not pulled; of the
    frames of others it takes, in this order, those for its address, those for a group, and the rest
    if ``station`` is promiscuous, which it is by default, as a bridge's interface is.

    The bus takes plain frames of up to 1514 bytes (``carries``). A longer frame, a damaged bus, and
    a lock that cannot be had for ten seconds raise BusError (a PortError). A bus never fills up:
    new frames overwrite the oldest. A port that reads too slowly loses them; ``counters.faults``
    says so, and how often. It also lists holders of the lock that died. Frames keep their time
    stamps, to the microsecond; a frame without one gets the time since boot, as upstream.
    """

    expected = None
    live = True
    carries = evolve(NOTHING, max_frame=MAX_BUS_FRAME)

    def __init__(self, path: str, *, station: Station | None = None, form: str = "64") -> None:
        super().__init__(f"shmif:{path}")
        if path == "-":
            raise BusError("shmif: a bus is a file, not standard input")
        name, mark, option = path.rpartition("?")
        if mark and option.startswith("promisc=") and not os.path.lexists(path):
            hint = f"?{option} is an option of --link shmif:{name}"
            raise BusError(f"{path}: a port takes the frames for all addresses; {hint}")
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
        """Start again before the newest frame, as an interface that is set up. Raises BusError for
        a damaged bus."""
        self._bus.attach(self._reader)

    def set_link(self, up: bool) -> None:
        """Set the state of the link. While it is down, pushed frames are counted and not written,
        and frames of others are dropped when they are read."""
        self.station.link = up
        self._reader.stand(self.station)

    @property
    def exhausted(self) -> bool:
        return self._finished and self._quiet

    @property
    def overruns(self) -> int:
        """Number of times the port fell behind and lost frames."""
        return self._reader.taken.overruns

    def watch_descriptors(self, watch: Watch) -> None:
        """Have ``watch`` watch the descriptor that is readable when there may be frames: after a
        write, or every 10 ms where there is no inotify."""
        self._end_watch()
        descriptor = self._doorbell.descriptor()
        self._unwatch = partial(watch, descriptor, None, None)
        watch(descriptor, self._rung, None)

    def _end_watch(self) -> None:
        unwatch, self._unwatch = self._unwatch, _nothing
        unwatch()

    def _rung(self) -> None:
        if self._doorbell.heard():
            self.wake()

    def wait(self, seconds: float) -> None:
        """Sleep until the bus is written to, or ``seconds`` are over; there may be no new frame
        then."""
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
    """Do nothing: ends no watch."""
