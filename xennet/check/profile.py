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

#: Name -> the node by which a backend announces it, and the least number in that node.
_BY_BACKENDS = {
    "sg": ("feature-sg", 1),
    "gso-tcpv4": ("feature-gso-tcpv4", 1),
    "gso-tcpv6": ("feature-gso-tcpv6", 1),
    "csum-v6": ("feature-ipv6-csum-offload", 1),
    "rx-notify": ("feature-rx-notify", 1),
    "split-channels": ("feature-split-event-channels", 1),
    "multi-queue": ("multi-queue-max-queues", 2),
    "ctrl-ring": ("feature-ctrl-ring", 1),
    "dynamic-multicast-control": ("feature-dynamic-multicast-control", 1),
    "multicast-control": ("feature-multicast-control", 1),
    "xdp-headroom": ("feature-xdp-headroom", 1),
}
#: In these states a driver has announced all: InitWait, Initialised, Connected.
_READY = (b"2", b"3", b"4")
#: What a frontend announces whatever its backend does.
_BY_FRONTENDS = ("sg", "gso-tcpv4", "gso-tcpv6", "csum-v6")
#: Side -> what its drivers announce, as above.
ANNOUNCED: dict[str, dict[str, tuple[str, int]]] = {
    "netback": _BY_BACKENDS,
    "netfront": {name: _BY_BACKENDS[name] for name in _BY_FRONTENDS},
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


def unannounced(
    side: str, needs: frozenset[str], written: Iterable[tuple[str, bytes]]
) -> tuple[str, ...]:
    """The needed features that a driver of a ``side`` announces by a node, and did not by what was
    ``written`` into its directory (names and values, in order). Empty if its state has never come
    as far as InitWait: it may not have begun to announce."""
    nodes, ready = {}, False
    for node, value in written:
        nodes[node] = value
        ready = ready or (node == "state" and value in _READY)
    if not ready:
        return ()
    return tuple(
        name
        for name, (node, least) in ANNOUNCED[side].items()
        if name in needs and not _is_at_least(nodes.get(node, b""), least)
    )


def _is_at_least(value: bytes, least: int) -> bool:
    return value.isdigit() and int(value) >= least
