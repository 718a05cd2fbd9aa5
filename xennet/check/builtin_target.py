"""xennet's own drivers as targets: two netbacks, three netfronts, on the chosen engine.

Behind each is an echo, as the suite's convention is.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

from xennet.check.check import Side
from xennet.check.host_session import CPU_SECONDS, HostSession
from xennet.check.profile import Profile
from xennet.choices import OLDEST, Choices
from xennet.engine.choice import current
from xennet.host import Host
from xennet.host.capacity import Capacity
from xennet.netback.policy import LINUX as LINUX_BACK
from xennet.netback.policy import BackendPolicy, VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD, WINDOWS, FrontendKind
from xennet.netfront.kinds import LINUX as LINUX_FRONT
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.port.echo import EchoPort
from xennet.port.null import NullPort
from xennet.wrap.offload_edge import OffloadEdge


@frozen
class BuiltinNetback:
    """A netback of xennet: ``policy`` decides which, with ``options`` for more than one queue."""

    name: str
    policy: BackendPolicy
    profile: Profile = field(factory=Profile)
    options: VifOptions | None = None
    choices: Choices = OLDEST

    @property
    def side(self) -> Side:
        return Side.NETBACK

    @property
    def words(self) -> tuple[str, ...]:
        """The words that name it."""
        return "--builtin", self.name

    def open(self, nodes: Mapping[str, str], queues: int = 1) -> HostSession:
        """As Target.open says."""
        host = Host(Capacity(queues=queues), backend_evtchn=self.policy.evtchn)
        guest = host.add_guest(drivers=None)
        vif = host.plug(guest, 0, NullPort(), _echo(), policy=self.policy, back=self.options)
        write_nodes(host, vif.paths.backend, nodes)
        session = HostSession(Side.NETBACK, host, vif, cpu=_cpu_seconds(), choices=self.choices)
        host.dom0.load()
        session.settle()
        return session

    def close(self) -> None:
        """Do nothing: sessions share nothing."""

    def __reduce__(self) -> tuple[object, ...]:
        return _builtin, (
            self.side,
            self.name,
            self.profile,
            self.choices,
        )  # policies cannot be pickled


@frozen
class BuiltinNetfront:
    """A netfront of xennet, of a ``kind``."""

    name: str
    kind: FrontendKind
    profile: Profile = field(factory=Profile)
    options: NetfrontOptions = DEFAULTS
    choices: Choices = OLDEST

    @property
    def side(self) -> Side:
        return Side.NETFRONT

    @property
    def words(self) -> tuple[str, ...]:
        """The words that name it."""
        return "--builtin", self.name

    def open(self, nodes: Mapping[str, str], queues: int = 1) -> HostSession:
        """As Target.open says."""
        host = Host(Capacity(queues=queues), drivers=None)
        guest = host.add_guest(kind=self.kind)
        options = evolve(self.options, queues=queues)
        vif = host.plug(guest, 0, _echo(), NullPort(), front=options)
        write_nodes(host, vif.paths.frontend, nodes)
        session = HostSession(Side.NETFRONT, host, vif, cpu=_cpu_seconds(), choices=self.choices)
        guest.boot()
        session.settle()
        return session

    def close(self) -> None:
        """Do nothing: sessions share nothing."""

    def __reduce__(self) -> tuple[object, ...]:
        return _builtin, (self.side, self.name, self.profile, self.choices)


def _cpu_seconds() -> float:
    """The bound on CPU time: an engine that compiles kernels does so when they first run."""
    return CPU_SECONDS if current().name == "plain" else 50 * CPU_SECONDS


def _echo() -> OffloadEdge:
    """An echo behind an edge, which makes frames fit what the other end of the vif takes."""
    return OffloadEdge(EchoPort())


def write_nodes(host: Host, directory: str, nodes: Mapping[str, str]) -> None:
    """Write the nodes of a check into the driver's directory, as the toolstack does."""
    for name, value in nodes.items():
        host.store.write(f"{directory}/{name}", value)


_FREEBSD_LACKS = "FreeBSD's netfront does not read or write its keys"
_XNB_LACKS = "FreeBSD's netback does not announce it"

BUILTIN: Mapping[tuple[Side, str], BuiltinNetback | BuiltinNetfront] = {
    (target.side, target.name): target
    for target in (
        BuiltinNetback("linux", LINUX_BACK, options=VifOptions(max_queues=8)),
        BuiltinNetback(
            "xnb",
            XNB,
            Profile(
                dict.fromkeys(
                    (
                        "multi-queue",
                        "split-channels",
                        "ctrl-ring",
                        "multicast-control",
                        "xdp-headroom",
                        "gso-tcpv6",
                        "csum-v6",
                        "rate",
                        "late-eoi",
                        "carrier",
                        "hotplug-script",
                    ),
                    _XNB_LACKS,
                )
            ),
        ),
        BuiltinNetfront("linux", LINUX_FRONT),
        BuiltinNetfront(
            "freebsd",
            FREEBSD,
            Profile(
                dict.fromkeys(
                    (
                        "multi-queue",
                        "split-channels",
                        "ctrl-ring",
                        "xdp-headroom",
                        "gso-tcpv6",
                        "csum-v6",
                        "late-eoi",
                    ),
                    _FREEBSD_LACKS,
                )
            ),
        ),
        BuiltinNetfront("windows", WINDOWS),
    )
}


def _builtin(
    side: Side, name: str, profile: Profile, choices: Choices
) -> BuiltinNetback | BuiltinNetfront:
    """A built-in driver as another process knows it."""
    return evolve(BUILTIN[side, name], profile=profile, choices=choices)
