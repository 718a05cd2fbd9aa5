"""How an epair handles a frame that is sent, in two generations of the driver.

* :class:`NetisrDriver`: if_epair.c of MODULE_VERSION 1 (revision 2f513db7). Frames go through a
  netisr queue of the receiver's CPU. If that is full the *sender's CPU* is marked OACTIVE, and
  frames of all interfaces of that CPU wait in their send queues until its own netisr queue has run
  empty.
* :class:`TaskqueueDriver`: MODULE_VERSION 3 (revision 02f70f66). Each side has a queue of 4096
  frames, which a task takes whole. A full queue drops frames, and frames longer than the MTU are
  refused.

A call of ``transmit`` takes a whole batch and treats it as the seed treats the same frames one
after the other; its errno is that of the first frame that had one.
"""

from __future__ import annotations

from collections import deque
from errno import E2BIG, ENETDOWN, ENOBUFS, ENXIO
from functools import partial
from typing import Protocol

from attrs import define, field

from xennet.epair.netisr import Netisr
from xennet.epair.sent_frames import SentCounter
from xennet.frames import ETHERNET_HEADER, FrameBatch
from xennet.ifnet import DrvFlags, Interface, copied
from xennet.runloop import Delivery, RunLoop

#: Frames that a side's queue holds in the later generation (RXRSIZE).
RXRSIZE = 4096
#: Bytes of a frame beyond the MTU: the Ethernet header and a VLAN tag.
_OVERHEAD = ETHERNET_HEADER + 4


class Driver(Protocol):
    """One generation of the driver; ``generation`` is its name."""

    generation: str

    def attach(self, interface: Interface, peer: Interface) -> None:
        """Deliver at ``peer`` what ``interface`` sends from now on."""
        ...

    def detach(self, interface: Interface) -> None:
        """Remove ``interface``, and free the frames that are on their way to it."""
        ...

    def transmit(self, interface: Interface, batch: FrameBatch | None) -> int:
        """Send all frames of ``batch`` (None: no frames); the batch belongs to the driver from then
        on.

        Returns 0, ENXIO if the interface does not run, ENETDOWN if it is not up, ENOBUFS for a full
        queue, E2BIG for a frame that is too long.
        """
        ...

    def room(self, interface: Interface) -> int:
        """The number of frames that ``interface`` could send now without losing one."""
        ...

    def qflush(self, interface: Interface) -> None:
        """Free the frames in the send queue of ``interface`` (if_qflush)."""
        ...


@define(eq=False)
class _Cpu:
    """struct epair_dpcpu: ``oactive`` stops all senders of this CPU; ``drain``: interfaces with
    frames in their send queues, in the order in which they came."""

    oactive: bool = False
    drain: list[Interface] = field(factory=list)


class NetisrDriver:
    """The seed's generation of the driver. ``netisr`` has the queues."""

    generation = "netisr"

    def __init__(self, run_loop: RunLoop, cpus: int = 1) -> None:
        self.netisr = Netisr(run_loop, cpus, self._drained)
        self._cpus = [_Cpu() for _ in range(cpus)]
        self._peers: dict[Interface, Interface] = {}
        self._sent = SentCounter()

    def attach(self, interface: Interface, peer: Interface) -> None:
        self._peers[interface] = peer

    def detach(self, interface: Interface) -> None:
        self._leave(interface)
        self.netisr.forget(interface)
        del self._peers[interface]

    def room(self, interface: Interface) -> int:
        if self._cpu_of(interface).oactive:
            return max(0, interface.send_limit - len(interface.send_queue))
        return self.netisr.room(self._peers[interface])

    def transmit(self, interface: Interface, batch: FrameBatch | None) -> int:
        # epair_transmit_locked
        if batch is None:
            return 0
        if not interface.running:
            return ENXIO
        if not interface.up:
            return ENETDOWN
        interface.tap(batch)
        peer = self._peers[interface]
        if not peer.usable:
            interface.counters.oerrors += batch.count
            return 0
        cpu, error, at = self._cpu_of(interface), 0, 0
        while at < batch.count:
            if cpu.oactive:
                return self._enqueue(cpu, interface, batch, at) or error
            taken = min(self.netisr.room(peer), batch.count - at)
            if taken:
                # Without a copy where all of it goes the same way, as nearly always.
                whole = batch if taken == batch.count else copied(batch, range(at, at + taken))
                self.netisr.queue(peer, whole)
                self._sent.count(interface, peer, whole)
                at += taken
            if at < batch.count:
                # This frame finds the queue full and is freed; unlike in start, the interface is
                # not put on the drain list for it.
                self._overflowed(cpu, interface)
                error, at = ENOBUFS, at + 1
        return error

    def start(self, interface: Interface) -> None:
        """Send the frames in the send queue of ``interface`` (epair_start)."""
        self._start(self._cpu_of(interface), interface)

    def qflush(self, interface: Interface) -> None:
        self._leave(interface)
        interface.send_queue.clear()

    def _cpu_of(self, interface: Interface) -> _Cpu:
        return self._cpus[self.netisr.cpu_of(interface)]

    def _overflowed(self, cpu: _Cpu, interface: Interface) -> None:
        cpu.oactive = True
        interface.drv_flags |= DrvFlags.OACTIVE
        interface.counters.oerrors += 1

    def _enqueue(self, cpu: _Cpu, interface: Interface, batch: FrameBatch, first: int) -> int:
        """Put the frames from ``first`` on into the send queue. Returns the queue's errno; frames
        that do not fit are not reported in any other way."""
        error = 0
        for index in range(first, batch.count):
            if len(interface.send_queue) >= interface.send_limit:
                error = ENOBUFS
                continue
            interface.send_queue.append(copied(batch, [index]))
            self._drain_later(cpu, interface)
        return error

    def _drain_later(self, cpu: _Cpu, interface: Interface) -> None:
        if interface not in cpu.drain:
            cpu.drain.append(interface)

    def _leave(self, interface: Interface) -> None:
        """Take ``interface`` off its CPU's drain list (epair_remove_ifp_from_draining)."""
        for cpu in self._cpus:
            if interface in cpu.drain:
                cpu.drain.remove(interface)

    def _start(self, cpu: _Cpu, interface: Interface) -> None:
        # epair_start_locked: no bytes and no group frames are counted here.
        if not interface.usable:
            return
        peer = self._peers[interface]
        while interface.send_queue:
            frame = interface.send_queue.popleft()
            interface.tap(frame)
            if not peer.usable:
                interface.counters.oerrors += 1
            elif self.netisr.queue(peer, frame) == 0:
                interface.counters.opackets += 1
                peer.counters.ipackets += 1
            else:
                self._overflowed(cpu, interface)
                self._drain_later(cpu, interface)

    def _drained(self, number: int) -> None:
        # epair_nh_drainedcpu: called for the CPU whose netisr queue ran empty, which is the
        # receivers' one; it clears the marks of senders that live on it.
        cpu = self._cpus[number]
        for interface in list(cpu.drain):
            cpu.oactive = False
            interface.drv_flags &= ~DrvFlags.OACTIVE
            self._start(cpu, interface)
            if not interface.send_queue and interface in cpu.drain:
                cpu.drain.remove(interface)
            if interface.drv_flags & DrvFlags.OACTIVE:
                cpu.oactive = True
                break


@define(eq=False)
class _Side:
    """The frames that wait to come in at ``interface``; ``frames`` is their number."""

    interface: Interface
    queue: deque[FrameBatch] = field(factory=deque)
    frames: int = 0


class TaskqueueDriver:
    """The later generation of the driver. Which counters a queued frame changes is from memory; the
    rest was read in the source."""

    generation = "taskqueue"

    def __init__(self, run_loop: RunLoop) -> None:
        self._run_loop = run_loop
        self._peers: dict[Interface, _Side] = {}
        self._sent = SentCounter()

    def attach(self, interface: Interface, peer: Interface) -> None:
        self._peers[interface] = _Side(peer)

    def detach(self, interface: Interface) -> None:
        side = self._peers.pop(interface)
        side.queue.clear()
        side.frames = 0

    def room(self, interface: Interface) -> int:
        return RXRSIZE - self._peers[interface].frames

    def transmit(self, interface: Interface, batch: FrameBatch | None) -> int:
        if batch is None:
            return 0
        counters, error = interface.counters, 0
        if not interface.usable:
            counters.oerrors += batch.count
            return ENETDOWN if interface.running else ENXIO
        longest = interface.mtu + _OVERHEAD
        if max(batch.length[: batch.count], default=0) > longest:
            kept = [i for i in range(batch.count) if batch.length[i] <= longest]
            counters.oerrors += batch.count - len(kept)
            if not kept:
                return E2BIG
            batch, error = copied(batch, kept), E2BIG
        interface.tap(batch)
        side = self._peers[interface]
        if not side.interface.usable:
            counters.oerrors += batch.count
            return error
        taken = min(self.room(interface), batch.count)
        counters.oqdrops += batch.count - taken
        if taken:
            whole = batch if taken == batch.count else copied(batch, range(taken))
            side.queue.append(whole)
            side.frames += taken
            self._sent.count(interface, side.interface, whole)
            ident = side.interface.index
            self._run_loop.post(Delivery("taskqueue", 0, ident), partial(self._run, side))
        return error

    def qflush(self, interface: Interface) -> None:
        """Do nothing: no frames wait in a send queue."""

    def _run(self, side: _Side, delivery: Delivery) -> None:
        queue, side.queue = side.queue, deque()
        side.frames = 0
        try:
            while queue:
                side.interface.input(queue.popleft())
        finally:
            if queue:  # one has raised: the others come next
                side.queue.extendleft(reversed(queue))
                side.frames += sum(batch.count for batch in queue)
                self._run_loop.post(delivery, partial(self._run, side))


#: The generations by name, the oldest first.
DRIVERS = {"netisr": NetisrDriver, "taskqueue": TaskqueueDriver}
