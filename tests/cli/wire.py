"""The smallest link there is: two ports joined by a wire, for the tests of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from xennet.frames import FrameBatch
from xennet.port import Port
from xennet.run import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    DirectionReport,
    PortReport,
    Progress,
    RunOptions,
    RunReport,
    Verdict,
)


def wire(
    guests: Sequence[Port], hosts: Sequence[Port], options: RunOptions, progress: Progress
) -> RunReport:
    (guest,), (host,) = guests, hosts
    batch = FrameBatch(memoryview(bytearray(1 << 20)), 16)
    carried = {}
    for name, source, sink in ((GUEST_TO_HOST, guest, host), (HOST_TO_GUEST, host, guest)):
        frames = 0
        while not source.exhausted:
            batch.clear()
            frames += source.pull(batch)
            sink.push(batch)
            progress(name, frames)
        sink.finish()
        carried[name] = DirectionReport(name, frames, frames)
    return RunReport(
        Verdict(True, ("carried",)),
        options,
        directions=tuple(carried.values()),
        ports=tuple(
            PortReport(side, port.name, port.counters)
            for side, port in (("guest", guest), ("host", host))
        ),
    )
