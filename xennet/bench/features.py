"""The cost of features: queues, hashing, segments, many guests, and connecting.

Contestants as in xennet/bench/contestants.py. Frames cross once before the clock starts, so that
the first touch of every page is not measured, except where that is what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from attrs import frozen

from xennet.abi.words import TX_SLOTS
from xennet.abi.xen import PAGE_SIZE
from xennet.bench.rounds import Contestant
from xennet.engine.choice import using
from xennet.host.host import Host
from xennet.host.setup import Setup
from xennet.link.vifs import Vifs
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import LINUX, WINDOWS, FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.netfront.tx_pass import BATCH_BYTES
from xennet.port.gen import GenPort
from xennet.port.null import NullPort
from xennet.port.tcp import TcpPort

#: Frames of each queue before the clock starts; they use every page of the rings' buffers.
WARM_UP = 600
#: TCP connections of the generator; the queues share them.
FLOWS = 64


@frozen
class Crossing:
    """A contestant: whole links. ``guests`` guests, each with a vif of ``queues`` queues, share the
    frames.

    ``source``: GenPort for plain frames, TcpPort for connections with blank checksums, and GSO
    above one segment. ``to_guest``: the host sends the frames. ``kind``: the guests' driver.
    ``warm``: frames of each queue before the clock starts.
    """

    engine: str
    source: type[GenPort] = GenPort
    queues: int = 1
    guests: int = 1
    to_guest: bool = False
    kind: FrontendKind = LINUX
    warm: int = WARM_UP

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine):
            return self._carry(size, max(1, frames // self.guests))

    def _carry(self, size: int, each: int) -> float:
        vifs = Vifs(
            Setup(
                guests=self.guests,
                kind=self.kind,
                front=NetfrontOptions(queues=self.queues),
                back=VifOptions(max_queues=self.queues),
            )
        )
        flows = f"@{FLOWS}" if self.source is TcpPort else ""
        warm = self.queues * self.warm
        ends = [(self.source(f"{size}x{warm}{flows}"), NullPort()) for _ in range(self.guests)]
        try:
            for source, sink in ends:
                vifs.join(*((sink, source) if self.to_guest else (source, sink)))
            vifs.open()
            vifs.carry()
            for source, _ in ends:
                source.expected = warm + each
            started = time.process_time()
            vifs.carry()
            seconds = time.process_time() - started
            vifs.close()
        finally:
            vifs.destroy()
        arrived = sum(sink.counters.frames_out for _, sink in ends)
        if arrived != self.guests * (warm + each):
            raise RuntimeError(f"{arrived} of {self.guests * (warm + each)} frames arrived")
        return seconds


@frozen
class Connecting:
    """A contestant: attach a vif, connect, detach it, without a frame, one cycle after the
    other."""

    engine: str
    queues: int = 1

    def __call__(self, _size: int, cycles: int) -> float:
        with using(self.engine):
            return self._cycle(cycles)

    def _cycle(self, cycles: int) -> float:
        host = Host()
        guest = host.add_guest()
        host.boot()
        host.settle()
        ends = (NullPort(), NullPort())
        front, back = NetfrontOptions(queues=self.queues), VifOptions(max_queues=self.queues)
        started = time.process_time()
        for _ in range(cycles):
            vif = host.plug(guest, 0, *ends, front=front, back=back)
            host.settle()
            host.require_connected(vif)
            host.unplug(vif)
            host.settle()
        seconds = time.process_time() - started
        host.destroy()
        return seconds


def two_copies(size: int, frames: int) -> float:
    """A contestant: each frame is copied twice, from a batch to a ring's pages and from there to
    staging pages, as a link does with those of ``size`` bytes."""
    pages = -(-size // PAGE_SIZE)
    batched, on_ring = BATCH_BYTES // size, TX_SLOTS // pages
    areas = [memoryview(bytearray(TX_SLOTS * PAGE_SIZE)) for _ in range(3)]
    batch, ring, stage = areas
    places = [
        (i % batched * size, i % on_ring * pages * PAGE_SIZE, i % on_ring * size)
        for i in range(batched * on_ring)
    ]
    turns = -(-frames // len(places))
    started = time.process_time()
    for _ in range(turns):
        for given, sent, taken in places:
            ring[sent : sent + size] = batch[given : given + size]
            stage[taken : taken + size] = ring[sent : sent + size]
    seconds = time.process_time() - started
    return seconds * frames / (turns * len(places))


@frozen
class Sized:
    """A contestant: ``run`` with frames of ``size`` bytes, whatever the size of the race."""

    run: Contestant
    size: int

    def __call__(self, _size: int, frames: int) -> float:
        return self.run(self.size, frames)


#: Name -> (frame bytes, maker of the contestant). All are compared with the first.
FEATURES: dict[str, tuple[int, Callable[[str], Contestant]]] = {
    "nothing to do": (1514, Crossing),
    "blank checksums": (1514, partial(Crossing, source=TcpPort)),
    "and 2 queues": (1514, partial(Crossing, source=TcpPort, queues=2)),
    "and 8 queues": (1514, partial(Crossing, source=TcpPort, queues=8)),
    "8 queues, Toeplitz": (1514, partial(Crossing, source=TcpPort, queues=8, kind=WINDOWS)),
    "GSO": (64000, partial(Crossing, source=TcpPort)),
}
GUESTS = (1, 10, 50, 200)
QUEUES = (1, 2, 8)
#: Frames of all guests together: several rings full for each of 200 guests.
GUEST_FRAMES = {"plain": 200_000, "fast": 3_000_000}
#: Frame bytes with many guests.
GUEST_SIZES = (60, 1514)
#: The first frames of so many guests together, which use every page of the rings' buffers.
FIRST_GUESTS = GUESTS[-1]
FIRST_FRAMES = FIRST_GUESTS * WARM_UP
#: Cycles of a turn.
CONNECTS = 40
