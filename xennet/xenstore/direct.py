"""Changes outside a transaction: at once in the tree, watches at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from xennet.xenstore.node import Node
from xennet.xenstore.path import parent
from xennet.xenstore.perms import Perms
from xennet.xenstore.tree import Tree
from xennet.xenstore.watch import WatchTable


class Direct:
    """The tree as requests with transaction id 0 see it."""

    def __init__(self, tree: Tree, watches: WatchTable, leaves_first: bool = True) -> None:
        self._tree = tree
        self._watches = watches
        self._leaves_first = leaves_first

    def lookup(self, path: str) -> Node | None:
        """The node at a canonical path, or None."""
        return self._tree.lookup(path)

    def write(self, path: str, value: bytes) -> None:
        """New value for the existing node ``path``."""
        node = self._existing(path)
        self._tree.write(node, value)
        self._fire(path, node)

    def set_perms(self, path: str, perms: Perms) -> None:
        """New permissions for the existing node ``path``; whoever loses sight of it hears so."""
        node = self._existing(path)
        before = self._tree.perms(node)
        self._tree.set_perms(node, perms)
        self._fire(path, node, before)

    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None:
        """Make ``path``, which is ``anchor`` and then ``names``, with parents as needed."""
        node = self._tree.create(self._existing(anchor), names, value, perms)
        self._fire(path, node)

    def remove(self, path: str) -> None:
        """Remove the existing node ``path`` and all below, deepest first for the watches, unless
        the daemon tells from the top.

        Below ``path`` only watches exactly on a removed node hear of it.
        """
        node = self._existing(path)
        if not self._leaves_first:
            heard = removal_events(self._tree, self._watches, path)
            self._tree.remove(node)
            for told, perms in heard:
                self._watches.fire(told, partial(list, perms), exact=told != path)
            return
        watched = [
            (below, gone)
            for below in self._watches.paths_below(path)
            if (gone := self._tree.lookup(below)) is not None
        ]
        watched.sort(key=lambda item: (*item[1].position(), float("inf")))
        for below, gone in watched:
            self._fire(below, gone, exact=True)
        # The parent is seen as it is now: it loses the child, but not its permissions.
        self._tree.remove(node)
        self._fire(path, node)

    def claim(self, domid: int, new: int, limit: int) -> int:
        """How many nodes ``domid`` would own with ``new`` more; more than ``limit`` is refused."""
        return self._tree.claim(domid, self._tree.nodes_owned(domid), new, limit)

    def fail(self) -> None:
        """A refused request leaves nothing behind outside a transaction."""

    def _existing(self, path: str) -> Node:
        node = self._tree.lookup(path)
        if node is None:
            raise KeyError(path)
        return node

    def _fire(self, path: str, node: Node, *before: Perms, exact: bool = False) -> None:
        self._watches.fire(path, lambda: (*before, *visible_perms(self._tree, node)), exact)


def visible_perms(tree: Tree, node: Node) -> list[Perms]:
    """Permissions of which one must let a connection read to hear of ``node``: its own and its
    parent's."""
    return [tree.perms(n) for n in (node, node.parent) if n is not None]


def readable_by(tree: Tree, path: str) -> list[Perms]:
    """As :func:`visible_perms` for the node at ``path``; of its parent alone if it is missing."""
    node = tree.lookup(path)
    if node is not None:
        return visible_perms(tree, node)
    above = tree.lookup(parent(path))
    return [tree.perms(above)] if above is not None else []


def removal_events(tree: Tree, watches: WatchTable, path: str) -> list[tuple[str, list[Perms]]]:
    """Whom a removal of ``path`` concerns, from the top: itself, and what is watched below; each
    with the permissions of which one must let a connection read, none for what is not there."""
    paths = (path, *sorted(watches.paths_below(path)))
    return [(told, readable_by(tree, told)) for told in paths]
