"""The ports that an interface has on a switch (bwrap).

What the switch delivers to one leaves through the driver at once, or goes up to the host's stack;
what arrives is sent to the switch. With a native adapter both are slots of the NIC's rings, without
a copy in between. Rules: netmap_bdg.c, netmap_bwrap_notify, netmap_bwrap_intr_notify.
"""

from __future__ import annotations

from functools import partial

from attrs import define, field

from xennet.engine.choice import current
from xennet.netmap.adapter import NAF_FORCE_READ, NAF_FORCE_RECLAIM, Adapter
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RCUR, K_RHEAD, Kring
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.region import Region
from xennet.netmap.registration import Registration
from xennet.netmap.switch_port import SwitchPort
from xennet.netmap.vale_batch import Forwarder


@define(eq=False)
class NicPort(SwitchPort):
    """The port of an attached interface, or of its host stack (``host_side``).

    ``registration``: the kernel's own of the interface, so that no client can have it. ``polling``:
    threads of the kernel look at the NIC. ``other``: the port of the host stack, if that is
    attached too.
    """

    interface: NetInterface = field(kw_only=True)
    registration: Registration | None = None
    host_side: bool = False
    polling: bool = False
    other: NicPort | None = None

    @property
    def netmap_on(self) -> bool:
        return True

    def receive(self, frame: bytes, queue: int = 0) -> bool:
        """A frame from the wire, or from the stack, goes to the switch. Returns that it is
        taken."""
        switch = self.switch
        if switch is None or self.state.parameters.bridge_batch <= 0:
            return True
        if switch.forwarding:
            switch.when_forwarded(partial(self.send_frame, switch, frame, queue))
        else:
            self.flush(switch, switch.forwarder.load([frame]), queue)
        return True

    def accept(
        self,
        forwarder: Forwarder,
        source: Region,
        header: int,
        ring: int,
        unicast: int,
        broadcast: int,
    ) -> list[Kring]:
        give = self.interface.up if self.host_side else self.interface.out
        for packet in forwarder.packets(source, unicast, broadcast):
            give(b"".join(packet)[header:])
        return []


@define(eq=False)
class NativeNicPort(NicPort):
    """The port of an attached interface with a native adapter.

    ``_targets``: the tx rings of the NIC as the switch sees them, as rings to receive into: the
    slots that are free are those that the switch may fill.
    """

    _targets: list[Kring] = field(init=False, factory=list)

    def take_rings(self) -> None:
        """Send what arrives on the NIC's rings to the switch from now on."""
        hardware = self._hardware()
        for kring in hardware.rx[: hardware.rx_rings]:
            kring.notified = partial(self._arrived, kring)
        for kring in hardware.tx[: hardware.tx_rings]:
            target = Kring(hardware, kring.ring_id, False, False, kring.num_slots, kring.offset)
            target.pvt[:] = kring.pvt
            target.view = current().view(target.pvt)
            self._targets.append(target)

    def _hardware(self) -> Adapter:
        assert self.registration is not None
        return self.registration.port

    def _arrived(self, kring: Kring) -> None:
        """Send all frames of an rx ring to the switch, from their slots, and release these."""
        hardware, pvt = self._hardware(), kring.pvt
        hardware.rxsync(kring, NAF_FORCE_READ)
        while (begin := pvt[K_HWCUR]) != (end := pvt[K_HWTAIL]):
            if self.switch is not None and self.state.parameters.bridge_batch > 0:
                forwarder = self.switch.forwarder
                while begin != end:
                    count = forwarder.read(self.region, kring, begin, end, self.state.caller)
                    begin = forwarder.end
                    self.flush(self.switch, count, kring.ring_id)
            pvt[K_RHEAD] = pvt[K_RCUR] = end
            # Released slots may find frames that had no room.
            hardware.rxsync(kring, NAF_FORCE_READ)
            hardware.rxsync(kring, NAF_FORCE_READ)

    def accept(
        self,
        forwarder: Forwarder,
        source: Region,
        header: int,
        ring: int,
        unicast: int,
        broadcast: int,
    ) -> list[Kring]:
        if header:
            return NicPort.accept(self, forwarder, source, header, ring, unicast, broadcast)
        hardware = self._hardware()
        kring = hardware.tx[ring % hardware.tx_rings]
        target = self._targets[kring.ring_id]
        hardware.txsync(kring, NAF_FORCE_RECLAIM)
        # The slots from rhead to hwtail are free: from the switch's side, one before its hwcur.
        target.pvt[K_HWTAIL] = kring.pvt[K_RHEAD]
        target.pvt[K_HWCUR] = (kring.pvt[K_HWTAIL] + 1) % kring.num_slots
        forwarder.deliver(source, unicast, broadcast, target)
        kring.pvt[K_RHEAD] = kring.pvt[K_RCUR] = target.pvt[K_HWTAIL]
        hardware.txsync(kring, NAF_FORCE_RECLAIM)
        return []
