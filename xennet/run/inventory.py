"""The parts of a run's report about its directions and about each vif."""

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
    """The report on one direction of all vifs, from the check of each vif, by its name.

    Evidence is that of the first vifs.
    """
    checks = named.values()
    evidence = [
        evolve(mismatch, problem=f"{vif}: {mismatch.problem}") if len(named) > 1 else mismatch
        for vif, check in named.items()
        for mismatch in check.evidence
    ]
    return DirectionReport(
        name=name,
        frames_sent=sum(check.frames_sent for check in checks),
        frames_received=sum(check.frames_received for check in checks),
        bytes_sent=sum(check.bytes_sent for check in checks),
        bytes_received=sum(check.bytes_received for check in checks),
        mismatches=sum(check.mismatches for check in checks),
        evidence=tuple(evidence[:DESCRIBED]),
        filtered=sum(check.filtered for check in checks),
    )


def path(offload: Offload, check: InOrderCheck, done: Sequence[OffloadCounters]) -> PathReport:
    """The report on one direction of a vif: what its end takes, what arrived, what edges did."""
    return PathReport(
        sg=offload.sg,
        csum=tuple(
            family
            for family, taken in (("ipv4", offload.csum_v4), ("ipv6", offload.csum_v6))
            if taken
        ),
        gso=tuple(name for kind, name in _GSO_NAMES.items() if offload.gso_types >> kind & 1),
        max_frame=offload.max_frame,
        carried=check.frames_received,
        completed=sum(counters.completed for counters in done),
        segmented=sum(counters.segmented for counters in done),
        segments=sum(counters.segments for counters in done),
        refused=sum(counters.refused for counters in done),
        errors=sum(counters.errors for counters in done),
        # Both edges may have counted the same frame.
        wrong_checksums=max(counters.wrong_checksums for counters in done),
        filtered=check.filtered,
    )
