"""Transactions: private copies of the nodes that they access, checked and merged at the commit.

The cost of a transaction depends on the nodes that it accesses, not on the size of the store. The
first access to a path, whether a node is there or not, notes the generation that it finds; a write
counts as a read before. The commit is refused with EAGAIN if one of the generations has changed,
and changes everything or nothing (``access_node`` and ``finalize_transaction`` of the C daemon).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from xennet.xenstore.direct import readable_by, removal_events, visible_perms
from xennet.xenstore.errors import XsError
from xennet.xenstore.likeness import Likeness
from xennet.xenstore.node import NO_CHILDREN, NO_NAMES, ChildSnapshot, Node
from xennet.xenstore.path import join, parent
from xennet.xenstore.perms import Perms
from xennet.xenstore.quota import Quota, QuotaError, Refusal
from xennet.xenstore.tree import Tree
from xennet.xenstore.watch import WatchTable


class _Write(Enum):
    VALUE = "value"
    PERMS = "permissions"
    REMOVED = "removed"


class Accessed:
    """What a transaction knows of one path, and its copy of the node, if it sees one (``there``).

    ``base`` is the node in the tree, None for one that the transaction created. ``seen`` is the
    generation at the first access, None if there was no node; ``perms_before`` are the permissions
    then. ``merged`` is the node in the tree: that of the first access, then that of the commit.
    ``fire`` tells whether watches fire at the commit, ``exact`` whether only those on exactly this
    path do.
    """

    __slots__ = (
        "base",
        "children",
        "exact",
        "fire",
        "generation",
        "merged",
        "modified",
        "path",
        "perms",
        "perms_before",
        "seen",
        "there",
        "value",
    )

    children: ChildSnapshot
    generation: int
    perms: Perms
    value: bytes

    def __init__(self, path: str) -> None:
        self.path = path
        self.base: Node | None = None
        self.merged: Node | None = None
        self.seen: int | None = None
        self.perms_before: Perms | None = None
        self.there = self.modified = self.fire = self.exact = False

    def copy(self, node: Node, perms: Perms, children: ChildSnapshot) -> None:
        """Find ``node`` at the first access."""
        self.there = True
        self.base = self.merged = node
        self.seen = self.generation = node.generation
        self.perms = self.perms_before = perms
        self.value = node.value
        self.children = children

    def create(self, value: bytes, perms: Perms, generation: int, children: ChildSnapshot) -> None:
        """Become a node that the tree does not have."""
        self.there = self.modified = True
        self.value = value
        self.perms = perms
        self.generation = generation
        self.children = children

    def remove(self) -> None:
        """See no node any more."""
        self.there = False
        self.modified = True
        self.base = None


class Transaction:
    """One open transaction of domain ``domid``, None for a domain that no quota binds.

    What is changed was looked up before: a node, and of a new one all that are missing above it.
    ``quota()`` returns the limits as they are at the moment of each request, ``exists(domid)``
    tells whether the machine has such a domain.
    """

    def __init__(
        self,
        tree: Tree,
        watches: WatchTable,
        like: Likeness,
        quota: Callable[[], Quota],
        exists: Callable[[int], bool],
        domid: int | None,
    ) -> None:
        self._tree = tree
        self._watches = watches
        self._like = like
        self._quota = quota
        self._exists = exists
        self._domid = domid
        self._accessed: dict[str, Accessed] = {}
        #: Those that are to be given back.
        self._snapshots: list[ChildSnapshot] = []
        #: Nodes more (or less) of each owner than outside.
        self._owned: dict[int, int] = {}
        self._claimed = False
        self._version = tree.version
        self._lives_ended = tree.lives_ended
        #: The writes in order (path, kind), where watches fire once per write.
        self._writes: list[tuple[str, _Write]] = []
        self.failed = False
        #: Requests and their answers, where a commit may have to replay them.
        self.log: list[tuple[Callable[[], Any], Any]] = []

    def lookup(self, path: str) -> Accessed | None:
        """The node at a canonical path as the transaction sees it; None if there is none.

        Raises XsError ENOSPC, and fails the transaction, if it accesses too many nodes.
        """
        entry = self._accessed.get(path) or self._first_access(path)
        return entry if entry.there else None

    def write(self, path: str, value: bytes) -> None:
        """Give the existing node ``path`` the value ``value``."""
        entry = self._modify(path)
        entry.value = value
        self._queue(entry)

    def set_perms(self, path: str, perms: Perms) -> None:
        """Give the existing node ``path`` new permissions."""
        entry = self._modify(path)
        before, entry.perms = entry.perms, perms
        if before[0].domid != perms[0].domid or not self._like.counts_in_transactions:
            self._count(before[0].domid, -1)
            self._count(perms[0].domid, +1)
        self._queue(entry, _Write.PERMS)

    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None:
        """Create ``path``, that is ``names`` one below the other under the existing node
        ``anchor``."""
        leaf = entry = self._accessed[path]
        children = NO_NAMES
        for name in reversed(names):
            generation = self._tree.next_generation()
            entry.create(value, perms, generation, children)
            above = parent(entry.path)
            value = b""
            if above == anchor:
                children = self._change_children(anchor)
            else:
                entry, children = self._accessed[above], ChildSnapshot()
            children.add(name)
        self._count(perms[0].domid, len(names))
        self._queue(leaf)

    def remove(self, path: str) -> None:
        """Remove the existing node ``path`` and everything below it.

        Raises XsError EINVAL if its parent was removed outside before the transaction accessed it.
        Raises XsError EIO if the parent, accessed before a request outside created the node, does
        not list it; if a node below was removed outside; or if there is one node too many to
        access. In none of these cases can the transaction be committed.
        """
        above = parent(path)
        if self.lookup(above) is None:
            raise XsError("EINVAL", path, f"{above} was removed outside the transaction")
        try:
            gone = self._subtree(path)
        except XsError as error:
            raise XsError("EIO", path, error.detail) from None
        for owner, count in Counter([entry.perms[0].domid for entry in gone]).items():
            self._count(owner, -count)
        for entry in gone:
            entry.remove()
            entry.fire = entry.exact = True
        gone[0].exact = False
        if self._like.tells_each_write:
            self._writes.append((path, _Write.REMOVED))
        name = path[path.rindex("/") + 1 :]
        siblings = self._change_children(above)
        if name not in siblings:
            raise XsError("EIO", path, f"{above} did not list it when the transaction touched it")
        siblings.remove(name)

    def claim(self, domid: int, new: int, limit: int) -> int:
        """How many nodes ``domid`` would own with ``new`` more, as far as the daemon counts before
        a commit.

        The caller refuses more than ``limit``. The transaction fails if some of the new nodes fit
        and others do not.
        """
        self._claimed = True
        have = self._tree.nodes_owned(domid)
        if not self._like.counts_in_transactions:
            return have + 1
        have += self._owned.get(domid, 0)
        if have < limit < have + new:
            self.failed = True
        return self._tree.claim(domid, have, new, limit)

    def fail(self) -> None:
        """Mark the transaction as failed: a request was refused half way, and only an abort is
        possible."""
        self.failed = True

    def commit(self) -> None:
        """Merge the changes into the tree, then fire the watches.

        Watches fire once per changed node, in the order of first access, or once per write
        (``Likeness.tells_each_write``). Raises XsError ENOMEM if the transaction failed or changed
        what a domain owns that is gone, ENOSPC if it created nodes and the quota is full, EAGAIN if
        an accessed node has changed; nothing is changed then. The caller has to :meth:`close` the
        transaction in any case.
        """
        if self.failed:
            raise XsError("ENOMEM", detail="the transaction failed at an earlier request")
        if self._like.commit_counts_nodes:
            self._check_owned()
        if self.overtaken:
            self._check_seen()
        modified = [entry for entry in self._accessed.values() if entry.modified]
        if self._tree.lives_ended != self._lives_ended:
            self._outlive(modified)
        told = [self._told_of(path, write) for path, write in self._writes]
        if modified:
            self._tree.version += 1
        self._merge_nodes(modified)
        for entry in modified:
            if entry.merged is not None and entry.there:
                names = entry.children
                if names.added or names.removed:
                    self._merge_children(entry.path, entry.merged, names)
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
        """Release the snapshots of child lists."""
        for snapshot in self._snapshots:
            snapshot.release()
        self._snapshots.clear()
        self._accessed.clear()

    def _check_owned(self) -> None:
        """Refuse a commit that created nodes and changed what its domain owns, if the quota is
        reached, and one that changed what a domain owns that does not exist any more.

        A single request may reach the quota, a commit must stay below it, also when it removes
        nodes as well (measured on the C daemon).
        """
        if self._domid is not None and self._claimed and self._domid in self._owned:
            total = self._tree.nodes_owned(self._domid) + self._owned[self._domid]
            limit = self._quota().nodes
            if total >= limit:
                detail = f"domain {self._domid} would own {total} nodes, {limit} allowed"
                refusal = Refusal(self._domid, "nodes", limit, total)
                raise QuotaError("ENOSPC", "", detail, refusal)
        for owner in self._owned:
            if not self._exists(owner):
                raise XsError("ENOMEM", detail=f"domain {owner}, whose nodes it counted, has gone")

    def _check_seen(self) -> None:
        """Refuse a commit if a node is not as it was at the first access."""
        for entry in self._accessed.values():
            node = self._tree.lookup(entry.path)
            if (node.generation if node is not None else None) != entry.seen:
                raise XsError("EAGAIN", entry.path, "changed since the transaction touched it")

    def _outlive(self, modified: list[Accessed]) -> None:
        """Mark the entries of domains that died meanwhile, which would look current with a new
        generation.

        Refuses a commit that leaves a node to an owner that died: the node would belong to the next
        domain of the same number.
        """
        tree = self._tree
        for entry in modified:
            if not entry.there:
                continue
            owner = entry.perms[0].domid
            if not tree.is_current(owner, entry.generation):
                raise XsError("EAGAIN", entry.path, f"its owner, domain {owner}, has gone")
        for entry in modified:
            if entry.there:
                entry.perms = tree.perms(entry)

    def _count(self, owner: int, change: int) -> None:
        """Count ``change`` nodes more of ``owner``, or less."""
        tree, before = self._tree, self._owned.get(owner, 0)
        self._owned[owner] = before + change
        # They come and go one by one: there are the most with the last, or without the first.
        tree.peaks.saw(owner, "nodes", tree.nodes_owned(owner) + before + max(change, -1))

    def _first_access(self, path: str) -> Accessed:
        if self._domid is not None and len(self._accessed) >= self._quota().transaction_nodes:
            limit = self._quota().transaction_nodes
            self.failed = True
            refusal = Refusal(self._domid, "transaction_nodes", limit, limit + 1)
            raise QuotaError("ENOSPC", path, f"more than {limit} nodes in a transaction", refusal)
        tree = self._tree
        node = tree.lookup(path)
        entry = Accessed(path)
        if node is not None:
            names = node.children.snapshot()
            if node.children.size:
                self._snapshots.append(names)
            entry.copy(node, tree.perms(node), names)
        self._accessed[path] = entry
        if self._domid is not None:
            tree.peaks.saw(self._domid, "transaction_nodes", len(self._accessed))
            # The daemon makes a copy for the transaction, which passes the checks of a new node.
            size = tree.record_size(node) if node is not None else 0
            if size <= self._quota().node_size:
                tree.peaks.saw(self._domid, "node_size", size)
        return entry

    def _modify(self, path: str) -> Accessed:
        entry, tree = self._accessed[path], self._tree
        if not entry.there:
            raise KeyError(path)
        if tree.lives_ended != self._lives_ended:
            entry.perms = tree.perms(entry)
        entry.generation = tree.next_generation()
        entry.modified = True
        return entry

    def _change_children(self, path: str) -> ChildSnapshot:
        entry = self._modify(path)
        if entry.children is NO_NAMES:
            entry.children = ChildSnapshot()
        return entry.children

    def _queue(self, entry: Accessed, write: _Write = _Write.VALUE) -> None:
        entry.fire, entry.exact = True, False
        if self._like.tells_each_write:
            self._writes.append((entry.path, write))

    def _subtree(self, top: str) -> list[Accessed]:
        """The node at ``top`` and all below it, in the order of a walk."""
        found, stack = [], [top]
        while stack:
            path = stack.pop()
            entry = self._accessed.get(path) or self._first_access(path)
            if not entry.there:
                raise XsError("ENOENT", path, f"{path} was removed outside")
            found.append(entry)
            if entry.children.size:
                stack.extend([join(path, name) for name in entry.children][::-1])
        return found

    def _merge_nodes(self, modified: list[Accessed]) -> None:
        """Bring the values, permissions and owners of ``modified`` into the tree; their children
        are merged later."""
        tree = self._tree
        for entry in modified:
            path, node = entry.path, entry.base
            if node is None and entry.merged is not None:
                tree.not_owned(entry.merged, len(path))
                entry.merged.children = NO_CHILDREN  # no circles: the memory is free at once
                entry.merged = None
            if not entry.there:
                tree.known.pop(path, None)
                continue
            generation = tree.next_generation()
            if node is None:
                node = Node(path[path.rindex("/") + 1 :], entry.value, entry.perms, generation)
                tree.now_owned(node, len(path))
                tree.know(path, node)
            else:
                tree.replace(node, entry.value, entry.perms, generation, len(path))
            entry.merged = node

    def _merge_children(self, path: str, node: Node, names: ChildSnapshot) -> None:
        before = node.children.size
        for name in names.removed:
            node.take_out(name)
        for name in names.added:
            child = self._accessed[join(path, name)].merged
            if child is None:
                raise KeyError(join(path, name))
            child.parent = node
            node.add(child)
        self._tree.charge(node, node.children.size - before)

    def _told_of(self, path: str, write: _Write) -> list[tuple[str, list[Perms]]]:
        """The watch events of a write that depend on the tree before the commit: (path,
        permissions)."""
        if write is _Write.REMOVED:
            return removal_events(self._tree, self._watches, path)
        return [(path, readable_by(self._tree, path) if write is _Write.PERMS else [])]

    def _tell(self, events: list[tuple[str, list[Perms]]], path: str, write: _Write) -> None:
        """Fire the watches for one write.

        For a removal the permissions before the commit count, for other writes also those after it.
        """
        for told, before in events:
            now = [] if write is _Write.REMOVED else readable_by(self._tree, told)
            watches = self._watches.covering(told, told != path)
            self._watches.tell(watches, told, [*before, *now])

    def _fire(self, entry: Accessed, done: set[str]) -> None:
        """Fire the watches for ``entry``.

        The daemon writes node by node and fires after each. So the parent of ``entry`` counts with
        the permissions from before the transaction unless it is ``done`` already.
        """
        watches = self._watches.covering(entry.path, entry.exact)
        if not watches:
            return
        seen = [] if entry.perms_before is None else [entry.perms_before]
        node = entry.merged
        if node is not None:
            seen += visible_perms(self._tree, node)
            above = self._accessed.get(parent(entry.path))
            if above is not None and above.modified and above.path not in done:
                seen.pop()
                if above.perms_before is not None:
                    seen.append(above.perms_before)
        self._watches.tell(watches, entry.path, seen)
