"""A run: frames from ports through links to ports, and the proof that they arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xennet.lazy import lazy_names

if TYPE_CHECKING:
    from xennet.link.report import (
        DefectReport,
        DomainReport,
        InterfaceReport,
        Notifications,
        PathReport,
        RingReport,
        VifReport,
    )
    from xennet.link.timeline import TimelineEntry
    from xennet.run.options import Progress, RunOptions
    from xennet.run.report import (
        GUEST_TO_HOST,
        HOST_TO_GUEST,
        THROUGH_SWITCH,
        DirectionReport,
        PortReport,
        RunReport,
        SwitchReport,
        Verdict,
    )
    from xennet.wrap.in_order import Mismatch

__all__ = [
    "GUEST_TO_HOST",
    "HOST_TO_GUEST",
    "THROUGH_SWITCH",
    "DefectReport",
    "DirectionReport",
    "DomainReport",
    "InterfaceReport",
    "Mismatch",
    "Notifications",
    "PathReport",
    "PortReport",
    "Progress",
    "RingReport",
    "RunOptions",
    "RunReport",
    "SwitchReport",
    "TimelineEntry",
    "Verdict",
    "VifReport",
]

_HOMES = {
    "DefectReport": "xennet.link.report",
    "DirectionReport": "xennet.run.report",
    "DomainReport": "xennet.link.report",
    "InterfaceReport": "xennet.link.report",
    "GUEST_TO_HOST": "xennet.run.report",
    "HOST_TO_GUEST": "xennet.run.report",
    "Mismatch": "xennet.wrap.in_order",
    "Notifications": "xennet.link.report",
    "PathReport": "xennet.link.report",
    "PortReport": "xennet.run.report",
    "Progress": "xennet.run.options",
    "RingReport": "xennet.link.report",
    "RunOptions": "xennet.run.options",
    "RunReport": "xennet.run.report",
    "SwitchReport": "xennet.run.report",
    "THROUGH_SWITCH": "xennet.run.report",
    "TimelineEntry": "xennet.link.timeline",
    "Verdict": "xennet.run.report",
    "VifReport": "xennet.link.report",
}

if not TYPE_CHECKING:  # a checker sees the imports above, and no other names
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
