"""Programs for a device of this process: a generator, a sink, a bridge, as pkt-gen and bridge are.

They take turns (:func:`take_turns`), as all is in one thread. A program moves
what it can in a step, and is done when it has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EINVAL
from typing import Protocol

from xennet.abi.netmap import NS_BUF_CHANGED
from xennet.frames import FrameBatch, lazy_bytes
from xennet.netmap.device import Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.user.frame_port import NetmapPort
from xennet.netmap.user.mapped_ring import Ring
from xennet.netmap.user.nmport import Port, open_port
from xennet.port.gen import GenPort

#: Frames of a step, as pkt-gen sends at a time.
BURST = 512
_PREFIX = "netmap:"


class Program(Protocol):
    """What takes turns. ``step`` moves frames and returns how many; 0: nothing to do for now."""

    def step(self) -> int: ...

    def close(self) -> None: ...


def _batch(frame: int) -> FrameBatch:
    return FrameBatch(lazy_bytes(BURST * frame), BURST)


class Generator:
    """Sends ``count`` numbered frames of ``size`` bytes from ``port``; ``sent`` so far."""

    def __init__(self, port: str, size: int, count: int, device: Device) -> None:
        self._frames = GenPort(f"{size}x{count}")
        self.port = NetmapPort(port.removeprefix(_PREFIX), device=device)
        longest = self.port.carries.max_frame
        if size > longest:
            self.port.close()
            raise NetmapError(EINVAL, f"{size} bytes do not fit a buffer of {longest} bytes")
        self._batch = _batch(size)
        self.sent = 0

    @property
    def finished(self) -> bool:
        """Whether all frames are sent."""
        return self._frames.exhausted

    def step(self) -> int:
        batch = self._batch
        batch.clear()
        batch.max_frames = min(BURST, self.port.room)
        if batch.max_frames and self._frames.pull(batch):
            self.port.push(batch)
        self.sent += batch.count
        return batch.count

    def close(self) -> None:
        self.port.close()


class Sink:
    """Takes and counts what comes into ``port``: ``frames`` and their ``bytes``."""

    def __init__(self, port: str, device: Device) -> None:
        self.port = NetmapPort(port.removeprefix(_PREFIX), device=device)
        self._batch = _batch(self.port.carries.max_frame)

    @property
    def frames(self) -> int:
        return self.port.counters.frames_in

    @property
    def bytes(self) -> int:
        return self.port.counters.bytes_in

    def step(self) -> int:
        self._batch.clear()
        return self.port.pull(self._batch)

    def close(self) -> None:
        self.port.close()


class Bridge:
    """Moves packets between ports ``a`` and ``b``, both ways; ``moved`` counts slots.

    In one memory region buffers are swapped and no byte is touched; else frames are copied.
    """

    def __init__(self, a: str, b: str, device: Device) -> None:
        self.a: Port = open_port(a, device=device)
        try:
            self.b: Port = open_port(b, device=device)
        except NetmapError:
            self.a.close()
            raise
        self.zero_copy = self.a.reply.nr_mem_id == self.b.reply.nr_mem_id
        self.moved = [0, 0]

    def step(self) -> int:
        for port in (self.a, self.b):
            port.rxsync()
        moved = 0
        for way, (source, target) in enumerate(((self.a, self.b), (self.b, self.a))):
            count = sum(
                self._move(rx, tx) for rx, tx in zip(source.rx_rings, target.tx_rings, strict=False)
            )
            self.moved[way] += count
            moved += count
        for port in (self.a, self.b):
            port.txsync()
            port.rxsync()
        return moved

    def _move(self, rx: Ring, tx: Ring) -> int:
        count = min(rx.space, tx.space, BURST)
        for _ in range(count):
            source, target = rx[rx.head], tx[tx.head]
            if self.zero_copy:
                source.buf_idx, target.buf_idx = target.buf_idx, source.buf_idx
                target.len, target.flags = source.len, NS_BUF_CHANGED | source.flags & 0xFF
                source.flags = NS_BUF_CHANGED
            else:
                target.put(source.data, source.flags & 0xFF)
            rx.hand_over()
            tx.hand_over()
        return count

    def close(self) -> None:
        self.a.close()
        self.b.close()


def take_turns(programs: Sequence[Program]) -> None:
    """Let every program step in turn until none has moved anything."""
    while sum([program.step() for program in programs]):
        pass
