"""System interfaces, as netmap sees them: a driver that sends, a stack above, netmap in between.

Two joined by :func:`join_pair` are a veth pair; one alone is a dummy, which drops what is sent.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from xennet.netmap.adapter import Adapter

#: Length of a name with its NUL.
IFNAMSIZ = 16
#: What a frame may have beyond the MTU to be taken by the other end of a pair: header and VLAN tag.
_OVERHEAD = 18

#: A function that is given a frame.
Frames = Callable[[bytes], None]
#: A function that sees a frame, and whether it goes out.
Tap = Callable[[bytes, bool], None]


def _dropped(_frame: bytes) -> None:
    """Nobody is there."""


@define(eq=False)
class NetInterface:
    """An interface of the machine.

    ``adapter``: what netmap has attached to it, if anything. ``transmit``: the driver's. ``stack``
    is given the frames that arrive for it, ``taps`` see them first. ``from_wire`` and
    ``from_stack`` are where a frame goes that arrives (with its queue), or that the stack sends;
    netmap puts its own there while a client uses the interface.
    """

    name: str
    mtu: int = 1500
    queues: int = 1
    adapter: Adapter | None = None
    transmit: Frames = _dropped
    stack: Frames = _dropped
    taps: list[Tap] = field(factory=list)
    from_wire: Callable[[bytes, int], bool] | None = None
    from_stack: Callable[[bytes], bool] | None = None

    def arrives(self, frame: bytes, queue: int = 0) -> None:
        """A frame comes in from the wire."""
        if len(frame) > self.mtu + _OVERHEAD:
            return
        self._tap(frame, False)
        if self.from_wire is None or not self.from_wire(frame, queue):
            self.stack(frame)

    def send(self, frame: bytes) -> None:
        """The stack sends a frame."""
        if self.from_stack is None or not self.from_stack(frame):
            self.transmit(frame)

    def up(self, frame: bytes) -> None:
        """netmap gives a frame to the stack."""
        self._tap(frame, False)
        self.stack(frame)

    def out(self, frame: bytes) -> None:
        """netmap gives a frame to the driver."""
        self._tap(frame, True)
        self.transmit(frame)

    def _tap(self, frame: bytes, outgoing: bool) -> None:
        for tap in self.taps:
            tap(frame, outgoing)


def join_pair(one: NetInterface, other: NetInterface) -> None:
    """Make two interfaces the ends of a veth pair."""
    one.transmit, other.transmit = other.arrives, one.arrives
