"""Ports for the edge tests: what they give is written down, what they take has a limit."""

from __future__ import annotations

from typing import Any

from offload_frames import ETHER, rows
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from xennet.frames import CSUM_BLANK, DATA_VALIDATED, EVERYTHING, FrameBatch, Offload
from xennet.port.base import BasePort

BLANK = CSUM_BLANK | DATA_VALIDATED
V4 = ETHER / IP(src="192.0.2.1", dst="192.0.2.2")
V6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")

#: frame, flags, gso_size, gso_type, timestamp, hash_info, hash_value
Row = tuple[bytes, int, int, int, int, int, int]


def row(frame: Any, flags: int = 0, gso_size: int = 0, gso_type: int = 0, stamp: int = 0) -> Row:
    return (bytes(frame), flags, gso_size, gso_type, stamp, stamp and 0x101, stamp * 3)


def blank_udp(base: Any = V4, stamp: int = 0) -> Row:
    return row(base / UDP(chksum=0x4444) / b"payload", BLANK, stamp=stamp)


def gso(payload: int, gso_size: int, base: Any = V4, stamp: int = 0, seq: int = 0) -> Row:
    frame = base / TCP(chksum=0x4444, seq=seq) / bytes(i & 0xFF for i in range(payload))
    return row(frame, BLANK, gso_size, 1 if IP in base else 2, stamp)


def add(batch: FrameBatch, item: Row) -> None:
    frame, flags, gso_size, gso_type, stamp, hash_info, hash_value = item
    batch.append(frame, timestamp=stamp, flags=flags, gso_size=gso_size, gso_type=gso_type)
    batch.hash_info[batch.count - 1] = hash_info
    batch.hash_value[batch.count - 1] = hash_value


class ScriptedPort(BasePort):
    """Gives ``to_give`` in order and takes ``space`` frames; ``carries`` as an edge asks for it."""

    expected = None

    def __init__(self, *to_give: Row, carries: Offload = EVERYTHING, space: int = 10**6) -> None:
        super().__init__("scripted:")
        self.to_give = list(to_give)
        self.carries = carries
        self.space = space
        self.taken: list[tuple[Any, ...]] = []
        self.pulls = 0
        self.told: list[Offload] = []
        self.finished_after = -1
        self.closed = False
        #: How much room each pull makes.
        self.frees = 0

    @property
    def exhausted(self) -> bool:
        return not self.to_give

    @property
    def room(self) -> int:
        return self.space - len(self.taken)

    def make_room(self, more: int) -> None:
        """The outside has taken so many frames."""
        had = self.room
        self.space += more
        if not had and more:
            self.wake()

    def pull(self, batch: FrameBatch) -> int:
        self.pulls += 1
        self.make_room(self.frees)
        count = batch.count
        while self.to_give and batch.has_room(len(self.to_give[0][0])):
            add(batch, self.to_give.pop(0))
        if self.to_give and not batch.count:
            raise IndexError("too small for a frame")
        return batch.count - count

    def push(self, batch: FrameBatch) -> None:
        if batch.count > self.room:
            raise IndexError(f"{batch.count} frames pushed, room for {self.room}")
        super().push(batch)
        self.taken += rows(batch)

    def negotiated(self, offload: Offload) -> None:
        self.told.append(offload)

    def finish(self) -> None:
        self.finished_after = len(self.taken)

    def close(self) -> None:
        self.closed = True
