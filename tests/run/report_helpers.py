"""Made-up reports for the report and cli tests."""

from __future__ import annotations

from xennet.port import Counters
from xennet.run import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    DirectionReport,
    DomainReport,
    Mismatch,
    Notifications,
    PathReport,
    PortReport,
    RingReport,
    RunOptions,
    RunReport,
    TimelineEntry,
    Verdict,
    VifReport,
)

FRONT = "/local/domain/1/device/vif/0"
BACK = "/local/domain/0/backend/vif/1/0"

_STEPS: list[tuple[object, ...]] = [
    ("toolstack", "mkdir", FRONT),
    ("toolstack", "write", f"{FRONT}/backend", BACK),
    ("toolstack", "write", f"{FRONT}/backend-id", "0"),
    ("toolstack", "state", f"{FRONT}/state", "1", None, "Initialising"),
    ("toolstack", "write", f"{BACK}/hotplug-status", ""),
    ("toolstack", "write", f"{BACK}/script", "/etc/xen/scripts/vif-bridge"),
    ("dom0", "write", f"{BACK}/feature-dynamic-multicast-control", "1"),
    ("dom0", "write", f"{BACK}/feature-split-event-channels", "1"),
    ("dom0", "state", f"{BACK}/state", "2", "Initialising", "InitWait"),
    ("hotplug", "write", f"{BACK}/hotplug-status", "connected"),
    ("domU1", "write", f"{FRONT}/tx-ring-ref", "768"),
    ("domU1", "write", f"{FRONT}/rx-ring-ref", "769"),
    ("domU1", "write", f"{FRONT}/event-channel-tx", "8"),
    ("domU1", "write", f"{FRONT}/feature-ipv6-csum-offload", "1"),
    ("domU1", "state", f"{FRONT}/state", "4", "Initialising", "Connected"),
    ("dom0", "map", "", "gref 768 of domU1"),
    ("dom0", "state", f"{BACK}/state", "4", "InitWait", "Connected"),
    ("toolstack", "write", f"{BACK}/online", "0"),
    ("toolstack", "state", f"{BACK}/state", "5", "Connected", "Closing"),
    ("domU1", "state", f"{FRONT}/state", "6", "Closing", "Closed"),
    ("dom0", "state", f"{BACK}/state", "6", "Closing", "Closed"),
    ("toolstack", "rm", f"/libxl/1{FRONT[15:]}"),
]


def timeline() -> tuple[TimelineEntry, ...]:
    return tuple(
        TimelineEntry(step, *entry, time_ns=step * 1000)  # type: ignore[arg-type]
        for step, entry in enumerate(_STEPS, 1)
    )


def good_report() -> RunReport:
    return RunReport(
        verdict=Verdict(True, ("all 1,234,568 frames arrived as sent, nothing leaked",)),
        options=RunOptions(grant_version=2, queues=2),
        roots={"frontend": FRONT, "backend": BACK},
        timeline=timeline(),
        directions=(
            DirectionReport(GUEST_TO_HOST, 1234567, 1234567, 1851850500, 1851850500),
            DirectionReport(HOST_TO_GUEST, 1, 1, 60, 60),
        ),
        vifs=(
            VifReport(
                "vif1.0",
                2,
                True,
                PathReport(True, ("ipv4", "ipv6"), ("tcpv4", "tcpv6"), carried=1234567),
                PathReport(max_frame=1514, completed=12, segmented=100, segments=4500),
            ),
        ),
        rings=(
            RingReport(
                "vif1.0-q0-tx",
                1234567,
                1234567,
                1300000,
                Notifications(12345, 1222222),
                Notifications(9999, 1224568),
            ),
            RingReport("vif1.0-q0-rx", 257, 1, 1, Notifications(2, 255), Notifications(1)),
        ),
        domains=(
            DomainReport("dom0", 0, 0, 1300001, 1851850560, 0, 0, 3),
            DomainReport("domU1", 1234827, 0, 0, 0, 0, 0, 36),
        ),
        ports=(
            PortReport(
                "guest",
                "pcap:/srv/captures/2024/a-rather-long-name-for-a-capture-file.pcapng",
                Counters(1234567, 1851850500, 1, 60, 3, 2, 1),
            ),
            PortReport("host", "echo:", Counters(1, 60, 1234567, 1851850500)),
        ),
        seconds=12.5,
    )


def bad_report() -> RunReport:
    return RunReport(
        verdict=Verdict(False, ("1,002 frames did not arrive as sent", "domU1 holds 2 grants")),
        directions=(
            DirectionReport(
                GUEST_TO_HOST,
                5000,
                4999,
                300000,
                299940,
                1002,
                (
                    Mismatch(
                        17, "bytes differ", 42, "00112233445566778899", "00112233ff5566778899"
                    ),
                    Mismatch(4999, "lost"),
                ),
            ),
        ),
        domains=(DomainReport("domU1", 300, 2),),
    )
