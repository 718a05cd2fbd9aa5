"""The daemons whose behaviour a store can have: what each xenstored does in its own way, as data.

Measured on the daemons themselves (Debian's C xenstored 4.17.7 and 4.20.4, and oxenstored 4.17.7,
whose answers 4.20.4 shares). They agree on everything that is not here, or the difference is
declared in docs/xenstore.md. The texts of XS_CONTROL are in :mod:`xennet.xenstore.control`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from xennet.abi.xs_numbers import (
    XS_DIRECTORY_PART,
    XS_MKDIR,
    XS_RM,
    XS_SET_PERMS,
    XS_WATCH,
    XS_WRITE,
)
from xennet.xenstore.quota import UNLIMITED, Quota

RECORD_PERM = 8
"""Bytes of one permission entry (``struct xs_permissions`` of the C daemons) in a record."""


class Specials(Enum):
    """What @introduceDomain and @releaseDomain are."""

    APART = "apart"
    """Names with permissions: SET_PERMS takes effect at once, nothing else knows them. Any text
    behind an @ may be watched."""
    BESIDE = "beside the root"
    """Nodes, as far as permissions go: GET_PERMS works, SET_PERMS works in transactions, counts for
    the owner and fires watches, also those on ``/``. Other names that begin with @ are nodes that
    are missing, and must be legal paths to be watched."""
    LISTED = "below the root"
    """Nodes like any other, ``/@introduceDomain``. Any text behind an @ may be watched."""


@frozen(eq=False, kw_only=True)
class Likeness:
    """One daemon.

    Quotas:
    ``record_header`` is what a node's record takes beside permissions, value and child names, in
    bytes; ``record_spare`` of the bytes that the quota ``node_size`` allows must stay free.
    ``value_max`` are the bytes that anybody's value may have, E2BIG otherwise.
    ``path_max_binds_all`` tells whether the quota ``path_max`` binds privileged domains and
    sockets, too, or guests only.
    ``counts_in_transactions`` tells whether a request in a transaction is refused for the nodes
    that the transaction itself made; else all but one come to light at the commit.
    ``commit_counts_nodes`` tells whether the node quota is looked at again at the commit.
    ``transaction_requests`` are those that a guest may make in one transaction, its end included.
    ``quota_errnos`` has the errno of a limit where it is not that of the C daemon.

    Nodes and permissions:
    ``xenstored_value`` is the value of ``/tool/xenstored``, ``fresh`` are nodes that a new store
    has beside it. ``specials`` are @introduceDomain and @releaseDomain.
    ``sorts_children`` tells whether DIRECTORY sorts, or lists in the order of creation.
    ``creator_owns`` tells whether a domain owns what it makes, or the owner of the parent does.
    ``tells_missing`` tells whether a missing node is ENOENT for who may not read its ancestor.
    ``gives_away`` is the errno for a domain that gives its node to another.
    ``knows_lives`` tells whether a domain's entries in permissions are void when the domain does
    not exist, or lives again, and whether a domain that does not exist cannot be made an owner;
    else an entry is for any domain that has the number, and vanishes with a domain's end.

    Watches:
    ``unwatch_checks_path`` tells whether UNWATCH of an illegal path is EINVAL; else it is as if
    the path was not watched.
    ``replies_first`` are the types whose own events come after the reply.
    ``suppresses_equals`` tells whether an event equal to one that waits is left out.
    ``tells_from_the_root`` tells whether watches hear from the root down, the newest of each path
    first, and nobody of the root itself, or by age. ``tells_leaves_first`` tells whether a removal
    is told from the leaves up, to those who watch a node that was there; else from the top down,
    also to those who watch a missing child of it. ``tells_each_write`` tells whether a commit is
    told write by write, or node by node.

    Transactions:
    ``no_transaction`` is the errno for an unknown id.
    ``replays`` tells whether a commit that meets changes does all requests again and succeeds if
    their answers are the same; else it is refused if a node that it touched has changed.

    Domains:
    ``not_introduced`` is the errno of RELEASE and RESUME for a domain that is not introduced.
    ``lenient`` tells whether RESUME of domain 0, SET_TARGET to an unknown domain and INTRODUCE
    with port 0 are fine.
    ``tells_of_death`` tells whether watches hear of the nodes that end with their domain.

    ``unknown_types`` are messages that the daemon does not know; ``watch_keeps_tx`` tells whether
    the reply to WATCH and UNWATCH repeats the transaction id, which means nothing there.
    """

    name: str
    quota: Quota = field(factory=Quota)
    record_header: int
    record_spare: int = 0
    value_max: int = UNLIMITED
    path_max_binds_all: bool
    counts_in_transactions: bool
    commit_counts_nodes: bool = True
    transaction_requests: int = UNLIMITED
    quota_errnos: Mapping[str, str] = field(factory=dict)
    xenstored_value: bytes = b""
    fresh: tuple[str, ...] = ()
    specials: Specials
    sorts_children: bool = False
    creator_owns: bool = True
    tells_missing: bool = False
    gives_away: str = "EPERM"
    knows_lives: bool = True
    unwatch_checks_path: bool
    replies_first: frozenset[int] = frozenset({XS_WATCH})
    suppresses_equals: bool = True
    tells_from_the_root: bool = False
    tells_leaves_first: bool = True
    tells_each_write: bool = False
    no_transaction: str = "ENOENT"
    replays: bool = False
    not_introduced: str = "ENOENT"
    lenient: bool = False
    tells_of_death: bool = True
    unknown_types: frozenset[int] = frozenset()
    watch_keeps_tx: bool = True

    def __repr__(self) -> str:
        return f"<Likeness {self.name}>"

    def record_size(self, perms: int, value: int, children: int) -> int:
        """Bytes of a node's record.

        ``perms`` is the number of permission entries, ``value`` and ``children`` are bytes of the
        value and of the children's names, each with its nul.
        """
        return self.record_header + RECORD_PERM * perms + value + children


XEN_4_17 = Likeness(
    name="4.17",
    # struct xs_tdb_record_hdr has 24, and the sum must stay below the quota.
    record_header=24,
    record_spare=1,
    path_max_binds_all=True,
    counts_in_transactions=False,
    specials=Specials.APART,
    unwatch_checks_path=False,
)
XEN_4_20 = Likeness(
    name="4.20",
    record_header=16,
    path_max_binds_all=False,
    counts_in_transactions=True,
    specials=Specials.BESIDE,
    unwatch_checks_path=True,
)
OXENSTORED = Likeness(
    name="oxenstored",
    quota=Quota(
        node_size=UNLIMITED,
        watches=100,
        transactions=10,
        transaction_nodes=UNLIMITED,
        perms=UNLIMITED,
        path_max=1024,
        outstanding=1024,
    ),
    record_header=16,
    value_max=2048,
    path_max_binds_all=True,
    counts_in_transactions=True,
    commit_counts_nodes=False,
    transaction_requests=1024,
    quota_errnos={"nodes": "EQUOTA", "watches": "EQUOTA", "transactions": "EQUOTA"},
    # The daemon's own path, wherever it was started.
    xenstored_value=b"/usr/lib/xen/bin/oxenstored",
    fresh=("local",),
    specials=Specials.LISTED,
    sorts_children=True,
    creator_owns=False,
    tells_missing=True,
    gives_away="EACCES",
    knows_lives=False,
    unwatch_checks_path=False,
    replies_first=frozenset({XS_WATCH, XS_WRITE, XS_MKDIR, XS_RM, XS_SET_PERMS}),
    suppresses_equals=False,
    tells_from_the_root=True,
    tells_leaves_first=False,
    tells_each_write=True,
    no_transaction="EIO",
    replays=True,
    not_introduced="EINVAL",
    lenient=True,
    tells_of_death=False,
    unknown_types=frozenset({XS_DIRECTORY_PART}),
    watch_keeps_tx=False,
)

LIKENESSES: Mapping[str, Likeness] = {like.name: like for like in (XEN_4_17, XEN_4_20, OXENSTORED)}
DEFAULT_LIKENESS = XEN_4_20.name


def likeness(name: str) -> Likeness:
    """The daemon called ``name``. Raises ValueError, with the names that are known, for another."""
    try:
        return LIKENESSES[name]
    except KeyError:
        known = ", ".join(LIKENESSES)
        raise ValueError(f"no XenStore daemon {name!r} is known, only {known}") from None
