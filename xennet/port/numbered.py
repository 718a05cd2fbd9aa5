"""Frames that are alike but for a number: the kernel that writes them into a batch.

Their bytes are those of a template; frame ``i`` has a big-endian number of 32 bits, which grows by
``step`` from one frame of a flow to the next, and in front of it the port of its flow if there are
several.
"""

from __future__ import annotations

from array import array
from typing import TypeAlias

from xennet.engine.choice import Engine
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.frames import FrameBatch
from xennet.ring import MASK32

#: template: the bytes of the first frame; spec: N_*.
Numbered: TypeAlias = "tuple[Bytes, U32Array]"

# Indices of the spec.
N_SIZE = 0
#: The byte of a frame at which its number begins, the step, and the number of flows.
N_AT = 1
N_STEP = 2
N_FLOWS = 3
#: The port of the first flow, and how many bytes in front of the number it is.
N_PORT = 4
N_PORT_BEFORE = 5
#: What all frames have in the columns of these names.
N_FLAGS = 6
N_GSO_SIZE = 7
N_GSO_TYPE = 8
#: Nanoseconds between the time stamps of two frames; the first has 0.
N_INTERVAL = 9


def put_numbered(
    first: int,
    count: int,
    place: int,
    used: int,
    alike: int,
    numbered: Numbered,
    frames: Frames,
    timestamp: Vector,
) -> None:
    """Write frames number ``first`` to ``first + count - 1`` into a batch, from place ``place`` and
    byte ``used`` on.

    The first ``alike`` of these places have frames of this kind already, at the same bytes: only
    what differs is written there.
    """
    template, spec = numbered
    data, _data32, offset, length, flags, gso_size, gso_type, hash_info, _hash_value = frames
    size, at, step, flows = spec[N_SIZE], spec[N_AT], spec[N_STEP], spec[N_FLOWS]
    interval, port_at = spec[N_INTERVAL], at - spec[N_PORT_BEFORE]
    turn = first // flows
    flow = first - turn * flows
    number = turn * step & MASK32
    begin = used
    for i in range(count):
        to = place + i
        if i >= alike:
            data[begin : begin + size] = template[0:size]
            offset[to] = begin
            length[to] = size
            flags[to] = spec[N_FLAGS]
            gso_size[to] = spec[N_GSO_SIZE]
            gso_type[to] = spec[N_GSO_TYPE]
            hash_info[to] = 0
        put32(data, begin + at, number)
        if flows > 1:
            port = spec[N_PORT] + flow
            data[begin + port_at] = port >> 8
            data[begin + port_at + 1] = port & 0xFF
        timestamp[to] = (first + i) * interval
        begin += size
        flow += 1
        if flow == flows:
            flow = 0
            number = (number + step) & MASK32


def put32(data: Bytes, at: int, number: int) -> None:
    """Store 32 bits, the most significant octet first."""
    data[at] = number >> 24
    data[at + 1] = number >> 16 & 0xFF
    data[at + 2] = number >> 8 & 0xFF
    data[at + 3] = number & 0xFF


class NumberedFrames:
    """The kernel with its fixed arguments, for one engine. ``template``: the bytes of frame 0;
    ``spec``: N_*."""

    def __init__(self, engine: Engine, template: bytes, spec: array[int]) -> None:
        self.engine = engine
        self._put = engine.kernel(put_numbered)
        self._view = engine.view
        self.args = engine.view(memoryview(bytearray(template))), engine.view(spec)

    def put(self, first: int, count: int, batch: FrameBatch) -> None:
        """Append frames to ``batch``, which has room for them."""
        frames, timestamp = batch.for_kernels(self._view), self._view(batch.timestamp)
        self._put(first, count, batch.count, batch.used, 0, self.args, frames, timestamp)
