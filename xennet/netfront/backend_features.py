"""The features of a backend, read once for each connection.

What the nodes say later does not count before the next connection (hardening rule B16); only the
carrier is watched.
"""

from __future__ import annotations

from typing import NamedTuple

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import ALL_GSO_TYPES, Offload
from xennet.netfront.kinds import FrontendKind, takes_gso
from xennet.netfront.options import MAX_QUEUES, NetfrontOptions
from xennet.vif.gso import gso_types
from xennet.xenbus.nodes import NodeDirectory

_TCPV4 = 1 << XEN_NETIF_GSO_TYPE_TCPV4
_TCPV6 = 1 << XEN_NETIF_GSO_TYPE_TCPV6
_MAX_QUEUES_KEY = "multi-queue-max-queues"


class BackendFeatures(NamedTuple):
    """The feature nodes of the backend's directory.

    A node that is missing or no number is 0, but ``csum_v4`` is on unless feature-no-csum-offload
    is set. ``max_queues`` is None without its node, ``control_ring`` False for a frontend that has
    none.
    """

    sg: bool
    csum_v4: bool
    csum_v6: bool
    gso_types: int
    split: bool
    max_queues: int | None
    multicast_control: bool
    control_ring: bool

    def queues(self, options: NetfrontOptions) -> int:
        """Number of queues of the connection, 1 to 8."""
        return max(1, min(options.queues, self.max_queues or 1, MAX_QUEUES))

    def splits(self, kind: FrontendKind, options: NetfrontOptions) -> bool:
        """Whether each ring gets a channel of its own."""
        return self.split and kind.split and options.split

    def offload(self, options: NetfrontOptions, mtu: int) -> Offload:
        """The offloads that the guest's frames may use.

        A segment needs a checksum, so GSO needs the checksum offload of its IP version. Without
        scatter-gather a frame has to fit into a page.
        """
        csum_v4, csum_v6 = self.csum_v4 and options.csum, self.csum_v6 and options.csum
        segmented = (_TCPV4 if csum_v4 else 0) | (_TCPV6 if csum_v6 else 0)
        sg = self.sg and options.sg
        offload = Offload(
            sg=sg,
            csum_v4=csum_v4,
            csum_v6=csum_v6,
            gso_types=self.gso_types & segmented if sg and takes_gso(options) else 0,
            max_frame=0 if sg else PAGE_SIZE,
        )
        # The mtu does not count the Ethernet header (field bug 10).
        return offload.with_mtu(mtu) if options.enforce_mtu else offload


def read_backend_features(keys: NodeDirectory, kind: FrontendKind) -> BackendFeatures:
    """The features in the backend's directory ``keys`` for a frontend of ``kind``, read in Linux's
    order."""

    def flag(name: str) -> bool:
        return keys.optional_unsigned(name) != 0

    offered = keys.optional_unsigned(_MAX_QUEUES_KEY)
    return BackendFeatures(
        max_queues=offered if offered or keys.optional_text(_MAX_QUEUES_KEY) else None,
        split=flag("feature-split-event-channels"),
        sg=flag("feature-sg"),
        csum_v6=flag("feature-ipv6-csum-offload"),
        gso_types=gso_types(keys),
        csum_v4=not flag("feature-no-csum-offload"),
        multicast_control=flag("feature-multicast-control"),
        control_ring=kind.control_ring and flag("feature-ctrl-ring"),
    )


def prefix_types(options: NetfrontOptions, kind: FrontendKind) -> int:
    """The GSO types that the backend may announce by a prefix: ``kind`` published the keys for
    it."""
    asked = {name for name, value in kind.features if value(options)}
    by_key = {"feature-gso-tcpv4-prefix": _TCPV4, "feature-gso-tcpv6-prefix": _TCPV6}
    return ALL_GSO_TYPES & sum(bit for key, bit in by_key.items() if key in asked)
