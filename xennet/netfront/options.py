"""The options of a frontend that the guest's administrator sets: module parameters and ethtool."""

from __future__ import annotations

from attrs import field, frozen, validators

#: Most queues of a vif (XENNET_MAX_QUEUES of Linux).
MAX_QUEUES = 8
#: Largest headroom (XEN_NETIF_MAX_XDP_HEADROOM).
MAX_XDP_HEADROOM = 0x7FFF


@frozen
class NetfrontOptions:
    """The options of a frontend.

    ``queues`` (1 to 8) and ``split`` channels are limited by what the backend supports. ``sg``,
    ``gso``, ``csum``: whether packets of several pages, to be segmented, or with blank checksums
    are sent and taken; GSO needs the other two. ``gso_prefix``: ask for GSO announced by a prefix
    slot (old Windows frontends). ``xdp_headroom``: bytes left free before each received packet.
    ``trusted``: whether the backend is, None for what the toolstack says. ``enforce_mtu``: frames
    longer than the mtu allows are not sent. ``carrier``: the backend's node of that name counts
    also if it first appears while connected (no kind of frontend does so by itself).
    """

    queues: int = field(default=1, validator=(validators.ge(1), validators.le(MAX_QUEUES)))
    split: bool = True
    sg: bool = True
    gso: bool = True
    csum: bool = True
    gso_prefix: bool = False
    xdp_headroom: int = field(
        default=0, validator=(validators.ge(0), validators.le(MAX_XDP_HEADROOM))
    )
    trusted: bool | None = None
    enforce_mtu: bool = False
    carrier: bool = False


#: The options of a guest that was not configured.
DEFAULTS = NetfrontOptions()
