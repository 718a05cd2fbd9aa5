"""The network interfaces at the two ends of a vif: the guest's, and the backend domain's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xennet.frames import Endpoint, FrameBatch
from xennet.host.domains import PluggedVif
from xennet.host.hold import Hold
from xennet.host.setup import Setup
from xennet.ifnet import ETHERMTU, IfCounters, Interface
from xennet.vif.counters import RingCounters

#: What a guest's interfaces are called, by the name of its kind of frontend; elsewhere "eth".
_GUEST_NAMES = {"freebsd": "xn"}
#: The address of every vif in a backend domain (Linux xen-netback, xenvif_alloc).
_BACKEND_MAC = bytes.fromhex("feffffffffff")


def interfaces_of(setup: Setup, name: str, handle: int, mac: bytes) -> tuple[Interface, Interface]:
    """The interfaces of a vif that is called ``name`` ("vif1.0") on the host, before it is plugged
    in: the guest's, with the address ``mac``, and the backend's."""
    guest = f"{_GUEST_NAMES.get(setup.kind.name, 'eth')}{handle}"
    mtu = ETHERMTU if setup.mtu is None else setup.mtu
    return (
        Interface(guest, 1 + handle, mac, mtu),
        Interface(name, 1 + handle, _BACKEND_MAC, mtu),
    )


def note_state(guest: Interface, host: Interface, vif: PluggedVif) -> None:
    """Note what the drivers of ``vif`` know of its interfaces: their counters, and whether there is
    a carrier."""
    front, back = vif.netfront, vif.netback
    if front is not None:
        (guest.start if front.carrier else guest.stop)()
        rings = front.counters
        guest.counters = _counted(sent=rings.tx, received=rings.rx)
        guest.counters.oqdrops = rings.lost
    if back is not None:
        (host.start if back.carrier else host.stop)()
        events = back.counters
        host.counters = _counted(sent=events.rx, received=events.tx)
        host.counters.oqdrops = events.lost + events.dropped + events.expired


def _counted(*, sent: RingCounters, received: RingCounters) -> IfCounters:
    """The counters of an interface that sends on one ring and receives on the other."""
    return IfCounters(
        ipackets=received.packets,
        ibytes=received.bytes,
        ierrors=received.errors,
        opackets=sent.packets,
        obytes=sent.bytes,
        oerrors=sent.errors,
    )


class InterfaceHold(Hold):
    """The network stack above ``interface``, which others may listen at: those who do when frames
    begin to flow see all that pass."""

    def __init__(self, endpoint: Endpoint, interface: Interface) -> None:
        super().__init__(endpoint)
        self.interface = interface

    def __repr__(self) -> str:
        return f"<InterfaceHold {self.interface!r}>"

    def pull(self, batch: FrameBatch) -> int:
        return self._listened_pull(super().pull, batch)

    def push(self, batch: FrameBatch) -> None:
        self._listened_push(super().push, batch)

    def _direct(self) -> tuple[Callable[[FrameBatch], int], Callable[[FrameBatch], None]]:
        pull, push = super()._direct()
        if not self.interface.taps:
            return pull, push
        return partial(self._listened_pull, pull), partial(self._listened_push, push)

    def _listened_pull(self, pull: Callable[[FrameBatch], int], batch: FrameBatch) -> int:
        first = batch.count
        try:
            return pull(batch)
        finally:
            self.interface.tap(batch, first)

    def _listened_push(self, push: Callable[[FrameBatch], None], batch: FrameBatch) -> None:
        # The stack first: a checker in it gives the frames the time stamps they were sent with.
        push(batch)
        self.interface.tap(batch)
