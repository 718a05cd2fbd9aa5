"""Monitors: ports that show what passes the rings of another port.

A copy monitor has a region of its own: what is sent is copied before it is sent, what arrives when
it arrives. A zero-copy one is in its parent's region and gets the very buffers, of slots that are
free again; a second one on the same ring gets what the first has released. Rules:
netmap_monitor.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EINVAL, EIO
from functools import partial

from attrs import define, field

from xennet.abi.netmap import (
    NR_MONITOR_RX,
    NR_MONITOR_TX,
    NR_ZCOPY_MON,
    NS_BUF_CHANGED,
    NS_TXMON,
    SLOT_S_flags,
    SLOT_W_len,
)
from xennet.netmap.adapter import NAF_FORCE_READ, Adapter
from xennet.netmap.binding import Binding
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RHEAD, Kring
from xennet.netmap.region import private_sizes
from xennet.netmap.vale import Counts, bounded
from xennet.netmap.vale_forward import frame_at

NM_MONITOR_MAXSLOTS = 4096
#: A monitor sends nothing, but a port has to have a tx ring.
_TX_RINGS = 1
_TXMON = NS_TXMON << SLOT_S_flags
_CHANGED = NS_BUF_CHANGED << SLOT_S_flags


def is_monitor(flags: int) -> bool:
    """Whether the flags of a request ask for a monitor."""
    return bool(flags & (NR_MONITOR_TX | NR_MONITOR_RX | NR_ZCOPY_MON))


@define(eq=False)
class Monitor(Adapter):
    """A monitor of ``parent``, which is None when nobody uses that any more. ``ways``: whether
    frames that are sent (True) and that arrive (False) are shown."""

    parent: Adapter | None = field(kw_only=True)
    ways: tuple[bool, ...] = field(kw_only=True)
    zero_copy: bool = field(kw_only=True)

    @classmethod
    def create(cls, parent: Adapter, flags: int, mode: int, ringid: int, counts: Counts) -> Monitor:
        """A monitor of a port. Raises NetmapError: EINVAL for a parent that nobody uses, or rings
        that it has not, ENOMEM."""
        if not parent.active_fds:
            raise NetmapError(EINVAL, f"nobody uses {parent.name}")
        Binding.of(parent, mode, ringid, flags)
        zero_copy = bool(flags & NR_ZCOPY_MON)
        tx_way, rx_way = (bool(flags & bit) or zero_copy for bit in (NR_MONITOR_TX, NR_MONITOR_RX))
        letters = f"{'z' if zero_copy else ''}{'r' if rx_way else ''}{'t' if tx_way else ''}"
        tx_slots = bounded(counts.tx_slots, parent.tx_slots, NM_MONITOR_MAXSLOTS)
        rx_slots = bounded(counts.rx_slots, parent.rx_slots, NM_MONITOR_MAXSLOTS)
        rx_rings = max(parent.rx_rings, parent.tx_rings)
        region = parent.region
        if not zero_copy:
            sizes = private_sizes((_TX_RINGS + 1, tx_slots), (rx_rings + 1, rx_slots))
            region = parent.regions.private(sizes)
        monitor = cls(
            f"{parent.name}/{letters}#{parent.monitors_made}",
            parent.regions,
            parent.regions.get(region),
            _TX_RINGS,
            rx_rings,
            tx_slots,
            rx_slots,
            host_rings=parent.host_rings,
            host_tx_rings=parent.host_tx_rings,
            host_rx_rings=parent.host_rx_rings,
            takes_offsets=not zero_copy,
            parent=parent,
            ways=tuple(way for way, wanted in ((True, tx_way), (False, rx_way)) if wanted),
            zero_copy=zero_copy,
        )
        parent.monitors_made += 1
        parent.get()
        return monitor

    @property
    def flags(self) -> int:
        """The flags of a request for such a monitor; a zero-copy one shows both ways."""
        shown = sum(NR_MONITOR_TX if way else NR_MONITOR_RX for way in self.ways)
        return shown | (NR_ZCOPY_MON if self.zero_copy else 0)

    def destroy(self) -> None:
        Adapter.destroy(self)
        if self.parent is not None:
            self.parent.put()

    # --- on and off -------------------------------------------------------------------------------

    def switched(self, on: bool, changed: Sequence[Kring]) -> None:
        Adapter.switched(self, on, changed)
        if self.parent is None:
            if on:
                raise NetmapError(EINVAL, "nobody uses the parent")
            return
        for kring in changed:
            if not kring.tx:
                for watched in self._watched(self.parent, kring):
                    (_add if on else _remove)(watched, kring, self.zero_copy)
        gone = self._parent_gone
        if on and gone not in self.parent.last_closed:
            self.parent.last_closed.append(gone)
        elif not on and not any(kring.on for kring in self.rx):
            self.parent.last_closed.remove(gone)

    def _watched(self, parent: Adapter, kring: Kring) -> list[Kring]:
        """The parent's rings that ring ``kring`` of the monitor shows."""
        found = [parent.rings(tx)[kring.ring_id :][:1] for tx in self.ways]
        return [ring for rings in found for ring in rings]

    def _parent_gone(self) -> None:
        """The last client of the parent has left: its rings go."""
        if self.parent is not None:
            for kring in self.rx:
                for watched in self._watched(self.parent, kring):
                    _remove(watched, kring, self.zero_copy)
                kring.wake()
            self.parent.put()
            self.parent = None

    # --- syncs ------------------------------------------------------------------------------------

    def txsync(self, kring: Kring, flags: int) -> None:
        raise NetmapError(EIO, "a monitor sends nothing")

    def rxsync(self, kring: Kring, flags: int) -> None:
        if self.parent is None:
            raise NetmapError(EIO, "nobody uses the parent")
        kring.pvt[K_HWCUR] = kring.pvt[K_RHEAD]


# --- watched rings --------------------------------------------------------------------------------


def _add(watched: Kring, kring: Kring, zero_copy: bool) -> None:
    """Show what passes a ring in ring ``kring`` of a monitor."""
    if zero_copy:
        while watched.zero_copy_monitor not in (None, kring):
            watched = watched.zero_copy_monitor
        if watched is kring:
            return  # by way of the ring of the other direction
        watched.zero_copy_monitor = kring
    else:
        watched.monitors.append(kring)
        watched.monitored_tail = watched.pvt[K_HWTAIL]
    _intercept(watched)


def _remove(watched: Kring, kring: Kring, zero_copy: bool) -> None:
    """Show nothing there any more; a zero-copy monitor behind moves up."""
    if zero_copy:
        while watched.zero_copy_monitor not in (None, kring):
            watched = watched.zero_copy_monitor
        if watched.zero_copy_monitor is kring:
            watched.zero_copy_monitor = kring.zero_copy_monitor
    elif kring in watched.monitors:
        watched.monitors.remove(kring)
    _intercept(watched)


def _intercept(watched: Kring) -> None:
    """Put the monitors' functions in the place of the ring's own, or take them out."""
    if not watched.monitors and watched.zero_copy_monitor is None:
        watched.restore()
    elif watched.tx:
        watched.sync = _watched_txsync
    else:
        watched.sync = _watched_rxsync
        watched.notified = partial(_watched_notify, watched)


def _own_sync(kring: Kring, flags: int) -> None:
    (kring.na.txsync if kring.tx else kring.na.rxsync)(kring, flags)


def _watched_txsync(kring: Kring, flags: int) -> None:
    first = kring.pvt[K_HWCUR]
    new = (kring.pvt[K_RHEAD] - first) % kring.num_slots
    for monitor in kring.monitors:
        _copy(kring, monitor, first, new)
    target = kring.zero_copy_monitor
    first = (kring.pvt[K_HWTAIL] + 1) % kring.num_slots
    _own_sync(kring, flags)
    if target is not None:
        released = (kring.pvt[K_HWTAIL] + 1 - first) % kring.num_slots
        _swap(kring, target, first, released)


def _watched_rxsync(kring: Kring, flags: int) -> None:
    target = kring.zero_copy_monitor
    if target is not None:
        first = kring.pvt[K_HWCUR]
        _swap(kring, target, first, (kring.pvt[K_RHEAD] - first) % kring.num_slots)
    _own_sync(kring, flags)
    first = kring.monitored_tail
    new = (kring.pvt[K_HWTAIL] - first) % kring.num_slots
    for monitor in kring.monitors:
        _copy(kring, monitor, first, new)
    kring.monitored_tail = kring.pvt[K_HWTAIL]


def _watched_notify(kring: Kring) -> None:
    if kring.monitors:
        _watched_rxsync(kring, NAF_FORCE_READ)
    kring.wake()


def _room(kring: Kring) -> int:
    if kring.offset < 0:
        return 0
    return kring.num_slots - 1 - kring.pending


def _copy(kring: Kring, monitor: Kring, first: int, number: int) -> None:
    """Copy slots of a ring, the last ones if the monitor has no room for all."""
    from_region, to_region = kring.na.region, monitor.na.region
    taken = min(number, _room(monitor))
    place = monitor.pvt[K_HWTAIL]
    for i in range(number - taken, number):
        slot = kring.slot_at((first + i) % kring.num_slots)
        target = monitor.slot_at(place)
        second = from_region.u32[slot + SLOT_W_len]
        length = min(second & 0xFFFF, to_region.buf_size)
        source = frame_at(from_region.u32, slot, length, kring.pvt)
        to = frame_at(to_region.u32, target, length, monitor.pvt)
        if source and to:
            to_region.u8[to : to + length] = from_region.u8[source : source + length]
        to_region.u32[target + SLOT_W_len] = length | _shown_flags(kring, second)
        place = (place + 1) % monitor.num_slots
    monitor.pvt[K_HWTAIL] = place
    if taken:
        monitor.notified()


def _swap(kring: Kring, monitor: Kring, first: int, number: int) -> None:
    """Swap the buffers of slots that are free with the monitor's, of the last ones if it has no
    room for all."""
    words = kring.na.region.u32
    taken = min(number, _room(monitor))
    place = monitor.pvt[K_HWTAIL]
    for i in range(number - taken, number):
        slot = kring.slot_at((first + i) % kring.num_slots)
        target = monitor.slot_at(place)
        second, other = words[slot + SLOT_W_len], words[target + SLOT_W_len]
        words[slot], words[target] = words[target], words[slot]
        words[target + SLOT_W_len] = second & 0xFFFF | _shown_flags(kring, second)
        words[slot + SLOT_W_len] = other & 0xFFFF | second & 0xFFFF0000 | _CHANGED
        place = (place + 1) % monitor.num_slots
    monitor.pvt[K_HWTAIL] = place
    if taken:
        monitor.notified()


def _shown_flags(kring: Kring, second: int) -> int:
    """The flags of a slot as a monitor shows them: NS_TXMON for what was sent."""
    return second & 0xFFFF0000 & ~_TXMON | (_TXMON if kring.tx else 0)
