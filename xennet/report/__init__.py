"""What a run did, as plain records, and how people get to see it."""

from xennet.report.model import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    DirectionReport,
    DomainReport,
    Mismatch,
    Notifications,
    PortReport,
    Progress,
    RingReport,
    RunOptions,
    RunReport,
    TimelineEntry,
    Verdict,
)

__all__ = [
    "GUEST_TO_HOST",
    "HOST_TO_GUEST",
    "DirectionReport",
    "DomainReport",
    "Mismatch",
    "Notifications",
    "PortReport",
    "Progress",
    "RingReport",
    "RunOptions",
    "RunReport",
    "TimelineEntry",
    "Verdict",
]
