"""A network stack that sends a few frames when it is told to, and counts the frames that come."""

from __future__ import annotations

from attrs import define

from xennet.frames import EVERYTHING, BaseEndpoint, FrameBatch, Offload

#: Locally administered addresses and IEEE 802 experimental ethertype 1, then padding.
FRAME = bytes.fromhex("02584e00000202584e00000188b5") + bytes(46)


@define(eq=False)
class Stack(BaseEndpoint):
    """A network stack: it sends ``to_send`` frames, has ``received`` frames and takes ``room``
    more."""

    to_send: int = 0
    received: int = 0
    room: int = 1 << 30
    offload: Offload = EVERYTHING

    def pull(self, batch: FrameBatch) -> int:
        pulled = 0
        while self.to_send and batch.has_room(len(FRAME)):
            batch.append(FRAME)
            self.to_send -= 1
            pulled += 1
        return pulled

    def push(self, batch: FrameBatch) -> None:
        self.received += batch.count

    def negotiated(self, offload: Offload) -> None:
        self.offload = offload
