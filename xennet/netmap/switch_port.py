"""What all ports of a switch have: their place there, and how a batch goes from one to the others.

Rules: netmap_vale.c, nm_vale_flush.
"""

from __future__ import annotations

from attrs import define, field

from xennet.netmap.adapter import Adapter
from xennet.netmap.kring import Kring
from xennet.netmap.module_state import State
from xennet.netmap.region import Region
from xennet.netmap.vale_batch import Forwarder
from xennet.netmap.vale_forward import NM_BDG_MAXRINGS, NO_PACKET
from xennet.netmap.vale_switch import Switch


@define(eq=False)
class SwitchPort(Adapter):
    """A port of a switch; ``switch`` is None while it is on none. ``number``: its place there."""

    state: State = field(kw_only=True)
    switch: Switch | None = None
    number: int = -1

    def join(self, switch: Switch) -> None:
        """Become a port of ``switch``, which has room for it."""
        self.number = switch.attach(self)
        self.switch = switch

    def leave(self) -> None:
        """Leave the switch, if on one."""
        if self.switch is not None:
            self.switch.detach(self.number)
            self.switch = None

    def destroy(self) -> None:
        self.leave()
        Adapter.destroy(self)

    def flush(self, switch: Switch, count: int, ring: int) -> None:
        """Send the batch of ``count`` slots that the switch's forwarder has, and what comes back to
        the switch meanwhile; ``ring``: the number of the sender's ring."""
        outer = switch.forwarding, switch.round
        switch.forwarding = True
        try:
            self._send_batch(switch, count, ring)
            while switch.waiting:
                switch.round, forward = switch.waiting.popleft()
                forward()
        finally:
            switch.forwarding, switch.round = outer

    def send_frame(self, switch: Switch, frame: bytes, ring: int) -> None:
        """Send a frame that is in no ring, if on the switch still."""
        if self.switch is switch:
            self._send_batch(switch, switch.forwarder.load([frame]), ring)

    def _send_batch(self, switch: Switch, count: int, ring: int) -> None:
        forwarder = switch.forwarder
        used = forwarder.route(self.region, count, self.virt_hdr_len, self.number, ring)
        broadcast = forwarder.first_broadcast
        first = {place: forwarder.first_of(place) for place in used}
        if broadcast != NO_PACKET:
            for number in switch.order[: switch.active]:
                if number != self.number:
                    first.setdefault(number * NM_BDG_MAXRINGS, NO_PACKET)
        forwarder.empty_lists(used)
        reached: list[Kring] = []
        for place, unicast in first.items():
            number, to_ring = divmod(place, NM_BDG_MAXRINGS)
            port = switch.ports[number]
            # Broadcasts go to ring 0 alone.
            to_all = broadcast if to_ring == 0 else NO_PACKET
            if isinstance(port, SwitchPort) and port.netmap_on:
                header = self.virt_hdr_len
                reached += port.accept(forwarder, self.region, header, to_ring, unicast, to_all)
        for target in reached:
            target.notified()

    def accept(
        self,
        forwarder: Forwarder,
        source: Region,
        header: int,
        ring: int,
        unicast: int,
        broadcast: int,
    ) -> list[Kring]:
        """Take two lists of packets of the batch (their first ones, or NO_PACKET).

        ``source``, ``header``: the sender's region, and bytes of the virtio-net header in front of
        its frames. Returns the rings in which there is something new.
        """
        raise NotImplementedError
