"""The generic adapter: netmap on an interface whose driver knows nothing of it.

Frames are copied between slots and the driver. A slot is free again when the driver has sent its
frame, in order; a client that waits for that is told by an event on a slot in the middle of those
that are not. Rules: netmap_generic.c, generic_netmap_txsync, generic_netmap_tx_clean,
generic_set_tx_event, generic_netmap_rxsync, generic_rx_handler.
"""

from __future__ import annotations

from collections import deque
from errno import EINVAL
from functools import partial

from attrs import define, field

from xennet.abi.netmap import (
    NR_TX_RINGS_ONLY,
    NS_BUF_CHANGED,
    NS_REPORT,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.netmap.adapter import NAF_FORCE_RECLAIM
from xennet.netmap.errors import NetmapError
from xennet.netmap.interface_port import InterfacePort
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, Kring
from xennet.netmap.module_state import State
from xennet.netmap.net_interface import NetInterface

_SENT = (NS_BUF_CHANGED | NS_REPORT) << SLOT_S_flags


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
class GenericPort(InterfacePort):
    """The generic port of a system interface.

    By ring: ``on_wire``, frames that the driver has of a tx ring; ``mitigated``, rx rings whose
    client was told a moment ago, and whether there is more to tell.
    """

    on_wire: dict[int, deque[_OnWire]] = field(factory=dict)
    mitigated: dict[int, bool] = field(factory=dict)

    @classmethod
    def attach(cls, state: State, interface: NetInterface) -> GenericPort:
        """The port of an interface, which has none yet; in the global region."""
        slots = state.parameters.generic_ringsize
        return cls.attach_rings(state, interface, interface.queues, slots)

    # --- registrations ----------------------------------------------------------------------------

    def check_open(self, flags: int) -> None:
        if not flags & NR_TX_RINGS_ONLY and self.interface.mtu > self.region.buf_size:
            raise NetmapError(EINVAL, f"frames of {self.name} are longer than a buffer")

    def krings_delete(self) -> None:
        self.on_wire.clear()
        self.mitigated.clear()
        InterfacePort.krings_delete(self)

    # --- what comes to the interface --------------------------------------------------------------

    def from_wire(self, frame: bytes, queue: int) -> bool:
        # It is netmap's if its rx ring is.
        kring = self.rx[queue % self.rx_rings]
        if not kring.on:
            return False
        waiting = self.queues.setdefault(kring.ring_id, deque())
        if len(waiting) <= kring.num_slots and len(frame) <= self.region.buf_size:
            waiting.append(frame)
        else:
            kring.dropped += 1
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

    # --- syncs ------------------------------------------------------------------------------------

    def send(self, kring: Kring, flags: int) -> None:
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
        """Have the client told when half of what the driver has yet to send is sent."""
        has = [frame for frame in self._driver_has(kring) if not frame.sent]
        if has:
            has[len(has) // 2].event = True

    def receive(self, kring: Kring) -> None:
        self._import(kring)
