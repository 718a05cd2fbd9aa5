"""Transactions: private copies of the nodes that they access, checked and merged at the commit.

The cost of a transaction depends on the nodes that it accesses, not on the size of the store. The
first access to a path, whether a node is there or not, notes the generation that it finds; a write
counts as a read before. The commit is refused with EAGAIN if one of the generations has changed,
and changes everything or nothing (``access_node`` and ``finalize_transaction`` of the C daemon).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from xennet.xenstore.direct import as_they_were, readable_by, removal_events, visible_perms
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


_UNCHANGED = 0
_SILENT = 1  # no watches fire at the commit
_EXACT = 2  # those on exactly the path fire
_TOLD = 3  # those on the path and above it fire


class Accessed:
    """What a transaction knows of one path, and its copy of the node, if it sees one.

    ``generation`` is 0 if it sees none. ``base`` is the node in the tree, None for one that the
    transaction created. ``seen`` is the generation at the first access, 0 if there was no node;
    ``perms_before`` are the permissions then. ``merged`` is the node in the tree: that of the first
    access, then that of the commit. ``change`` tells what has changed, and who hears of it.
    """

    __slots__ = (
        "base",
        "change",
        "children",
        "generation",
        "merged",
        "perms",
        "perms_before",
        "seen",
        "value",
    )

    base: Node | None
    change: int
    children: ChildSnapshot
    generation: int
    merged: Node | None
    perms: Perms
    perms_before: Perms | None
    seen: int
    value: bytes

    # No constructor: Python takes longer for one than for a method.

    def find(self, node: Node, perms: Perms, children: ChildSnapshot) -> None:
        """Find ``node`` at the first access."""
        self.value = node.value
        self.perms = self.perms_before = perms
        self.generation = self.seen = node.generation
        self.children = children
        self.base = self.merged = node
        self.change = _UNCHANGED

    def begin(self, value: bytes, perms: Perms, generation: int, children: ChildSnapshot) -> None:
        """Become a node where the first access found none."""
        self.value = value
        self.perms = perms
        self.generation = generation
        self.children = children
        self.base = self.merged = self.perms_before = None
        self.seen = 0
        self.change = _SILENT

    def create(self, value: bytes, perms: Perms, generation: int, children: ChildSnapshot) -> None:
        """Become a node after a removal."""
        self.value = value
        self.perms = perms
        self.generation = generation
        self.children = children

    def remove(self) -> None:
        """See no node any more."""
        self.generation = 0
        self.base = None
        self.change = _EXACT


_MISSING: Final = Accessed()
"""What a transaction knows of each path at which it found no node and has made none."""
_MISSING.begin(b"", (), 0, NO_NAMES)
_MISSING.change = _UNCHANGED


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
        entry = self._accessed.get(path)
        if entry is None:
            entry = self._first_access(path)
        return entry if entry.generation else None

    def write(self, path: str, value: bytes) -> None:
        """Give the existing node ``path`` the value ``value``."""
        entry = self._modify(path)
        entry.value = value
        self._queue(path, entry)

    def set_perms(self, path: str, perms: Perms) -> None:
        """Give the existing node ``path`` new permissions."""
        entry = self._modify(path)
        before, entry.perms = entry.perms, perms
        if before[0].domid != perms[0].domid or not self._like.counts_in_transactions:
            self._count(before[0].domid, -1)
            self._count(perms[0].domid, +1)
        self._queue(path, entry, _Write.PERMS)

    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None:
        """Create ``path``, that is ``names`` one below the other under the existing node
        ``anchor``."""
        accessed, tree = self._accessed, self._tree
        at, children = path, NO_NAMES
        for name in reversed(names):
            entry = accessed[at]
            generation = tree.generation = tree.generation + 1
            if entry is _MISSING:
                entry = accessed[at] = Accessed()
                entry.begin(value, perms, generation, children)
            else:
                entry.create(value, perms, generation, children)
            at, value = parent(at), b""
            children = self._change_children(anchor) if at == anchor else ChildSnapshot()
            children.add(name)
        self._count(perms[0].domid, len(names))
        self._queue(path, accessed[path])

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
        owned: dict[int, int] = {}
        for entry in gone:
            owner = entry.perms[0].domid
            owned[owner] = owned.get(owner, 0) + 1
            entry.remove()
        for owner, count in owned.items():
            self._count(owner, -count)
        gone[0].change = _TOLD
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
        modified = {path: entry for path, entry in self._accessed.items() if entry.change}
        if self._tree.lives_ended != self._lives_ended:
            self._outlive(modified)
        told = [self._told_of(path, write) for path, write in self._writes]
        if modified:
            self._tree.version += 1
        for path, node, names in self._merge_nodes(modified):
            self._merge_children(path, node, names)
        if self._like.tells_each_write:
            for events, (path, write) in zip(told, self._writes, strict=True):
                self._tell(events, path, write)
            return
        on, covering = self._watches.on, self._watches.covering
        for path, entry in modified.items():
            change, entry.change = entry.change, _UNCHANGED
            if change != _SILENT:
                watches = on(path) if change == _EXACT else covering(path)
                # Nobody hears of a node that was neither before the transaction nor is now.
                if watches and (entry.seen or entry.merged is not None):
                    self._watches.tell(watches, path, self._visible_by, entry)

    @property
    def modifies(self) -> bool:
        """Whether a commit would change anything."""
        return any(entry.change for entry in self._accessed.values())

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
        for path, entry in self._accessed.items():
            node = self._tree.lookup(path)
            if (node.generation if node is not None else 0) != entry.seen:
                raise XsError("EAGAIN", path, "changed since the transaction touched it")

    def _outlive(self, modified: Mapping[str, Accessed]) -> None:
        """Mark the entries of domains that died meanwhile, which would look current with a new
        generation.

        Refuses a commit that leaves a node to an owner that died: the node would belong to the next
        domain of the same number.
        """
        tree = self._tree
        for path, entry in modified.items():
            if not entry.generation:
                continue
            owner = entry.perms[0].domid
            if not tree.is_current(owner, entry.generation):
                raise XsError("EAGAIN", path, f"its owner, domain {owner}, has gone")
        for entry in modified.values():
            if entry.generation:
                entry.perms = tree.perms(entry)

    def _count(self, owner: int, change: int) -> None:
        """Count ``change`` nodes more of ``owner``, or less."""
        tree, before = self._tree, self._owned.get(owner, 0)
        self._owned[owner] = before + change
        # They come and go one by one: there are the most with the last, or without the first.
        most = tree.nodes_owned(owner) + before + (change if change > 0 else -1)
        if most > tree.peaks.reached[owner]["nodes"]:
            tree.peaks.saw(owner, "nodes", most)

    def _first_access(self, path: str) -> Accessed:
        if self._domid is not None and len(self._accessed) >= self._quota().transaction_nodes:
            limit = self._quota().transaction_nodes
            self.failed = True
            refusal = Refusal(self._domid, "transaction_nodes", limit, limit + 1)
            raise QuotaError("ENOSPC", path, f"more than {limit} nodes in a transaction", refusal)
        tree = self._tree
        node = tree.known.get(path) or tree.find(path)
        if node is None:
            entry = _MISSING
        else:
            names = NO_NAMES
            if node.children is not NO_CHILDREN:
                names = node.children.snapshot()
                self._snapshots.append(names)
            entry = Accessed()
            entry.find(node, tree.perms(node), names)
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
        if not entry.generation:
            raise KeyError(path)
        if tree.lives_ended != self._lives_ended:
            entry.perms = tree.perms(entry)
        entry.generation = tree.generation = tree.generation + 1
        if entry.change == _UNCHANGED:
            entry.change = _SILENT
        return entry

    def _change_children(self, path: str) -> ChildSnapshot:
        entry = self._modify(path)
        if entry.children is NO_NAMES:
            entry.children = ChildSnapshot()
        return entry.children

    def _queue(self, path: str, entry: Accessed, write: _Write = _Write.VALUE) -> None:
        entry.change = _TOLD
        if self._like.tells_each_write:
            self._writes.append((path, write))

    def _subtree(self, top: str) -> list[Accessed]:
        """The node at ``top`` and all below it, in the order of a walk."""
        found, stack = [], [top]
        while stack:
            path = stack.pop()
            entry = self._accessed.get(path) or self._first_access(path)
            if not entry.generation:
                raise XsError("ENOENT", path, f"{path} was removed outside")
            found.append(entry)
            if entry.children.size:
                below = join(path, "")
                stack.extend([below + name for name in reversed(entry.children.names())])
        return found

    def _merge_nodes(
        self, modified: Mapping[str, Accessed]
    ) -> list[tuple[str, Node, ChildSnapshot]]:
        """Bring the values, permissions and owners of ``modified`` into the tree.

        Returns those whose children are to be merged later.
        """
        tree, parents = self._tree, []
        generation = tree.generation
        for path, entry in modified.items():
            node = entry.base
            if node is None and entry.merged is not None:
                tree.not_owned(entry.merged, len(path))
                entry.merged.children = NO_CHILDREN  # no circles: the memory is free at once
                entry.merged = None
            if not entry.generation:
                tree.known.pop(path, None)
                continue
            generation += 1
            if node is None:
                node = Node(path[path.rindex("/") + 1 :], entry.value, entry.perms, generation)
                tree.now_owned(node, len(path))
                tree.know(path, node)
            else:
                tree.replace(node, entry.value, entry.perms, generation, len(path))
            entry.merged = node
            names = entry.children
            if names is not NO_NAMES and (names.added or names.removed):
                parents.append((path, node, names))
        tree.generation = generation
        return parents

    def _merge_children(self, path: str, node: Node, names: ChildSnapshot) -> None:
        before = node.children.size
        for name in names.removed:
            node.take_out(name)
        below, children = join(path, ""), []
        for name in names.added:
            child = self._accessed[below + name].merged
            if child is None:
                raise KeyError(below + name)
            children.append(child)
        node.adopt(children)
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
            perms = [*before, *now]
            if perms:
                watches = self._watches.covering(told, told != path)
                self._watches.tell(watches, told, as_they_were, perms)

    def _visible_by(self, path: str, entry: Accessed) -> list[Perms]:
        """The permissions of which one has to let a connection read that is told of ``path``.

        The daemon writes node by node and fires after each. So the parent counts with the
        permissions from before the transaction if its own turn comes later.
        """
        seen = [] if entry.perms_before is None else [entry.perms_before]
        node = entry.merged
        if node is not None:
            seen += visible_perms(self._tree, node)
            above = self._accessed.get(parent(path))
            if above is not None and above.change:
                seen.pop()
                if above.perms_before is not None:
                    seen.append(above.perms_before)
        return seen
