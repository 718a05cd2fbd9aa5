"""Proof that frames arrive as they were sent: each one, unchanged, in order.

A :class:`Ledger` stands for one direction of a link. The sending side notes a checksum, the length,
the time stamp and the remark of every frame it gives; the receiving side compares every frame it
gets with the oldest note. Only frames that are on their way are noted, so the ledger stays as small
as the rings.

A link of several queues keeps the order within a flow only: its ledger has a queue of notes for
each flow that has frames on their way, and finds every loss, change and duplicate all the same.

A link may fill in a blank checksum on the way, and has to say so (csum_blank is gone). It may not
lose or invent that flag.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from zlib import crc32

from attrs import define, field

from xennet.flow.headers import find_flow
from xennet.frames import CSUM_BLANK, FrameBatch
from xennet.offload.checksum import blank, complete
from xennet.offload.headers import FOUND, PLACES
from xennet.report.model import Mismatch

#: Mismatches that are described one by one; more are only counted.
DESCRIBED = 5


#: The flow that frame ``index`` of a batch belongs to.
FlowOf = Callable[[FrameBatch, int], bytes]
#: CRC, length, time stamp, CSUM_BLANK or 0, and remark of each frame, the oldest first.
_Notes = deque[tuple[int, int, int, int, object]]


def one_flow(_batch: FrameBatch, _index: int) -> bytes:
    """All frames keep their order."""
    return b""


def ip_flow(batch: FrameBatch, index: int) -> bytes:
    """What a vif of several queues keeps in one: the addresses and ports of TCP and UDP, the
    addresses of other IP packets, everything that is not IP."""
    data, at = batch.data, batch.offset[index]
    version, addresses, ports, protocol = find_flow(data, at, at + batch.length[index])
    if version == 0:
        return b""
    where = data[addresses : addresses + (8 if version == 4 else 32)].tobytes()
    return where + bytes((protocol, *data[ports : ports + 4])) if ports else where


def sender(batch: FrameBatch, index: int) -> bytes:
    """The source address: what a switch keeps in order on its way to one port."""
    at = batch.offset[index]
    return batch.data[at + 6 : at + 12].tobytes()


@define(slots=True)
class Ledger:
    """Counts are frames and bytes; ``evidence`` describes the first mismatches. The order is judged
    within each flow, which ``flow_of`` tells."""

    flow_of: FlowOf = one_flow
    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    missing: int = 0
    evidence: list[Mismatch] = field(factory=list)
    _in_flight: dict[bytes, _Notes] = field(factory=dict)

    def sent(self, batch: FrameBatch, first: int) -> None:
        """Note frames ``first`` ... of ``batch``, which have just been handed to the link."""
        for i in range(first, batch.count):
            self.sent_one(batch, i)

    def received(self, batch: FrameBatch) -> None:
        """Compare all frames of ``batch`` with what was sent, and give them their time stamps and
        remarks."""
        for i in range(batch.count):
            self.received_one(batch, i)

    def sent_one(self, batch: FrameBatch, index: int) -> None:
        """Note frame ``index`` of ``batch``."""
        start, length = batch.offset[index], batch.length[index]
        flow = self.flow_of(batch, index)
        notes = self._in_flight.get(flow)
        if notes is None:
            notes = self._in_flight[flow] = deque()
        checksum = crc32(batch.data[start : start + length])
        is_blank, remark = batch.flags[index] & CSUM_BLANK, batch.remarks.get(index)
        notes.append((checksum, length, batch.timestamp[index], is_blank, remark))
        self.missing += 1
        self.frames_sent += 1
        self.bytes_sent += length

    def received_one(self, batch: FrameBatch, index: int) -> None:
        """Compare frame ``index`` of ``batch`` with the oldest note of its flow."""
        start, length = batch.offset[index], batch.length[index]
        flow = self.flow_of(batch, index)
        notes = self._in_flight.get(flow)
        if notes is None:
            batch.remark(index, None)
            self._mismatch(f"{length} bytes came that nobody sent")
        else:
            expected, sent_length, timestamp, was_blank, remark = notes.popleft()
            batch.timestamp[index] = timestamp
            if remark is not None or batch.remarks:
                batch.remark(index, remark)
            self.missing -= 1
            checksum = crc32(batch.data[start : start + length])
            is_blank = batch.flags[index] & CSUM_BLANK
            if length != sent_length or checksum != expected:
                if is_blank or not was_blank or not _filled_in(batch, index, expected):
                    self._mismatch(
                        f"sent {sent_length} bytes with CRC {expected:08x}, "
                        f"received {length} bytes with CRC {checksum:08x}"
                    )
            elif is_blank != was_blank:
                change = "lost" if was_blank else "got"
                self._mismatch(f"{length} bytes arrived as sent, but {change} csum_blank")
            if not notes:
                # No more memory than frames are on their way.
                del self._in_flight[flow]
        self.frames_received += 1
        self.bytes_received += length

    @property
    def intact(self) -> bool:
        """Whether every frame sent so far has arrived, unchanged and in order."""
        return not self.mismatches and not self.missing

    def _mismatch(self, what: str) -> None:
        self.mismatches += 1
        if len(self.evidence) < DESCRIBED:
            self.evidence.append(Mismatch(self.frames_received, what))


def _filled_in(batch: FrameBatch, index: int, expected: int) -> bool:
    """Whether a frame is the one with CRC ``expected``, but for a right checksum in the place of
    that of the pseudo-header alone."""
    frame, length = batch.frame(index), batch.length[index]
    copy = memoryview(bytearray(length + (-length & 3)))
    copy[:length] = frame
    words, found = copy.cast("I"), array("q", bytes(8 * PLACES))
    if complete(copy, words, 0, length, found) != FOUND or copy[:length] != frame:
        return False
    blank(copy, words, 0, length, found)
    return crc32(copy[:length]) == expected
