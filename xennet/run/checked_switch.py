"""Domain 0's switch with proof: a frame that goes in at one port comes out at the right ones.

The links between guests and switch have checks of their own (xennet.run.checker). Here frames are
followed through the switch, by addresses that are known beforehand. A frame for one guest has to
come out at that guest's port, one for a group address at all ports but its own. Copies that reach
other ports because the switch floods are not judged, and a frame for an unknown address need not
arrive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import define, field

from xennet.frames import FrameBatch, Wrapper
from xennet.link.switch import Clock, Switch, SwitchPort
from xennet.wrap.in_order import InOrderCheck, sender
from xennet.wrap.offload_edge import OffloadEdge

_GROUP = 1


class _Tap(Wrapper):
    """A switch port that tells the switch's checks which frames pass."""

    def __init__(self, switch: CheckedSwitch, number: int, port: SwitchPort) -> None:
        super().__init__(port)
        self._switch = switch
        self._number = number

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        pulled = super().pull(batch)
        self._switch.left(self._number, batch, first)
        return pulled

    def push(self, batch: FrameBatch) -> None:
        self._switch.entered(self._number, batch)
        super().push(batch)


class CheckedPort(OffloadEdge):
    """A guest's port of the switch: the host end of its vif, with an edge for what the vif
    takes."""

    def __init__(self, switch: CheckedSwitch, number: int, port: SwitchPort) -> None:
        super().__init__(_Tap(switch, number, port))
        self.port = port

    @property
    def exhausted(self) -> bool:
        """Whether no frame waits in this port."""
        return not self.waiting and not self.port.queue.count


@define(eq=False, repr=False)
class CheckedSwitch:
    """A switch whose port ``i`` leads to the guest with address ``macs[i]`` (6 bytes).

    ``checks[i]`` proves the frames that come out there.
    """

    clock: Clock
    macs: Sequence[bytes]
    switch: Switch = field(init=False)
    ports: list[CheckedPort] = field(init=False)
    checks: list[InOrderCheck] = field(init=False)
    _number_of: dict[bytes, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.switch = Switch(self.clock)
        self.checks = [InOrderCheck(sender) for _ in self.macs]
        self._number_of = {mac: number for number, mac in enumerate(self.macs)}
        self.ports = [
            CheckedPort(self, number, self.switch.add_port(f"port {number}"))
            for number in range(len(self.macs))
        ]

    def entered(self, number: int, batch: FrameBatch) -> None:
        """Note all frames of ``batch``, which go in at port ``number``."""
        for mac, first, end in _by_destination(batch, 0):
            if mac[0] & _GROUP:
                for other, check in enumerate(self.checks):
                    if other != number:
                        check.sent(batch, first, end)
                continue
            to = self._number_of.get(mac)
            if to is not None and to != number:
                self.checks[to].sent(batch, first, end)

    def left(self, number: int, batch: FrameBatch, first: int) -> None:
        """Check frames ``first`` ... of ``batch``, which come out at port ``number``."""
        own, check = self.macs[number], self.checks[number]
        for mac, begin, end in _by_destination(batch, first):
            if mac[0] & _GROUP or mac == own:
                check.received(batch, begin, end)


def _by_destination(batch: FrameBatch, first: int) -> Iterator[tuple[bytes, int, int]]:
    """The frames from ``first`` on as (destination, first, end), as long as one follows another
    with the same destination."""
    data, offset = batch.data, batch.offset
    before = b""
    for i in range(first, batch.count):
        mac = data[offset[i] : offset[i] + 6].tobytes()
        if mac != before:
            if i > first:
                yield before, first, i
            before, first = mac, i
    if batch.count > first:
        yield before, first, batch.count
