"""The GSO types that an end of a vif takes, as its directory says (xen/io/netif.h)."""

from __future__ import annotations

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.xenbus.nodes import NodeDirectory

_TYPES = {
    "feature-gso-tcpv4": XEN_NETIF_GSO_TYPE_TCPV4,
    "feature-gso-tcpv6": XEN_NETIF_GSO_TYPE_TCPV6,
}


def gso_types(keys: NodeDirectory, suffix: str = "") -> int:
    """A number in which bit t is set for each GSO type t that the other end takes.

    With ``suffix`` "-prefix": those that an old frontend takes with a descriptor in front of the
    packet (NETRXF_gso_prefix) in place of an extra info slot.
    """
    return sum(
        1 << kind for key, kind in _TYPES.items() if keys.optional_unsigned(f"{key}{suffix}")
    )
