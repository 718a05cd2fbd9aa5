"""The port table of one domain: which ports exist, in which state, bound to what."""

from __future__ import annotations

import errno
import heapq
from collections.abc import Sequence
from typing import Protocol

from attrs import define, field

from xennet.abi.event_channel import EVTCHNSTAT_closed
from xennet.abi.xen import DOMID_INVALID
from xennet.evtchn.fifo import FifoBits
from xennet.evtchn.two_level import TwoLevelBits
from xennet.interface import HypercallError

#: Xen makes room for this many ports at a time (EVTCHNS_PER_BUCKET: a page of 64-byte records);
#: a port number beyond the room made so far is invalid, not just closed.
PORTS_PER_BUCKET = 64


class PortBits(Protocol):
    """The events of a domain in shared memory (Xen's struct evtchn_port_ops).

    It separates the port state machine from the ABI that the guest chose: ``abi`` "2l" is
    :class:`xennet.evtchn.two_level.TwoLevelBits`, "fifo" :class:`xennet.evtchn.fifo.FifoBits`. The
    methods are explained there.
    """

    @property
    def abi(self) -> str: ...
    @property
    def nr_ports(self) -> int: ...
    @property
    def prioritised(self) -> bool: ...
    def set_pending(self, port: int, vcpu: int) -> bool: ...
    def clear_pending(self, port: int) -> None: ...
    def unmask(self, port: int, vcpu: int) -> bool: ...
    def is_pending(self, port: int) -> bool: ...
    def is_masked(self, port: int) -> bool: ...
    def is_busy(self, port: int) -> bool: ...
    def is_settled(self, port: int, vcpu: int) -> bool: ...
    def pass_by(self, port: int, vcpu: int) -> bool: ...
    def is_behind(self, port: int, other: int) -> bool: ...
    def mask(self, port: int) -> None: ...
    def mask_all(self) -> None: ...
    def take(self, port: int, *, masked: bool = False) -> bool: ...


@define(eq=False, repr=False)
class Channel:
    """One port. ``state`` is its EVTCHNSTAT_* number.

    ``remote_domid`` and ``remote_port`` are where a send goes: to the other end (interdomain), to
    the port itself (ipi), nowhere (unbound: port 0; the domid is the domain that may bind).
    ``vcpu`` gets the upcall, ``virq`` is the interrupt of a virq port.
    """

    port: int
    state: int = EVTCHNSTAT_closed
    vcpu: int = 0
    remote_domid: int = DOMID_INVALID
    remote_port: int = 0
    virq: int = 0

    @property
    def open(self) -> bool:
        """Whether the port is in use (Xen's evtchn_usable)."""
        return self.state != EVTCHNSTAT_closed


@define(eq=False, repr=False)
class PortTable:
    """All ports of a domain. Port 0 is never given out: its record stays closed for ever.

    ``channels`` are the records, by port; ``virqs`` is Xen's virq_to_evtchn: (vcpu, virq) -> port.
    Every domain starts with the 2-level ABI; ``fifo`` is the other one while it is in use,
    ``bits`` the one in use. ``awaited`` are the ports that a vCPU polls.
    """

    domid: int
    vcpus: int
    privileged: bool
    two_level: TwoLevelBits
    dying: bool = False
    fifo: FifoBits | None = field(default=None, init=False)
    bits: PortBits = field(init=False)
    virqs: dict[tuple[int, int], int] = field(factory=dict)
    channels: list[Channel] = field(factory=list)
    awaited: frozenset[int] = frozenset()
    _free: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.bits = self.two_level
        self._add_bucket()
        self._free.remove(0)
        heapq.heapify(self._free)

    def __repr__(self) -> str:
        opened = len(list(self.open_channels()))
        return f"<PortTable of domain {self.domid}: {opened} ports open, {self.bits.abi}>"

    def lookup(self, op: str, port: int) -> Channel:
        """The record of ``port``, which may be closed. -EINVAL if there is none."""
        if not 0 <= port < len(self.channels):
            raise HypercallError(
                op,
                -errno.EINVAL,
                f"domain {self.domid} has no port {port} (0..{len(self.channels) - 1} exist)",
            )
        return self.channels[port]

    def is_awaited(self, port: int) -> bool:
        """Whether ``port`` is polled; if so the poll is over."""
        if port not in self.awaited:
            return False
        self.awaited = frozenset()
        return True

    def use_fifo(self, fifo: FifoBits) -> None:
        """Change to the FIFO ABI. Pending events are saved until the ports have event words (Xen's
        setup_ports)."""
        for channel in self.open_channels():
            if self.bits.is_pending(channel.port):
                fifo.save(channel.port)
        self.bits = self.fifo = fifo

    def leave_fifo(self) -> list[int]:
        """Change back to the 2-level ABI, whose bits are as they were left.

        Returns the frames that the FIFO ABI had in use (none if it was not in use).
        """
        frames = [] if self.fifo is None else self.fifo.frames
        self.bits, self.fifo = self.two_level, None
        return frames

    def next_free(self, op: str) -> Channel:
        """The closed port with the lowest number that is not busy; it stays closed.

        -EINVAL the domain is dying, -ENOSPC no port left.
        """
        if self.dying:
            raise HypercallError(op, -errno.EINVAL, f"domain {self.domid} is dying")
        port = self._lowest(self._free)
        while port is None and len(self.channels) < self.bits.nr_ports:
            port = self._lowest(self._add_bucket())
        # A domain that went back to the 2-level ABI may have more ports than can be used now.
        if port is None or port >= self.bits.nr_ports:
            raise HypercallError(
                op,
                -errno.ENOSPC,
                f"all {self.bits.nr_ports} ports of domain {self.domid} are in use",
            )
        return self.channels[port]

    def occupy(self, channel: Channel, state: int, **binding: int) -> None:
        """Open the port that :meth:`next_free` returned, in ``state`` with the fields
        ``binding``."""
        if self._free[0] == channel.port:
            heapq.heappop(self._free)
        else:
            self._free.remove(channel.port)
            heapq.heapify(self._free)
        channel.state = state
        for name, value in binding.items():
            setattr(channel, name, value)

    def vacate(self, channel: Channel) -> None:
        """Close a port: its event is forgotten, its vCPU is 0 again (Xen's evtchn_free)."""
        self.bits.clear_pending(channel.port)
        self.channels[channel.port] = Channel(channel.port)
        heapq.heappush(self._free, channel.port)

    def open_channels(self) -> list[Channel]:
        """The ports in use, ascending."""
        return [channel for channel in self.channels if channel.open]

    def _lowest(self, free: Sequence[int]) -> int | None:
        """The lowest of the ``free`` ports that is not busy; they are a heap."""
        is_busy = self.bits.is_busy
        if free and not is_busy(free[0]):
            return free[0]
        return min((port for port in free if not is_busy(port)), default=None)

    def _add_bucket(self) -> Sequence[int]:
        start = len(self.channels)
        ports = range(start, start + PORTS_PER_BUCKET)
        self.channels += map(Channel, ports)
        self._free += ports  # ascending numbers above all others: a heap as they stand
        return ports
