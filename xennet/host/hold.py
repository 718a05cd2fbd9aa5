"""Keeps a driver from taking frames before its link carries them."""

from __future__ import annotations

from xennet.frames import Endpoint, FrameBatch, Wrapper


class Hold(Wrapper):
    """An endpoint that gives nothing until ``flowing`` is set, or as many frames as ``allowance``.

    Drivers send as soon as they are connected; a link brings them up first, and carries later.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.flowing = False
        self.allowance = 0

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
