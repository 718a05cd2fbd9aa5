"""The limits of unprivileged domains; the defaults are those of the C daemon (``quota_*``)."""

from __future__ import annotations

import sys
from typing import NamedTuple

from attrs import frozen

from xennet.xenstore.errors import XsError


@frozen
class Quota:
    """The limits of a domain.

    They bind no connection of a privileged domain, but for ``path_max`` with some daemons
    (``Likeness.path_max_binds_all``).

    ``nodes`` that the domain owns. ``node_size``: bytes of a node's record. ``watches`` and
    ``transactions`` of a connection; the C daemon tests ``>`` before it adds one, so one more than
    the number is possible. ``transaction_nodes`` that one transaction accesses. ``perms``: entries
    of a node. ``path_max``: characters behind the domain's prefix. ``outstanding``: requests whose
    replies were not read. ``memory``: bytes of watch events that were not read, with
    ``soft_memory`` as the level for a warning.
    """

    nodes: int = 1000
    node_size: int = 2048
    watches: int = 128
    transactions: int = 10
    transaction_nodes: int = 1024
    perms: int = 5
    path_max: int = 2048
    outstanding: int = 20
    memory: int = 5 << 19
    soft_memory: int = 2 << 20


class Refusal(NamedTuple):
    """A limit that was in the way of a request of domain ``domid``.

    ``quota`` is the limit's name, a field of :class:`Quota`, ``limit`` its value, ``wanted`` the
    value that the request would have led to.
    """

    domid: int
    quota: str
    limit: int
    wanted: int


class QuotaError(XsError):
    """A request was refused because of a quota; ``refusal`` tells which one."""

    def __init__(self, errno: str, path: str, detail: str, refusal: Refusal) -> None:
        super().__init__(errno, path, detail)
        self.refusal = refusal


UNLIMITED = sys.maxsize
"""The value of a limit that does not bind; messages say 0 for it."""
