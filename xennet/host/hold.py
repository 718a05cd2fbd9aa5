"""Keeps a driver from taking frames before its link carries them."""

from __future__ import annotations

from attrs import define

from xennet.frames import FrameBatch, FrameEndpoint, Offload


@define(slots=True, eq=False)
class Hold:
    """An endpoint that gives nothing until ``flowing`` is set, or as many frames as ``allowance``.

    Drivers send as soon as they are connected; a link brings them up first, and carries later.
    """

    endpoint: FrameEndpoint
    flowing: bool = False
    allowance: int = 0

    @property
    def room(self) -> int:
        return self.endpoint.room

    def pull(self, batch: FrameBatch) -> int:
        if self.flowing:
            return self.endpoint.pull(batch)
        if not self.allowance:
            return 0
        most = batch.max_frames
        batch.max_frames = min(most, batch.count + self.allowance)
        pulled = self.endpoint.pull(batch)
        batch.max_frames = most
        self.allowance -= pulled
        return pulled

    def push(self, batch: FrameBatch) -> None:
        self.endpoint.push(batch)

    def negotiated(self, offload: Offload) -> None:
        self.endpoint.negotiated(offload)
