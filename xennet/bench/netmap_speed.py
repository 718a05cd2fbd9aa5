"""netmap in one process, each way as a contestant: a pipe, a VALE switch with some ports, and a vif
whose guest's interface a program has.

Slots are filled before the clock starts; then programs only move head and cur and sync, 512 frames
at a time, as pkt-gen does without copying. So it is the device that is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from attrs import frozen

from xennet.bench.link_speed import PreparedFrames
from xennet.engine.choice import using
from xennet.link.vif import VifLink
from xennet.netmap import InterfaceEnd
from xennet.netmap.admode import ADMODE_GENERIC, ADMODE_NATIVE
from xennet.netmap.device import Device
from xennet.netmap.user.nmport import Port, open_port
from xennet.port.null import NullPort

#: Frames of a sync.
BURST = 512
_WARM_UP = 4 * BURST
#: Frames that a ring of a vif has room for.
_VIF_BURST = 255
_GROUP = b"\xff" * 6


def _mac(number: int) -> bytes:
    return b"\x02XNET" + bytes([number])


@frozen
class OverNetmap:
    """A contestant: frames go from one port to ``receivers`` others, which take and forget them.

    ``pipe``: the two ports are the ends of a pipe; else they are on a switch, the frames are for
    the only receiver's address or, if there are more, for all. ``others``: ports on the switch
    besides, which get nothing.
    """

    engine: str
    pipe: bool = False
    receivers: int = 1
    others: int = 0

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine), ExitStack() as stack:
            device = Device()
            names = [f"vale0:{i}" for i in range(self.receivers + 1)]
            if self.pipe:
                names = ["netmap:cable{1", "netmap:cable}1"]
            ports = [stack.enter_context(open_port(name, device=device)) for name in names]
            for i in range(self.others):
                stack.enter_context(open_port(f"vale0:o{i}@conf:slots=8", device=device))
            sender, *receivers = ports
            if not self.pipe:
                for number, port in enumerate(receivers, 1):
                    port.inject(_GROUP + _mac(number) + bytes(48))  # now the switch knows it
                    port.txsync()
            target = _mac(1) if self.receivers == 1 else _GROUP
            frame = target + _mac(0) + bytes(size - 12)
            for slot in sender.tx_rings[0].owned():
                slot.put(frame)
            last = sender.tx_rings[0][sender.tx_rings[0].num_slots - 1]
            last.put(frame)
            for port in receivers:
                port.rxsync()
                port.rx_rings[0].hand_over(port.rx_rings[0].space)
            _carry(sender, receivers, _WARM_UP)
            started = time.process_time()
            arrived = _carry(sender, receivers, frames)
            seconds = time.process_time() - started
        if arrived != frames * self.receivers:
            raise RuntimeError(f"{arrived} of {frames * self.receivers} frames arrived")
        return seconds


def _carry(sender: Port, receivers: Sequence[Port], frames: int) -> int:
    """Send ``frames`` frames. Returns how many all receivers together got."""
    ring = sender.tx_rings[0]
    left, arrived = frames, 0
    while left:
        burst = min(BURST, left, ring.space)
        ring.hand_over(burst)
        sender.txsync()
        left -= burst
        for port in receivers:
            port.rxsync()
            got = port.rx_rings[0]
            arrived += got.space
            got.hand_over(got.space)
            port.rxsync()
    return arrived


@frozen
class OverVif:
    """A contestant: a program on netfront's interface sends frames to the backend's end of a vif,
    which forgets them, or takes those that come from there (``receives``). ``native``: by the
    native adapter, in place of the generic one."""

    engine: str
    native: bool
    receives: bool = False

    def __call__(self, size: int, frames: int) -> float:
        with using(self.engine), ExitStack() as stack:
            device = Device()
            device.state.parameters.admode = ADMODE_NATIVE if self.native else ADMODE_GENERIC
            source, sink = PreparedFrames(size, 0), NullPort()
            end = InterfaceEnd(NullPort())
            link = VifLink(end, source if self.receives else sink)
            stack.callback(link.destroy)
            link.open()
            end.add(device, link.pairs[0].interfaces[0])
            port = stack.enter_context(open_port("netmap:eth0", device=device))
            for slot in port.tx_rings[0].owned():
                slot.put(bytes(size))
            port.tx_rings[0][port.tx_rings[0].num_slots - 1].put(bytes(size))
            carry = partial(_take, source) if self.receives else _send
            carry(port, link, _WARM_UP)
            arrived = -sink.counters.frames_out
            started = time.process_time()
            arrived += carry(port, link, frames)
            seconds = time.process_time() - started
            arrived += sink.counters.frames_out
        if arrived != frames:
            raise RuntimeError(f"{arrived} of {frames} frames arrived")
        return seconds


def _send(port: Port, link: VifLink, frames: int) -> int:
    """Send ``frames`` frames over a vif. Returns 0: who gets them counts them."""
    ring = port.tx_rings[0]
    while frames:
        burst = min(BURST, frames, ring.space)
        ring.hand_over(burst)
        port.txsync()
        link.carry()
        frames -= burst
        port.txsync()
    return 0


def _take(source: PreparedFrames, port: Port, link: VifLink, frames: int) -> int:
    """Have ``frames`` frames come over a vif, as many at a time as a ring of it holds. Returns how
    many came."""
    ring, arrived = port.rx_rings[0], 0
    while frames:
        source.left = min(_VIF_BURST, frames)
        frames -= source.left
        source.wake()
        link.carry()
        port.rxsync()
        arrived += ring.space
        ring.hand_over(ring.space)
        port.rxsync()
    return arrived
