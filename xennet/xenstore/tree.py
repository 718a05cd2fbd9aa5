"""The tree of nodes: values, permissions, child lists, generations and owners.

An operation looks at no more nodes than its path names (a removal: than the subtree has). Rules of
access, quotas and watches are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from sys import intern
from typing import Protocol

from attrs import define, field

from xennet.xenstore.likeness import Likeness
from xennet.xenstore.node import NO_CHILDREN, Node, SpecialNode
from xennet.xenstore.path import is_special, split
from xennet.xenstore.peaks import Peaks
from xennet.xenstore.perms import Perm, Perms, without_stale_rights

_KNOWN = 1024
"""Most paths whose nodes a tree knows without a walk."""


class ChildNames(Protocol):
    """The names of a node's children in order. ``size`` is their bytes, each name with its nul."""

    @property
    def size(self) -> int: ...
    def __contains__(self, name: str) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def joined(self) -> bytes: ...


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


@define(eq=False, repr=False)
class Owner:
    """A domain that owns nodes: their number and the bytes of their paths and records.

    ``each`` has the nodes themselves, of a domain that may end: not of domain 0.
    """

    nodes: int = 0
    memory: int = 0
    each: dict[Node, None] = field(factory=dict)

    def __repr__(self) -> str:
        return f"<Owner {self.nodes} nodes, {self.memory} bytes>"


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
        #: Those who own nodes, by domain.
        self._owners: dict[int, Owner] = {}
        self._specials: dict[str, SpecialNode] = {}
        #: Nodes that were looked up, by their canonical paths. The root always is among them.
        self.known: dict[str, Node] = {}
        self.generation = 0
        #: The generation at which the last life of a domain ended.
        self.life_ended = 0
        #: Counts the lives that have ended; several may end at one generation.
        self.lives_ended = 0
        #: Counts changes of the tree itself, whatever transactions do in private.
        self.version = 0
        self.root = Node("", b"", (Perm("n", 0),), self.next_generation())
        self.known["/"] = self.root
        #: Paths that were looked up at one version and were not there.
        self._missing: set[str] = set()
        self._missing_at = 0
        self.now_owned(self.root, 1)

    def __repr__(self) -> str:
        return f"<Tree version {self.version}>"

    def next_generation(self) -> int:
        """A generation number that was never given out before."""
        self.generation += 1
        return self.generation

    def lookup(self, path: str) -> Node | None:
        """The node at a canonical path or of a special name; None if there is none."""
        return self.known.get(path) or self.find(path)

    def know(self, path: str, node: Node) -> None:
        """Note that ``node`` is at ``path``, so that it is found without a walk."""
        if len(self.known) >= _KNOWN:
            self._forget_paths()
        self.known[path] = node

    def _forget_paths(self) -> None:
        self.known.clear()
        self.known["/"] = self.root

    def find(self, path: str) -> Node | None:
        """:meth:`lookup` of a path that is not among the :attr:`known` ones."""
        if is_special(path):
            return self._specials.get(path)
        cut = path.rfind("/")
        directory = path[:cut] or "/"
        above = self.known.get(directory) or self._walk_to(directory)
        if above is None:
            return None
        node = above.children.get(path[cut + 1 :])
        if node is not None:
            self.know(path, node)
        return node

    def _walk_to(self, path: str) -> Node | None:
        """The node at a canonical path, from the root on: not up from ``path``, whose many names
        may all be missing."""
        if self._missing_at != self.version:
            self._missing.clear()
            self._missing_at = self.version
        elif path in self._missing:
            return None
        node = self.root
        for name in split(path):
            child = node.children.get(name)
            if child is None:
                if len(self._missing) >= _KNOWN:
                    self._missing.clear()
                self._missing.add(path)
                return None
            node = child
        self.know(path, node)
        return node

    def perms(self, node: NodeView) -> Perms:
        """The permission entries of ``node``, with those of domains that are gone marked stale."""
        # Every write marks the stale ones, and only the end of a domain makes more of them.
        if node.generation > self.life_ended:
            return node.perms
        return without_stale_rights(node.perms, node.generation, self.is_current)

    def end_life(self) -> None:
        """Note that the life of a domain ends: entries for it that are written by now get stale."""
        self.life_ended = self.generation
        self.lives_ended += 1

    def add_special(self, name: str) -> None:
        """Make the special name ``name`` a node with the permissions of ``/``."""
        node = SpecialNode(name, b"", self.root.perms, self.next_generation(), self.root)
        self._specials[name] = node
        self.now_owned(node, len(name))

    def write(self, node: Node, value: bytes) -> None:
        """Give ``node`` the value ``value``."""
        longer = len(value) - len(node.value)
        node.value = value
        self.version += 1
        self.touch(node, longer)

    def set_perms(self, node: Node, perms: Perms) -> None:
        """Give ``node`` new permissions, and with them perhaps a new owner."""
        self.version += 1
        size = path_size(node)
        self.not_owned(node, size)
        node.perms = perms
        node.generation = self.next_generation()
        self.now_owned(node, size)

    def create(self, anchor: Node, names: Sequence[str], value: bytes, perms: Perms) -> Node:
        """Create a chain of nodes called ``names`` under ``anchor``; the last one gets ``value``.

        Generations rise from the new leaf up to ``anchor``, the order in which the C daemon writes
        them. Returns the last node.
        """
        chain = [anchor]
        size = path_size(anchor) if anchor is not self.root else 0
        for name in names:
            # Many nodes are called alike.
            chain.append(Node(intern(name), b"", perms, 0, chain[-1]))
            size += 1 + len(name)
        chain[-1].value = value
        for above, node in pairwise(chain):
            above.adopt((node,))
        for node in reversed(chain[1:]):
            node.generation = self.next_generation()
            self.now_owned(node, size)
            size -= 1 + len(node.name)
        self.version += 1
        self.touch(anchor, len(names[0]) + 1)
        return chain[-1]

    def remove(self, node: Node) -> None:
        """Remove ``node`` and everything below it. Raises ValueError for the root."""
        above = node.parent
        if above is None:
            raise ValueError("the root cannot be removed")
        self.version += 1
        # Each path's size by its parent's: a deep tree has long paths.
        sizes = {node: path_size(node)}
        for gone in self.walk(node):
            if gone is not node and gone.parent is not None:
                sizes[gone] = sizes[gone.parent] + 1 + len(gone.name)
        for gone, size in sizes.items():
            self.not_owned(gone, size)
        for gone in sizes:
            gone.children = NO_CHILDREN  # no circles: the memory is free at once
        above.take_out(node.name)
        if len(sizes) > 1:
            self._forget_paths()
        else:
            self.known.pop(node.path, None)
        self.touch(above, -len(node.name) - 1)

    def forget(self, domid: int) -> None:
        """Remove the entries of ``domid`` from the permissions of all nodes, but not where it is
        the owner."""
        for node in self.walk(self.root):
            kept = tuple(perm for perm in node.perms[1:] if perm.domid != domid)
            before = self.record_size(node)
            node.perms = node.perms[:1] + kept
            self.charge(node, self.record_size(node) - before)

    def walk(self, top: Node) -> Iterable[Node]:
        """Yield ``top`` and everything below it, parents first, without recursion (XSA-418)."""
        stack = [top]
        while stack:
            node = stack.pop()
            yield node
            if node.children:
                stack.extend(reversed(list(node.children.nodes())))

    def touch(self, node: Node, longer: int = 0) -> None:
        """Give ``node`` a new generation; its record is ``longer`` by so many bytes.

        Entries that are stale now are marked so: the old generation, which showed that they are
        stale, is overwritten.
        """
        node.perms = self.perms(node)
        node.generation = self.next_generation()
        self.charge(node, longer)

    def replace(
        self, node: Node, value: bytes, perms: Perms, generation: int, path_size: int
    ) -> None:
        """Give ``node``, whose path has ``path_size`` characters, all that a commit changed."""
        longer = len(value) - len(node.value)
        same = perms is node.perms
        if not same:
            self.not_owned(node, path_size)
        node.value, node.perms, node.generation = value, perms, generation
        if not same:
            self.now_owned(node, path_size)
        else:
            self.charge(node, longer)

    def now_owned(self, node: Node, path_size: int) -> None:
        """Begin to count ``node``, whose path has ``path_size`` characters, for its owner.

        The owner is charged with the bytes of the path and of the record.
        """
        perms = node.perms
        domid = perms[0].domid
        owner = self._owners.get(domid)
        if owner is None:
            owner = self._owners[domid] = Owner()
        if domid:
            owner.each[node] = None
        nodes = owner.nodes = owner.nodes + 1
        size = self._record_size(len(perms), len(node.value), node.children.size)
        memory = owner.memory = owner.memory + path_size + size
        reached = self.peaks.reached[domid]
        if nodes > reached["nodes"]:
            self.peaks.saw(domid, "nodes", nodes)
        if memory > reached["memory"]:
            self.peaks.saw(domid, "memory", memory)

    def charge(self, node: Node, longer: int) -> None:
        """Charge the owner of ``node`` with ``longer`` bytes more, or less."""
        domid = node.perms[0].domid
        owner = self._owners[domid]
        memory = owner.memory = owner.memory + longer
        # The daemon looks at every change, also one to less: so the first after a reset counts.
        if memory > self.peaks.reached[domid]["memory"]:
            self.peaks.saw(domid, "memory", memory)

    def record_size(self, node: Node) -> int:
        """Bytes of the record of ``node``."""
        return self._record_size(len(node.perms), len(node.value), node.children.size)

    def not_owned(self, node: Node, path_size: int) -> None:
        """Stop counting ``node``, whose path has ``path_size`` characters, for its owner."""
        perms = node.perms
        domid = perms[0].domid
        owner = self._owners[domid]
        size = self._record_size(len(perms), len(node.value), node.children.size)
        owner.memory -= path_size + size
        nodes = owner.nodes = owner.nodes - 1
        if nodes > self.peaks.reached[domid]["nodes"]:
            self.peaks.saw(domid, "nodes", nodes)
        if domid:
            del owner.each[node]
        if not owner.nodes:
            del self._owners[domid]

    def nodes_owned(self, domid: int) -> int:
        """Number of nodes that ``domid`` owns."""
        owner = self._owners.get(domid)
        return 0 if owner is None else owner.nodes

    def memory_of(self, domid: int) -> int:
        """Bytes of paths and records of the nodes that ``domid`` owns."""
        owner = self._owners.get(domid)
        return 0 if owner is None else owner.memory

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
        return self._owners.keys()

    def tops_owned(self, domid: int) -> list[Node]:
        """The nodes owned by ``domid``, not domain 0, that are not below another node of the same
        owner.

        Returns them in the order of a walk, without special nodes.
        """
        owner = self._owners.get(domid)
        owned = {} if owner is None else owner.each
        tops = [
            node
            for node in owned
            if not isinstance(node, SpecialNode)
            and not any(above in owned for above in node.ancestry()[1:])
        ]
        return sorted(tops, key=Node.position)


def path_size(node: Node) -> int:
    """The number of characters of the path of ``node``."""
    if isinstance(node, SpecialNode):
        return len(node.name)
    size, above = 1 + len(node.name), node.parent
    while above is not None and above.parent is not None:
        size += 1 + len(above.name)
        above = above.parent
    return size
