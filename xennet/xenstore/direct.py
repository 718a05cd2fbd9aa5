"""Changes outside of transactions: the tree changes at once, and watches fire at once."""

from __future__ import annotations

from collections.abc import Sequence

from xennet.xenstore.node import Node
from xennet.xenstore.path import parent
from xennet.xenstore.perms import Perms
from xennet.xenstore.tree import Tree
from xennet.xenstore.watch import WatchTable


class Direct:
    """The tree as requests with transaction id 0 see it.

    ``leaves_first`` is the order in which a removal fires watches (Likeness.tells_leaves_first).
    """

    def __init__(self, tree: Tree, watches: WatchTable, leaves_first: bool = True) -> None:
        self._tree = tree
        #: The node at a canonical path; None if there is none.
        self.lookup = tree.lookup
        self._watches = watches
        self._leaves_first = leaves_first

    def __repr__(self) -> str:
        return f"<Direct of {self._tree!r}>"

    def write(self, path: str, value: bytes) -> None:
        """Give the existing node ``path`` the value ``value``."""
        node = self._existing(path)
        self._tree.write(node, value)
        self._fire(path, node)

    def set_perms(self, path: str, perms: Perms) -> None:
        """Give the existing node ``path`` new permissions.

        Connections that could read the node before, or can read it now, get watch events.
        """
        node = self._existing(path)
        before = self._tree.perms(node)
        self._tree.set_perms(node, perms)
        self._fire(path, node, before)

    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None:
        """Create ``path``, that is ``names`` one below the other under the existing node
        ``anchor``."""
        node = self._tree.create(self._existing(anchor), names, value, perms)
        self._fire(path, node)

    def remove(self, path: str) -> None:
        """Remove the existing node ``path`` and everything below it.

        Watches on nodes below ``path`` fire only if they are set on exactly the removed node; the
        deepest node comes first, unless the daemon goes from the top down (``leaves_first``).
        """
        node = self._existing(path)
        if not self._leaves_first:
            heard = removal_events(self._tree, self._watches, path)
            self._tree.remove(node)
            for told, perms in heard:
                if perms:
                    watches = self._watches.covering(told, told != path)
                    self._watches.tell(watches, told, as_they_were, perms)
            return
        if node.children:
            self._fire_below(path)
        # The node still knows its parent, whose permissions the removal leaves alone.
        self._tree.remove(node)
        self._fire(path, node)

    def _fire_below(self, path: str) -> None:
        """Fire the watches on nodes below ``path``, the deepest first."""
        watched = [
            (below, gone)
            for below in self._watches.paths_below(path)
            if (gone := self._tree.lookup(below)) is not None
        ]
        watched.sort(key=lambda item: (*item[1].position(), float("inf")))
        for below, gone in watched:
            self._fire(below, gone, exact=True)

    def claim(self, domid: int, new: int, limit: int) -> int:
        """How many nodes ``domid`` would own with ``new`` more. The caller refuses more than
        ``limit``."""
        return self._tree.claim(domid, self._tree.nodes_owned(domid), new, limit)

    def fail(self) -> None:
        """Do nothing: outside of a transaction a refused request leaves nothing behind."""

    def _existing(self, path: str) -> Node:
        node = self._tree.lookup(path)
        if node is None:
            raise KeyError(path)
        return node

    def _fire(self, path: str, node: Node, *before: Perms, exact: bool = False) -> None:
        watches = self._watches.covering(path, exact)
        if watches:
            self._watches.tell(watches, path, self._visible_by, (node, before))

    def _visible_by(self, _path: str, changed: tuple[Node, tuple[Perms, ...]]) -> list[Perms]:
        node, before = changed
        return [*before, *visible_perms(self._tree, node)]


def as_they_were(_path: str, perms: list[Perms]) -> list[Perms]:
    """``perms``, for a change that watches are told of by the permissions at another time."""
    return perms


def visible_perms(tree: Tree, node: Node) -> list[Perms]:
    """The permissions of ``node`` and of its parent.

    A connection is told of a change of ``node`` if one of them lets it read.
    """
    above = node.parent
    if above is None:
        return [tree.perms(node)]
    return [tree.perms(node), tree.perms(above)]


def readable_by(tree: Tree, path: str) -> list[Perms]:
    """:func:`visible_perms` of the node at ``path``; if there is none, only its parent's
    permissions."""
    node = tree.lookup(path)
    if node is not None:
        return visible_perms(tree, node)
    above = tree.lookup(parent(path))
    return [tree.perms(above)] if above is not None else []


def removal_events(tree: Tree, watches: WatchTable, path: str) -> list[tuple[str, list[Perms]]]:
    """The watch events that a removal of ``path`` causes, from the top down.

    Returns (path, permissions) for ``path`` itself and for each watched path below it. A connection
    is told of the event if one of the permissions lets it read; a path without a node has none.
    """
    paths = (path, *sorted(watches.paths_below(path)))
    return [(told, readable_by(tree, told)) for told in paths]
