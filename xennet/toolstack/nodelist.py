"""Lists of store writes as data: what the toolstack puts there, in order, with which owner.

Each :class:`Node` is one WRITE (or MKDIR) followed, if it has permissions of its own, by one
SET_PERMS. Without them a node inherits its parent's entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from attrs import frozen

from xennet.interface import StoreTransaction
from xennet.xenstore.errors import XsError


@frozen
class Node:
    """``path`` gets ``value`` (None: only made, by MKDIR) and then ``perms`` (owner first)."""

    path: str
    value: str | None = ""
    perms: tuple[str, ...] = ()


@frozen
class Clear:
    """``path`` is removed, if it is there."""

    path: str


def apply(tx: StoreTransaction, nodes: Iterable[Node | Clear]) -> None:
    """Do the writes in order."""
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
    """RM; False when there was nothing to remove."""
    try:
        tx.rm(path)
    except XsError:
        return False
    return True


def remove_with_empty_parents(tx: StoreTransaction, path: str) -> None:
    """RM ``path``, then every parent that is left without value and children.

    As libxl__xs_path_cleanup: stops at the first parent that still holds something, and does
    nothing more when ``path`` itself is missing.
    """
    with suppress(XsError):
        tx.rm(path)
        while path := path.rpartition("/")[0]:
            if tx.read(path) or tx.directory(path):
                return
            tx.rm(path)
