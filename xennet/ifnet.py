"""Network interfaces as a stack sees them (FreeBSD's struct ifnet, as far as the wire matters).

An :class:`Interface` has a name, an address, flags, a link state and counters, and hands incoming
frames to its ``input``. The ends of each pair of a link are interfaces
(xennet.link.protocol.Pair), at which others may listen (``taps``). Frames are in a
:class:`~xennet.frames.FrameBatch`, which is passed on as an mbuf is: the function that is given a
batch owns it, and nothing is copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, IntFlag
from itertools import count

from attrs import define, field

from xennet.frames import FrameBatch

#: Length of a name with its NUL (net/if.h IFNAMSIZ).
IFNAMSIZ = 16
#: Frames that a send queue holds unless net.link.ifqmaxlen says otherwise (sys/net/if.c).
IFQ_MAXLEN = 50
#: MTU of an Ethernet interface (net/ethernet.h ETHERMTU).
ETHERMTU = 1500


class Flags(IntFlag):
    """Flags set by the administrator, or fixed by the kind of interface (net/if.h, IFF_*)."""

    UP = 0x1
    BROADCAST = 0x2
    SIMPLEX = 0x800
    MULTICAST = 0x8000


class DrvFlags(IntFlag):
    """Flags set by a driver (net/if.h, IFF_DRV_*): the interface works; its queue is full."""

    RUNNING = 0x40
    OACTIVE = 0x400


_NO_DRV_FLAGS = DrvFlags(0)
#: These are asked for with each batch, and ``&`` of two flags makes a new flag.
_bits = int.__and__
_UP, _RUNNING = int(Flags.UP), int(DrvFlags.RUNNING)


class LinkState(IntEnum):
    """The state of the link (net/if.h, LINK_STATE_*)."""

    UNKNOWN = 0
    DOWN = 1
    UP = 2


@define
class IfCounters:
    """The counters of a driver (net/if.h, enum ift_counter): packets in (``i``) and out (``o``),
    bytes, errors, frames for groups, frames dropped at a full queue. Drivers leave some at 0."""

    ipackets: int = 0
    opackets: int = 0
    oerrors: int = 0
    obytes: int = 0
    omcasts: int = 0
    oqdrops: int = 0
    ierrors: int = 0
    ibytes: int = 0


#: A function that is given frames: the stack above an interface, or a tap.
Taker = Callable[[FrameBatch], None]


def dropped(_batch: FrameBatch) -> None:
    """Free a batch of incoming frames: the ``input`` of an interface without a stack above it."""


@define(eq=False, repr=False)
class Interface:
    """One interface. ``mac`` has 6 bytes. ``input`` is called with incoming frames. ``taps`` are
    called with outgoing frames, before it is known whether they get anywhere, and with incoming
    ones (BPF_MTAP); they leave the batch as it is, and do not keep it. ``send_queue`` holds frames
    while the hardware's queue is full, each in a batch of its own, ``send_limit`` at most."""

    name: str
    index: int
    mac: bytes = bytes(6)
    mtu: int = ETHERMTU
    flags: Flags = Flags.BROADCAST | Flags.SIMPLEX | Flags.MULTICAST
    drv_flags: DrvFlags = _NO_DRV_FLAGS
    link_state: LinkState = LinkState.UNKNOWN
    baudrate: int = 0
    input: Taker = dropped
    taps: list[Taker] = field(factory=list)
    send_limit: int = IFQ_MAXLEN
    send_queue: deque[FrameBatch] = field(factory=deque)
    counters: IfCounters = field(factory=IfCounters)

    def __repr__(self) -> str:
        state = "up" if self.usable else "down"
        return f"<Interface {self.name} {self.mac.hex(':')} mtu {self.mtu}, {state}>"

    @property
    def running(self) -> bool:
        """Whether the driver works (IFF_DRV_RUNNING)."""
        return bool(_bits(self.drv_flags, _RUNNING))

    @property
    def up(self) -> bool:
        """Whether the administrator has brought the interface up (IFF_UP)."""
        return bool(_bits(self.flags, _UP))

    @up.setter
    def up(self, value: bool) -> None:
        self.flags = self.flags | Flags.UP if value else self.flags & ~Flags.UP

    @property
    def usable(self) -> bool:
        """Whether frames pass: the interface is running, and up."""
        return self.running and self.up

    def start(self) -> None:
        """Let frames pass: running, up, with a link."""
        self.drv_flags |= DrvFlags.RUNNING
        self.link_state = LinkState.UP
        self.up = True

    def stop(self) -> None:
        """Let no frames pass any more: not running, without a link."""
        self.drv_flags &= ~DrvFlags.RUNNING
        self.link_state = LinkState.DOWN

    def tap(self, batch: FrameBatch, first: int = 0) -> None:
        """Call all taps with the frames of ``batch`` from number ``first`` on."""
        if not self.taps or batch.count <= first:
            return
        seen = copied(batch, range(first, batch.count)) if first else batch
        for taker in self.taps:
            taker(seen)


class Interfaces:
    """The interfaces of one machine, by name. An index is the lowest that is free, from 1."""

    def __init__(self) -> None:
        self._by_name: dict[str, Interface] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Interface]:
        return iter(list(self._by_name.values()))

    def __getitem__(self, name: str) -> Interface:
        return self._by_name[name]

    def add(self, name: str) -> Interface:
        """Add an interface called ``name`` and return it. Raises ValueError if there is one of this
        name."""
        if name in self._by_name:
            raise ValueError(f"there is an interface {name} already")
        used = {interface.index for interface in self}
        interface = Interface(name, next(index for index in count(1) if index not in used))
        self._by_name[name] = interface
        return interface

    def remove(self, interface: Interface) -> None:
        """Remove ``interface``; its name and index are free from now on."""
        del self._by_name[interface.name]


def copied(batch: FrameBatch, indices: Sequence[int]) -> FrameBatch:
    """Copy the frames ``indices`` of ``batch`` into a batch of their own."""
    size = sum(batch.length[index] for index in indices)
    copy = FrameBatch(memoryview(bytearray(size)), len(indices))
    for index in indices:
        copy.append_from(batch, index)
    return copy
