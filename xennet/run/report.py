"""The records of a run report: numbers and text only, no rules and no rendering.

The run fills a :class:`RunReport`; :meth:`RunReport.to_json` and :mod:`xennet.run.render` show it.
"""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen

from xennet.link.report import (
    DefectReport,
    DomainReport,
    InterfaceReport,
    RingReport,
    VifReport,
)
from xennet.link.timeline import TimelineEntry
from xennet.port.base import Counters
from xennet.run.options import RunOptions
from xennet.wrap.in_order import Mismatch

#: Name of the JSON layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-run/1"

#: Names of the two directions of a run, and of the way through the switch.
GUEST_TO_HOST = "guest to host"
HOST_TO_GUEST = "host to guest"
THROUGH_SWITCH = "through the switch"


@frozen
class DirectionReport:
    """One direction, of all vifs; ``name`` is GUEST_TO_HOST, HOST_TO_GUEST or THROUGH_SWITCH.

    ``mismatches``: number of frames that did not arrive as sent; ``evidence``: the first few of
    them. ``filtered``: frames that the link need not bring and said so, such as those for groups
    that the guest did not ask for, dropped by the backend.
    """

    name: str
    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    evidence: tuple[Mismatch, ...] = ()
    filtered: int = 0


@frozen
class SwitchReport:
    """The switch that joined the vifs.

    ``through`` is the direction from its ports in to its ports out; ``learned``: addresses that it
    knew at the end. Frames: ``forwarded`` to the one port known, ``flooded`` for an unknown
    address, ``group`` sent to all for a group address, ``filtered`` and ``invalid`` not sent on,
    ``dropped`` because the queue of a port stayed full.
    """

    through: DirectionReport
    ports: int = 0
    learned: int = 0
    forwarded: int = 0
    flooded: int = 0
    group: int = 0
    filtered: int = 0
    invalid: int = 0
    dropped: int = 0


@frozen
class PortReport:
    """The port on ``side`` ("guest", "host"): ``spec`` as given, and its counters."""

    side: str
    spec: str
    counters: Counters


@frozen
class Verdict:
    """Whether the run was ``good``; ``reasons`` are why not, or what made it so."""

    good: bool
    reasons: tuple[str, ...] = ()


@frozen
class RunReport:
    """Everything about one run.

    ``roots``: short names of XenStore directories for people, such as ``{"frontend":
    "/local/domain/1/device/vif/0"}``. ``seconds``: wall-clock time in which frames were carried, 0
    if unknown. ``interrupted``: what ended it ("SIGINT", "SIGTERM", "SIGHUP"), None if nothing did;
    the verdict is not good then, unless the run is live, which has no other end.
    """

    verdict: Verdict
    options: RunOptions = field(factory=RunOptions)
    roots: dict[str, str] = field(factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    directions: tuple[DirectionReport, ...] = ()
    vifs: tuple[VifReport, ...] = ()
    switch: SwitchReport | None = None
    defects: tuple[DefectReport, ...] = ()
    rings: tuple[RingReport, ...] = ()
    domains: tuple[DomainReport, ...] = ()
    ports: tuple[PortReport, ...] = ()
    interfaces: tuple[InterfaceReport, ...] = ()
    seconds: float = 0.0
    interrupted: str | None = None

    @property
    def frames_per_second(self) -> float:
        """Frames that arrived, both directions, per second; 0 if the time is unknown."""
        frames = sum(direction.frames_received for direction in self.directions)
        return frames / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as objects, lists, strings, numbers, booleans and None for ``json.dumps``.

        Keys are the attributes' names, all always there, and lists stand for tuples; besides them
        "format" (:data:`FORMAT`) and "frames_per_second". As long as the format's number stays,
        keys may be added, never changed.
        """
        speed = round(self.frames_per_second, 1)
        fields = asdict(self, value_serializer=_json_value)
        return {"format": FORMAT, **fields, "frames_per_second": speed}


def _json_value(_record: object, _attribute: object, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
