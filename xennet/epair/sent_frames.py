"""What the driver counts of the frames that it sends."""

from __future__ import annotations

from xennet.engine.choice import current
from xennet.engine.kernel import Frames
from xennet.frames import FrameBatch
from xennet.ifnet import Interface

_GROUP = 1


def group_frames(count: int, frames: Frames) -> int:
    """A kernel: how many of the first ``count`` frames are for groups."""
    data, _, offset, _, _, _, _, _, _ = frames
    found = 0
    for i in range(count):
        found += data[offset[i]] & _GROUP
    return found


class SentCounter:
    """Counts frames as sent, at either end, with the engine that is in force when it is made."""

    def __init__(self) -> None:
        engine = current()
        self._view = engine.view
        self._group_frames = engine.kernel(group_frames)

    def count(self, sender: Interface, receiver: Interface, batch: FrameBatch) -> None:
        """Count the frames of ``batch`` as sent, and the receiver's packets before it has them; the
        receiver's bytes are never counted."""
        counters = sender.counters
        counters.opackets += batch.count
        counters.obytes += batch.used
        counters.omcasts += self._group_frames(batch.count, batch.for_kernels(self._view))
        receiver.counters.ipackets += batch.count
