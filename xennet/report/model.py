"""The records of a run report: numbers and text only, no rules and no rendering.

Whoever carries frames fills a :class:`RunReport`; :meth:`RunReport.to_json` and
:mod:`xennet.report.render` show it.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import asdict, field, frozen

from xennet.port.base import Counters

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-run/1"

#: Names of the two directions of a run, and of what lies between them in one with a switch.
GUEST_TO_HOST = "guest to host"
HOST_TO_GUEST = "host to guest"
THROUGH_SWITCH = "through the switch"


@frozen
class RunOptions:
    """What a run was asked to do.

    ``grant_version``: of the guests' grant tables, 1 or 2. ``evtchn``: the ABI by which guests
    receive events, "2l" or "fifo", None for what is usual for ``frontend`` (the options in a report
    name it). ``frontend``, ``backend``: whose drivers. ``queues``: at most so many for each vif.
    ``split_channels``: an event channel for each ring instead of one for both. ``mtu``: of each vif
    in bytes, None for one that does not limit frames. ``sg``, ``gso``, ``csum``: whether the
    features are used. ``guests``, with ``vifs`` each; ``switch``: they talk to each other.
    ``allow_empty``: a run in which no port gives a frame is good too.
    ``quota_nodes``: how many nodes of the store a guest may own, 0 for any number, None for what
    xenstored allows. ``arena``: MiB of the machine's memory, None for 512, or more
    if that many vifs can take more.
    """

    grant_version: int = 1
    evtchn: str | None = None
    frontend: str = "linux"
    backend: str = "linux"
    queues: int = 1
    split_channels: bool = True
    mtu: int | None = None
    sg: bool = True
    gso: bool = True
    csum: bool = True
    guests: int = 1
    vifs: int = 1
    switch: bool = False
    allow_empty: bool = False
    quota_nodes: int | None = None
    arena: int | None = None


class Progress(Protocol):
    """Told from time to time that ``frames`` in all have arrived in ``direction``.

    ``direction`` is the name of a :class:`DirectionReport`.
    """

    def __call__(self, direction: str, frames: int) -> None: ...


@frozen
class TimelineEntry:
    """One thing that happened while the device came up or went away.

    ``step``: its number in the run, from 1. ``time_ns``: virtual time. ``who``: "domU1", "dom0",
    "toolstack", "hotplug" ... ``kind``: "write", "rm", "mkdir", "state" ... ``path``: absolute
    XenStore path, "" when there is none. ``value``: what was written, or a text; None for
    nothing. ``old``, ``new``: XenbusState names of a state change, else None.
    """

    step: int
    who: str
    kind: str
    path: str = ""
    value: str | None = None
    old: str | None = None
    new: str | None = None
    time_ns: int = 0


@frozen
class Notifications:
    """Events ``sent`` and ``avoided`` because the other end had not asked for one yet."""

    sent: int = 0
    avoided: int = 0


@frozen
class RingReport:
    """One shared ring. ``front``: notifications about requests, ``back``: about responses.

    ``slots``: ring slots consumed, all of requests with their extra infos. ``lost``: frames that
    waited for room on the ring when the vif disconnected.
    """

    name: str
    requests: int = 0
    responses: int = 0
    slots: int = 0
    front: Notifications = Notifications()
    back: Notifications = Notifications()
    lost: int = 0


@frozen
class DomainReport:
    """What one domain used of the hypervisor.

    Since the start of the run: ``grants_made``, ``grant_copies`` (GNTTABOP_copy elements that
    it asked for), ``bytes_copied`` by them. At the end of the run: ``grants_held`` (not revoked),
    ``mappings`` of foreign grants, ``event_channels`` not closed, ``pages`` owned.
    """

    name: str
    grants_made: int = 0
    grants_held: int = 0
    grant_copies: int = 0
    bytes_copied: int = 0
    mappings: int = 0
    event_channels: int = 0
    pages: int = 0


@frozen
class Mismatch:
    """A frame that did not arrive as it was sent.

    ``frame``: its number among those that arrived, from 0. ``problem``: in words. ``offset``: first
    byte that differs, the length of the shorter frame if it begins like the longer one; None where
    that makes no sense (nobody sent it), or what was sent is not known any more. ``sent``,
    ``received``: up to 32 bytes from there on, or from the beginning, as hex.
    """

    frame: int
    problem: str
    offset: int | None = None
    sent: str = ""
    received: str = ""


@frozen
class DirectionReport:
    """One direction, of all vifs; ``name`` is GUEST_TO_HOST, HOST_TO_GUEST or THROUGH_SWITCH.

    ``mismatches``: how many frames did not arrive as sent; ``evidence``: the first few of them.
    ``filtered``: frames for groups that the guest did not ask for, which the backend dropped.
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
class PathReport:
    """One direction of one vif: what was negotiated for it, and what was done in software so that
    frames keep to that.

    ``sg``: packets of several slots; ``csum``: families whose checksums may be blank ("ipv4",
    "ipv6"); ``gso``: segmentation types that the other end takes ("tcpv4", "tcpv6");
    ``max_frame``: longest frame in bytes without GSO and VLAN tags, 0 = any. Frames: ``carried``
    through the vif, ``completed`` checksums, ``segmented`` into ``segments``, ``refused`` because
    they were too long, ``errors`` whose headers did not fit their flags, ``wrong_checksums`` passed
    on to an end that takes no blank ones, ``filtered`` by the backend's multicast control.
    """

    sg: bool = False
    csum: tuple[str, ...] = ()
    gso: tuple[str, ...] = ()
    max_frame: int = 0
    carried: int = 0
    completed: int = 0
    segmented: int = 0
    segments: int = 0
    refused: int = 0
    errors: int = 0
    wrong_checksums: int = 0
    filtered: int = 0


@frozen
class VifReport:
    """One vif. ``name``: "vif1.0", ``queues`` that were connected, ``split_channels``: with an
    event channel for each ring. ``up`` is from guest to host, ``down`` the other way."""

    name: str
    queues: int
    split_channels: bool
    up: PathReport
    down: PathReport


@frozen
class SwitchReport:
    """The switch that joined the vifs. ``through`` is the way from its ports in to its ports out;
    ``learned``: addresses it knew at the end. Frames: ``forwarded`` to the one port known,
    ``flooded`` for an unknown address, ``group`` sent to all for a group address, ``filtered`` and
    ``invalid`` not sent on, ``dropped`` because the queue of a port stayed full.
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
class DefectReport:
    """A known defect of the backend damaged ``packets``. ``row``: its name ("B4"), ``what`` happens
    to such a packet."""

    row: str
    what: str
    packets: int


@frozen
class PortReport:
    """The port on ``side`` ("guest", "host"), ``spec`` as given, and what passed through it."""

    side: str
    spec: str
    counters: Counters


@frozen
class Verdict:
    """Whether the run was ``good``; ``reasons`` say why not, or what made it so."""

    good: bool
    reasons: tuple[str, ...] = ()


@frozen
class RunReport:
    """All there is to tell about one run.

    ``roots``: short names of XenStore directories for people's eyes, such as
    ``{"frontend": "/local/domain/1/device/vif/0"}``. ``seconds``: how long frames were carried,
    wall-clock time, 0 when unknown. ``interrupted``: by what it was ended early ("SIGINT",
    "SIGTERM"), None if it was not; the verdict is not good then.
    """

    verdict: Verdict
    options: RunOptions = RunOptions()
    roots: dict[str, str] = field(factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    directions: tuple[DirectionReport, ...] = ()
    vifs: tuple[VifReport, ...] = ()
    switch: SwitchReport | None = None
    defects: tuple[DefectReport, ...] = ()
    rings: tuple[RingReport, ...] = ()
    domains: tuple[DomainReport, ...] = ()
    ports: tuple[PortReport, ...] = ()
    seconds: float = 0.0
    interrupted: str | None = None

    @property
    def frames_per_second(self) -> float:
        """Frames that arrived, both directions, per second; 0 when the time is unknown."""
        frames = sum(direction.frames_received for direction in self.directions)
        return frames / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as objects, lists, strings, numbers, booleans and None for ``json.dumps``.

        Keys are the attributes' names above, all always there, lists for tuples; besides them
        "format" (:data:`FORMAT`) and "frames_per_second". Keys may be added, never changed,
        while the format's number stays.
        """
        speed = round(self.frames_per_second, 1)
        fields = asdict(self, value_serializer=_json_value)
        return {"format": FORMAT, **fields, "frames_per_second": speed}


def _json_value(_record: object, _attribute: object, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
