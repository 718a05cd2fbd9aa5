"""A port as a driver sees it: with ledgers, with progress, and with its errors kept for later."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from xennet.frames import FrameBatch, Offload
from xennet.link.ledger import Ledger
from xennet.port import Port, PortError


@define(slots=True, eq=False)
class Witness:
    """``outgoing`` is the ledger of what the port gives, ``incoming`` of what it gets.

    ``arrived`` is told after each batch that the port got. A port that fails to give frames counts
    as exhausted, so that the frames before the failure still arrive; ``failure`` keeps its error.
    """

    port: Port
    outgoing: Ledger
    incoming: Ledger
    arrived: Callable[[int], None]
    failure: PortError | None = None

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
        self.incoming.received(batch)
        self.port.push(batch)
        self.arrived(self.incoming.frames_received)

    def negotiated(self, offload: Offload) -> None:
        self.port.negotiated(offload)
