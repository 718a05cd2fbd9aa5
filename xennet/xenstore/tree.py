"""The tree of nodes: values, permissions, child lists, generations and owners.

An operation looks at no more nodes than its path names (a removal: than the subtree has). Rules of
access, quotas and watches are not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from xennet.xenstore.likeness import Likeness
from xennet.xenstore.node import Node, SpecialNode
from xennet.xenstore.path import is_special, split
from xennet.xenstore.peaks import Peaks
from xennet.xenstore.perms import Perm, Perms, without_stale_rights


class ChildNames(Protocol):
    """The names of a node's children in order. ``size`` is their bytes, each name with its nul."""

    @property
    def size(self) -> int: ...
    def __contains__(self, name: str) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


class NodeView(Protocol):
    """A node as one request sees it, in the tree or in a transaction."""

    @property
    def value(self) -> bytes: ...
    @property
    def perms(self) -> Perms: ...
    @property
    def generation(self) -> int: ...
    @property
    def children(self) -> ChildNames: ...


class Tree:
    """The nodes from ``/`` down, and the special nodes beside them.

    ``is_current(domid, generation)`` tells whether a permission entry that was written at that
    generation means the domain of today. ``peaks`` is told how many nodes and bytes each owner has.
    """

    def __init__(
        self, is_current: Callable[[int, int], bool], like: Likeness, peaks: Peaks
    ) -> None:
        self.is_current = is_current
        self.peaks = peaks
        self._record_size = like.record_size
        self._owned: dict[int, dict[Node, None]] = {}
        self._memory: Counter[int] = Counter()
        self._specials: dict[str, SpecialNode] = {}
        self.generation = 0
        #: Counts changes of the tree itself, whatever transactions do in private.
        self.version = 0
        self.root = Node("", b"", (Perm("n", 0),), self.next_generation(), path_size=1)
        self.now_owned(self.root)

    def __repr__(self) -> str:
        return f"<Tree version {self.version}>"

    def next_generation(self) -> int:
        """A generation number that was never given out before."""
        self.generation += 1
        return self.generation

    def lookup(self, path: str) -> Node | None:
        """The node at an absolute path or of a special name; None if there is none."""
        if is_special(path):
            return self._specials.get(path)
        node = self.root
        for name in split(path):
            child = node.children.get(name)
            if child is None:
                return None
            node = child
        return node

    def perms(self, node: NodeView) -> Perms:
        """The permission entries of ``node``, with those of domains that are gone marked stale."""
        if len(node.perms) == 1:
            return node.perms
        return without_stale_rights(node.perms, node.generation, self.is_current)

    def add_special(self, name: str) -> None:
        """Make the special name ``name`` a node with the permissions of ``/``."""
        node = SpecialNode(name, b"", self.root.perms, self.next_generation(), self.root)
        node.path_size = len(name)
        self._specials[name] = node
        self.now_owned(node)

    def write(self, node: Node, value: bytes) -> None:
        """Give ``node`` the value ``value``."""
        node.value = value
        self.version += 1
        self.touch(node)

    def set_perms(self, node: Node, perms: Perms) -> None:
        """Give ``node`` new permissions, and with them perhaps a new owner."""
        self.version += 1
        self.not_owned(node)
        node.perms = perms
        node.generation = self.next_generation()
        self.now_owned(node)

    def create(self, anchor: Node, names: Sequence[str], value: bytes, perms: Perms) -> Node:
        """Create a chain of nodes called ``names`` under ``anchor``; the last one gets ``value``.

        Generations rise from the new leaf up to ``anchor``, the order in which the C daemon writes
        them. Returns the last node.
        """
        chain = [anchor]
        size = anchor.path_size if anchor is not self.root else 0
        for name in names:
            size += 1 + len(name)
            chain.append(Node(name, b"", perms, 0, chain[-1], path_size=size))
        chain[-1].value = value
        for above, node in pairwise(chain):
            above.children.add(node)
        for node in reversed(chain[1:]):
            node.generation = self.next_generation()
            self.now_owned(node)
        self.version += 1
        self.touch(anchor)
        return chain[-1]

    def remove(self, node: Node) -> None:
        """Remove ``node`` and everything below it. Raises ValueError for the root."""
        if node.parent is None:
            raise ValueError("the root cannot be removed")
        self.version += 1
        for gone in self.walk(node):
            self.not_owned(gone)
        node.parent.children.remove(node.name)
        self.touch(node.parent)

    def forget(self, domid: int) -> None:
        """Remove the entries of ``domid`` from the permissions of all nodes, but not where it is
        the owner."""
        for node in self.walk(self.root):
            kept = tuple(perm for perm in node.perms[1:] if perm.domid != domid)
            node.perms = node.perms[:1] + kept
            self.weigh(node)

    def walk(self, top: Node) -> Iterable[Node]:
        """Yield ``top`` and everything below it, parents first, without recursion (XSA-418)."""
        stack = [top]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(list(node.children.nodes())))

    def touch(self, node: Node) -> None:
        """Give ``node`` a new generation.

        Entries that are stale now are marked so: the old generation, which showed that they are
        stale, is overwritten.
        """
        node.perms = self.perms(node)
        node.generation = self.next_generation()
        self.weigh(node)

    def now_owned(self, node: Node) -> None:
        """Begin to count ``node`` for its owner."""
        domid = node.perms[0].domid
        owned = self._owned.setdefault(domid, {})
        owned[node] = None
        self.peaks.saw(domid, "nodes", len(owned))
        node.weight = 0
        self.weigh(node)

    def weigh(self, node: Node) -> None:
        """Charge the owner of ``node`` with the bytes that its path and record take now."""
        domid = node.perms[0].domid
        size = self._record_size(len(node.perms), len(node.value), node.children.size)
        weight = node.path_size + size
        self._memory[domid] += weight - node.weight
        node.weight = weight
        self.peaks.saw(domid, "memory", self._memory[domid])

    def not_owned(self, node: Node) -> None:
        """Stop counting ``node`` for its owner."""
        domid = node.perms[0].domid
        self._memory[domid] -= node.weight
        del self._owned[domid][node]
        self.peaks.saw(domid, "nodes", len(self._owned[domid]))
        if not self._owned[domid]:
            del self._owned[domid]
            del self._memory[domid]

    def nodes_owned(self, domid: int) -> int:
        """Number of nodes that ``domid`` owns."""
        return len(self._owned.get(domid, ()))

    def memory_of(self, domid: int) -> int:
        """Bytes of paths and records of the nodes that ``domid`` owns."""
        return self._memory[domid]

    def claim(self, domid: int, have: int, new: int, limit: int) -> int:
        """How many nodes ``domid`` would own with ``new`` ones beside the ``have`` that it has.

        If that is more than ``limit``, the peak of ``domid`` becomes ``limit``: the daemon makes
        new nodes one by one, and takes them back when it meets the limit.
        """
        if have < limit < have + new:
            self.peaks.saw(domid, "nodes", limit)
        return have + new

    def owners(self) -> Iterable[int]:
        """The domains that own nodes."""
        return self._owned.keys()

    def tops_owned(self, domid: int) -> list[Node]:
        """The nodes owned by ``domid`` that are not below another node of the same owner.

        Returns them in the order of a walk, without special nodes.
        """
        owned = self._owned.get(domid, {})
        tops = [
            node
            for node in owned
            if not isinstance(node, SpecialNode)
            and not any(above in owned for above in node.ancestry()[1:])
        ]
        return sorted(tops, key=Node.position)
