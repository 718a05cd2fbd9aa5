"""Proof that frames arrive as they were sent: each one, unchanged, in order.

A :class:`Ledger` stands for one direction of a link. The sending side notes a checksum, the length
and the time stamp of every frame it gives; the receiving side compares every frame it gets with the
oldest note. Only frames that are on their way are noted, so the ledger stays as small as the rings.
"""

from __future__ import annotations

from collections import deque
from zlib import crc32

from attrs import define, field

from xennet.frames import FrameBatch
from xennet.report.model import Mismatch

#: Mismatches that are described one by one; more are only counted.
DESCRIBED = 5


@define(slots=True)
class Ledger:
    """Counts are frames and bytes; ``evidence`` describes the first mismatches."""

    frames_sent: int = 0
    bytes_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    evidence: list[Mismatch] = field(factory=list)
    _in_flight: deque[tuple[int, int, int]] = field(factory=deque)

    def sent(self, batch: FrameBatch, first: int) -> None:
        """Note frames ``first`` ... of ``batch``, which have just been handed to the link."""
        for i in range(first, batch.count):
            start, length = batch.offset[i], batch.length[i]
            checksum = crc32(batch.data[start : start + length])
            self._in_flight.append((checksum, length, batch.timestamp[i]))
            self.bytes_sent += length
        self.frames_sent += batch.count - first

    def received(self, batch: FrameBatch) -> None:
        """Compare all frames of ``batch`` with what was sent, and give them their time stamps."""
        in_flight = self._in_flight
        for i in range(batch.count):
            start, length = batch.offset[i], batch.length[i]
            checksum = crc32(batch.data[start : start + length])
            self.bytes_received += length
            if not in_flight:
                self._mismatch(i, f"{length} bytes came that nobody sent")
                continue
            expected, sent_length, batch.timestamp[i] = in_flight.popleft()
            if (checksum, length) != (expected, sent_length):
                self._mismatch(
                    i,
                    f"sent {sent_length} bytes with CRC {expected:08x}, "
                    f"received {length} bytes with CRC {checksum:08x}",
                )
        self.frames_received += batch.count

    @property
    def missing(self) -> int:
        """Frames that were sent and have not arrived."""
        return len(self._in_flight)

    @property
    def intact(self) -> bool:
        """Whether every frame sent so far has arrived, unchanged and in order."""
        return not self.mismatches and not self._in_flight

    def _mismatch(self, index: int, what: str) -> None:
        self.mismatches += 1
        if len(self.evidence) < DESCRIBED:
            self.evidence.append(Mismatch(self.frames_received + index, what))
