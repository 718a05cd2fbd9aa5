"""What stands between a port and a driver: frames that need more than the taker can, made fit.

A driver says at each connect what the other end of its vif takes (``negotiated``). What it pulls
from an :class:`OffloadEdge` has no blank checksum, no GSO and no length beyond that: the edge
completes and segments in software, as a network stack does for a device without these features, and
drops what cannot be helped. In the other direction it does the same for what the endpoint carries.

When nothing is demanded, or the columns of a batch show that no frame of it needs help, frames are
not touched or copied.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.frames import (
    EVERYTHING,
    MAX_FRAME,
    Endpoint,
    FrameBatch,
    Offload,
    lazy_bytes,
    require_endpoint,
)
from xennet.offload.fitter import Fitter, OffloadCounters
from xennet.port import Port
from xennet.port.base import Counters

#: The batch in which frames are put together for an endpoint that cannot carry all.
_OUT_FRAMES = 256
_OUT_BYTES = 4 * (MAX_FRAME + 1)


class OffloadEdge:
    """A frame endpoint in front of ``endpoint``, as drivers want it.

    Frames that find no room wait: at most those of one batch in each direction. While some wait to
    be pushed, :attr:`room` is 0.
    """

    carries = EVERYTHING

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = require_endpoint("endpoint", endpoint)
        self._pulled = Fitter(EVERYTHING)
        self._pushed = Fitter(self._endpoint.carries)
        self._out: FrameBatch | None = None

    @property
    def pulled(self) -> OffloadCounters:
        """What was done to frames on their way from the endpoint."""
        return self._pulled.counters

    @property
    def pushed(self) -> OffloadCounters:
        """What was done to frames on their way to the endpoint."""
        return self._pushed.counters

    @property
    def waiting(self) -> bool:
        """Whether frames wait here, in either direction."""
        return self._pulled.waiting or self._pushed.waiting

    def negotiated(self, offload: Offload) -> None:
        """From now on, what is pulled needs no more than ``offload``."""
        self._pulled.offload = offload
        self._endpoint.negotiated(offload)

    def listen(self, wake: Callable[[], None]) -> None:
        self._endpoint.listen(wake)

    @property
    def room(self) -> int:
        self._flush()  # what waits has taken all the room that there was
        return self._endpoint.room

    def pull(self, batch: FrameBatch) -> int:
        """As the endpoint's pull. IndexError when an empty ``batch`` is too small for a frame."""
        self._flush()
        fitter, first = self._pulled, batch.count
        while True:
            if fitter.waiting:
                fitter.fit(batch, batch.max_frames)
                if not batch.count:
                    if fitter.waiting:
                        raise IndexError(f"a batch of {len(batch.data)} bytes holds no next frame")
                elif batch.count > first or fitter.waiting:
                    break
            start = batch.count
            if not self._endpoint.pull(batch):
                break
            unfit = fitter.first_unfit(batch, start)
            if unfit < batch.count:
                unfit = fitter.complete(batch, unfit)
            if unfit == batch.count:
                break
            fitter.begin(batch, unfit)
            fitter.keep()
            batch.cut(unfit)
        return batch.count - first

    def push(self, batch: FrameBatch) -> None:
        """As the endpoint's push; IndexError when there are more frames than :attr:`room`."""
        fitter = self._pushed
        if fitter.idle:
            self._endpoint.push(batch)
            return
        if batch.count > self.room:
            raise IndexError(f"{batch.count} frames pushed, room for {self.room}")
        unfit = fitter.first_unfit(batch, 0)
        if unfit == batch.count:
            self._endpoint.push(batch)
            return
        fitter.begin(batch, 0)
        self._flush()
        fitter.keep()

    def _flush(self) -> None:
        """Push what waits to be pushed, as far as the endpoint has room."""
        fitter, endpoint = self._pushed, self._endpoint
        while fitter.waiting:
            room = endpoint.room
            if not room:
                return
            if self._out is None:
                self._out = FrameBatch(lazy_bytes(_OUT_BYTES), _OUT_FRAMES)
            out = self._out
            out.clear()
            if fitter.fit(out, room):
                endpoint.push(out)


class PortEdge(OffloadEdge):
    """An edge in front of a port that is itself a port (xennet.port.Port)."""

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._port = port
        self._finishing = False

    @property
    def name(self) -> str:
        return self._port.name

    @property
    def counters(self) -> Counters:
        """The port's own: frames as the outside sees them."""
        return self._port.counters

    @property
    def expected(self) -> int | None:
        """The port's, until a frame turned out to need cutting up or was dropped."""
        done = self.pulled
        return None if done.segmented or done.refused or done.errors else self._port.expected

    @property
    def exhausted(self) -> bool:
        return self._port.exhausted and not self.waiting

    def finish(self) -> None:
        """The port hears of it when it has all that waits here."""
        self._finishing = True
        self._flush()

    def close(self) -> None:
        """What waits to be pushed and finds no room now is lost."""
        try:
            self._flush()
        finally:
            self._port.close()

    def _flush(self) -> None:
        super()._flush()
        if self._finishing and not self._pushed.waiting:
            self._finishing = False
            self._port.finish()
