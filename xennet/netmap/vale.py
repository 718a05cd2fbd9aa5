"""Ports of a VALE switch: ephemeral ones, which live while they are open, and persistent ones.

A port has a private region unless a request names another. It never stops a sender: what a receiver
has no room for is dropped. Rules: netmap_vale.c, netmap_vale_vp_create, nm_vale_flush.
"""

from __future__ import annotations

from errno import EINVAL

from attrs import define

from xennet.abi.netmap import SLOT
from xennet.engine.choice import current
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RHEAD, Kring
from xennet.netmap.module_state import State
from xennet.netmap.region import Region, private_sizes
from xennet.netmap.switch_port import SwitchPort
from xennet.netmap.vale_batch import Forwarder
from xennet.netmap.vale_forward import (
    NM_BDG_MAXRINGS,
    NM_BDG_MAXSLOTS,
    release,
)
from xennet.netmap.vale_mismatch import converted
from xennet.netmap.vale_switch import Switch

#: Slots of a ring unless the request says otherwise.
NM_BRIDGE_RINGSIZE = 1024
#: Longest frame that a port without virtio-net header takes from one with.
NM_BDG_MFS_DEFAULT = 1514
#: Pipes that a port's region has room for.
_PIPES = 2
#: Lengths of a virtio-net header: none, without and with num_buffers.
VNET_HEADERS = (0, 10, 12)


def bounded(value: int, default: int, most: int) -> int:
    """A count of a request: ``default`` for 0, at most ``most``."""
    return min(value or default, most)


@define(eq=False)
class Counts:
    """Rings, slots and extra buffers that a request asks a new port to have; 0 is the default."""

    tx_rings: int = 0
    rx_rings: int = 0
    tx_slots: int = 0
    rx_slots: int = 0
    extra_bufs: int = 0


@define(eq=False)
class ValePort(SwitchPort):
    """A port that clients register; a persistent one may be on no switch.

    ``mfs``: the longest frame that it takes from a port with another
    virtio-net header. ``persistent``: made by NEWIF; ``interface_name``: of the system interface
    that it stands for ("" for an ephemeral port).
    """

    mfs: int = NM_BDG_MFS_DEFAULT
    persistent: bool = False
    interface_name: str = ""

    @classmethod
    def create(cls, state: State, name: str, counts: Counts, region: Region | None) -> ValePort:
        """A port with a private region, or with one more reference to ``region``.

        Raises NetmapError(ENOMEM) if no region can be so large.
        """
        tx_rings = bounded(counts.tx_rings, 1, NM_BDG_MAXRINGS)
        rx_rings = bounded(counts.rx_rings, 1, NM_BDG_MAXRINGS)
        tx_slots = bounded(counts.tx_slots, NM_BRIDGE_RINGSIZE, NM_BDG_MAXSLOTS)
        rx_slots = bounded(counts.rx_slots, NM_BRIDGE_RINGSIZE, NM_BDG_MAXSLOTS)
        if region is None:
            region = state.regions.private(
                private_sizes(
                    (tx_rings + 1, tx_slots), (rx_rings + 1, rx_slots), counts.extra_bufs, _PIPES
                )
            )
        state.regions.get(region)
        return cls(name, state.regions, region, tx_rings, rx_rings, tx_slots, rx_slots, state=state)

    def destroy(self) -> None:
        self.state.interfaces.pop(self.interface_name, None)
        SwitchPort.destroy(self)

    def set_virt_hdr(self, length: int) -> None:
        if length not in VNET_HEADERS:
            raise NetmapError(EINVAL, f"no virtio-net header has {length} bytes")
        self.virt_hdr_len = length
        if length:
            self.mfs = self.region.buf_size

    # --- rings ------------------------------------------------------------------------------------

    def rxsync(self, kring: Kring, flags: int) -> None:
        # New frames are in the ring already: their senders put them there.
        current().kernel(release)(self.region.view32, kring.view, kring.pvt[K_RHEAD])

    def txsync(self, kring: Kring, flags: int) -> None:
        head = kring.pvt[K_RHEAD]
        if self.switch is not None and self.state.parameters.bridge_batch > 0:
            self._forward(self.switch, kring, head)
        kring.pvt[K_HWCUR] = head
        kring.pvt[K_HWTAIL] = (head or kring.num_slots) - 1

    def _forward(self, switch: Switch, kring: Kring, head: int) -> None:
        """Send the slots from hwcur to ``head``, a batch at a time."""
        begin = kring.pvt[K_HWCUR]
        while begin != head:
            forwarder = switch.forwarder
            count = forwarder.read(self.region, kring, begin, head, self.state.caller)
            begin = forwarder.end
            self.flush(switch, count, kring.ring_id)

    def accept(
        self,
        forwarder: Forwarder,
        source: Region,
        header: int,
        ring: int,
        unicast: int,
        broadcast: int,
    ) -> list[Kring]:
        target = self.rx[ring % self.rx_rings]
        if target.offset < 0 or not target.on or target.stopped:
            return []
        if header == self.virt_hdr_len:
            filled = forwarder.deliver(source, unicast, broadcast, target)
        else:
            packets = forwarder.packets(source, unicast, broadcast)
            filled = sum(self._put_converted(packet, header, target) for packet in packets)
        return [target] if filled else []

    def _put_converted(self, packet: list[bytes], header: int, target: Kring) -> int:
        """Copy a packet with another virtio-net header. Returns the number of slots filled."""
        region = self.region
        slots = converted(packet, header, self.virt_hdr_len, region.buf_size, self.mfs)
        if len(slots) > target.num_slots - 1 - target.pending:
            target.dropped += 1
            return 0
        place = target.hwtail
        for data, flags in slots:
            at = target.slot_at(place)
            index = region.u32[at]
            to = region.bufs.offset_of(index if index < region.bufs.layout.objtotal else 0)
            region.u8[to : to + len(data)] = data
            SLOT.pack_into(region.u8, 4 * at, index, len(data), flags, 0)
            place = (place + 1) % target.num_slots
        target.pvt[K_HWTAIL] = place
        return len(slots)
