"""The edge between a port and a driver: it makes frames fit that need more than the receiver takes.

A driver tells at each connect what the other end of its vif takes (``negotiated``). A frame that it
pulls from an :class:`OffloadEdge` has no blank checksum, no GSO and no length beyond that: the edge
completes and segments in software, as a network stack does for a device without these features, and
drops frames that cannot be made to fit. In the other direction it makes frames fit what the
endpoint carries.

If nothing is demanded, or the columns of a batch show that no frame of it needs help, frames are
neither changed nor copied.
"""

from __future__ import annotations

from collections.abc import Callable

from xennet.frames import EVERYTHING, MAX_FRAME, Endpoint, FrameBatch, Offload, lazy_bytes
from xennet.offload.fitter import Fitter, OffloadCounters
from xennet.port.base import PortWrapper

#: Size of the batch in which frames are made to fit the endpoint.
_OUT_FRAMES = 256
_OUT_BYTES = 4 * (MAX_FRAME + 1)


class OffloadEdge(PortWrapper):
    """An edge in front of ``endpoint``; a port if that is one.

    Frames that find no room wait, at most those of one batch in each direction. While some wait to
    be pushed, :attr:`room` is 0; they are pushed when the endpoint has room again, and before every
    pull and push.
    """

    carries = EVERYTHING

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._pulled = Fitter(EVERYTHING)
        self._pushed = Fitter(self.endpoint.carries)
        self._out: FrameBatch | None = None
        self._wake: Callable[[], None] = lambda: None
        self._busy = False
        self._finishing = False
        if self._pushed.idle:
            # Nothing ever waits: what is pushed, and the room for it, is the endpoint's own.
            vars(self)["push"] = self.endpoint.push
            self._hand_on_room()

    @property
    def pulled(self) -> OffloadCounters:
        """Counters of the frames pulled from the endpoint."""
        return self._pulled.counters

    @property
    def pushed(self) -> OffloadCounters:
        """Counters of the frames pushed to the endpoint."""
        return self._pushed.counters

    @property
    def waiting(self) -> bool:
        """Whether frames wait, in either direction."""
        return self._pulled.waiting or self._pushed.waiting

    def negotiated(self, offload: Offload) -> None:
        """Make frames that are pulled fit ``offload`` from now on."""
        self._pulled.offload = offload
        super().negotiated(offload)

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        super().listen(self._woken)

    @property
    def room(self) -> int:
        return 0 if self._pushed.waiting else self.endpoint.room

    def pull(self, batch: FrameBatch) -> int:
        """Pull as the endpoint does. Raises IndexError if an empty ``batch`` is too small for a
        frame."""
        if self._pushed.waiting and not self._busy:
            return self._push_and_pull(batch)
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
            try:
                if not self.endpoint.pull(batch):
                    break
            finally:
                unfit = fitter.first_unfit(batch, start)
                if unfit < batch.count:
                    unfit = fitter.complete(batch, unfit)
                fits = unfit == batch.count
                if not fits:
                    fitter.begin(batch, unfit)
                    fitter.keep()
                    batch.cut(unfit)
            if fits:
                break
        return batch.count - first

    def _push_and_pull(self, batch: FrameBatch) -> int:
        self.flush()
        self._busy = True
        try:
            pulled = self.pull(batch)
        finally:
            self._busy = False
        self.flush()  # what was pulled may have made room
        return pulled

    def push(self, batch: FrameBatch) -> None:
        """Push as the endpoint does. Raises IndexError for more frames than :attr:`room`."""
        fitter = self._pushed
        self.flush()
        if batch.count > self.room:
            raise IndexError(f"{batch.count} frames pushed, room for {self.room}")
        unfit = fitter.first_unfit(batch, 0)
        if unfit == batch.count:
            self.endpoint.push(batch)
            return
        fitter.begin(batch, 0)
        try:
            self._push_waiting()
        finally:
            fitter.keep()

    def flush(self) -> None:
        """Push frames that wait, as far as the endpoint has room."""
        if not self._pushed.waiting:
            return
        self._push_waiting()
        if not self._pushed.waiting:
            if self._finishing:
                self._finish()
            self._wake()  # there is room again

    def _push_waiting(self) -> None:
        fitter, endpoint = self._pushed, self.endpoint
        self._busy = True
        try:
            while fitter.waiting and (room := endpoint.room):
                if self._out is None:
                    self._out = FrameBatch(lazy_bytes(_OUT_BYTES), _OUT_FRAMES)
                out = self._out
                out.clear()
                if fitter.fit(out, room):
                    endpoint.push(out)
        finally:
            self._busy = False

    def _woken(self) -> None:
        if not self._busy:
            self.flush()
        self._wake()

    # -- what only ports have ----------------------------------------------------------------------

    @property
    def expected(self) -> int | None:
        """The port's number of frames; None once a frame was segmented or dropped."""
        done = self.pulled
        return None if done.segmented or done.refused or done.errors else super().expected

    @property
    def exhausted(self) -> bool:
        return super().exhausted and not self.waiting

    def finish(self) -> None:
        """Finish the port when it has all frames that wait."""
        self._finishing = True
        self.flush()
        if self._finishing and not self._pushed.waiting:
            self._finish()

    def _finish(self) -> None:
        self._finishing = False
        super().finish()

    def close(self) -> None:
        """Close the port. Frames that wait and find no room now are lost."""
        try:
            self.flush()
        finally:
            super().close()
