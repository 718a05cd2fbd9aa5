"""Keeps a driver from taking frames before its link carries them."""

from __future__ import annotations

from attrs import define

from xennet.frames import FrameBatch, FrameEndpoint, Offload


@define(slots=True, eq=False)
class Gate:
    """An endpoint that gives nothing until ``flowing`` is set.

    Drivers send as soon as they are connected; a link brings them up first, and carries later.
    """

    endpoint: FrameEndpoint
    flowing: bool = False

    @property
    def room(self) -> int:
        return self.endpoint.room

    def pull(self, batch: FrameBatch) -> int:
        return self.endpoint.pull(batch) if self.flowing else 0

    def push(self, batch: FrameBatch) -> None:
        self.endpoint.push(batch)

    def negotiated(self, offload: Offload) -> None:
        self.endpoint.negotiated(offload)
