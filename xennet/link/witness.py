"""A port as a driver sees it: with ledgers, with progress, and with its errors kept for later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define

from xennet.frames import NOTHING, FrameBatch, FrameEndpoint, Offload
from xennet.link.ledger import Ledger
from xennet.port import PortError


class Outside(FrameEndpoint, Protocol):
    """What a witness stands before: a port, an edge, a place at a switch."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        ...


@define(slots=True, eq=False)
class Witness:
    """``outgoing`` is the ledger of what the port gives, ``incoming`` of what it gets.

    ``arrived`` is told after each batch that the port got how many frames that were. A port that
    fails to give frames counts as exhausted, so that the frames before the failure still arrive;
    ``failure`` keeps its error. ``mtu``: of the vif in bytes, 0 if it does not limit frames.
    ``offload``: what the other end of the vif takes, as far as it was told.
    """

    port: Outside
    outgoing: Ledger
    incoming: Ledger
    arrived: Callable[[int], None]
    mtu: int = 0
    failure: PortError | None = None
    offload: Offload = NOTHING

    @property
    def room(self) -> int:
        return self.port.room

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        return self.failure is not None or self.port.exhausted

    def pull(self, batch: FrameBatch) -> int:
        if self.failure is not None:
            return 0
        first = batch.count
        try:
            pulled = self.port.pull(batch)
        except PortError as error:
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
