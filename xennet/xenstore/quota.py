"""Limits for unprivileged domains (defaults of the C daemon, ``quota_*`` variables)."""

from __future__ import annotations

import sys

from attrs import frozen

from xennet.xenstore.errors import XsError


@frozen
class Quota:
    """Adjustable limits; connections of a privileged domain pass all, but for ``path_max`` where
    the daemon binds them by it (:class:`~xennet.xenstore.likeness.Likeness`).

    ``nodes`` owned per domain; ``node_size`` bytes of a node's record;
    ``watches`` and ``transactions`` per connection, where the C daemon tests ``>`` before adding
    and so lets one more than the number pass; ``transaction_nodes`` touched in one transaction;
    ``perms`` entries of a node; ``path_max`` characters after the domain prefix; ``outstanding``
    requests whose replies were not read yet; ``memory`` bytes of watch events that were not read
    yet, with ``soft_memory`` as the level of a warning.
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


@frozen
class Refusal:
    """A limit that stood against a request of domain ``domid``: ``quota`` is its name, a field of
    :class:`Quota`, ``limit`` its value, ``wanted`` what it would have come to."""

    domid: int
    quota: str
    limit: int
    wanted: int


class QuotaError(XsError):
    """A request that a limit of its domain stands against; ``refusal`` says which."""

    def __init__(self, errno: str, path: str, detail: str, refusal: Refusal) -> None:
        super().__init__(errno, path, detail)
        self.refusal = refusal


UNLIMITED = sys.maxsize
"""A limit that is none; the wire calls it 0."""
