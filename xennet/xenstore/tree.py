"""The tree of nodes: values, permissions, child lists, generations and who owns what.

No operation looks at more nodes than the path names (and, for a removal, the subtree); no rule of
access, quota or watch is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from attrs import define, field

from xennet.xenstore.children import Children
from xennet.xenstore.path import split
from xennet.xenstore.perms import Perm, Perms, without_stale_rights


class ChildNames(Protocol):
    """Names of a node's children in order; ``size`` in bytes, each with its nul."""

    @property
    def size(self) -> int: ...
    def __contains__(self, name: str) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


class NodeView(Protocol):
    """A node as a request sees it, in the tree or in a transaction."""

    @property
    def value(self) -> bytes: ...
    @property
    def perms(self) -> Perms: ...
    @property
    def generation(self) -> int: ...
    @property
    def children(self) -> ChildNames: ...


@define(eq=False)
class Node:
    """A node. ``generation`` is unique in the store and changes with every write to the node,
    also when a child is added or removed; ``serial`` orders it among its siblings."""

    name: str
    value: bytes
    perms: Perms
    generation: int
    parent: Node | None = None
    children: Children = field(factory=Children)
    serial: int = 0

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
        """Sorts nodes like a walk of the tree, parents first and children in their order."""
        return tuple(node.serial for node in reversed(self.ancestry()))


class Tree:
    """The nodes from ``/`` down.

    ``is_current(domid, generation)`` tells whether a permission entry written at that generation
    means the domain of today.
    """

    def __init__(self, is_current: Callable[[int, int], bool]) -> None:
        self.is_current = is_current
        self._owned: dict[int, dict[Node, None]] = {}
        self.generation = 0
        self.root = Node("", b"", (Perm("n", 0),), self.next_generation())
        self.now_owned(self.root)

    def next_generation(self) -> int:
        """A generation never given before."""
        self.generation += 1
        return self.generation

    def lookup(self, path: str) -> Node | None:
        """The node at an absolute path, or None."""
        node: Node | None = self.root
        for name in split(path):
            if node is None:
                break
            node = node.children.get(name)
        return node

    def perms(self, node: NodeView) -> Perms:
        """Entries of ``node``, those of domains that are gone marked stale."""
        if len(node.perms) == 1:
            return node.perms
        generation = node.generation
        return without_stale_rights(node.perms, lambda domid: self.is_current(domid, generation))

    def write(self, node: Node, value: bytes) -> None:
        """Give ``node`` a new value."""
        node.value = value
        self.touch(node)

    def set_perms(self, node: Node, perms: Perms) -> None:
        """Give ``node`` new permissions, and so perhaps a new owner."""
        self.not_owned(node)
        node.perms = perms
        node.generation = self.next_generation()
        self.now_owned(node)

    def create(self, anchor: Node, names: Sequence[str], value: bytes, perms: Perms) -> Node:
        """Make ``names`` one below the other under ``anchor``; the last one gets ``value``.

        Generations rise from the new leaf up to ``anchor``, the order in which the C daemon
        writes them.
        """
        chain = [anchor]
        for name in names:
            chain.append(Node(name, b"", perms, 0, chain[-1]))
        chain[-1].value = value
        for node in reversed(chain[1:]):
            node.generation = self.next_generation()
            self.now_owned(node)
        for above, node in pairwise(chain):
            above.children.add(node)
        self.touch(anchor)
        return chain[-1]

    def remove(self, node: Node) -> None:
        """Take ``node`` and everything below out of the tree; the root cannot be removed."""
        if node.parent is None:
            raise ValueError("the root cannot be removed")
        for gone in self.walk(node):
            self.not_owned(gone)
        node.parent.children.remove(node.name)
        self.touch(node.parent)

    def walk(self, top: Node) -> Iterable[Node]:
        """``top`` and everything below it, parents first, without recursion (XSA-418)."""
        stack = [top]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(list(node.children.nodes())))

    def touch(self, node: Node) -> None:
        """A new generation. Entries that are stale now stay so: the generation, by which they
        were known to be old, is overwritten."""
        node.perms = self.perms(node)
        node.generation = self.next_generation()

    def now_owned(self, node: Node) -> None:
        """Count ``node`` for its owner."""
        self._owned.setdefault(node.perms[0].domid, {})[node] = None

    def not_owned(self, node: Node) -> None:
        """Stop counting ``node`` for its owner."""
        domid = node.perms[0].domid
        del self._owned[domid][node]
        if not self._owned[domid]:
            del self._owned[domid]

    def nodes_owned(self, domid: int) -> int:
        """Number of nodes that ``domid`` owns."""
        return len(self._owned.get(domid, ()))

    def owned(self, domid: int) -> Iterable[Node]:
        """The nodes that ``domid`` owns."""
        return self._owned.get(domid, {}).keys()

    def owners(self) -> Iterable[int]:
        """The domains that own nodes."""
        return self._owned.keys()

    def tops_owned(self, domid: int) -> list[Node]:
        """Nodes owned by ``domid`` that are below no other node of its, in the order of a walk."""
        owned = self._owned.get(domid, {})
        tops = [n for n in owned if not any(above in owned for above in n.ancestry()[1:])]
        return sorted(tops, key=Node.position)
