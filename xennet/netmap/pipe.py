"""Pipes: two ends whose rings are joined crosswise, in the region of the port they are on.

Both ends are made together and have rings together: the first registration of either makes the
rings of both, and those stay until no end is registered. Rules: netmap_pipe.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EBUSY, EINVAL

from attrs import define, field

from xennet.abi.netmap import NR_REG_ALL_NIC, NR_REG_ONE_NIC, RING, SLOT, SLOT_WORDS
from xennet.engine.choice import current
from xennet.netmap.adapter import Adapter
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, Kring
from xennet.netmap.pipe_sync import pipe_rxsync, pipe_txsync
from xennet.netmap.vale import Counts, bounded

NM_PIPE_MAXSLOTS = 4096
NM_PIPE_MAXRINGS = 256
MASTER, SLAVE = "{", "}"


def split_pipe(name: str) -> tuple[str, str, str] | None:
    """Base, role ("{" or "}") and id of a pipe's name; None if it is none.

    The last "{" counts, or the last "}" if there is no "{". Raises NetmapError(EINVAL) if there is
    nothing in front or behind.
    """
    role = MASTER if MASTER in name else SLAVE
    base, found, pipe_id = name.rpartition(role)
    if not found:
        return None
    if not base or not pipe_id:
        raise NetmapError(EINVAL, f"{name!r} is no name of a pipe")
    return base, role, pipe_id


@define(eq=False)
class PipeEnd(Adapter):
    """One end. ``peer`` is the other one; ``parent`` the port they are on."""

    parent: Adapter = field(kw_only=True)
    peer: PipeEnd = field(init=False)

    @classmethod
    def pair(cls, parent: Adapter, pipe_id: str, counts: Counts) -> None:
        """Make both ends of pipe ``pipe_id``, master and slave, and put them among the parent's.

        ``counts`` are the master's; the slave has the same the other way round. Both together hold
        one reference to the parent, and each one to the region.
        """
        tx_rings, rx_rings = (
            bounded(n, 1, NM_PIPE_MAXRINGS) for n in (counts.tx_rings, counts.rx_rings)
        )
        tx_slots = bounded(counts.tx_slots, parent.tx_slots, NM_PIPE_MAXSLOTS)
        rx_slots = bounded(counts.rx_slots, parent.rx_slots, NM_PIPE_MAXSLOTS)
        regions, region = parent.regions, parent.region
        ends = [
            cls(
                f"{parent.name}{role}{pipe_id}",
                regions,
                regions.get(region),
                *sizes,
                parent=parent,
            )
            for role, sizes in (
                (MASTER, (tx_rings, rx_rings, tx_slots, rx_slots)),
                (SLAVE, (rx_rings, tx_rings, rx_slots, tx_slots)),
            )
        ]
        for end, peer in zip(ends, reversed(ends), strict=True):
            end.peer = peer
            parent.pipes[end.name] = end
        parent.get()

    def destroy(self) -> None:
        if self.peer.references:
            return
        for end in (self, self.peer):
            del self.parent.pipes[end.name]
            end.regions.put(end.region)
        self.parent.put()

    def check_open(self, flags: int) -> None:
        if self.parent.busy:
            raise NetmapError(EBUSY, f"{self.parent.name} is attached to a switch")

    # --- rings of both ends -----------------------------------------------------------------------

    def krings_create(self) -> None:
        if self.peer.tx:
            return  # the other end is registered, so both have theirs
        self.make_krings()
        self.peer.make_krings()
        for kring in self.peer.every():
            kring.fake = True

    def joined(self, kring: Kring) -> Kring:
        """The ring of the other end that a ring leads to."""
        return self.peer.rings(not kring.tx)[kring.ring_id]

    def shared(self, kring: Kring) -> bool:
        """Whether a ring and the one that it leads to show the same buffers. They do not after a
        registration that got no memory for both, which has marked them as needed all the same."""
        return kring.fake and self.joined(kring).fake

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        if not on:
            for kring in changed:
                kring.on = False
            return
        for kring in changed:
            self.joined(kring).needed = True
        self.peer.rings_create()
        for kring in changed:
            kring.on = True
            if not self.shared(kring):
                self._share_slots(kring, self.joined(kring))

    def _share_slots(self, kring: Kring, other: Kring) -> None:
        """Both rings show the buffers of the one that has some: with the other's registration it is
        known which one sends."""
        source, target = (other, kring) if kring.fake else (kring, other)
        u8 = self.region.u8
        size = kring.num_slots * SLOT.size
        begin, end = (ring.offset + RING.size for ring in (source, target))
        u8[end : end + size] = u8[begin : begin + size]
        kring.needed = kring.fake = other.fake = True

    def krings_delete(self) -> None:
        if self.active_fds or self.peer.active_fds:
            return
        for end in (self, self.peer):
            for kring in end.tx:
                if end.shared(kring):
                    self._free_buffers(kring, end.joined(kring))
        for end in (self, self.peer):
            for kring in end.every():
                kring.needed = False
            end.rings_delete()
            end.tx.clear()
            end.rx.clear()

    def _free_buffers(self, tx: Kring, rx: Kring) -> None:
        """Free each buffer of a pair of rings once: a slot that was sent and not given back is the
        reader's, any other the sender's."""
        region = self.region
        sent = (tx.pvt[K_HWCUR] - rx.pvt[K_HWCUR]) % tx.num_slots
        for i in range(tx.num_slots):
            unread = (i - rx.pvt[K_HWCUR]) % tx.num_slots < sent
            ring = rx if unread else tx
            region.bufs.give_back(region.u32[ring.slot_at(0) + i * SLOT_WORDS])

    # --- frames -----------------------------------------------------------------------------------

    def txsync(self, kring: Kring, flags: int) -> None:
        other = self.joined(kring)
        if current().kernel(pipe_txsync)(self.region.view32, kring.view, other.view):
            other.notified()

    def rxsync(self, kring: Kring, flags: int) -> None:
        other = self.joined(kring)
        if current().kernel(pipe_rxsync)(self.region.view32, kring.view, other.view):
            other.notified()


def check_mode(mode: int) -> None:
    """Raises NetmapError(EINVAL) for a mode with host rings: pipes have none."""
    if mode not in (NR_REG_ALL_NIC, NR_REG_ONE_NIC):
        raise NetmapError(EINVAL, f"no mode {mode} for a pipe")
