"""Lists of XenStore writes as data: paths, values and permissions, in the toolstack's order.

Each :class:`Node` is one WRITE (or MKDIR), followed by one SET_PERMS if it has permissions of its
own. Without them a node inherits its parent's entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from xennet.interface import StoreTransaction
from xennet.xenstore.errors import XsError


class Node(NamedTuple):
    """One node: ``value`` (None: an empty node, by MKDIR), then ``perms``, owner first."""

    path: str
    value: str | None = ""
    perms: tuple[str, ...] = ()


class Clear(NamedTuple):
    """One removal: ``path`` is removed if it exists."""

    path: str


def apply(tx: StoreTransaction, nodes: Iterable[Node | Clear]) -> None:
    """Do the writes and removals in order."""
    for node in nodes:
        if isinstance(node, Clear):
            remove_if_there(tx, node.path)
            continue
        if node.value is None:
            tx.mkdir(node.path)
        else:
            tx.write(node.path, node.value)
        if node.perms:
            tx.set_perms(node.path, node.perms)


def remove_if_there(tx: StoreTransaction, path: str) -> bool:
    """Remove ``path``. Returns False if there was nothing to remove."""
    try:
        tx.rm(path)
    except XsError:
        return False
    return True


def remove_with_empty_parents(tx: StoreTransaction, path: str) -> None:
    """Remove ``path``, then each parent that has neither a value nor children left.

    As libxl__xs_path_cleanup it stops at the first parent that has something left, and looks at no
    parent if ``path`` itself is missing.
    """
    with suppress(XsError):
        tx.rm(path)
        while path := path.rpartition("/")[0]:
            if tx.read(path) or tx.directory(path):
                return
            tx.rm(path)
