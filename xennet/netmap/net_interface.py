"""System interfaces, as netmap sees them: a driver that sends, a stack above, netmap in between.

Two joined by :func:`join_pair` are a veth pair; one alone is a dummy, which drops what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from xennet.frames import RingPair
from xennet.netmap.adapter import Adapter

#: Length of a name with its NUL.
IFNAMSIZ = 16
#: What a frame may have beyond the MTU to be taken by the other end of a pair: header and VLAN tag.
FRAME_OVERHEAD = 18

#: A function that is given a frame.
Frames = Callable[[bytes], None]
#: A driver's function to send a frame. It calls what it is given when the frame has been sent, at
#: once or later; it returns False, and keeps nothing, if it can take none now.
Transmit = Callable[[bytes, Callable[[], None]], bool]
#: A function that sees a frame, and whether it goes out.
Tap = Callable[[bytes, bool], None]


def _dropped(_frame: bytes) -> None:
    """Nobody is there."""


def _sent_nowhere(_frame: bytes, sent: Callable[[], None]) -> bool:
    sent()
    return True


def nobody_asks() -> None:
    """A frame of the stack was sent, netmap has taken or given back the interface, or a driver has
    other queues."""


def _not_counted(_frames: int) -> None:
    """Frames were refused."""


@define(eq=False)
class Driver:
    """A driver whose rings netmap may have. ``queues``: those of its connection, none without one.
    ``count``: how many it had last, of ``slots`` slots. ``changed`` is called when they are
    others."""

    queues: Sequence[RingPair] = ()
    count: int = 1
    slots: int = 0
    changed: Callable[[], None] = nobody_asks

    def connected(self, queues: Sequence[RingPair]) -> None:
        """The driver has these queues from now on."""
        self.queues = queues
        if queues:
            self.count, self.slots = len(queues), queues[0].slots
        self.changed()


@define(eq=False)
class NetInterface:
    """An interface of the machine.

    ``adapter``: what netmap has attached to it, if anything. ``transmit``: the driver's. ``stack``
    is given the frames that arrive for it, ``taps`` see them first. ``from_wire`` and
    ``from_stack`` are where a frame goes that arrives (with its queue), or that the stack sends;
    netmap puts its own there while a client uses the interface (:meth:`intercept`), and calls
    ``changed`` then. ``driver``: one that netmap can drive natively. ``refused`` counts frames that
    it has brought and that netmap does not take.
    """

    name: str
    mtu: int = 1500
    queues: int = 1
    adapter: Adapter | None = None
    transmit: Transmit = _sent_nowhere
    stack: Frames = _dropped
    taps: list[Tap] = field(factory=list)
    from_wire: Callable[[bytes, int], bool] | None = None
    from_stack: Callable[[bytes], bool] | None = None
    changed: Callable[[], None] = nobody_asks
    driver: Driver | None = None
    refused: Callable[[int], None] = _not_counted

    @property
    def intercepted(self) -> bool:
        """Whether netmap has the interface."""
        return self.from_wire is not None

    def intercept(
        self,
        from_wire: Callable[[bytes, int], bool] | None,
        from_stack: Callable[[bytes], bool] | None,
    ) -> None:
        """netmap takes the interface, or gives it back (None)."""
        self.from_wire, self.from_stack = from_wire, from_stack
        self.changed()

    def arrives(self, frame: bytes, queue: int = 0) -> None:
        """A frame comes in from the wire."""
        if len(frame) > self.mtu + FRAME_OVERHEAD:
            return
        self._tap(frame, False)
        if self.from_wire is None or not self.from_wire(frame, queue):
            self.stack(frame)

    def send(self, frame: bytes) -> None:
        """The stack sends a frame."""
        if self.from_stack is None or not self.from_stack(frame):
            self.transmit(frame, nobody_asks)

    def up(self, frame: bytes) -> None:
        """netmap gives a frame to the stack."""
        self._tap(frame, False)
        self.stack(frame)

    def out(self, frame: bytes, sent: Callable[[], None] = nobody_asks) -> bool:
        """netmap gives a frame to the driver, which calls ``sent`` when it is on its way. Returns
        whether it was taken."""
        taken = self.transmit(frame, sent)
        if taken:
            self._tap(frame, True)
        return taken

    def _tap(self, frame: bytes, outgoing: bool) -> None:
        for tap in self.taps:
            tap(frame, outgoing)


def join_pair(one: NetInterface, other: NetInterface) -> None:
    """Make two interfaces the ends of a veth pair."""

    def to(peer: NetInterface) -> Transmit:
        def transmit(frame: bytes, sent: Callable[[], None]) -> bool:
            peer.arrives(frame)
            sent()
            return True

        return transmit

    one.transmit, other.transmit = to(other), to(one)
