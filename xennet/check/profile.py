"""The features that checks can need, by name.

Each is supposed to be there unless the profile of a driver declares that it is not, with a reason:
what fails is never taken for unsupported.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping

from attrs import field, frozen

#: Name -> what a driver without it lacks.
FEATURES = {
    "sg": "packets of several slots (feature-sg)",
    "gso-tcpv4": "TCP segmentation offload over IPv4 (feature-gso-tcpv4)",
    "gso-tcpv6": "TCP segmentation offload over IPv6 (feature-gso-tcpv6)",
    "csum": "blank checksums (feature-no-csum-offload is not 1)",
    "csum-v6": "blank checksums over IPv6 (feature-ipv6-csum-offload)",
    "rx-notify": "events for receive buffers (feature-rx-notify)",
    "split-channels": "an event channel for each ring (feature-split-event-channels)",
    "multi-queue": "several queues (multi-queue-max-queues above 1)",
    "ctrl-ring": "the control ring (feature-ctrl-ring)",
    "dynamic-multicast-control": "multicast control that is switched while connected",
    "multicast-control": "multicast filters in extra info (feature-multicast-control)",
    "xdp-headroom": "headroom in received buffers (feature-xdp-headroom)",
    "rate": "the toolstack's rate limit (rate)",
    "late-eoi": "events without work delay the next ones",
    "carrier": "the node carrier (netif.h, link state)",
    "per-packet-grants": "grants that end with their response, where others last for a vif's life",
    "trusted": "the node trusted (netif.h): nothing else is in a page that is granted",
    "hotplug-script": "an interface that a script plugs in (hotplug-status)",
    "reconnect": "Connected again after Closed",
    "virtual-time": "time that the suite can let pass: drivers in other processes have none",
}


class ProfileError(Exception):
    """A check or a profile names a feature that there is not (the message lists those there are),
    or a file with a profile is not as it has to be."""


def require_known(names: Iterable[str], where: str) -> None:
    """Raises ProfileError, which says ``where``, unless all ``names`` are features."""
    for name in sorted(set(names) - set(FEATURES)):
        known = ", ".join(FEATURES)
        raise ProfileError(f"{where}: there is no feature {name!r}; there are {known}")


def read_profile(text: str, where: str) -> dict[str, str]:
    """The features that a file declares not to be there, with reasons; ``text`` is its content,
    ``where`` names it. Raises ProfileError.

        [unsupported]
        multi-queue = "one queue is enough for a console"
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{where}: {error}") from None
    if unknown := sorted(set(tables) - {"unsupported"}):
        raise ProfileError(f"{where}: there is only a table [unsupported], no {unknown[0]!r}")
    lacks = tables.get("unsupported", {})
    if not isinstance(lacks, dict):
        raise ProfileError(f"{where}: unsupported is a table")
    for name, reason in lacks.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ProfileError(f"{where}: {name} has no reason")
    require_known(lacks, where)
    return lacks


@frozen
class Profile:
    """What is declared of a driver: the features that it does not have, with reasons."""

    unsupported: Mapping[str, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        require_known(self.unsupported, "the profile")

    def missing(self, needs: frozenset[str]) -> tuple[str, ...]:
        """The needed features that are declared not to be there, each with its reason."""
        return tuple(
            f"{name}: {self.unsupported[name]}" for name in sorted(needs & set(self.unsupported))
        )
