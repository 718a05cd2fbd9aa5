"""The reports about vifs: their rings, and what their domains used of the hypervisor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xennet.abi.ring import NETIF_RX_RING_SIZE, NETIF_TX_RING_SIZE
from xennet.host.domains import PluggedVif
from xennet.host.host import DOM0, Host
from xennet.link.report import (
    DomainReport,
    LinkStatus,
    Notifications,
    QueueStatus,
    RingReport,
)
from xennet.vif.counters import RingCounters, VifCounters

#: Most vifs with rows of their own; more have one row for each ring in all.
_ROWS = 8
_RINGS: tuple[tuple[str, Callable[[VifCounters], RingCounters]], ...] = (
    ("tx (guest transmit)", lambda counters: counters.tx),
    ("rx (guest receive)", lambda counters: counters.rx),
)
#: Slots of a tx ring and of an rx ring.
_RING_SIZES = (NETIF_TX_RING_SIZE, NETIF_RX_RING_SIZE)


def rings(vifs: Sequence[PluggedVif]) -> tuple[RingReport, ...]:
    """The reports on both rings of each vif, of all its queues, from the counters of both ends."""
    rows = []
    for vif in vifs:
        front, back = vif.netfront, vif.netback
        if front is None or back is None:
            continue
        prefix = f"{vif.name} " if len(vifs) > 1 else ""
        # The end that sends on a ring has the frames that wait for it.
        lost = (front.counters.lost, back.counters.lost)
        for (name, of), waited in zip(_RINGS, lost, strict=True):
            ring = _ring(f"{prefix}{name}", of(front.counters), of(back.counters), waited)
            rows.append(ring)
    if len(vifs) <= _ROWS:
        return tuple(rows)
    return tuple(
        _sum(f"{len(vifs)} vifs {name}", rows[place :: len(_RINGS)])
        for place, (name, _) in enumerate(_RINGS)
    )


def status(vifs: Sequence[PluggedVif]) -> LinkStatus:
    """How many requests have no response yet on all tx rings and on all rx rings, and what either
    end has dropped."""
    used, size, dropped = [0, 0], [0, 0], 0
    for vif in vifs:
        front, back = vif.netfront, vif.netback
        if front is None or back is None:
            continue
        ours, theirs = front.counters, back.counters
        for place, (_, of) in enumerate(_RINGS):
            used[place] += of(ours).requests - of(theirs).responses
            size[place] += _RING_SIZES[place] * len(back.queues)
        dropped += theirs.expired + theirs.dropped + theirs.tx.errors + theirs.rx.errors
        dropped += ours.lost + theirs.lost
    rings = zip(("tx", "rx"), used, size, strict=True)
    # What a frontend had posted when it disconnected has no response, and is on no ring.
    return LinkStatus(tuple(QueueStatus(name, min(n, of), of) for name, n, of in rings), dropped)


def _ring(name: str, front: RingCounters, back: RingCounters, lost: int) -> RingReport:
    return RingReport(
        name=name,
        requests=front.requests,
        responses=back.responses,
        slots=back.slots,
        front=Notifications(front.notified, front.avoided),
        back=Notifications(back.notified, back.avoided),
        lost=lost,
    )


def _sum(name: str, rows: Sequence[RingReport]) -> RingReport:
    return RingReport(
        name=name,
        requests=sum(row.requests for row in rows),
        responses=sum(row.responses for row in rows),
        slots=sum(row.slots for row in rows),
        front=_all([row.front for row in rows]),
        back=_all([row.back for row in rows]),
        lost=sum(row.lost for row in rows),
    )


def _all(ends: Sequence[Notifications]) -> Notifications:
    return Notifications(sum(end.sent for end in ends), sum(end.avoided for end in ends))


def domains(host: Host, vifs: Sequence[PluggedVif]) -> tuple[DomainReport, ...]:
    """The reports on what each domain used of the hypervisor, and what it holds now."""
    made: dict[int, int] = {}
    for vif in vifs:
        if vif.netfront is not None:
            counters, domid = vif.netfront.counters, vif.paths.frontend_domid
            made[domid] = made.get(domid, 0) + counters.tx.grants + counters.rx.grants
    tables = host.machine.grant_tables
    copies = {DOM0: tables.statistics.copies}
    return tuple(
        DomainReport(
            name=leaks.name,
            grants_made=made.get(leaks.domid, 0),
            grants_held=len(leaks.granted),
            grant_copies=copies.get(leaks.domid, 0),
            bytes_copied=tables.copied_bytes(leaks.domid),
            mappings=len(leaks.mappings),
            event_channels=len(leaks.ports),
            pages=leaks.pages,
        )
        for leaks in host.leaks().domains
    )
