"""The links in one process, each as a contestant: the vif, and FreeBSD's epair in its two
generations.

The frames are prepared and copied into a batch as they lie: a generator, which makes each frame
anew, would take longer than an epair, and all links would look alike.
"""

from __future__ import annotations

import time

from attrs import frozen

from xennet.engine.choice import using
from xennet.frames import BaseEndpoint, FrameBatch, lazy_bytes
from xennet.host.setup import Setup
from xennet.link.epair import EpairLink
from xennet.link.protocol import Link
from xennet.link.vifs import Vifs
from xennet.port.null import NullPort

#: The links by name; the first is what the others are compared with.
LINKS = ("vif", "epair:netisr", "epair:taskqueue")
#: Frames before the clock starts: they use every page of a vif's buffers, and compile the kernels.
_WARM_UP = 600
_PREPARED = 1024


class PreparedFrames(BaseEndpoint):
    """An end that gives ``left`` frames of ``size`` bytes, the same ones again and again."""

    def __init__(self, size: int, left: int) -> None:
        self.left = left
        self._size = size
        self._frames = frames = FrameBatch(lazy_bytes(_PREPARED * size), _PREPARED)
        for _ in range(_PREPARED):
            frames.append(b"\x02" + bytes(size - 1), timestamp=1)
        self._columns = tuple(memoryview(column) for column in frames.all_columns)

    def pull(self, batch: FrameBatch, /) -> int:
        size = self._size
        count = min(self.left, batch.max_frames, len(batch.data) // size, _PREPARED)
        if batch.count or not count:
            return 0
        batch.used = count * size
        batch.data[: batch.used] = self._frames.data[: batch.used]
        for column, prepared in zip(batch.all_columns, self._columns, strict=True):
            memoryview(column)[:count] = prepared[:count]
        batch.count = count
        self.left -= count
        return count


@frozen
class Crossed:
    """A contestant: frames cross ``link``, one of LINKS, to a port that forgets them."""

    engine: str
    link: str

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine):
            link = self._made()
            try:
                return _cross(link, size, frames)
            finally:
                link.destroy()

    def _made(self) -> Link:
        name, _, generation = self.link.partition(":")
        return EpairLink(generation) if name == "epair" else Vifs(Setup())


def _cross(link: Link, size: int, frames: int) -> float:
    source, sink = PreparedFrames(size, _WARM_UP), NullPort()
    link.join(source, sink)
    link.open()
    link.carry()
    source.left = frames
    started = time.process_time()
    link.carry()
    seconds = time.process_time() - started
    link.close()
    if sink.counters.frames_out != _WARM_UP + frames:
        arrived = sink.counters.frames_out - _WARM_UP
        raise RuntimeError(f"{arrived} of {frames} frames arrived over the {link}")
    return seconds
