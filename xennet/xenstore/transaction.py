"""Transactions: private copies of the nodes they touch, checked and merged at the end.

A transaction costs what it touches, not what the store holds. The first access to a node, or to a
name where none is, notes its generation; writing counts as reading first. The commit is refused
with EAGAIN if any of them has another generation by then, and changes everything or nothing
(``access_node`` and ``finalize_transaction`` of the C daemon).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any

from attrs import define

from xennet.xenstore.direct import readable_by, removal_events, visible_perms
from xennet.xenstore.errors import XsError
from xennet.xenstore.likeness import Likeness
from xennet.xenstore.node import ChildSnapshot, Node
from xennet.xenstore.path import join, parent
from xennet.xenstore.perms import Perms
from xennet.xenstore.quota import Quota, QuotaError, Refusal
from xennet.xenstore.tree import Tree
from xennet.xenstore.watch import WatchTable


class _Write(Enum):
    VALUE = "value"
    PERMS = "permissions"
    REMOVED = "removed"


@define(eq=False)
class PrivateNode:
    """A node as the transaction has it; ``base`` is None if the transaction created it."""

    value: bytes
    perms: Perms
    generation: int
    children: ChildSnapshot
    base: Node | None


@define(eq=False)
class Accessed:
    """What a transaction knows of one path.

    ``seen`` is the generation at first access, None where no node was; ``node`` is None where the
    transaction has no node (any more). ``perms_before`` are the permissions at first access.
    ``fire`` and ``exact`` say whether and how watches are told at the commit.
    """

    path: str
    seen: int | None
    node: PrivateNode | None
    perms_before: Perms | None
    modified: bool = False
    fire: bool = False
    exact: bool = False
    snapshot: ChildSnapshot | None = None
    merged: Node | None = None


class Transaction:
    """One open transaction; ``domid`` is the domain that ``quota()``, the limits as they are at
    each request, binds, None for none."""

    def __init__(
        self,
        tree: Tree,
        watches: WatchTable,
        like: Likeness,
        quota: Callable[[], Quota],
        domid: int | None,
    ) -> None:
        self._tree = tree
        self._watches = watches
        self._like = like
        self._quota = quota
        self._domid = domid
        self._accessed: dict[str, Accessed] = {}
        self._owned: Counter[int] = Counter()
        self._claimed = False
        self._version = tree.version
        #: What happened to which paths, where watches are told of each write.
        self._writes: list[tuple[str, _Write]] = []
        self.failed = False
        #: Requests and their answers, where the connection notes them.
        self.log: list[tuple[Callable[[], Any], Any]] = []

    def lookup(self, path: str) -> PrivateNode | None:
        """The node at a canonical path as the transaction sees it, or None.

        Raises XsError ENOSPC, and fails the transaction, if it touches too many nodes.
        """
        return self._access(path).node

    def write(self, path: str, value: bytes) -> None:
        """New value for the existing node ``path``."""
        self._modify(path).value = value
        self._queue(path)

    def set_perms(self, path: str, perms: Perms) -> None:
        """New permissions for the existing node ``path``."""
        node = self._modify(path)
        before, node.perms = node.perms, perms
        if before[0].domid != perms[0].domid or not self._like.counts_in_transactions:
            self._count(before, -1)
            self._count(perms, +1)
        self._queue(path, _Write.PERMS)

    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None:
        """Make ``path``, which is ``anchor`` and then ``names``, with parents as needed."""
        child: str | None = None
        here = path
        for name in reversed(names):
            entry = self._access(here)
            entry.node = PrivateNode(
                value if child is None else b"",
                perms,
                self._tree.next_generation(),
                ChildSnapshot(),
                None,
            )
            if child is not None:
                entry.node.children.add(child)
            entry.modified = True
            self._count(perms, +1)
            child, here = name, parent(here)
        if child is not None:
            self._modify(anchor).children.add(child)
        self._queue(path)

    def remove(self, path: str) -> None:
        """Remove the existing node ``path`` and everything below it.

        Raises XsError EINVAL if its parent went before the transaction touched it; EIO if the
        parent, touched before the node was made outside, does not list it, if a node below was
        removed outside, or is one too many to touch. None of these transactions can be committed.
        """
        above = parent(path)
        if self.lookup(above) is None:
            raise XsError("EINVAL", path, f"{above} was removed outside the transaction")
        try:
            gone = list(self._walk(path))
        except XsError as error:
            raise XsError("EIO", path, error.detail) from None
        for entry in gone:
            if entry.node is not None:
                self._count(entry.node.perms, -1)
            entry.node = None
            entry.modified = True
            entry.fire, entry.exact = True, entry.path != path
        if self._like.tells_each_write:
            self._writes.append((path, _Write.REMOVED))
        name = path[path.rindex("/") + 1 :]
        siblings = self._modify(above).children
        if name not in siblings:
            raise XsError("EIO", path, f"{above} did not list it when the transaction touched it")
        siblings.remove(name)

    def claim(self, domid: int, new: int, limit: int) -> int:
        """How many nodes ``domid`` would own with ``new`` more, as far as the daemon looks before
        the commit; more than ``limit`` is refused, and fails the transaction if some fit."""
        self._claimed = True
        have = self._tree.nodes_owned(domid)
        if not self._like.counts_in_transactions:
            return have + 1
        have += self._owned[domid]
        if have < limit < have + new:
            self.failed = True
        return self._tree.claim(domid, have, new, limit)

    def fail(self) -> None:
        """A request was refused half way: the transaction can only be aborted."""
        self.failed = True

    def commit(self) -> None:
        """Merge into the tree and fire the watches, once per changed node in the order in which
        the nodes were first touched, or once per write.

        Raises XsError ENOMEM if the transaction failed, ENOSPC if it made nodes and the quota is
        full, EAGAIN if a touched node has changed; then nothing is changed. :meth:`close` is due
        in any case.
        """
        if self.failed:
            raise XsError("ENOMEM", detail="the transaction failed at an earlier request")
        if self._like.commit_counts_nodes:
            self._check_owned()
        for entry in self._accessed.values():
            node = self._tree.lookup(entry.path)
            if (node.generation if node is not None else None) != entry.seen:
                raise XsError("EAGAIN", entry.path, "changed since the transaction touched it")
        modified = [entry for entry in self._accessed.values() if entry.modified]
        self._check_owners(modified)
        told = [self._told_of(path, write) for path, write in self._writes]
        if modified:
            self._tree.version += 1
        for entry in modified:
            self._merge_node(entry)
        for entry in modified:
            self._merge_children(entry)
        if self._like.tells_each_write:
            for events, (path, write) in zip(told, self._writes, strict=True):
                self._tell(events, path, write)
            return
        done: set[str] = set()
        for entry in modified:
            done.add(entry.path)
            if entry.fire:
                self._fire(entry, done)

    @property
    def modifies(self) -> bool:
        """Whether a commit would change anything."""
        return any(entry.modified for entry in self._accessed.values())

    @property
    def overtaken(self) -> bool:
        """Whether the tree has changed since the transaction began."""
        return self._tree.version != self._version

    def close(self) -> None:
        """Let go of the tree."""
        for entry in self._accessed.values():
            if entry.snapshot is not None:
                entry.snapshot.release()
        self._accessed.clear()

    def _check_owned(self) -> None:
        """Unlike a single request, a commit must stay *below* the quota, whatever it removes as
        well, if a node was to be made and what the domain owns was changed (measured)."""
        if self._domid is not None and self._claimed and self._domid in self._owned:
            total = self._tree.nodes_owned(self._domid) + self._owned[self._domid]
            limit = self._quota().nodes
            if total >= limit:
                detail = f"domain {self._domid} would own {total} nodes, {limit} allowed"
                refusal = Refusal(self._domid, "nodes", limit, total)
                raise QuotaError("ENOSPC", "", detail, refusal)

    def _check_owners(self, modified: list[Accessed]) -> None:
        """An owner that died meanwhile must not leave its node to the next domain of its number."""
        for entry in modified:
            node = entry.node
            if node is not None and not self._tree.is_current(node.perms[0].domid, node.generation):
                detail = f"its owner, domain {node.perms[0].domid}, has gone"
                raise XsError("EAGAIN", entry.path, detail)

    def _count(self, perms: Perms, change: int) -> None:
        owner = perms[0].domid
        self._owned[owner] += change
        self._tree.peaks.saw(owner, "nodes", self._tree.nodes_owned(owner) + self._owned[owner])

    def _access(self, path: str) -> Accessed:
        entry = self._accessed.get(path)
        if entry is not None:
            return entry
        limit = self._quota().transaction_nodes
        if self._domid is not None and len(self._accessed) >= limit:
            self.failed = True
            refusal = Refusal(self._domid, "transaction_nodes", limit, limit + 1)
            raise QuotaError("ENOSPC", path, f"more than {limit} nodes in a transaction", refusal)
        node = self._tree.lookup(path)
        if node is None:
            entry = Accessed(path, None, None, None)
        else:
            perms = self._tree.perms(node)
            snapshot = node.children.snapshot()
            private = PrivateNode(node.value, perms, node.generation, snapshot, node)
            entry = Accessed(path, node.generation, private, perms, snapshot=snapshot)
        self._accessed[path] = entry
        if self._domid is not None:
            self._tree.peaks.saw(self._domid, "transaction_nodes", len(self._accessed))
            # The daemon makes a copy for the transaction, which passes the checks of a new node.
            size = node.weight - node.path_size if node is not None else 0
            if size <= self._quota().node_size:
                self._tree.peaks.saw(self._domid, "node_size", size)
        return entry

    def _modify(self, path: str) -> PrivateNode:
        entry = self._access(path)
        if entry.node is None:
            raise KeyError(path)
        entry.node.perms = self._tree.perms(entry.node)
        entry.node.generation = self._tree.next_generation()
        entry.modified = True
        return entry.node

    def _queue(self, path: str, write: _Write = _Write.VALUE) -> None:
        entry = self._accessed[path]
        entry.fire, entry.exact = True, False
        if self._like.tells_each_write:
            self._writes.append((path, write))

    def _walk(self, top: str) -> Iterator[Accessed]:
        stack = [top]
        while stack:
            entry = self._access(stack.pop())
            if entry.node is None:
                raise XsError("ENOENT", entry.path, f"{entry.path} was removed outside")
            yield entry
            names = reversed(list(entry.node.children))
            stack.extend(join(entry.path, name) for name in names)

    def _merge_node(self, entry: Accessed) -> None:
        """Bring values, permissions and owners into the tree; links follow."""
        private = entry.node
        node = private.base if private is not None else None
        if node is None and entry.snapshot is not None:
            replaced = self._tree.lookup(entry.path)
            if replaced is not None:
                self._tree.not_owned(replaced)
        if private is None:
            return
        # The new generation would bless entries of domains that died since they were written.
        perms = self._tree.perms(private)
        generation = self._tree.next_generation()
        if node is None:
            name = entry.path[entry.path.rindex("/") + 1 :]
            node = Node(name, private.value, perms, generation, path_size=len(entry.path))
        else:
            self._tree.not_owned(node)
            node.value, node.perms, node.generation = private.value, perms, generation
        self._tree.now_owned(node)
        entry.merged = node

    def _merge_children(self, entry: Accessed) -> None:
        node = entry.merged
        if node is None or entry.node is None:
            return
        names = entry.node.children
        for name in names.removed:
            node.children.remove(name)
        for name in names.added:
            child = self._accessed[join(entry.path, name)].merged
            if child is None:
                raise KeyError(join(entry.path, name))
            child.parent = node
            node.children.add(child)
        self._tree.weigh(node)

    def _told_of(self, path: str, write: _Write) -> list[tuple[str, list[Perms]]]:
        """Whom a write concerns by what there is before the commit."""
        if write is _Write.REMOVED:
            return removal_events(self._tree, self._watches, path)
        return [(path, readable_by(self._tree, path) if write is _Write.PERMS else [])]

    def _tell(self, events: list[tuple[str, list[Perms]]], path: str, write: _Write) -> None:
        """Tell the watches of a write; of a removal as nodes were, else also as they are now."""
        for told, before in events:
            now = [] if write is _Write.REMOVED else readable_by(self._tree, told)
            self._watches.fire(told, partial(list, [*before, *now]), exact=told != path)

    def _fire(self, entry: Accessed, done: set[str]) -> None:
        """Tell the watches of ``entry``; the daemon writes node by node and tells of each at once,
        so a parent that is not ``done`` is seen with the permissions it had before."""

        def visible_by() -> list[Perms]:
            seen = [entry.perms_before]
            node = self._tree.lookup(entry.path)
            if node is not None:
                seen += visible_perms(self._tree, node)
                above = self._accessed.get(parent(entry.path))
                if above is not None and above.modified and above.path not in done:
                    seen[-1] = above.perms_before
            return [perms for perms in seen if perms is not None]

        self._watches.fire(entry.path, visible_by, entry.exact)
