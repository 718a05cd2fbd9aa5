"""A port as a driver sees it: with ledgers, with progress, and with its errors kept for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from xennet.frames import NOTHING, Endpoint, FrameBatch, Offload
from xennet.port import PortError
from xennet.port.base import PullStopped
from xennet.run.in_order import InOrderCheck
from xennet.run.stop import Stop


class Outside(Endpoint, Protocol):
    """What a witness stands before: a port, an edge, a place at a switch."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        ...


@define(slots=True, eq=False)
class Checker:
    """``outgoing`` is the ledger of what the port gives, ``incoming`` of what it gets.

    ``arrived`` is told after each batch that the port got how many frames that were. A port that
    fails to give frames counts as exhausted, so that the frames before the failure still arrive;
    ``failure`` keeps its error. ``mtu``: of the vif in bytes, 0 if it does not limit frames.
    ``offload``: what the other end of the vif takes, as far as it was told. ``stop``: whether the
    run is to end, and so the port gives nothing any more.
    """

    port: Outside
    outgoing: InOrderCheck
    incoming: InOrderCheck
    arrived: Callable[[int], None]
    mtu: int = 0
    failure: PortError | None = None
    offload: Offload = NOTHING
    stop: Stop = field(factory=Stop)

    @property
    def carries(self) -> Offload:
        return self.port.carries

    @property
    def room(self) -> int:
        return self.port.room

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        return self._over or self.port.exhausted

    @property
    def _over(self) -> bool:
        return self.failure is not None or bool(self.stop.reason)

    def pull(self, batch: FrameBatch) -> int:
        if self._over:
            return 0
        first, used = batch.count, batch.used
        try:
            self.stop.pulling = True
            pulled = self.port.pull(batch)
            self.stop.pulling = False
        except PullStopped:
            batch.count, batch.used = first, used
            return 0
        except PortError as error:
            self.stop.pulling = False
            self.failure = error
            return 0
        if pulled:
            self.outgoing.sent(batch, first)
        return pulled

    def push(self, batch: FrameBatch) -> None:
        frames = batch.count
        self.incoming.received(batch)
        self.port.push(batch)
        self.arrived(frames)

    def negotiated(self, offload: Offload) -> None:
        if self.mtu:
            offload = offload.with_mtu(self.mtu)
        self.offload = offload
        self.port.negotiated(offload)

    def listen(self, wake: Callable[[], None]) -> None:
        self.port.listen(wake)
