"""Ways to move frames within one process, each a function (frame bytes, frames) -> seconds.

Only the moving is timed, not the preparation. Each way copies every frame from one buffer to
another, in batches if it has batches.
"""

from __future__ import annotations

import mmap
import socket
import time

from attrs import frozen

from xennet.bench.datapath import DataPath
from xennet.engine.choice import using
from xennet.link.vif import VifLink
from xennet.port import open_port


@frozen
class Vif:
    """The whole link: generator, netfront, rings, grants, events, grant copy, netback, null
    port."""

    engine: str

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine):
            return _carry(size, frames)


@frozen
class Kernels:
    """The data path alone (xennet.bench.datapath). ``log``: packet records are written."""

    engine: str
    log: bool = False

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine):
            return DataPath(log=self.log)(size, frames)


def _carry(size: int, frames: int) -> float:
    source, sink = open_port(f"gen:{size}x{frames}"), open_port("null:")
    link = VifLink(source, sink)
    try:
        link.open()
        started = time.process_time()
        link.carry()
        seconds = time.process_time() - started
        arrived = sink.counters.frames_out
        link.close()
    finally:
        link.destroy()
    if arrived != frames:
        raise RuntimeError(f"{arrived} of {frames} frames arrived")
    return seconds


def seqpacket(size: int, frames: int) -> float:
    """A SOCK_SEQPACKET socket pair: one send and one receive into a buffer for each frame."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        frame, buffer = bytes(size), bytearray(65536)
        send, receive = left.send, right.recv_into
        started = time.process_time()
        for _ in range(frames):
            send(frame)
            receive(buffer)
        return time.process_time() - started


def copy_loop(size: int, frames: int) -> float:
    """Shared memory alone: each frame is copied into a page and out of it again."""
    with mmap.mmap(-1, 1 << 20) as shared:
        frame, buffer = memoryview(bytes(size)), memoryview(bytearray(65536))
        with memoryview(shared) as page:
            started = time.process_time()
            for i in range(frames):
                at = (i & 63) << 14
                page[at : at + size] = frame
                buffer[:size] = page[at : at + size]
            return time.process_time() - started
