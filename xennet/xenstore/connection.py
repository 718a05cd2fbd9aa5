"""A connection to the store: the requests of XenStore, with the C daemon's order of checks and
errors.

Every request looks up its transaction first (ENOENT); a privileged request checks before that
whether the domain may make it at all (EACCES). Arguments are checked last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from xennet.abi.xs_numbers import XENSTORE_REL_PATH_MAX
from xennet.xenstore.errors import XsError
from xennet.xenstore.likeness import Specials
from xennet.xenstore.operation import request
from xennet.xenstore.path import (
    absolute,
    domain_path,
    is_relative,
    is_special,
    measured,
    parent,
)
from xennet.xenstore.perms import (
    ANY,
    Access,
    Identity,
    Perm,
    Perms,
    access,
    owned_by_creator,
    parse_perms,
)
from xennet.xenstore.quota import Quota, QuotaError, Refusal
from xennet.xenstore.transaction import Transaction
from xennet.xenstore.tree import NodeView
from xennet.xenstore.watch import EventQueue, Watch, WatchEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xennet.xenstore.store import Store


_NAMES = 256
"""Most paths that a connection knows to be legal."""
_NAME_LENGTH = 256
"""The longest of those: with longer ones a guest would have the store keep more than it sends."""

_REPLAYED = frozenset({"READ", "DIRECTORY", "GET_PERMS", "WRITE", "MKDIR", "RM", "SET_PERMS"})


class Space(Protocol):
    """The tree as a request works on it: directly (:class:`Direct`), or in a
    :class:`Transaction`."""

    def lookup(self, path: str) -> NodeView | None: ...
    def write(self, path: str, value: bytes) -> None: ...
    def set_perms(self, path: str, perms: Perms) -> None: ...
    def create(
        self, anchor: str, names: Sequence[str], path: str, value: bytes, perms: Perms
    ) -> None: ...
    def remove(self, path: str) -> None: ...
    def claim(self, domid: int, new: int, limit: int) -> int: ...
    def fail(self) -> None: ...


class Connection:
    """A connection to the store, made by :meth:`Store.connect`.

    Paths are str, values bytes, ``tx`` is 0 or an id from :meth:`transaction_start`. ``events``
    holds the watch events that the client has not taken; ``sink()`` is called once after each
    request that added some. ``on_reset()``, for a transport, is called when a request of another
    connection reset this one (INTRODUCE of a domain that is introduced) or closed it (RELEASE,
    death of the domain). ``outstanding`` is the number of replies that the client has not taken, as
    its transport counts them.
    """

    def __init__(
        self, store: Store, domid: int, serial: int, sink: Callable[[], None] | None, name: str
    ) -> None:
        #: The store that the connection belongs to.
        self.store = store
        self.domid = domid
        self.serial = serial
        self.sink = sink
        self.name = name
        self.identity: Identity = store.identity(domid)
        self.quota = store.quota_of(domid)
        self.events = EventQueue(store.like.suppresses_equals)
        self.on_reset: Callable[[], None] | None = None
        self.closed = False
        self.outstanding = 0
        #: Whether requests of transactions are recorded: a commit may have to replay them.
        self.replays = store.like.replays
        self._specials_listed = store.like.specials is Specials.LISTED
        #: Canonical names, with the length that a quota counts, of paths that were given before.
        self._names: dict[str, tuple[str, int]] = {}
        self._watches: dict[tuple[str, str], Watch] = {}
        self._transactions: dict[int, Transaction] = {}
        #: What requests work on, by their transaction ids; nothing when the connection is closed.
        self._spaces: dict[int, Space] = {0: store.direct}
        self._next_transaction = 1

    def __repr__(self) -> str:
        return f"<Connection {self.name!r} of domain {self.domid}>"

    def over_quota(self, refusal: Refusal) -> None:
        """Remember that a limit was in the way of a request."""
        self.store.over_quota(refusal)

    # -- nodes ---------------------------------------------------------------------------------

    @request("READ")
    def read(self, path: str, tx: int = 0) -> bytes:
        """The value of a node. Raises XsError EINVAL (path), ENOENT, EACCES."""
        return self._readable(path, tx).value

    @request("DIRECTORY")
    def directory(self, path: str, tx: int = 0) -> list[str]:
        """The names of the children, in the order of creation or sorted
        (``Likeness.sorts_children``).

        Raises XsError as :meth:`read` does.
        """
        names = self._readable(path, tx).children
        return sorted(names) if self.store.like.sorts_children else list(names)

    @request("DIRECTORY")
    def listing(self, path: str, tx: int = 0) -> bytes:
        """:meth:`directory` as one text, with nuls between the names."""
        names = self._readable(path, tx).children
        if self.store.like.sorts_children:
            return "\0".join(sorted(names)).encode()
        return names.joined()

    @request("DIRECTORY_PART")
    def directory_part(self, path: str, tx: int = 0) -> tuple[int, list[str]]:
        """The generation of a node and the names of its children, for a reply in parts."""
        node = self._readable(path, tx)
        return node.generation, list(node.children)

    @request("GET_PERMS")
    def get_perms(self, path: str, tx: int = 0) -> list[Perm]:
        """The permissions of a node, owner first. Raises XsError as :meth:`read` does."""
        space = self._spaces.get(tx) or self._no_space(tx)
        full = self._name(path, special=self.store.like.specials is not Specials.APART)
        node = self._node(space, path, full, Access.READ)
        return list(self.store.tree.perms(node))

    @request("WRITE")
    def write(self, path: str, value: bytes, tx: int = 0) -> None:
        """Set the value of a node; the node and its parents are created if they are missing.

        Raises XsError EINVAL (path), EACCES (no write access to the node, or to its nearest
        existing ancestor), ENOSPC (quota), E2BIG (value).
        """
        space = self._spaces.get(tx) or self._no_space(tx)
        full = self._name(path)
        if len(value) > self.store.like.value_max:
            raise XsError("E2BIG", path, f"a value of {len(value)} bytes")
        node = space.lookup(full)
        if node is None:
            self._create(space, path, full, value)
            return
        if not self.identity.privileged:
            self._demand(space, path, full, node, Access.WRITE)
            self._check_size(space, path, len(node.perms), len(value), node.children.size)
        space.write(full, value)

    @request("MKDIR")
    def mkdir(self, path: str, tx: int = 0) -> None:
        """Create a node with an empty value; a node that exists is left alone.

        Raises XsError as :meth:`write` does.
        """
        space = self._spaces.get(tx) or self._no_space(tx)
        full = self._name(path)
        node = space.lookup(full)
        if node is None:
            self._create(space, path, full, b"")
        else:
            self._demand(space, path, full, node, Access.WRITE)

    @request("RM")
    def rm(self, path: str, tx: int = 0) -> None:
        """Remove a node and everything below it. A node that is missing is no error if its parent
        exists.

        Raises XsError EINVAL (path, or the root), EACCES (no write access to the node itself),
        ENOENT (the parent is missing as well).
        """
        space = self._spaces.get(tx) or self._no_space(tx)
        full = self._name(path)
        node = space.lookup(full)
        if node is None:
            anchor, _ = self._anchor(space, path, full, self._told_missing(Access.WRITE))
            if anchor != parent(full):
                raise XsError("ENOENT", path, f"not even {parent(full)} exists")
            return
        self._demand(space, path, full, node, Access.WRITE)
        if full == "/":
            raise XsError("EINVAL", path, "the root cannot be removed")
        space.remove(full)
        if not self.identity.privileged and (above := space.lookup(parent(full))) is not None:
            self._granted_record(len(above.perms), len(above.value), above.children.size)

    @request("SET_PERMS")
    def set_perms(self, path: str, perms: Iterable[str | Perm], tx: int = 0) -> None:
        """Replace the permissions of a node; the first entry names its owner.

        Raises XsError EINVAL (path; no entries, or a bad one), ENOSPC (too many), ENOENT (no such
        node; the owner is a domain that does not exist), EACCES (not the owner), EPERM (a domain
        gives its own node to another).
        """
        space = self._spaces.get(tx) or self._no_space(tx)
        given = list(perms)
        if not given:
            raise XsError("EINVAL", path, "no permissions given")
        self._limit("ENOSPC", path, "perms", len(given))
        self._granted("perms", len(given))
        entries = self.store.bind_perms(path, parse_perms(given))
        if is_special(path) and self.store.like.specials is Specials.APART:
            self.store.set_special_perms(path, entries, self.identity)
            return
        full = self._name(path, special=True)
        node = self._node(space, path, full, Access.WRITE | Access.OWNER)
        if not self.identity.privileged and entries[0].domid != node.perms[0].domid:
            errno = self.store.like.gives_away
            raise XsError(errno, path, f"a domain cannot give its node to {entries[0].domid}")
        self._check_size(space, path, len(entries), len(node.value), node.children.size)
        space.set_perms(full, entries)

    # -- watches -------------------------------------------------------------------------------

    @request("WATCH")
    def watch(self, path: str, token: str) -> None:
        """Watch the node ``path`` and everything below it. A first event, with ``path`` as given,
        comes at once.

        Raises XsError EINVAL (path), EEXIST (the same path and token), E2BIG (quota).
        """
        self._alive()
        full = self._watchable(path)
        if (full, token) in self._watches:
            raise XsError("EEXIST", path, f"already watched with token {token!r}")
        self._limit("E2BIG", path, "watches", len(self._watches))
        prefix = domain_path(self.domid) + "/" if is_relative(path) else ""
        watch = self.store.watches.add(self, full, token, prefix)
        self._watches[full, token] = watch
        self._count_watches()
        event = watch.event(full)
        self.deliver(event, event.payload_len)

    @request("UNWATCH")
    def unwatch(self, path: str, token: str) -> None:
        """End a watch; its path may be spelt in another way (relative, absolute).

        Raises XsError ENOENT for a watch that is not set, EINVAL for an illegal path (if
        ``Likeness.unwatch_checks_path``).
        """
        self._alive()
        checked = self.store.like.unwatch_checks_path
        full = self._watchable(path) if checked else absolute(path, self.domid)
        watch = self._watches.pop((full, token), None)
        if watch is None:
            raise XsError("ENOENT", path, f"not watched with token {token!r}")
        self.store.watches.remove(watch)
        self._count_watches()

    @request("RESET_WATCHES")
    def reset_watches(self, tx: int = 0) -> None:
        """End all watches and transactions of this connection."""
        self._require(tx)
        self.drop()

    # -- transactions --------------------------------------------------------------------------

    @request("TRANSACTION_START")
    def transaction_start(self, tx: int = 0) -> int:
        """Start a transaction. Returns its id; the first is 1.

        Raises XsError EBUSY inside a transaction, ENOSPC (quota).
        """
        self._require(tx)
        if tx:
            raise XsError("EBUSY", str(tx), "transactions do not nest")
        self._limit("ENOSPC", "", "transactions", len(self._transactions))
        new = self._free_transaction_id()
        self._spaces[new] = self._transactions[new] = self._new_transaction()
        self._count_transactions(+1)
        return new

    @request("TRANSACTION_END")
    def transaction_end(self, tx: int, commit: bool) -> None:
        """End a transaction. Its id is invalid afterwards, whatever the answer is.

        Raises XsError ENOENT (no such id). A commit raises XsError EAGAIN (an accessed node has
        changed: start again), ENOMEM (an earlier request failed half way) or ENOSPC (quota).
        """
        self._require(tx)
        if not tx:
            raise XsError("ENOENT", str(tx), "no transaction to end")
        self._check_requests(self._transactions[tx])
        transaction = self._transactions.pop(tx)
        del self._spaces[tx]
        self._count_transactions(-1)
        try:
            if not commit:
                return
            if self.store.like.replays:
                self._commit_replaying(tx, transaction)
            else:
                transaction.commit()
        finally:
            transaction.close()

    # -- domains -------------------------------------------------------------------------------

    @request("GET_DOMAIN_PATH")
    def get_domain_path(self, domid: int, tx: int = 0) -> str:
        """``/local/domain/<domid>``, whether or not the domain exists."""
        self._require(tx)
        return domain_path(domid)

    @request("IS_DOMAIN_INTRODUCED")
    def is_domain_introduced(self, domid: int, tx: int = 0) -> bool:
        """Whether a domain is introduced, always True for DOMID_SELF. Privileged."""
        # Not imported before: it brings Construct, and hardly anybody asks.
        from xennet.abi.xen import DOMID_SELF

        self._privileged(tx)
        return domid == DOMID_SELF or self.store.is_introduced(domid)

    @request("INTRODUCE")
    def introduce(self, domid: int, gfn: int, port: int, tx: int = 0) -> None:
        """Introduce a domain with its ring page and event channel port. Privileged.

        ``gfn`` is not used: the page is mapped through grant reference 1. Raises XsError EINVAL if
        the port is not positive or there is no such domain.
        """
        self._privileged(tx)
        if port <= 0 and not self.store.like.lenient:
            raise XsError("EINVAL", str(domid), f"event channel port {port}")
        if not self.store.domain_exists(domid):
            raise XsError("EINVAL", str(domid), "no such domain")
        if self.store.rings is None:
            self.store.introduce(domid)
        else:
            self.store.rings.introduce(domid, gfn, port)

    @request("RELEASE")
    def release(self, domid: int, tx: int = 0) -> None:
        """Forget an introduced domain. Privileged. Raises XsError EINVAL for domain 0, ENOENT if it
        is not introduced."""
        self._privileged(tx)
        self.store.release(domid)

    @request("RESUME")
    def resume(self, domid: int, tx: int = 0) -> None:
        """Note that a domain runs again after a shutdown. Privileged. Raises XsError EINVAL for
        domain 0, ENOENT if it is not introduced."""
        self._privileged(tx)
        self.store.resume(domid)

    @request("SET_TARGET")
    def set_target(self, domid: int, target: int, tx: int = 0) -> None:
        """Give ``domid`` the rights of ``target`` as well. Privileged. Raises XsError ENOENT unless
        both are introduced."""
        self._privileged(tx)
        self.store.set_target(domid, target)

    # -- for the store and the transport -------------------------------------------------------

    def has_transaction(self, tx: int) -> bool:
        """Whether ``tx`` is an open transaction of this connection."""
        return tx in self._transactions

    def bind(self, quota: Quota) -> None:
        """Bind all that comes by ``quota``."""
        self.quota = quota
        self._names.clear()
        if self.events.limit is not None and not self.identity.privileged:
            self.events.limit = quota.memory

    def saw_outstanding(self) -> None:
        """Note the peak of :attr:`outstanding`."""
        self.store.peaks.saw(self.domid, "outstanding", self.outstanding)

    def deliver(self, event: WatchEvent, payload: int) -> None:
        """Queue a watch event, whose payload has ``payload`` bytes, for the client."""
        if self.events.queue(event, payload):
            self.store.woken[self] = None
            if not self.identity.privileged:
                memory = self.store.tree.memory_of(self.domid) + self.events.size
                self._granted("memory", memory)
        elif self.events.overflowed:
            self.store.woken[self] = None

    def drop(self) -> None:
        """End all watches and transactions."""
        for watch in self._watches.values():
            self.store.watches.remove(watch)
        self._watches.clear()
        for tx, transaction in self._transactions.items():
            del self._spaces[tx]
            transaction.close()
        self._count_transactions(-len(self._transactions))
        self._transactions.clear()

    def reset(self) -> None:
        """Make the connection as good as new: its domain was introduced once more."""
        self.drop()
        self.events.clear()
        if self.on_reset is not None:
            self.on_reset()

    def close(self) -> None:
        """Close the connection: nothing of it stays in the store. May be repeated."""
        if not self.closed:
            self.closed = True
            self.drop()
            self._spaces.clear()
            self.events.clear()
            self.store.disconnected(self)
            if self.on_reset is not None:
                self.on_reset()
            # Its user has it, and is not to wait for the garbage collector because of that.
            self.sink = self.on_reset = None

    def _count_watches(self) -> None:
        self.store.peaks.saw(self.domid, "watches", self.store.watches_of(self.domid))

    def _count_transactions(self, change: int) -> None:
        count = self.store.transactions[self.domid] + change
        self.store.transactions[self.domid] = count
        self.store.peaks.saw(self.domid, "transactions", count)

    def _alive(self) -> None:
        if self.closed:
            raise XsError("EBADF", detail=f"connection {self.name} is closed")

    def _require(self, tx: int) -> None:
        """Refuse a request with a transaction id that is none here."""
        if tx not in self._spaces:
            self._no_space(tx)

    def _no_space(self, tx: int) -> NoReturn:
        """Refuse a request whose transaction id is not among :attr:`_spaces`."""
        self._alive()
        errno = self.store.like.no_transaction
        raise XsError(errno, str(tx), "no such transaction on this connection")

    def _privileged(self, tx: int) -> None:
        self._alive()
        if not self.identity.privileged:
            raise XsError("EACCES", detail=f"domain {self.domid} is not privileged")
        self._require(tx)

    def _name(self, path: str, *, special: bool = False) -> str:
        named = self._names.get(path)
        if named is None:
            named = self._measured(path, special)
        if not self.identity.privileged:
            self._granted("path_max", named[1])
        return named[0]

    def _measured(self, path: str, special: bool) -> tuple[str, int]:
        """The canonical name of ``path``, which is remembered, and its length."""
        if not is_special(path):
            named = measured(path, self.domid)
        elif self._specials_listed:
            named = measured(f"/{path}", self.domid)
        else:
            named = measured(path, self.domid, special)
        length, limit = named[1], self.quota.path_max
        bound = not self.identity.privileged or self.store.like.path_max_binds_all
        if bound and length > limit:
            raise XsError("EINVAL", path, f"{length} characters, the limit is {limit}")
        # Special names are not legal everywhere.
        if len(path) <= _NAME_LENGTH and not is_special(path):
            if len(self._names) >= _NAMES:
                self._names.clear()
            self._names[path] = named
        return named

    def _watchable(self, path: str) -> str:
        if not is_special(path):
            return self._name(path)
        if self.store.like.specials is Specials.BESIDE:
            return self._name(path, special=True)
        if len(path) > XENSTORE_REL_PATH_MAX:
            raise XsError("EINVAL", path, f"special name of {len(path)} characters")
        return path

    def _granted(self, limit: str, value: int) -> None:
        """Note the peak of what an unprivileged domain was granted: ``value`` of what ``limit``
        bounds."""
        if not self.identity.privileged:
            peaks = self.store.peaks
            if value > peaks.reached[self.domid][limit]:
                peaks.saw(self.domid, limit, value)

    def _granted_record(self, perms: int, value: int, names: int) -> None:
        size = self.store.like.record_size(perms, value, names)
        if size <= self.quota.node_size:
            self._granted("node_size", size)

    def _demand(self, space: Space, path: str, full: str, node: NodeView, need: int) -> None:
        if access(self.store.tree.perms(node), self.identity) & need != need:
            # The daemon looks at the parent first, so a transaction has accessed it from then on.
            space.lookup(parent(full))
            raise XsError("EACCES", path, f"domain {self.domid} lacks {need}")

    def _readable(self, path: str, tx: int) -> NodeView:
        """The node ``path``, of which a request wants to read something."""
        if not tx and self.identity.privileged and not self.closed:
            node = self.store.tree.known.get(path)
            if node is not None and len(path) <= self.quota.path_max:
                return node
        space = self._spaces.get(tx) or self._no_space(tx)
        return self._node(space, path, self._name(path), Access.READ)

    def _node(self, space: Space, path: str, full: str, need: int) -> NodeView:
        node = space.lookup(full)
        if node is None:
            self._missing(space, path, full, need)
        if not self.identity.privileged:
            self._demand(space, path, full, node, need)
        return node

    def _told_missing(self, need: int) -> int:
        """The access to an ancestor with which a request gets ENOENT for a missing node."""
        return ANY if self.store.like.tells_missing else need

    def _missing(self, space: Space, path: str, full: str, need: int) -> NoReturn:
        # The way up may be refused, and a transaction has accessed it from then on.
        if not self.identity.privileged or space is not self.store.direct:
            self._anchor(space, path, full, self._told_missing(need))
        raise XsError("ENOENT", path, "no such node")

    def _anchor(self, space: Space, path: str, full: str, need: int) -> tuple[str, NodeView]:
        """The nearest existing ancestor of a missing node.

        Raises XsError EACCES if the domain has none of the rights ``need`` on that ancestor: then
        it must not learn that the node is missing (``errno_from_parents``).
        """
        above, node = full, None
        while node is None:
            if above == "/":
                raise XsError("ENOENT", path, "the root is missing")
            above = parent(above)
            node = space.lookup(above)
        who = self.identity
        asks = need != ANY and not who.privileged
        if asks and not access(self.store.tree.perms(node), who) & need:
            raise XsError("EACCES", path, f"domain {self.domid} lacks {need} on {above}")
        return above, node

    def _create(self, space: Space, path: str, full: str, value: bytes) -> None:
        anchor, node = self._anchor(space, path, full, Access.WRITE)
        names = full[len(anchor) :].strip("/").split("/")
        perms, identity = self.store.tree.perms(node), self.identity
        if not identity.privileged:
            if self.store.like.creator_owns:
                perms = owned_by_creator(perms, identity)
            self._check_new(space, path, names, len(perms), len(value), node)
        space.create(anchor, names, full, value, perms)

    def _check_new(
        self, space: Space, path: str, names: list[str], perms: int, value: int, anchor: NodeView
    ) -> None:
        total = space.claim(self.domid, len(names), self.quota.nodes)
        self._limit("ENOSPC", path, "nodes", total)
        self._check_size(space, path, perms, value, 0)
        for name in names[1:]:
            self._check_size(space, path, perms, 0, len(name) + 1)
        size = anchor.children.size + len(names[0]) + 1
        self._check_size(space, path, len(anchor.perms), len(anchor.value), size)

    def _check_size(self, space: Space, path: str, perms: int, value: int, names: int) -> None:
        if self.identity.privileged:
            return
        like = self.store.like
        limit = self.quota.node_size - like.record_spare
        size = like.record_size(perms, value, names)
        if size > limit:
            space.fail()
            refusal = Refusal(self.domid, "node_size", limit, size)
            detail = f"node record of {size} bytes, {limit} are allowed"
            raise QuotaError("ENOSPC", path, detail, refusal)
        self._granted("node_size", size)

    def _limit(self, errno: str, path: str, quota: str, count: int) -> None:
        limit: int = getattr(self.quota, quota)
        if count > limit and not self.identity.privileged:
            refusal = Refusal(self.domid, quota, limit, count)
            detail = f"{count} {quota}, domain {self.domid} may have {limit}"
            errno = self.store.like.quota_errnos.get(quota, errno)
            raise QuotaError(errno, path, detail, refusal)

    def _new_transaction(self) -> Transaction:
        store = self.store
        limited = None if self.identity.privileged else self.domid
        return Transaction(
            store.tree, store.watches, store.like, lambda: self.quota, store.domain_exists, limited
        )

    def record(self, op: str, tx: int, perform: Callable[[], Any]) -> Any:
        """Perform the request ``op`` of transaction ``tx``, and record it if that may be replayed.
        Returns its answer. Raises XsError."""
        transaction = self._transactions.get(tx)
        if transaction is None or op not in _REPLAYED:
            return perform()
        self._check_requests(transaction)
        try:
            answer = perform()
        except XsError as error:
            transaction.log.append((perform, error.errno))
            raise
        transaction.log.append((perform, answer))
        return answer

    def _check_requests(self, transaction: Transaction) -> None:
        limit = self.store.like.transaction_requests
        if len(transaction.log) >= limit and not self.identity.privileged:
            raise XsError("EQUOTA", detail=f"more than {limit} requests in a transaction")

    def _commit_replaying(self, tx: int, transaction: Transaction) -> None:
        """Commit, doing all requests again if the tree has changed.

        Raises XsError EAGAIN if one of them gets another answer than before.
        """
        if not transaction.modifies:
            return
        if not transaction.overtaken:
            transaction.commit()
            return
        # The daemon uses up an id for the second go.
        self._free_transaction_id()
        again = self._spaces[tx] = self._transactions[tx] = self._new_transaction()
        try:
            for perform, before in transaction.log:
                try:
                    now = perform()
                except XsError as error:
                    now = error.errno
                if now != before:
                    raise XsError("EAGAIN", str(tx), "a request would be answered otherwise now")
            again.commit()
        finally:
            del self._transactions[tx], self._spaces[tx]
            again.close()

    def _free_transaction_id(self) -> int:
        while True:
            new = self._next_transaction
            self._next_transaction = new % 0xFFFFFFFF + 1
            if new not in self._transactions:
                return new
