"""A learning switch, the bridge of domain 0: it joins the host ends of many vifs.

It does what IEEE 802.1D asks of a bridge and Linux's bridge does, without spanning tree: it learns
behind which port an address was seen last, sends frames for it there, floods frames for group
addresses and for unknown addresses, and never sends a frame back where it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

from xennet.frames import BaseEndpoint, FrameBatch
from xennet.port.fifo import FrameFifo

#: Virtual time in ns after which an address that is not seen is forgotten (Linux: 300 s).
AGEING = 300_000_000_000
#: Most addresses in the table.
ADDRESSES = 4096
#: Most frames that wait at one port.
SLOTS = 256
#: Virtual time in ns after which a port with a full queue is given up: its frames are dropped, and
#: no other port waits for it (xen-netback's rx_drain_timeout).
STALL = 10_000_000_000

_GROUP = 1 << 40


class Clock(Protocol):
    """The switch's time: that of the domain it runs in (a Hypervisor is one)."""

    @property
    def now(self) -> int: ...

    def call_after(self, delay: int, work: Callable[[], None]) -> Callable[[], object]: ...


@define(slots=True)
class PortCounters:
    """Frames ``received`` from the port, ``sent`` to it, and ``dropped`` because its queue was
    full."""

    received: int = 0
    sent: int = 0
    dropped: int = 0


@define(slots=True)
class SwitchCounters:
    """Counts of the whole switch, in frames.

    ``forwarded`` to the one port known, ``flooded`` for an unknown address, ``group`` sent to all
    for a group address, ``filtered`` because the address is behind the port that they came from,
    ``invalid`` dropped because their source is a group address or zero.
    """

    forwarded: int = 0
    flooded: int = 0
    group: int = 0
    filtered: int = 0
    invalid: int = 0


@frozen
class _Seen:
    port: SwitchPort
    until: int


@define(eq=False, repr=False)
class SwitchPort(BaseEndpoint):
    """One port: a frame endpoint for a backend's host side.

    ``wake`` calls the listener (:meth:`listen`) when frames wait here or when there is room again.
    """

    switch: Switch
    name: str
    wake: Callable[[], None] = lambda: None
    stalled: bool = False
    counters: PortCounters = field(factory=PortCounters)
    queue: FrameFifo = field(init=False)
    _watched_at: int = -1

    def __attrs_post_init__(self) -> None:
        self.queue = FrameFifo(self.switch.slots)

    def __repr__(self) -> str:
        return f"<SwitchPort {self.name}>"

    @property
    def room(self) -> int:
        """Number of frames that all other ports take, without ports that are given up."""
        return self.switch.room_for(self)

    def pull(self, batch: FrameBatch) -> int:
        taken = self.queue.take(batch)
        if taken:
            self.counters.sent += taken
            self.switch.taken_from(self)
        return taken

    def push(self, batch: FrameBatch) -> None:
        self.switch.forward(self, batch)

    def put(self, batch: FrameBatch, index: int) -> bool:
        """Queue a copy of a frame, or drop and count it. Returns whether the listener has to be
        woken."""
        if not self.queue.room:
            self.counters.dropped += 1
            return False
        self.queue.put(batch, index)
        if not self.queue.room and self._watched_at < 0:
            self._watch()
        return True

    def _watch(self) -> None:
        """Set a timer that looks whether the full queue has been taken from in the meantime."""
        self._watched_at = self.counters.sent
        self.switch.clock.call_after(STALL, self._look)

    def _look(self) -> None:
        before, self._watched_at = self._watched_at, -1
        if self.queue.room:
            return
        if self.counters.sent != before:
            self._watch()
            return
        self.stalled = True
        self.switch.wake_waiting()


class Switch:
    """A switch. ``ports`` are those of :meth:`add_port`; ``counters`` are those of the whole
    switch.

    ``clock`` gives the time for ageing and for giving up a port. At most ``slots`` frames wait at a
    port; ``addresses`` are remembered.
    """

    def __init__(self, clock: Clock, *, slots: int = SLOTS, addresses: int = ADDRESSES) -> None:
        self.clock = clock
        self.slots = slots
        self.addresses = addresses
        self.ports: list[SwitchPort] = []
        self.counters = SwitchCounters()
        self._seen: dict[int, _Seen] = {}
        self._static: dict[int, SwitchPort] = {}
        # Ports with frames in their queues, and ports that were told that there is no room.
        self._filled: dict[SwitchPort, None] = {}
        self._waiting: dict[SwitchPort, None] = {}

    def __repr__(self) -> str:
        return f"<Switch {len(self.ports)} ports, {len(self._seen)} addresses>"

    def add_port(self, name: str) -> SwitchPort:
        """Add a port."""
        port = SwitchPort(self, name)
        self.ports.append(port)
        return port

    def remove_port(self, port: SwitchPort) -> int:
        """Remove a port, its addresses and the frames that wait at it. Returns the number of these
        frames."""
        self.ports.remove(port)
        self._filled.pop(port, None)
        self._waiting.pop(port, None)
        self._seen = {mac: seen for mac, seen in self._seen.items() if seen.port is not port}
        self._static = {mac: owner for mac, owner in self._static.items() if owner is not port}
        dropped = port.queue.clear()
        port.counters.dropped += dropped
        self.wake_waiting()
        return dropped

    def fix(self, mac: int, port: SwitchPort) -> None:
        """Add a static entry: address ``mac`` (48 bits) is behind ``port``, whatever is seen."""
        self._static[mac] = port

    def where(self, mac: int) -> SwitchPort | None:
        """The port that address ``mac`` is behind; None if that is not known."""
        if (fixed := self._static.get(mac)) is not None:
            return fixed
        seen = self._seen.get(mac)
        if seen is None:
            return None
        if seen.until <= self.clock.now:
            del self._seen[mac]
            return None
        return seen.port

    @property
    def learned(self) -> int:
        """Number of addresses in the table, without static entries."""
        return len(self._seen)

    # -- what ports call ---------------------------------------------------------------------------

    def room_for(self, ingress: SwitchPort) -> int:
        """Number of frames that may come in at ``ingress``, wherever they go."""
        room = self.slots
        for port in self._filled:
            if port is not ingress and not port.stalled and port.queue.room < room:
                room = port.queue.room
        if not room:
            self._waiting[ingress] = None
        return room

    def taken_from(self, port: SwitchPort) -> None:
        """Note that frames have left the queue of ``port``."""
        port.stalled = False
        if not port.queue.count:
            self._filled.pop(port, None)
        if self._waiting:
            self.wake_waiting()

    def wake_waiting(self) -> None:
        """Wake the ports that found no room, if there is some again."""
        waiting, self._waiting = self._waiting, {}
        for port in waiting:
            port.wake()

    def forward(self, ingress: SwitchPort, batch: FrameBatch) -> None:
        """Learn from all frames of ``batch`` and send them on.

        Raises IndexError for more frames than :meth:`room_for` allows.
        """
        if batch.count > self.room_for(ingress):
            raise IndexError(f"{ingress.name}: {batch.count} frames for less room")
        ingress.counters.received += batch.count
        woken: dict[SwitchPort, None] = {}
        for i in range(batch.count):
            at = batch.offset[i]
            destination = int.from_bytes(batch.data[at : at + 6])
            source = int.from_bytes(batch.data[at + 6 : at + 12])
            if not source or source & _GROUP:
                self.counters.invalid += 1
                continue
            self._learn(source, ingress)
            for port in self._targets(ingress, destination):
                if port.put(batch, i):
                    woken[port] = None
        self._filled.update(woken)
        for port in woken:
            port.wake()

    def _targets(self, ingress: SwitchPort, destination: int) -> list[SwitchPort]:
        counters = self.counters
        known = None if destination & _GROUP else self.where(destination)
        if known is ingress:
            counters.filtered += 1
            return []
        if known is not None:
            counters.forwarded += 1
            return [known]
        if destination & _GROUP:
            counters.group += 1
        else:
            counters.flooded += 1
        return [port for port in self.ports if port is not ingress]

    def _learn(self, source: int, port: SwitchPort) -> None:
        seen, now = self._seen, self.clock.now
        entry = seen.pop(source, None)
        if entry is None and len(seen) >= self.addresses:
            # The entry that was seen longest ago is the first.
            oldest = next(iter(seen))
            if seen[oldest].until > now:
                return  # Not learned: frames for it are flooded.
            del seen[oldest]
        if entry is None or entry.port is not port or entry.until != now + AGEING:
            entry = _Seen(port, now + AGEING)
        seen[source] = entry
