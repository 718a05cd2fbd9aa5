"""What every port has (struct netmap_adapter): counts, rings, a memory region, registrations.

A kind of port is a subclass that moves frames (:meth:`Adapter.txsync`, :meth:`Adapter.rxsync`) and
knows when it is switched on and off. Rings of the shared kind are made for those that a client is
bound to, in the order rx, host rx, tx, host tx, from which the numbers of buffers follow.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from errno import EOPNOTSUPP
from typing import TYPE_CHECKING

from attrs import define, field

from xennet.abi.netmap import (
    IF,
    NI_PRIV_MEM,
    NM_CACHE_ALIGN,
    RING,
    SLOT,
    SLOT_WORDS,
    SLOT_W_buf_idx,
    SLOT_W_len,
)
from xennet.engine.choice import current
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import (
    K_AT,
    K_BUF_AT,
    K_BUF_WORDS,
    K_BUFS,
    K_RCUR,
    K_RHEAD,
    K_RTAIL,
    Kring,
)

if TYPE_CHECKING:
    from xennet.netmap.region import Region, Regions

#: Flags of a sync: the call is an ioctl, which wants completions (tx) or frames (rx) now.
NAF_FORCE_READ = 1
NAF_FORCE_RECLAIM = 2
#: The client is bound to all NIC tx rings, so frames of the host may be forwarded to them.
NAF_CAN_FORWARD_DOWN = 4


@define(eq=False)
class Adapter:
    """A port called ``name``.

    ``tx_rings``, ``rx_rings``, ``tx_slots``, ``rx_slots``: counts of the NIC rings. ``host_rings``:
    the port has rings to a network stack; their counts are ``host_tx_rings`` and ``host_rx_rings``.
    ``references`` keep it in being; with the last one it is destroyed. ``active_fds`` counts
    registrations. ``krings``: tx and rx rings, host rings behind the others, while registered.
    """

    name: str
    regions: Regions
    region: Region
    tx_rings: int
    rx_rings: int
    tx_slots: int
    rx_slots: int
    host_rings: bool = False
    host_tx_rings: int = 1
    host_rx_rings: int = 1
    references: int = 0
    active_fds: int = 0
    tx: list[Kring] = field(factory=list)
    rx: list[Kring] = field(factory=list)
    #: The ends of pipes on this port, by name.
    pipes: dict[str, Adapter] = field(factory=dict)
    #: How many monitors of this port were made, and what is called when its last client leaves.
    monitors_made: int = 0
    last_closed: list[Callable[[], None]] = field(factory=list)
    #: Bytes of the virtio-net header in front of each frame.
    virt_hdr_len: int = 0
    #: Frames may begin at an offset in their buffer.
    takes_offsets: bool = True
    #: Used by the kernel: a NIC that is attached to a switch.
    busy: bool = False

    # --- life -------------------------------------------------------------------------------------

    def get(self) -> None:
        """One reference more."""
        self.references += 1

    def put(self) -> None:
        """One reference less; destroys the port with the last one."""
        self.references -= 1
        if self.references == 0:
            self.destroy()

    def destroy(self) -> None:
        """Nobody refers to the port any more."""
        self.regions.put(self.region)

    def move_to(self, region: Region) -> None:
        """Use another region, unless a client is using this one."""
        if not self.active_fds and not self.region.active and region is not self.region:
            self.regions.put(self.region)
            self.region = self.regions.get(region)

    def rings(self, tx: bool) -> list[Kring]:
        """The rings of one direction."""
        return self.tx if tx else self.rx

    def nrings(self, tx: bool) -> int:
        """Number of NIC rings of one direction."""
        return self.tx_rings if tx else self.rx_rings

    def host_count(self, tx: bool) -> int:
        """Number of host rings of one direction; 0 for a port without."""
        if not self.host_rings:
            return 0
        return self.host_tx_rings if tx else self.host_rx_rings

    def all_rings(self, tx: bool) -> int:
        """NIC rings and host rings; a port without host rings has the place of one."""
        return self.nrings(tx) + max(1, self.host_count(tx))

    def every(self) -> Iterator[Kring]:
        """All rings in the order in which they get memory."""
        yield from self.rx
        yield from self.tx

    # --- what a kind of port does -----------------------------------------------------------------

    def check_open(self, flags: int) -> None:
        """The first client is about to register. Raises NetmapError if the port cannot be used
        with this region."""

    def krings_create(self) -> None:
        """Make the private rings, before the first registration."""
        self.make_krings()

    def krings_delete(self) -> None:
        """Forget them, after the last registration."""
        self.tx.clear()
        self.rx.clear()

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        """Rings were bound for the first time (``on``) or left by their last client. Raises
        NetmapError if a port refuses to be switched on."""
        for kring in changed:
            kring.on = on

    def txsync(self, kring: Kring, flags: int) -> None:
        """Take the slots from hwcur to rhead, and see which are free again."""
        raise NotImplementedError

    def rxsync(self, kring: Kring, flags: int) -> None:
        """Import frames up to hwtail, then take back the slots from hwcur to rhead."""
        raise NotImplementedError

    @property
    def netmap_on(self) -> bool:
        """Whether a client uses the port."""
        return self.active_fds > 0

    def register(self) -> None:
        """A client is bound: one registration more."""
        self.active_fds += 1

    # --- rings ------------------------------------------------------------------------------------

    def make_krings(self) -> None:
        """Make the private rings of both directions, fresh."""
        for tx, rings, slots in ((True, self.tx, self.tx_slots), (False, self.rx, self.rx_slots)):
            nic = self.nrings(tx)
            rings[:] = [Kring(self, i, tx, i >= nic, slots) for i in range(self.all_rings(tx))]

    def rings_create(self) -> None:
        """Make the shared rings that are used or needed and not there yet.

        Raises NetmapError(ENOMEM); rings made so far stay, for :meth:`rings_delete`.
        """
        for kring in self.every():
            if kring.offset < 0 and (kring.users or kring.needed):
                self._ring_create(kring)

    def _ring_create(self, kring: Kring) -> None:
        region, slots = self.region, kring.num_slots
        offset = region.new_object(region.rings, RING.size + slots * SLOT.size)
        try:
            indices = [0] * slots if kring.fake else region.new_buffers(slots)
        except NetmapError:
            region.free_object(region.rings, offset)
            raise
        length = 0 if kring.fake else region.buf_size
        kring.offset = offset
        RING.pack_into(
            region.u8,
            offset,
            region.bufs.offset - offset,
            slots,
            region.buf_size,
            kring.ring_id,
            1 if kring.tx else 0,
            kring.pvt[K_RHEAD],
            kring.pvt[K_RCUR],
            kring.pvt[K_RTAIL],
            0,
            0,
            0,
            0,
            0,
            bytes(NM_CACHE_ALIGN),
        )
        words = array("I", bytes(slots * SLOT.size))
        words[SLOT_W_buf_idx::SLOT_WORDS] = array("I", indices)
        words[SLOT_W_len::SLOT_WORDS] = array("I", [length]) * slots
        first = offset + RING.size
        region.u8[first : first + slots * SLOT.size] = words.tobytes()
        kring.pvt[K_AT] = offset // 4
        kring.pvt[K_BUFS] = region.bufs.layout.objtotal
        kring.pvt[K_BUF_AT] = region.bufs.offset // 4
        kring.pvt[K_BUF_WORDS] = region.buf_size // 4
        kring.view = current().view(kring.pvt)

    def rings_delete(self) -> None:
        """Give back the shared rings that nobody uses or needs, with the buffers that are in their
        slots."""
        for kring in self.every():
            if kring.offset >= 0 and not kring.users and not kring.needed:
                self.ring_delete(kring)

    def ring_delete(self, kring: Kring) -> None:
        """Give back one shared ring, and its buffers unless they are another ring's."""
        region = self.region
        if not kring.fake:
            first, end = kring.slot_at(0), kring.slot_at(kring.num_slots)
            for index in region.u32[first:end:SLOT_WORDS].tolist():
                region.bufs.give_back(index)
        region.free_object(region.rings, kring.offset)
        kring.offset = -1
        kring.offset_mask = 0
        kring.view = None

    # --- the netmap_if ----------------------------------------------------------------------------

    def if_new(self, owned: Callable[[Kring], bool]) -> int:
        """A netmap_if for a client that is bound to the rings that are ``owned``. Returns its
        offset in the region. Raises NetmapError(ENOMEM)."""
        region = self.region
        rings = [*self.tx, *self.rx]
        offset = region.new_object(region.ifs, IF.size + 8 * len(rings))
        IF.pack_into(
            region.u8,
            offset,
            self.name.encode("latin-1")[:15],
            0,
            NI_PRIV_MEM if region.private else 0,
            self.tx_rings,
            self.rx_rings,
            0,
            self.all_rings(True) - self.tx_rings,
            self.all_rings(False) - self.rx_rings,
            bytes(12),
        )
        for i, kring in enumerate(rings):
            if kring.offset >= 0 and owned(kring):
                at = offset + IF.size + 8 * i
                distance = kring.offset - offset
                region.u8[at : at + 8] = distance.to_bytes(8, "little", signed=True)
        return offset

    def if_delete(self, offset: int) -> None:
        """Give back a netmap_if and the extra buffers that its list has."""
        region = self.region
        region.extra_free(region.u32[(offset + IF.offsets["ni_bufs_head"]) // 4])
        region.free_object(region.ifs, offset)

    def set_bufs_head(self, offset: int, head: int) -> None:
        """Show the chain of extra buffers to the client."""
        self.region.u32[(offset + IF.offsets["ni_bufs_head"]) // 4] = head

    def set_virt_hdr(self, length: int) -> None:
        """Set the length of the virtio-net header. Raises NetmapError: only switch ports have
        one."""
        raise NetmapError(EOPNOTSUPP, f"{self.name} has no virtio-net header of {length} bytes")
