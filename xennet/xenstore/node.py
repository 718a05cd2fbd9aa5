"""A node of the tree, the ordered list of its children, and a transaction's snapshot of that list.

Children are in the order of insertion; a name that is removed and added again goes last. A snapshot
takes constant time however long the list is, for it copies no names: it hides children that are
younger than itself (by their serial numbers), and the list tells it of older ones that are removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from xennet.xenstore.perms import Perms

_SERIAL = attrgetter("serial")


class Children:
    """The children of a node in the tree. ``size`` is the bytes of all names, each with its nul.

    All nodes without children share one empty list, :data:`NO_CHILDREN`.
    """

    __slots__ = ("_joined", "_next_serial", "_nodes", "_snapshots", "get", "size")

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        #: The child of a name; None if there is none.
        self.get = self._nodes.get
        self._next_serial = 0
        self._snapshots: set[ChildSnapshot] = set()
        self._joined: bytes | None = None
        self.size = 0

    def __repr__(self) -> str:
        return f"<Children {list(self._nodes)[:8]}>"

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def joined(self) -> bytes:
        """The names in order, with nuls between them. It is kept until the list changes."""
        if self._joined is None:
            self._joined = "\0".join(self._nodes).encode()
        return self._joined

    def nodes(self) -> Iterator[Node]:
        """The children in order."""
        return iter(self._nodes.values())

    def unchanged_since(self, serial: int) -> bool:
        """Whether nothing was added since ``serial`` was the next one to be given."""
        return self._next_serial == serial

    @property
    def held(self) -> int:
        """Number of snapshots of this list that open transactions hold."""
        return len(self._snapshots)

    def add(self, nodes: Iterable[Node]) -> None:
        """Append ``nodes``, whose names must be new."""
        serial, size = self._next_serial, self.size
        for node in nodes:
            node.serial = serial
            serial += 1
            self._nodes[node.name] = node
            size += len(node.name) + 1
        self._next_serial, self.size = serial, size
        self._joined = None

    def remove(self, name: str) -> None:
        """Take the child called ``name`` out. Raises KeyError if there is none."""
        node = self._nodes.pop(name)
        self._joined = None
        self.size -= len(name) + 1
        for snapshot in self._snapshots:
            snapshot.outlived(node)

    def snapshot(self) -> ChildSnapshot:
        """Take a snapshot of the list for a transaction, which calls :meth:`release` at its end."""
        if self is NO_CHILDREN:
            return NO_NAMES  # nothing is ever removed from it
        snapshot = ChildSnapshot(self, self._next_serial)
        self._snapshots.add(snapshot)
        return snapshot

    def release(self, snapshot: ChildSnapshot) -> None:
        """Stop telling ``snapshot`` of children that are removed."""
        self._snapshots.discard(snapshot)


NO_CHILDREN: Final = Children()
"""The list of a node that has no children. Nothing is ever added to it."""


class ChildSnapshot:
    """A child list as it was at one moment, with the changes of one transaction (``added``,
    ``removed``)."""

    __slots__ = ("_gone", "_limit", "_live", "added", "removed", "size")

    def __init__(self, live: Children = NO_CHILDREN, limit: int = 0) -> None:
        self._live = live
        self._limit = limit
        self._gone: dict[str, Node] = {}
        self.added: dict[str, None] = {}
        self.removed: dict[str, None] = {}
        self.size = live.size

    def has(self, name: str) -> bool:
        """Whether the list has ``name``."""
        return name in self.added or (name not in self.removed and self._had(name))

    __contains__ = has

    def names(self) -> list[str]:
        """The names in order."""
        if not self._gone and self._live.unchanged_since(self._limit):
            names = list(self._live)
        else:
            then = [node for node in self._live.nodes() if node.serial < self._limit]
            then += self._gone.values()
            names = [node.name for node in sorted(then, key=_SERIAL)]
        if self.removed:
            names = [name for name in names if name not in self.removed]
        return [*names, *self.added]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _had(self, name: str) -> bool:
        node = self._live.get(name)
        return (node is not None and node.serial < self._limit) or name in self._gone

    def joined(self) -> bytes:
        """The names in order, with nuls between them."""
        return "\0".join(self.names()).encode()

    def add(self, name: str) -> None:
        """Append ``name``.

        The name can be in the list already: a request outside created it after this transaction
        found it missing and before it took this snapshot. Such a transaction cannot be committed.
        """
        if name not in self.added and (name in self.removed or not self._had(name)):
            self.added[name] = None
            self.size += len(name) + 1

    def remove(self, name: str) -> None:
        """Take ``name`` out. It can be missing, for the reason that :meth:`add` gives."""
        if name in self:
            if name in self.added:
                del self.added[name]
            else:
                self.removed[name] = None
            self.size -= len(name) + 1

    def outlived(self, node: Node) -> None:
        """Keep ``node``, which was removed from the live list, if it is older than this
        snapshot."""
        if node.serial < self._limit:
            self._gone[node.name] = node

    def release(self) -> None:
        """Give the snapshot back at the end of its transaction."""
        self._live.release(self)


NO_NAMES: Final = ChildSnapshot()
"""The snapshot of an empty list. Nothing is ever added to it."""


class Node:
    """A node of the tree.

    ``generation`` is unique in the store and changes with every write to the node, and when a child
    is added or removed. ``serial`` orders the node among its siblings.
    """

    # A store has many nodes, most of them without children.
    __slots__ = ("children", "generation", "name", "parent", "perms", "serial", "value")

    def __init__(
        self, name: str, value: bytes, perms: Perms, generation: int, parent: Node | None = None
    ) -> None:
        self.name = name
        self.value = value
        self.perms = perms
        self.generation = generation
        self.parent = parent
        self.children = NO_CHILDREN
        self.serial = 0

    def __repr__(self) -> str:
        return f"<Node {self.name} {len(self.value)} bytes, {len(self.children)} children>"

    @property
    def path(self) -> str:
        """Absolute path of the node."""
        return "/" + "/".join(node.name for node in reversed(self.ancestry()[:-1]))

    def ancestry(self) -> list[Node]:
        """The node itself, its parent and so on up to the root."""
        chain = [self]
        while (above := chain[-1].parent) is not None:
            chain.append(above)
        return chain

    def position(self) -> tuple[int, ...]:
        """A sort key: nodes come in the order of a walk, parents first and children in their
        order."""
        return tuple(node.serial for node in reversed(self.ancestry()))

    def adopt(self, children: Sequence[Node]) -> None:
        """Append ``children``, whose names must be new, to the children."""
        if not children:
            return
        if self.children is NO_CHILDREN:
            self.children = Children()
        for child in children:
            child.parent = self
        self.children.add(children)

    def take_out(self, name: str) -> None:
        """Take the child called ``name`` out of the children. Raises KeyError if there is none."""
        self.children.remove(name)
        if not self.children:
            self.children = NO_CHILDREN


class SpecialNode(Node):
    """@introduceDomain or @releaseDomain: a node whose parent is ``/``, but which ``/`` does not
    list."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """The special name."""
        return self.name
