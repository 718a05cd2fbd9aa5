"""What ports of system interfaces have in common: host rings, which lead to the network stack.

What the stack sends waits in a queue for the host rx ring; what is put into the host tx ring goes
up to it. Slots of the NIC's rx rings may be sent up, and slots of the host's down to the NIC's tx
rings. Rules: netmap.c, netmap_transmit, netmap_txsync_to_host, netmap_rxsync_from_host,
netmap_sw_to_nic, netmap_grab_packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

from attrs import define, field

from xennet.abi.netmap import (
    NR_FORWARD,
    NS_BUF_CHANGED,
    NS_FORWARD,
    RING_W_cur,
    RING_W_head,
    RING_W_tail,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.engine.choice import current
from xennet.netmap.adapter import NAF_CAN_FORWARD_DOWN, Adapter
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RHEAD, Kring
from xennet.netmap.module_state import State
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.vale_forward import ETHERNET_HEADER, frame_at, release

_CHANGED = NS_BUF_CHANGED << SLOT_S_flags
_FORWARD = NS_FORWARD << SLOT_S_flags


@define(eq=False)
class InterfacePort(Adapter):
    """The port of a system interface, with one host ring pair unless the first client asks for
    more.

    ``queues``: by rx ring, the frames that wait for it. A kind of port says how NIC rings are
    synced: :meth:`send`, :meth:`receive`.
    """

    state: State = field(kw_only=True)
    interface: NetInterface = field(kw_only=True)
    queues: dict[int, deque[bytes]] = field(factory=dict)

    @classmethod
    def attach_rings(
        cls, state: State, interface: NetInterface, rings: int, slots: int, **of_kind: Any
    ) -> Self:
        """The port of an interface, which has none yet, with ``rings`` NIC ring pairs of ``slots``
        slots; in the global region."""
        port = cls(
            interface.name,
            state.regions,
            state.regions.get(state.regions.shared),
            rings,
            rings,
            slots,
            slots,
            host_rings=True,
            state=state,
            interface=interface,
            **of_kind,
        )
        interface.adapter = port
        return port

    def destroy(self) -> None:
        self.interface.adapter = None
        Adapter.destroy(self)

    # --- what a kind of port does -----------------------------------------------------------------

    def send(self, kring: Kring, flags: int) -> None:
        """Sync a tx ring of the NIC."""
        raise NotImplementedError

    def receive(self, kring: Kring) -> None:
        """Move frames that have arrived into an rx ring of the NIC."""
        raise NotImplementedError

    def from_wire(self, frame: bytes, queue: int) -> bool:
        """The driver has handed up a frame. Returns whether netmap takes it from the stack."""
        raise NotImplementedError

    # --- registrations ----------------------------------------------------------------------------

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        Adapter.switched(self, on, changed)
        any_on = any(kring.on for kring in self.every())
        if any_on:
            self.interface.intercept(self.from_wire, self._from_stack)
        else:
            self.interface.intercept(None, None)

    def krings_delete(self) -> None:
        self.queues.clear()
        self.host_tx_rings = self.host_rx_rings = 1
        Adapter.krings_delete(self)

    def _from_stack(self, frame: bytes) -> bool:
        """A frame of the stack: it goes to the first host rx ring if the NIC's tx ring is netmap's.

        What waits in ring and queue is less than the ring holds, anything more is dropped.
        """
        if not self.tx[0].on:
            return False
        kring = self.rx[self.rx_rings]
        waiting = self.queues.setdefault(kring.ring_id, deque())
        busy = kring.pending + len(waiting)
        if busy < kring.num_slots - 1 and len(frame) <= self.region.buf_size:
            waiting.append(frame)
            kring.notified()
        else:
            kring.dropped += 1
        return True

    # --- slots ------------------------------------------------------------------------------------

    def _slots(self, kring: Kring) -> Iterator[tuple[int, int]]:
        """Word and second word of the slots from hwcur to rhead."""
        words = self.region.u32
        i, head = kring.pvt[K_HWCUR], kring.pvt[K_RHEAD]
        while i != head:
            at = kring.slot_at(i)
            yield at, words[at + SLOT_W_len]
            i = (i + 1) % kring.num_slots

    def _frame(self, kring: Kring, slot: int, length: int) -> bytes:
        """The frame in a slot, b"" for what is none."""
        begin = frame_at(self.region.u32, slot, length, kring.pvt)
        if not begin or length < ETHERNET_HEADER:
            return b""
        return bytes(self.region.u8[begin : begin + length])

    def _import(self, kring: Kring) -> None:
        """Move waiting frames into the ring, which keeps one slot free."""
        waiting = self.queues.get(kring.ring_id, ())
        u32, u8 = self.region.u32, self.region.u8
        i = kring.pvt[K_HWTAIL]
        while waiting and (i + 1 - kring.pvt[K_HWCUR]) % kring.num_slots:
            at = kring.slot_at(i)
            frame = waiting[0]
            begin = frame_at(u32, at, len(frame), kring.pvt)
            waiting.popleft()
            if begin:
                u8[begin : begin + len(frame)] = frame
            u32[at + SLOT_W_len] = len(frame) if begin else 0
            i = (i + 1) % kring.num_slots
        kring.pvt[K_HWTAIL] = i

    def _up(self, kring: Kring, every: bool) -> None:
        """Give the stack the frames of released slots: ``every`` one, or those with NS_FORWARD."""
        words = self.region.u32
        for at, second in self._slots(kring):
            if not every and not second & _FORWARD:
                continue
            frame = self._frame(kring, at, second & 0xFFFF)
            if frame:
                words[at + SLOT_W_len] = second & ~_FORWARD
                self.interface.up(frame)

    # --- syncs ------------------------------------------------------------------------------------

    def txsync(self, kring: Kring, flags: int) -> None:
        if kring.host:
            self._up(kring, True)
            head = kring.pvt[K_HWCUR] = kring.pvt[K_RHEAD]
            kring.pvt[K_HWTAIL] = (head or kring.num_slots) - 1
        else:
            self.send(kring, flags)

    def rxsync(self, kring: Kring, flags: int) -> None:
        forwarded = self.state.parameters.fwd or kring.ring_flags & NR_FORWARD
        if forwarded and not kring.host:
            self._up(kring, self.state.parameters.fwd)
        if kring.host:
            self._import(kring)
        else:
            self.receive(kring)
        first_host = kring.ring_id == self.rx_rings
        if forwarded and first_host and flags & NAF_CAN_FORWARD_DOWN:
            self._down(kring)
        if kring.host:
            kring.pvt[K_HWCUR] = kring.pvt[K_RHEAD]
        else:
            current().kernel(release)(self.region.view32, kring.view, kring.pvt[K_RHEAD])

    def _down(self, kring: Kring) -> None:
        """Swap released slots of the host ring into NIC tx rings that have room; those with
        NS_FORWARD, or every one. The client's own head moves on, so the next txsync sends them."""
        every = self.state.parameters.fwd
        words = self.region.u32
        room = self._room()
        for at, second in self._slots(kring):
            if not every and not second & _FORWARD:
                continue
            target = next(room, None)
            if target is None:
                return
            words[at], words[target] = words[target], words[at]
            words[at + SLOT_W_len] = second & 0xFFFF | _CHANGED
            words[target + SLOT_W_len] = second & 0xFFFF | _CHANGED
            kring.forwarded = True

    def _room(self) -> Iterator[int]:
        """Slots at the heads of the tx rings, until none is free; head and cur move on with
        each."""
        words = self.region.u32
        for kring in self.tx[: self.tx_rings]:
            at = kring.offset // 4
            while (head := words[at + RING_W_head]) != words[at + RING_W_tail]:
                if head >= kring.num_slots:
                    break
                words[at + RING_W_head] = words[at + RING_W_cur] = (head + 1) % kring.num_slots
                yield kring.slot_at(head)
