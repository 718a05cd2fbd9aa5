"""Frames that are alike but for a number: the kernel that writes them into a batch.

Their bytes are those of a template; frame ``i`` has a big-endian number of 32 bits, which grows by
``step`` from one frame of a flow to the next, and in front of it the port of its flow if there are
several. Nothing else of a frame depends on its number, and what tells flows apart
(xennet.flow.classify) looks at the port alone.
"""

from __future__ import annotations

from array import array
from typing import TypeAlias

from xennet.engine.choice import Engine
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.frames import FrameBatch
from xennet.ring import MASK32

#: template: the bytes of the first frame; spec: N_*; then by flow: the flow of the next frame that
#: is written after one of it; hash_info and hash_value of its frames.
Numbered: TypeAlias = "tuple[Bytes, U32Array, U32Array, U32Array, U32Array]"

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
    behind: int,
    place: int,
    used: int,
    alike: int,
    numbered: Numbered,
    frames: Frames,
    timestamp: Vector,
) -> tuple[int, int]:
    """Write frames from number ``first`` to below ``behind`` into a batch, from place ``place`` and
    byte ``used`` on, as many as fit.

    The places below ``alike`` have frames of this kind already, at the same bytes: only what
    differs is written there. Returns the place behind the last frame, and the number of the next.
    """
    template, spec, followings, infos, values = numbered
    data, _data32, offset, length, flags, gso_size, gso_type, hash_info, hash_value = frames
    size, step, flows, interval = spec[N_SIZE], spec[N_STEP], spec[N_FLOWS], spec[N_INTERVAL]
    turn = first // flows
    flow = first - turn * flows
    number = turn * step & MASK32
    begin = used
    frame = first
    to = place
    most = len(offset)
    end = len(data) - size
    while frame < behind and to < most and begin <= end:
        if to >= alike:
            data[begin : begin + size] = template[0:size]
            offset[to] = begin
            length[to] = size
            flags[to] = spec[N_FLAGS]
            gso_size[to] = spec[N_GSO_SIZE]
            gso_type[to] = spec[N_GSO_TYPE]
            hash_info[to] = 0
        put_number(data, begin, number, flow, spec)
        if infos[flow]:
            hash_info[to] = infos[flow]
            hash_value[to] = values[flow]
        timestamp[to] = frame * interval
        begin += size
        to += 1
        following = followings[flow]
        frame += following - flow
        if following <= flow:
            frame += flows
            number = (number + step) & MASK32
        flow = following
    return to, frame


def put_again(
    place: int, behind: int, alike: int, numbered: Numbered, frames: Frames, timestamp: Vector
) -> None:
    """Write the bytes of the frames at ``place`` to below ``behind`` of a batch from its columns;
    ``alike`` as above."""
    template, spec, _followings, _infos, _values = numbered
    data, _data32, offset, _length, _flags, _gso_size, _gso_type, _hash_info, _hash_value = frames
    size, flows = spec[N_SIZE], spec[N_FLOWS]
    for to in range(place, behind):
        begin = offset[to]
        frame = timestamp[to] // spec[N_INTERVAL]
        turn = frame // flows
        if to >= alike:
            data[begin : begin + size] = template[0:size]
        put_number(data, begin, turn * spec[N_STEP] & MASK32, frame - turn * flows, spec)


def put_number(data: Bytes, begin: int, number: int, flow: int, spec: U32Array) -> None:
    """Write the number and the port of the frame that begins at byte ``begin``."""
    at = begin + spec[N_AT]
    data[at] = number >> 24
    data[at + 1] = number >> 16 & 0xFF
    data[at + 2] = number >> 8 & 0xFF
    data[at + 3] = number & 0xFF
    if spec[N_FLOWS] > 1:
        port = spec[N_PORT] + flow
        at -= spec[N_PORT_BEFORE]
        data[at] = port >> 8
        data[at + 1] = port & 0xFF


class NumberedFrames:
    """The kernel with its fixed arguments, for one engine. ``template``: the bytes of frame 0;
    ``spec``: N_*. ``args`` are for all frames; their first two are ``kind``. ``flows``:
    how many there are."""

    def __init__(self, engine: Engine, template: bytes, spec: array[int]) -> None:
        self.engine = engine
        self._put = engine.kernel(put_numbered)
        self._put_again = engine.kernel(put_again)
        self._view = view = engine.view
        self.flows = spec[N_FLOWS]
        turns, none = array("I", (*range(1, self.flows), 0)), array("I", (0,)) * self.flows
        self.kind = view(memoryview(bytearray(template))), view(spec)
        self.args = (*self.kind, view(turns), view(none), view(none))

    def put(self, first: int, count: int, batch: FrameBatch) -> None:
        """Append frames to ``batch``, which has room for them."""
        frames, timestamp = batch.for_kernels(self._view), self._view(batch.timestamp)
        self._put(first, first + count, batch.count, batch.used, 0, self.args, frames, timestamp)

    def put_again(self, batch: FrameBatch) -> None:
        """Write the bytes of the frames of ``batch``, which has all else of them."""
        frames, timestamp = batch.for_kernels(self._view), self._view(batch.timestamp)
        self._put_again(0, batch.count, 0, self.args, frames, timestamp)
