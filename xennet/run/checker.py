"""A port as a link sees it in a run: checked, with progress, and with its error kept for later."""

from __future__ import annotations

from collections.abc import Callable

from xennet.frames import NOTHING, Endpoint, FrameBatch, Offload
from xennet.port import PortError
from xennet.port.base import PullStopped
from xennet.run.stop import Stop
from xennet.wrap.in_order import CheckedEnd, InOrderCheck


class Checker(CheckedEnd):
    """Stands before an edge or a port of a switch.

    ``arrived(frames)`` is called after each batch that the port got. A port that fails to give
    frames counts as exhausted, so that the frames before the failure still arrive; ``failure``
    keeps its error. ``mtu``: of the vif in bytes, 0 if it does not limit frames. ``offload``: what
    the other end of the vif takes, once it is known. ``stop``: if the run is to end, the port gives
    no more frames.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        outgoing: InOrderCheck,
        incoming: InOrderCheck,
        arrived: Callable[[int], None],
        *,
        mtu: int = 0,
        stop: Stop | None = None,
    ) -> None:
        super().__init__(endpoint, outgoing, incoming)
        self.arrived = arrived
        self.mtu = mtu
        self.stop = Stop() if stop is None else stop
        self.failure: PortError | None = None
        self.offload = NOTHING

    @property
    def exhausted(self) -> bool:
        """Whether no more frames will come."""
        return self.failure is not None or self.stop.over or super().exhausted

    def pull(self, batch: FrameBatch) -> int:
        if self.failure is not None or self.stop.over:
            return 0
        first, used = batch.count, batch.used
        try:
            self.stop.pulling = True
            pulled = self.endpoint.pull(batch)
            self.stop.pulling = False
        except PullStopped:
            batch.count, batch.used = first, used
            return 0
        except PortError as error:
            self.stop.pulling = False
            self.failure, self.stop.failed = error, True
            pulled = batch.count - first
        if pulled:
            self.outgoing.sent(batch, first)
        return pulled

    def push(self, batch: FrameBatch) -> None:
        self.incoming.received(batch)
        self.endpoint.push(batch)
        self.arrived(batch.count)

    def negotiated(self, offload: Offload) -> None:
        if self.mtu:
            offload = offload.with_mtu(self.mtu)
        self.offload = offload
        super().negotiated(offload)
