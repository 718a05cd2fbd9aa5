"""What a run has to report of its lines: rings, domains, and what each vif negotiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import evolve

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.counters import RingCounters, VifCounters
from xennet.frames import Offload
from xennet.link.house import DOM0
from xennet.link.ledger import DESCRIBED, Ledger
from xennet.link.lines import Lines
from xennet.link.residents import PluggedVif
from xennet.offload.fitter import OffloadCounters
from xennet.report.model import (
    DirectionReport,
    DomainReport,
    Notifications,
    PathReport,
    RingReport,
)

#: More vifs than this have one row for each ring in all.
_ROWS = 8
_RINGS: tuple[tuple[str, Callable[[VifCounters], RingCounters]], ...] = (
    ("tx (guest transmit)", lambda counters: counters.tx),
    ("rx (guest receive)", lambda counters: counters.rx),
)
_GSO_NAMES = {XEN_NETIF_GSO_TYPE_TCPV4: "tcpv4", XEN_NETIF_GSO_TYPE_TCPV6: "tcpv6"}


def rings(vifs: Sequence[PluggedVif]) -> tuple[RingReport, ...]:
    """Both rings of each vif, of all its queues, from the counters of both ends."""
    rows = []
    for vif in vifs:
        front, back = vif.netfront, vif.netback
        if front is None or back is None:
            continue
        prefix = f"{vif.name} " if len(vifs) > 1 else ""
        # Whoever sends on a ring is who has frames that wait for it.
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


def domains(lines: Lines) -> tuple[DomainReport, ...]:
    """What each domain used of the hypervisor, and holds now."""
    made: dict[int, int] = {}
    for vif in lines.vifs:
        if vif.netfront is not None:
            counters, domid = vif.netfront.counters, vif.paths.frontend_domid
            made[domid] = made.get(domid, 0) + counters.tx.grants + counters.rx.grants
    tables = lines.house.machine.grant_tables
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
        for leaks in lines.leaks().domains
    )


def direction(name: str, named: Mapping[str, Ledger]) -> DirectionReport:
    """All that went the same way, with ledgers by the names of the vifs. Evidence is what the
    first ledgers have."""
    ledgers = named.values()
    evidence = [
        evolve(mismatch, problem=f"{vif}: {mismatch.problem}") if len(named) > 1 else mismatch
        for vif, ledger in named.items()
        for mismatch in ledger.evidence
    ]
    return DirectionReport(
        name=name,
        frames_sent=sum(ledger.frames_sent for ledger in ledgers),
        frames_received=sum(ledger.frames_received for ledger in ledgers),
        bytes_sent=sum(ledger.bytes_sent for ledger in ledgers),
        bytes_received=sum(ledger.bytes_received for ledger in ledgers),
        mismatches=sum(ledger.mismatches for ledger in ledgers),
        evidence=tuple(evidence[:DESCRIBED]),
        filtered=sum(ledger.filtered for ledger in ledgers),
    )


def path(offload: Offload, ledger: Ledger, done: Sequence[OffloadCounters]) -> PathReport:
    """One way through a vif: what its end takes, what arrived, what was done at its edges."""
    return PathReport(
        sg=offload.sg,
        csum=tuple(
            family
            for family, taken in (("ipv4", offload.csum_v4), ("ipv6", offload.csum_v6))
            if taken
        ),
        gso=tuple(name for kind, name in _GSO_NAMES.items() if offload.gso_types >> kind & 1),
        max_frame=offload.max_frame,
        carried=ledger.frames_received,
        completed=sum(counters.completed for counters in done),
        segmented=sum(counters.segmented for counters in done),
        segments=sum(counters.segments for counters in done),
        refused=sum(counters.refused for counters in done),
        errors=sum(counters.errors for counters in done),
        # Both edges may have met the same frame.
        wrong_checksums=max(counters.wrong_checksums for counters in done),
        filtered=ledger.filtered,
    )
