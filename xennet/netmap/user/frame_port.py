"""``netmap:PORT``: a netmap port of this process's device as a source and sink of frames."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from attrs import evolve

from xennet.engine.choice import current
from xennet.frames import MAX_FRAME, MIN_FRAME, NOTHING, UNBOUNDED, FrameBatch
from xennet.netmap.device import Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.user.frame_copy import (
    P_AT,
    P_BUFFERS,
    P_MASK,
    P_NUMBER,
    P_SIZE,
    P_SLOTS,
    PLACES,
    R_BAD,
    R_BYTES,
    R_FRAMES,
    R_MORE,
    RESULTS,
    put_frames,
    take_frames,
)
from xennet.netmap.user.mapped_ring import Ring
from xennet.netmap.user.nmport import Port, open_port
from xennet.port.base import BasePort, PortError


class NetmapPort(BasePort):
    """``netmap:PORT``: frames that are pushed are sent from the port's first tx ring, frames that
    come into its rx rings are pulled.

    PORT is libnetmap's name of a port (xennet.netmap.user.port_name): ``vale0:1``, ``xn0^``,
    ``x{1`` ... ``device``: None for that of this process, which all ports of a run are on.

    A frame has to fit into a buffer, and is as it is on a wire (``carries``). A packet that comes
    in several slots is one frame. A VALE switch never keeps a sender waiting: what a receiver has
    no room for is dropped there, and in the receiver's ``counters.dropped_unread``; a pipe has room
    (``room``) when its reader has pulled. Frames get the time stamp of the ring. What cannot be
    sent is in ``counters.faults``.
    """

    expected = None

    def __init__(self, argument: str, *, device: Device | None = None) -> None:
        super().__init__(f"netmap:{argument}")
        try:
            self._port: Port = open_port(self.name, device=device)
        except NetmapError as e:
            raise PortError(f"{self.name}: {e}") from e
        engine = current()
        self._put, self._take = engine.kernel(put_frames), engine.kernel(take_frames)
        self._view = engine.view
        tx, self._rx = self._port.tx_rings, [(r, self._views(r)) for r in self._port.rx_rings]
        self._tx = (tx[0], self._views(tx[0])) if tx else None
        buf_size = (*tx, *self._port.rx_rings)[0].buf_size if tx or self._rx else MIN_FRAME
        self.carries = evolve(NOTHING, max_frame=min(buf_size, MAX_FRAME))
        self._res = array("q", bytes(8 * RESULTS))
        self._res_view = engine.view(self._res)
        self._limits = (MIN_FRAME, MAX_FRAME)
        #: A reader has given slots back; a push found no room.
        self._given_back = True
        self._refused = False
        self._finished = self._quiet = False
        self._unsent = 0
        self._krings = self._port.file.bound().binding.rings(False)
        self._port.notify(rx=self._arrived, tx=self._has_room)

    def _views(self, ring: Ring) -> Any:
        """A ring as the kernels take it."""
        region = self._port.file.bound().port.region
        place = array("I", bytes(4 * PLACES))
        place[P_AT], place[P_SLOTS], place[P_SIZE] = ring.at // 4, ring.num_slots, ring.buf_size
        place[P_BUFFERS] = region.bufs.offset
        place[P_NUMBER] = region.bufs.layout.objtotal
        place[P_MASK] = ring.offset_mask & 0xFFFFFFFF
        return region.view32, region.view8, self._view(place)

    def _arrived(self) -> None:
        self.wake()

    def _has_room(self) -> None:
        self._given_back = True
        if self._refused:
            self._refused = False
            self.wake()

    @property
    def exhausted(self) -> bool:
        return self._finished and self._quiet

    @property
    def room(self) -> int:
        if self._tx is None or self._port.closed:
            return UNBOUNDED
        ring = self._tx[0]
        if self._given_back:
            self._given_back = False
            self._sync(self._port.txsync)
        space = ring.space
        self._refused = not space
        return space

    def _sync(self, call: Callable[[], None]) -> None:
        try:
            call()
        except NetmapError as e:
            raise PortError(f"{self.name}: {e}") from e

    def push(self, batch: FrameBatch, /) -> None:
        room = self.room
        if batch.count > room:
            raise IndexError(f"{self.name}: {batch.count} frames pushed, room for {room}")
        if batch.count and self._tx is None:
            self._not_sent(batch.count, "the port has no tx ring")
        elif batch.count and self._tx is not None:
            views, frames = self._tx[1], batch.for_kernels(self._view)
            left = batch.count - self._put(views, frames, 0, batch.count, self._res_view)
            if left + self._res[R_BAD]:
                self._not_sent(left + self._res[R_BAD], "longer than a buffer, or a bad slot")
            self._sync(self._port.txsync)
        super().push(batch)

    def _not_sent(self, frames: int, why: str) -> None:
        self._unsent += frames
        self._counters.faults = (f"{self.name}: {self._unsent} frames were not sent: {why}",)

    def pull(self, batch: FrameBatch, /) -> int:
        if self._port.closed or not self._rx:
            self._quiet = True
            return 0
        if not any(ring.space for ring, _ in self._rx):
            self._sync(self._port.rxsync)
        self._counters.dropped_unread = sum(kring.dropped for kring in self._krings)
        first, used = batch.count, batch.used
        more = bad = 0
        for ring, views in self._rx:
            count = batch.count
            if not ring.space:
                continue
            self._take(
                views,
                batch.for_kernels(self._view),
                count,
                batch.used,
                batch.max_frames,
                len(batch.data),
                self._limits,
                self._res_view,
            )
            taken = batch.count = count + self._res[R_FRAMES]
            batch.used += self._res[R_BYTES]
            bad += self._res[R_BAD]
            more |= self._res[R_MORE]
            stamp = ring.timestamp * 1000
            for i in range(count, taken):
                batch.timestamp[i] = stamp
                batch.remark(i, None)
        pulled = batch.count - first
        self._counters.refused_oversize += bad
        if pulled or bad:
            self._sync(self._port.rxsync)  # gives the slots back, so that senders have them
        if more and not pulled and not first:
            raise IndexError(f"{self.name}: the batch is too small for the next frame")
        self._quiet = not pulled
        return self._pulled(pulled, batch.used - used)

    def finish(self) -> None:
        self._finished = True

    def close(self) -> None:
        self._port.close()
        self._tx, self._rx = None, []
