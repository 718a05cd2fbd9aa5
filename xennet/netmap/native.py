"""The native adapter: netmap on the rings of a driver that lends them, as netfront does.

A ring pair for each queue, of as many slots as the driver's rings. A tx slot is free when the other
end of the driver's ring has answered all that was sent for it, in order. An rx slot is the
driver's until a frame is in it; the other end may send as many as there are such slots. What the
stack sends goes to the host rings, as with any adapter (xennet.netmap.interface_port).

Rules: netmap.c, "SYSTEM DEVICE WITH NATIVE SUPPORT", netmap_buf_size_validate, netmap_reset,
netmap_common_irq.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from errno import EINVAL
from functools import partial
from typing import Any

from attrs import define, field

from xennet.abi.netmap import NR_TX_RINGS_ONLY
from xennet.engine.choice import current
from xennet.frames import MAX_FRAME, FrameBatch, RingPair, lazy_bytes
from xennet.netmap.errors import NetmapError
from xennet.netmap.interface_port import InterfacePort
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_OFFSET_MAX, K_RHEAD, Kring
from xennet.netmap.module_state import State
from xennet.netmap.native_sync import (
    R_END,
    R_PLACES,
    R_WHOLE,
    free_slots,
    join_slots,
    load_slots,
    store_frames,
    take_slots,
)
from xennet.netmap.net_interface import FRAME_OVERHEAD, Driver, NetInterface, nobody_asks
from xennet.netmap.vale_forward import ETHERNET_HEADER

#: Bytes that the driver receives in one piece (rx_buf_maxsize): a page.
RX_BUF_MAXSIZE = 4096


@define(eq=False)
class _TxRing:
    """What the driver has of a tx ring. ``unanswered``: by slot, requests without an answer.
    ``frames``: those that are to be sent, in the region; ``joined``: one of several slots.
    ``handed``: up to where the client has handed slots over. ``cut``: the rest of a packet that no
    ring holds is to be passed over."""

    unanswered: array[int]
    tags: array[int]
    frames: FrameBatch
    joined: FrameBatch
    handed: int
    cut: bool = False
    res: array[int] = field(factory=lambda: array("q", [0] * R_PLACES))


@define(eq=False)
class NativePort(InterfacePort):
    """The native port of a system interface with a ``driver``.

    A reconnection of the driver with fewer queues leaves tx rings beyond them waiting; with more,
    the rx rings take what comes in those in turn.
    """

    driver: Driver = field(kw_only=True)
    _tx_rings: dict[int, _TxRing] = field(init=False, factory=dict)
    _view: Any = field(init=False)
    _load: Any = field(init=False)
    _join: Any = field(init=False)
    _take: Any = field(init=False)
    _free: Any = field(init=False)
    _store: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        engine = current()
        self._view = engine.view
        self._load = engine.kernel(load_slots)
        self._join = engine.kernel(join_slots)
        self._take = engine.kernel(take_slots)
        self._free = engine.kernel(free_slots)
        self._store = engine.kernel(store_frames)

    @classmethod
    def attach(cls, state: State, interface: NetInterface, driver: Driver) -> NativePort:
        """The port of an interface, which has none yet; in the global region."""
        port = cls.attach_rings(state, interface, driver.count, driver.slots, driver=driver)
        driver.changed = port._driver_changed
        return port

    def destroy(self) -> None:
        self.driver.changed = nobody_asks
        InterfacePort.destroy(self)

    # --- registrations ----------------------------------------------------------------------------

    def check_open(self, flags: int) -> None:
        mtu, size = self.interface.mtu, self.region.buf_size
        if not flags & NR_TX_RINGS_ONLY and size < min(mtu, RX_BUF_MAXSIZE):
            raise NetmapError(EINVAL, f"what {self.name} receives in a piece exceeds a buffer")

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        InterfacePort.switched(self, on, changed)
        for kring in changed:
            if not kring.host:
                if on:
                    _reset(kring)
                self._drive(kring, on)

    def krings_delete(self) -> None:
        self._tx_rings.clear()
        InterfacePort.krings_delete(self)

    def from_wire(self, frame: bytes, queue: int) -> bool:
        # What the driver hands up came in a queue whose ring is not netmap's.
        return False

    # --- the driver -------------------------------------------------------------------------------

    def _queues(self, kring: Kring) -> Sequence[RingPair]:
        """The driver's queues of a ring; a tx ring has one at most."""
        queues = self.driver.queues
        if kring.tx:
            return queues[kring.ring_id :][:1]
        return queues[kring.ring_id :: self.rx_rings]

    def _drive(self, kring: Kring, on: bool) -> None:
        """Take a ring's queues from the driver, or give them back."""
        tx = self._tx_ring(kring) if kring.tx and on else None
        for queue in self._queues(kring):
            if tx is not None:
                queue.drive_tx(tx.unanswered, partial(self._tx_event, kring))
            elif kring.tx:
                queue.drive_tx(None, None)
            else:
                queue.drive_rx(partial(self._rx_event, kring) if on else None)
        if kring.tx and not on:
            self._tx_rings.pop(kring.ring_id, None)

    def _tx_ring(self, kring: Kring) -> _TxRing:
        if kring.ring_id not in self._tx_rings:
            none = [0] * kring.num_slots
            self._tx_rings[kring.ring_id] = _TxRing(
                array("I", none),
                array("I", none),
                FrameBatch(self.region.u8, kring.num_slots),
                FrameBatch(lazy_bytes(MAX_FRAME + 1)[:MAX_FRAME], 1),
                kring.pvt[K_HWCUR],
            )
        return self._tx_rings[kring.ring_id]

    def _driver_changed(self) -> None:
        """The driver was connected or has lost its connection.

        What it had of the slots counts as sent (netmap_reset). Slots that it had not taken stay,
        and are sent when there is a connection again.
        """
        for kring in self.every():
            if not kring.on or kring.host:
                continue
            if kring.tx:
                unanswered = self._tx_ring(kring).unanswered
                unanswered[:] = array("I", bytes(4 * len(unanswered)))
            self._drive(kring, True)
            kring.notified()

    def _tx_event(self, kring: Kring, answered: bool) -> None:
        # What a full ring or a lost connection has held up. (A head that is not accepted yet, or
        # was refused, is in rhead too.)
        self._transmit(kring)
        if answered:
            kring.notified()

    def _rx_event(self, kring: Kring) -> None:
        kring.notified()

    # --- syncs ------------------------------------------------------------------------------------

    def send(self, kring: Kring, flags: int) -> None:
        for queue in self._queues(kring):
            queue.collect()
        self._tx_ring(kring).handed = kring.pvt[K_RHEAD]
        self._transmit(kring)
        self._free(kring.view, self._view(self._tx_ring(kring).unanswered))

    def _transmit(self, kring: Kring) -> None:
        """Send the packets that were handed over, or as many as the driver's ring has room for."""
        handed = self._tx_ring(kring).handed
        for queue in self._queues(kring):
            while kring.pvt[K_HWCUR] != handed:
                if not queue.longest or not self._send_some(kring, queue):
                    return

    def _send_some(self, kring: Kring, queue: RingPair) -> bool:
        """Send the packets before one of several slots, or that one. Returns whether all of that
        was taken."""
        ring, region = self._tx_ring(kring), self.region
        head = ring.handed
        if ring.cut:
            return self._send_joined(kring, queue)
        frames, words = ring.frames, region.view32
        results = self._view(ring.tags), self._view(ring.res)
        columns = frames.for_kernels(self._view)
        frames.count = self._load(head, queue.longest, words, kring.view, columns, *results)
        end = ring.res[R_END]
        taken = queue.send(frames, ring.tags) if frames.count else 0
        if taken < frames.count:
            self._take(words, kring.view, ring.tags[taken])
            return False
        self._take(words, kring.view, end)
        return end == head or self._send_joined(kring, queue)

    def _send_joined(self, kring: Kring, queue: RingPair) -> bool:
        """Send the packet of several slots at hwcur. Returns whether it was taken, or dropped.

        It stays if its last slot is not there yet, unless no other slot is left for that.
        """
        ring, region, pvt = self._tx_ring(kring), self.region, kring.pvt
        first, head, joined = pvt[K_HWCUR], ring.handed, ring.joined
        into = self._view(joined.data), self._view(ring.res)
        size = self._join(head, region.view8, region.view32, kring.view, *into)
        whole = bool(ring.res[R_WHOLE])
        full = (head - first) % kring.num_slots == kring.num_slots - 1
        if not whole and not ring.cut and not full:
            return False
        if whole and not ring.cut and ETHERNET_HEADER <= size <= queue.longest:
            joined.count, joined.used, joined.length[0] = 1, size, size
            if not queue.send(joined, array("I", [first])):
                return False
        ring.cut = not whole
        self._take(region.view32, kring.view, ring.res[R_END])
        return True

    def receive(self, kring: Kring) -> None:
        for queue in self._queues(kring):
            self._receive(kring, queue)

    def _receive(self, kring: Kring, queue: RingPair) -> None:
        """Move what has arrived into the ring, as long as the longest frame has room there."""
        region, pvt = self.region, kring.pvt
        longest = self.interface.mtu + FRAME_OVERHEAD
        room = max(region.buf_size - pvt[K_OFFSET_MAX], 1)
        most = min(-(-longest // room), kring.num_slots - 1)
        while queue.waiting:
            free = (pvt[K_HWCUR] - 1 - pvt[K_HWTAIL]) % kring.num_slots
            if free < most:
                return
            batch = queue.receive(free // most)
            frames = batch.for_kernels(self._view)
            memory = region.view8, region.view32, kring.view
            refused = self._store(batch.count, longest, frames, *memory)
            if refused:
                self.interface.refused(refused)

    def rxsync(self, kring: Kring, flags: int) -> None:
        InterfacePort.rxsync(self, kring, flags)
        if not kring.host:
            for queue in self._queues(kring):
                queue.post(kring.pending)


def _reset(kring: Kring) -> None:
    """Begin where the last client of a ring has stopped: what it has not sent is forgotten
    (netmap_reset)."""
    head = kring.pvt[K_HWCUR] = kring.pvt[K_RHEAD]
    if kring.tx:
        kring.pvt[K_HWTAIL] = (head or kring.num_slots) - 1
        kring.publish_tail()
