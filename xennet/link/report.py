"""The records of a link's report: numbers and text only."""

from __future__ import annotations

from attrs import asdict, field, fields, frozen

from xennet.ifnet import Interface
from xennet.link.timeline import TimelineEntry


@frozen
class Notifications:
    """Events that were ``sent``, and ``avoided`` because the other end had not asked for one."""

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
class PathReport:
    """One direction of one vif: what was negotiated, and what was done in software to keep to it.

    ``sg``: packets of several slots; ``csum``: families whose checksums may be blank ("ipv4",
    "ipv6"); ``gso``: segmentation types that the other end takes ("tcpv4", "tcpv6"); ``max_frame``:
    longest frame in bytes without GSO and VLAN tags, 0 = any. Frames: ``carried`` through the vif,
    ``completed`` checksums, ``segmented`` into ``segments``, ``refused`` because they were too
    long, ``errors`` whose headers did not fit their flags, ``wrong_checksums`` passed on to an end
    that takes no blank ones, ``filtered`` by the backend's multicast control.
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
    """One vif.

    ``name``: "vif1.0"; ``queues`` that were connected; ``split_channels``: with an event channel
    for each ring. ``up`` is from guest to host, ``down`` the other way.
    """

    name: str
    queues: int
    split_channels: bool
    up: PathReport
    down: PathReport


@frozen
class DefectReport:
    """A known defect of the backend damaged ``packets``. ``row``: its name ("B4"), ``what``: the
    damage."""

    row: str
    what: str
    packets: int


@frozen
class InterfaceReport:
    """A network interface: name, address ("02:...") and MTU in bytes; and its counters.

    These are packets in and out, bytes out, errors, and frames that a full queue dropped.
    """

    name: str
    mac: str
    mtu: int
    ipackets: int = 0
    opackets: int = 0
    oerrors: int = 0
    obytes: int = 0
    oqdrops: int = 0

    @classmethod
    def of(cls, interface: Interface) -> InterfaceReport:
        """The report on ``interface`` as it is now."""
        counted = asdict(interface.counters)
        names = [one.name for one in fields(cls) if one.name in counted]
        return cls(
            interface.name,
            interface.mac.hex(":"),
            interface.mtu,
            **{name: counted[name] for name in names},
        )


@frozen
class QueueStatus:
    """A queue between the ends of a link, or all of one kind together: ``used`` of ``size`` places
    are taken."""

    name: str
    used: int
    size: int


@frozen
class LinkStatus:
    """What a link is doing just now; ``dropped``: frames that it has dropped so far."""

    queues: tuple[QueueStatus, ...] = ()
    dropped: int = 0


@frozen
class LinkReport:
    """A link's own part of a run's report; what a kind of link does not have is empty.

    ``roots``: short names of XenStore directories for people. ``faults``: what went wrong on the
    link, a line each. ``filter``: what filters frames for guests, and which frames it takes, for a
    sentence.
    """

    roots: dict[str, str] = field(factory=dict)
    timeline: tuple[TimelineEntry, ...] = ()
    rings: tuple[RingReport, ...] = ()
    domains: tuple[DomainReport, ...] = ()
    defects: tuple[DefectReport, ...] = ()
    interfaces: tuple[InterfaceReport, ...] = ()
    faults: tuple[str, ...] = ()
    filter: tuple[str, str] = (
        "the backend's multicast filter",
        "for groups that the guest had not asked for",
    )
