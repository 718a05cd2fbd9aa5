"""Three frontends as data: which keys they publish, in which order, and what they can do.

Sources: Linux drivers/net/xen-netfront.c (xennet_connect, talk_to_netback,
write_queue_xenstore_keys), FreeBSD sys/dev/xen/netfront/netfront.c (xn_connect, talk_to_backend),
Windows win-xenvif (FrontendConnect, ControllerStoreWrite, ReceiverStoreWrite,
TransmitterStoreWrite). Event channels: Linux drivers/xen/events/events_base.c (``fifo_events``, on
by default; seen on 6.1 and 7.3), win-xenbus src/xenbus/evtchn.c (``UseEvtchnFifoAbi``, 1 unless the
registry says otherwise), FreeBSD sys/x86/xen/xen_intr.c and its successors, which know the 2-level
ABI only.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.netfront.options import NetfrontOptions
from xennet.xenbus.frontend_rules import FrontendRules
from xennet.xenbus.tables import FREEBSD_FRONTEND, LINUX_FRONTEND, WINDOWS_FRONTEND

#: The value of a feature key, None if it is left out.
Value = Callable[[NetfrontOptions], "int | None"]


def _always(_: NetfrontOptions) -> int:
    return 1


def _sg(options: NetfrontOptions) -> int:
    return int(options.sg)


def _gso(options: NetfrontOptions) -> int:
    return int(takes_gso(options) and not options.gso_prefix)


def _gso_prefix(options: NetfrontOptions) -> int | None:
    return 1 if takes_gso(options) and options.gso_prefix else None


def _csum(options: NetfrontOptions) -> int:
    return int(options.csum)


def _no_csum(options: NetfrontOptions) -> int | None:
    """feature-no-csum-offload. A missing node means "on" for IPv4 (field bug 11)."""
    return None if options.csum else 1


def takes_gso(options: NetfrontOptions) -> bool:
    """Whether GSO can be taken: a packet to be segmented is longer than a page and lacks its
    checksum."""
    return options.gso and options.sg and options.csum


@frozen
class FrontendKind:
    """One kind of frontend.

    ``rules``: its life (xennet.xenbus.tables). ``sections``: the order in which groups of keys are
    published, ``ring_keys`` those of a queue ("event-channel" stands for both channels if they are
    split), ``features`` the rest. ``evtchn``: the ABI by which its kernel receives events, if Xen
    has it ("fifo" or "2l"). ``needs_rx_copy``: it reads the backend's feature-rx-copy, and does not
    connect unless that is 1 at that moment. ``counts_one``: multi-queue-num-queues is written for
    one queue too. ``split``, ``xdp``, ``control_ring``: whether it knows of these.
    ``checksum_setup``: packets with csum_blank are checked, and GSO packets without it repaired.
    ``late_eoi``: spurious events delay the next ones (xennet.vif.late_eoi). ``unvalidated``: what
    GSO packets without data_validated cost.
    """

    name: str
    rules: FrontendRules
    features: tuple[tuple[str, Value], ...]
    evtchn: str = "fifo"
    sections: tuple[str, ...] = ("count", "rings", "features")
    ring_keys: tuple[str, ...] = ("tx-ring-ref", "rx-ring-ref", "event-channel")
    counts_one: bool = True
    split: bool = True
    xdp: bool = False
    control_ring: bool = False
    needs_rx_copy: bool = True
    checksum_setup: bool = False
    late_eoi: bool = False
    unvalidated: str = ""

    def __repr__(self) -> str:
        return f"<FrontendKind {self.name}>"


LINUX = FrontendKind(
    "linux",
    LINUX_FRONTEND,
    features=(
        ("request-rx-copy", _always),
        ("feature-rx-notify", _always),
        ("feature-sg", _sg),
        ("feature-gso-tcpv4", _gso),
        ("feature-gso-tcpv6", _gso),
        ("feature-ipv6-csum-offload", _csum),
        ("feature-no-csum-offload", _no_csum),
    ),
    xdp=True,
    checksum_setup=True,
    late_eoi=True,
    unvalidated="those without csum_blank had to be repaired",
)

FREEBSD = FrontendKind(
    "freebsd",
    FREEBSD_FRONTEND,
    features=(
        ("request-rx-copy", _always),
        ("feature-rx-notify", _always),
        ("feature-sg", _sg),
        ("feature-gso-tcpv4", _gso),
        ("feature-no-csum-offload", _no_csum),
    ),
    evtchn="2l",
    counts_one=False,
    split=False,
    unvalidated="the guest sums up each of them again",
)

WINDOWS = FrontendKind(
    "windows",
    WINDOWS_FRONTEND,
    features=(
        ("request-rx-copy", _always),
        ("feature-rx-notify", _always),
        ("feature-sg", _sg),
        ("feature-gso-tcpv4", _gso),
        ("feature-gso-tcpv6", _gso),
        ("feature-gso-tcpv4-prefix", _gso_prefix),
        ("feature-gso-tcpv6-prefix", _gso_prefix),
        ("feature-no-csum-offload", _no_csum),
        ("feature-ipv6-csum-offload", _csum),
        ("request-multicast-control", _always),
    ),
    sections=("control", "rings", "features", "count"),
    ring_keys=("rx-ring-ref", "tx-ring-ref", "event-channel"),
    needs_rx_copy=False,
    control_ring=True,
    unvalidated="the guest sums up every segment again and slows down (mirage-net-xen PR 123)",
)

#: Name -> kind.
KINDS = {kind.name: kind for kind in (LINUX, FREEBSD, WINDOWS)}
