"""Which queue of an interface a flow goes by.

Linux sends a flow by the queue on which a frame of its other direction was written last, or by one
that a hash chooses. A flow that changed its queue while frames of it wait in the old one would be
read out of order. So frames are written where the frames of their flow come from.
"""

from __future__ import annotations

from zlib import crc32

from xennet.flow.dissect import find_flow
from xennet.frames import FrameBatch

#: Most flows that are remembered; of more, the ones that were met first are forgotten.
MAX_FLOWS = 4096


def flow_of(batch: FrameBatch, index: int) -> bytes:
    """The flow of a frame, the same for both directions; empty if it is no IP packet."""
    data, at = batch.data, batch.offset[index]
    version, addresses, ports, protocol = find_flow(data, at, at + batch.length[index])
    if version == 0:
        return b""
    size = 4 if version == 4 else 16
    ends = [bytes(data[addresses : addresses + size]), bytes(data[addresses + size :][:size])]
    if ports:
        ends = [ends[0] + bytes(data[ports : ports + 2]), ends[1] + bytes(data[ports + 2 :][:2])]
    ends.sort()
    return bytes((protocol,)) + b"".join(ends)


class FlowQueues:
    """The queue, of ``count``, of each flow that was met."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._queues: dict[bytes, int] = {}

    def came(self, batch: FrameBatch, first: int, queue: int) -> None:
        """Note that frames ``first`` ... of ``batch`` were read from ``queue``."""
        for index in range(first, batch.count):
            self._note(flow_of(batch, index), queue)

    def queue_for(self, batch: FrameBatch, index: int) -> int:
        """The queue on which a frame is to be written."""
        flow = flow_of(batch, index)
        queue = self._queues.get(flow)
        if queue is None:
            queue = crc32(flow) % self.count
            self._note(flow, queue)
        return queue

    def _note(self, flow: bytes, queue: int) -> None:
        self._queues[flow] = queue
        if len(self._queues) > MAX_FLOWS:
            del self._queues[next(iter(self._queues))]
