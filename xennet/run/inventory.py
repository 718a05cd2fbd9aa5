"""What a run has to report of its lines: rings, domains, and what each vif negotiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.frames import Offload
from xennet.link.report import PathReport
from xennet.offload.fitter import OffloadCounters
from xennet.run.report import DirectionReport
from xennet.wrap.in_order import DESCRIBED, InOrderCheck

_GSO_NAMES = {XEN_NETIF_GSO_TYPE_TCPV4: "tcpv4", XEN_NETIF_GSO_TYPE_TCPV6: "tcpv6"}


def direction(name: str, named: Mapping[str, InOrderCheck]) -> DirectionReport:
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


def path(offload: Offload, ledger: InOrderCheck, done: Sequence[OffloadCounters]) -> PathReport:
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
