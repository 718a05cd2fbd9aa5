"""Which daemon the store is like: what xenstored of one release does in its own way, as data.

Measured on the daemons themselves (Debian's 4.17.7 and 4.20.4); everything that is not here they
do alike. The texts of XS_CONTROL are in :mod:`xennet.xenstore.control`.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

RECORD_PERM = 8
"""Bytes of one entry (``struct xs_permissions`` of the C daemons) in a node's record."""


@frozen
class Likeness:
    """One daemon.

    ``record_header`` is what a node's record takes beside permissions, value and child names, in
    bytes; ``record_spare`` of the bytes that the quota ``node_size`` allows must stay free.
    ``path_max_binds_all`` tells whether the quota ``path_max`` binds privileged domains and
    sockets, too, or guests only.
    ``specials_are_nodes`` tells whether @introduceDomain and @releaseDomain are nodes as far as
    permissions go: GET_PERMS works, SET_PERMS works in transactions, counts for their owner and
    fires watches, also those on ``/``; other names that begin with @ are nodes that are missing,
    and such names must be legal paths to be watched.
    ``unwatch_checks_path`` tells whether UNWATCH of an illegal path is EINVAL; else it is as if
    the path was not watched.
    ``counts_in_transactions`` tells whether a request in a transaction is refused for the nodes
    that the transaction itself made; else all but one come to light at the commit.
    """

    name: str
    record_header: int
    record_spare: int
    path_max_binds_all: bool
    specials_are_nodes: bool
    unwatch_checks_path: bool
    counts_in_transactions: bool

    def record_size(self, perms: int, value: int, children: int) -> int:
        """Bytes of a node's record: ``perms`` entries, ``value`` bytes, ``children`` bytes of
        names (each with its nul)."""
        return self.record_header + RECORD_PERM * perms + value + children


XEN_4_17 = Likeness(
    name="4.17",
    record_header=24,
    record_spare=1,
    path_max_binds_all=True,
    specials_are_nodes=False,
    unwatch_checks_path=False,
    counts_in_transactions=False,
)
XEN_4_20 = Likeness(
    name="4.20",
    record_header=16,
    record_spare=0,
    path_max_binds_all=False,
    specials_are_nodes=True,
    unwatch_checks_path=True,
    counts_in_transactions=True,
)

LIKENESSES: Mapping[str, Likeness] = {like.name: like for like in (XEN_4_17, XEN_4_20)}
DEFAULT_LIKENESS = XEN_4_20.name


def likeness(name: str) -> Likeness:
    """The daemon of that name. Raises ValueError, naming those that are known."""
    try:
        return LIKENESSES[name]
    except KeyError:
        known = ", ".join(LIKENESSES)
        raise ValueError(f"no XenStore daemon {name!r} is known, only {known}") from None
