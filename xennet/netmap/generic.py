"""The generic adapter: netmap on an interface whose driver knows nothing of it, with host rings.

Frames are copied between slots and the driver. A slot is free again when the driver has sent its
frame, in order; a client that waits for that is told by an event on a slot in the middle of those
that are not. Rules: netmap_generic.c, generic_netmap_txsync, generic_netmap_tx_clean,
generic_set_tx_event, generic_netmap_rxsync, generic_rx_handler; netmap.c, netmap_txsync_to_host,
netmap_rxsync_from_host, netmap_sw_to_nic, netmap_grab_packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from errno import EINVAL, EOPNOTSUPP
from functools import partial

from attrs import define, field

from xennet.abi.netmap import (
    NR_FORWARD,
    NR_TX_RINGS_ONLY,
    NS_BUF_CHANGED,
    NS_FORWARD,
    NS_REPORT,
    RING_W_cur,
    RING_W_head,
    RING_W_tail,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.netmap.adapter import NAF_CAN_FORWARD_DOWN, NAF_FORCE_RECLAIM, Adapter
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RHEAD, Kring
from xennet.netmap.module_state import State
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.vale_forward import ETHERNET_HEADER, frame_at

_CHANGED = NS_BUF_CHANGED << SLOT_S_flags
_FORWARD = NS_FORWARD << SLOT_S_flags
_SENT = (NS_BUF_CHANGED | NS_REPORT) << SLOT_S_flags


# Values of the parameter admode
ADMODE_BEST = 0
ADMODE_NATIVE = 1
ADMODE_GENERIC = 2

#: Nanoseconds below which mitigation is off: a timer would not be so exact.
_LEAST_MITIGATION_NS = 32768


@define(eq=False)
class _OnWire:
    """A frame that the driver has. ``event``: the ring's client wants to know when it is sent."""

    kring: Kring
    sent: bool = False
    event: bool = False

    def done(self) -> None:
        """The driver has sent the frame."""
        self.sent = True
        if self.event:
            self.kring.notified()


@define(eq=False)
class GenericPort(Adapter):
    """The port of a system interface, with one host ring pair unless the first client asks for
    more.

    By ring: ``queues``, frames that wait for an rx ring; ``on_wire``, those that the driver has of
    a tx ring; ``mitigated``, rx rings whose client was told a moment ago, and whether there is more
    to tell.
    """

    state: State = field(kw_only=True)
    interface: NetInterface = field(kw_only=True)
    queues: dict[int, deque[bytes]] = field(factory=dict)
    on_wire: dict[int, deque[_OnWire]] = field(factory=dict)
    mitigated: dict[int, bool] = field(factory=dict)

    @classmethod
    def attach(cls, state: State, interface: NetInterface) -> GenericPort:
        """The port of an interface, which has none yet; in the global region."""
        slots, rings = state.parameters.generic_ringsize, interface.queues
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
        )
        interface.adapter = port
        return port

    def destroy(self) -> None:
        self.interface.adapter = None
        Adapter.destroy(self)

    # --- registrations ----------------------------------------------------------------------------

    def check_open(self, flags: int) -> None:
        if not flags & NR_TX_RINGS_ONLY and self.interface.mtu > self.region.buf_size:
            raise NetmapError(EINVAL, f"frames of {self.name} are longer than a buffer")

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        Adapter.switched(self, on, changed)
        any_on = any(kring.on for kring in self.every())
        if any_on:
            self.interface.intercept(self._from_wire, self._from_stack)
        else:
            self.interface.intercept(None, None)

    def krings_delete(self) -> None:
        self.queues.clear()
        self.on_wire.clear()
        self.mitigated.clear()
        self.host_tx_rings = self.host_rx_rings = 1
        Adapter.krings_delete(self)

    # --- what comes to the interface --------------------------------------------------------------

    def _from_wire(self, frame: bytes, queue: int) -> bool:
        """A frame of the driver: it is netmap's if its rx ring is. Returns whether it was."""
        kring = self.rx[queue % self.rx_rings]
        if not kring.on:
            return False
        waiting = self.queues.setdefault(kring.ring_id, deque())
        if len(waiting) <= kring.num_slots and len(frame) <= self.region.buf_size:
            waiting.append(frame)
        self._tell(kring)
        return True

    def _tell(self, kring: Kring) -> None:
        """Tell the client of an rx ring; what comes in the time after that is told together."""
        delay = self.state.parameters.generic_mit_ns
        if self.state.after is None or delay < _LEAST_MITIGATION_NS:
            kring.notified()
        elif kring.ring_id in self.mitigated:
            self.mitigated[kring.ring_id] = True
        else:
            self.mitigated[kring.ring_id] = False
            kring.notified()
            self.state.after(delay, partial(self._mitigated, kring))

    def _mitigated(self, kring: Kring) -> None:
        if self.mitigated.pop(kring.ring_id, False):
            self._tell(kring)

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
            return
        self._transmit(kring)
        self._reclaim(kring)
        if flags & NAF_FORCE_RECLAIM or len(self._driver_has(kring)) == kring.num_slots - 1:
            self._want_event(kring)
            self._reclaim(kring)

    def _driver_has(self, kring: Kring) -> deque[_OnWire]:
        return self.on_wire.setdefault(kring.ring_id, deque())

    def _transmit(self, kring: Kring) -> None:
        """Give the driver the frames from hwcur to rhead, or as many as it takes."""
        words = self.region.u32
        taken = 0
        for at, second in self._slots(kring):
            frame = self._frame(kring, at, second & 0xFFFF)
            if not self._give(kring, frame):
                break
            if second & _SENT:
                words[at + SLOT_W_len] = second & ~_SENT
            taken += 1
        kring.pvt[K_HWCUR] = (kring.pvt[K_HWCUR] + taken) % kring.num_slots

    def _give(self, kring: Kring, frame: bytes) -> bool:
        """Give the driver one frame; what is none is sent at once. If it takes none now it is
        asked once more, as soon as it has sent another."""
        token = _OnWire(kring)
        if not frame:
            token.sent = True
        elif not self.interface.out(frame, token.done):
            self._want_event(kring)
            if not self._reclaim(kring) or not self.interface.out(frame, token.done):
                return False
        self._driver_has(kring).append(token)
        return True

    def _reclaim(self, kring: Kring) -> int:
        """Free the slots of frames that are sent, in order. Returns how many."""
        has = self._driver_has(kring)
        before = len(has)
        while has and has[0].sent:
            has.popleft()
        kring.pvt[K_HWTAIL] = (kring.pvt[K_HWCUR] - 1 - len(has)) % kring.num_slots
        return before - len(has)

    def _want_event(self, kring: Kring) -> None:
        """Have the client told when half of what the driver has is sent."""
        has = self._driver_has(kring)
        if has:
            has[len(has) // 2].event = True

    def rxsync(self, kring: Kring, flags: int) -> None:
        forwarded = self.state.parameters.fwd or kring.ring_flags & NR_FORWARD
        if forwarded and not kring.host:
            self._up(kring, self.state.parameters.fwd)
        self._import(kring)
        first_host = kring.ring_id == self.rx_rings
        if forwarded and first_host and flags & NAF_CAN_FORWARD_DOWN:
            self._down(kring)
        words = self.region.u32
        for at, second in self._slots(kring):
            if second & _CHANGED and not kring.host:
                words[at + SLOT_W_len] = second & ~_CHANGED
        kring.pvt[K_HWCUR] = kring.pvt[K_RHEAD]

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


def adapter_of(state: State, interface: NetInterface) -> Adapter:
    """The adapter of a system interface; one that has none gets a generic one.

    The parameter admode says which kind is wanted: 0 native, else generic; 1 native; 2 generic. Any
    other value becomes 0. An adapter that is there already is kept. Raises NetmapError(EOPNOTSUPP)
    for 1: no driver here has a native one.
    """
    parameters = state.parameters
    if parameters.admode not in (ADMODE_BEST, ADMODE_NATIVE, ADMODE_GENERIC):
        parameters.admode = ADMODE_BEST
    if interface.adapter is not None:
        return interface.adapter
    if parameters.admode == ADMODE_NATIVE:
        raise NetmapError(EOPNOTSUPP, f"{interface.name} has no native adapter")
    return GenericPort.attach(state, interface)
