"""The store: the tree, watches, domains and connections put together.

The methods here are called by the machine and by a toolstack in the same process. What is a message
of the protocol is a method of :class:`Connection`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Protocol

from attrs import evolve

from xennet.html_table import html_table
from xennet.xenstore.connection import Connection
from xennet.xenstore.direct import Direct, as_they_were, visible_perms
from xennet.xenstore.domains import Domain, Domains
from xennet.xenstore.errors import XsError
from xennet.xenstore.likeness import DEFAULT_LIKENESS, Specials, likeness
from xennet.xenstore.operation import Observer
from xennet.xenstore.path import INTRODUCE_DOMAIN, RELEASE_DOMAIN, SPECIALS
from xennet.xenstore.peaks import Peaks
from xennet.xenstore.perms import Access, Identity, Perms, access
from xennet.xenstore.quota import Quota, Refusal
from xennet.xenstore.tree import Tree
from xennet.xenstore.value_text import show_value
from xennet.xenstore.watch import WatchTable


class RingHost(Protocol):
    """What serves the ring pages of domains, in a machine that has such pages."""

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """XS_INTRODUCE: map the ring page, bind the port and call :meth:`Store.introduce`.

        Raises XsError EINVAL, with nothing changed, if the page or the port cannot be used.
        """
        ...

    def forget(self, domid: int) -> None:
        """Release the page and the port of a domain that was released or died."""
        ...


def _always(domid: int, generation: int) -> bool:
    return True


class Store:
    """The store of a machine.

    A fresh store holds ``/``, ``/tool`` and an empty ``/tool/xenstored``, all n0. ``quota`` limits
    the domains that are not in ``privileged``. ``like`` names the daemon whose behaviour the store
    has, a key of :data:`~xennet.xenstore.likeness.LIKENESSES` (raises ValueError for another).
    ``observer``, if set, is called with a :class:`StoreOp` after every request. ``rings``, if set,
    serves domains over their ring pages.
    """

    def __init__(
        self,
        quota: Quota | None = None,
        privileged: frozenset[int] = frozenset({0}),
        *,
        like: str = DEFAULT_LIKENESS,
    ) -> None:
        self.like = likeness(like)
        self.quota = quota or self.like.quota
        self.observer: Observer | None = None
        self.rings: RingHost | None = None
        self.domains = Domains()
        self.peaks = Peaks(privileged)
        lives = self.domains.is_current if self.like.knows_lives else _always
        self.tree = Tree(lives, self.like, self.peaks)
        self.watches = WatchTable(self.like.tells_from_the_root)
        self.direct = Direct(self.tree, self.watches, self.like.tells_leaves_first)
        #: Connections that got events, whose sinks are to be called in this order.
        self.woken: OrderedDict[Connection, None] = OrderedDict()
        #: True while a transport handles a request: its reply goes out before others' events.
        self.held = False
        self.transactions: Counter[int] = Counter()
        self._privileged = privileged
        self._connections: dict[Connection, None] = {}
        #: One for all connections of a domain.
        self._identities: dict[int, Identity] = {}
        self._connected = 0
        #: Permissions of special names that are no nodes.
        self._special_perms: dict[str, Perms] = {}
        listed = SPECIALS if self.like.specials is Specials.LISTED else ()
        for name in (*self.like.fresh, *listed):
            self.tree.create(self.tree.root, (name,), b"", self.tree.root.perms)
        for name in SPECIALS:
            if self.like.specials is Specials.BESIDE:
                self.tree.add_special(name)
            elif self.like.specials is Specials.APART:
                self._special_perms[name] = self.tree.root.perms
        value = self.like.xenstored_value
        self.tree.create(self.tree.root, ("tool", "xenstored"), value, self.tree.root.perms)

    # -- connections ---------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Store {len(self.tree.root.children)} directories at its root>"

    def _repr_html_(self) -> str:
        """A notebook's table of all nodes and their values."""
        nodes = ((node.path, show_value(node.value)) for node in self.tree.walk(self.tree.root))
        return html_table("XenStore", ("node", "value"), nodes)

    def connect(
        self, domid: int, sink: Callable[[], None] | None = None, name: str = ""
    ) -> Connection:
        """A new connection of an introduced domain (domain 0 always is introduced).

        ``sink`` is called when ``connection.events`` got events; ``name`` is for observers. Raises
        XsError ENOENT if the domain is not introduced.
        """
        if not self.is_introduced(domid):
            raise XsError("ENOENT", str(domid), "a domain must be introduced to connect")
        self._connected += 1
        connection = Connection(self, domid, self._connected, sink, name or f"dom{domid}")
        self._connections[connection] = None
        return connection

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self._connections.pop(connection, None)
        self.woken.pop(connection, None)

    def wake(self) -> None:
        """Call the sinks of connections that got events, unless :attr:`held` delays it."""
        while self.woken and not self.held:
            connection, _ = self.woken.popitem(last=False)
            if connection.sink is not None:
                connection.sink()

    def identity(self, domid: int) -> Identity:
        """The rights that connections of ``domid`` act with."""
        target = self.domains.target(domid)
        known = self._identities.get(domid)
        if known is None or known.target != target:
            known = Identity(domid, domid in self._privileged, target)
            self._identities[domid] = known
        return known

    # -- domains -------------------------------------------------------------------------------

    def domain_created(self, domid: int) -> None:
        """Note that the machine has a new domain ``domid``. It can own nodes before it is
        introduced."""
        self.domains.created(domid)

    def domain_exists(self, domid: int) -> bool:
        """Whether a domain was created (or introduced) and has not died."""
        return self.domains.exists(domid)

    def introduce(self, domid: int) -> None:
        """Introduce a domain and fire @introduceDomain. The domain counts as created from then on.

        A domain that is introduced already has only its connections reset: watches, transactions
        and queued events are dropped. Connections of domain 0, which come over sockets, are left
        alone.
        """
        if self.is_introduced(domid):
            for connection in self._connections_of(domid) if domid else ():
                connection.reset()
            return
        self.domains.created(domid)
        self.domains.known(domid, self.tree.generation + 1).introduced = True
        self._fire_special(INTRODUCE_DOMAIN)
        self.wake()

    def is_introduced(self, domid: int) -> bool:
        """Whether a domain was introduced, and neither released nor dead. A domain that is shut
        down still is."""
        return self.domains.introduced(domid) is not None

    def release(self, domid: int) -> None:
        """Forget a domain that may live on: its connections, its nodes with everything below, its
        rights.

        Fires the watches on the nodes, then @releaseDomain. Raises XsError EINVAL for domain 0,
        ENOENT if it is not introduced.
        """
        self._guest(domid)
        self._forget(domid)
        self.wake()

    def resume(self, domid: int) -> None:
        """Note that a domain runs again after a shutdown: its next shutdown fires @releaseDomain
        again."""
        if domid or not self.like.lenient:
            self._guest(domid).shutdown = False

    def set_target(self, domid: int, target: int) -> None:
        """Give ``domid`` (a device model's domain) the rights of ``target`` as well.

        Raises XsError ENOENT unless both are introduced.
        """
        domain = self._introduced(domid, "ENOENT")
        if not self.like.lenient:
            self._introduced(target, "ENOENT")
        domain.target = target
        self._refresh(domid)

    def domain_shut_down(self, domid: int) -> None:
        """Note that ``domid`` shut down or crashed. Fires @releaseDomain, once until
        :meth:`resume`."""
        domain = self.domains.introduced(domid)
        if domain is not None and not domain.shutdown:
            domain.shutdown = True
            self._fire_special(RELEASE_DOMAIN)
            self.wake()

    def domain_died(self, domid: int) -> None:
        """Note that ``domid`` does not exist any more: like :meth:`release`, introduced or not.

        Raises XsError EINVAL for domain 0, without which there is no store.
        """
        if domid == 0:
            raise XsError("EINVAL", str(domid), "not for domain 0")
        self.domains.destroyed(domid)
        self._forget(domid)
        self.wake()

    # -- quotas --------------------------------------------------------------------------------

    def quota_of(self, domid: int) -> Quota:
        """The limits of a domain: its own, else those of all domains."""
        domain = self.domains.get(domid)
        return self.quota if domain is None or domain.quota is None else domain.quota

    def set_quota(self, quota: Quota, domid: int | None = None) -> None:
        """Set the limits of ``domid`` for its lifetime, or those of all domains that have none of
        their own.

        Open connections are bound from their next request on. Raises XsError ENOENT if there is no
        such domain.
        """
        if domid is None:
            self.quota = quota
        else:
            self.domain(domid).quota = quota
        for connection in self._connections:
            connection.bind(self.quota_of(connection.domid))

    def over_quota(self, refusal: Refusal) -> None:
        """Remember that a limit was in the way of a request; of each limit the last time is
        kept."""
        domain = self.domains.get(refusal.domid)
        if domain is not None:
            domain.refusals[refusal.quota] = refusal

    def refusals(self, domid: int) -> tuple[Refusal, ...]:
        """The last refusal by each limit of a request of ``domid`` in its present life."""
        domain = self.domains.get(domid)
        return () if domain is None else tuple(domain.refusals.values())

    def domain(self, domid: int) -> Domain:
        """The record of an existing domain. Raises XsError ENOENT if there is none."""
        if not self.domain_exists(domid):
            raise XsError("ENOENT", str(domid), "no such domain")
        return self.domains.known(domid, self.tree.generation + 1)

    # -- permissions that need to know domains ----------------------------------------------------

    def bind_perms(self, path: str, perms: Perms) -> Perms:
        """Permission entries as they are stored: those of domains that do not exist are stale.

        Raises XsError ENOENT if the owner does not exist. Without ``Likeness.knows_lives`` the
        entries are stored as they are.
        """
        if not self.like.knows_lives:
            return perms
        exists = self.domains.exists
        bound = tuple(
            [
                perm if perm.stale is not exists(perm.domid) else evolve(perm, stale=not perm.stale)
                for perm in perms
            ]
        )
        if bound[0].stale:
            raise XsError("ENOENT", path, f"owner domain {bound[0].domid} does not exist")
        for perm in bound:
            if not perm.stale:
                self.domains.known(perm.domid, self.tree.generation + 1)
        return bound

    def set_special_perms(self, name: str, perms: Perms, who: Identity) -> None:
        """Set the permissions of @introduceDomain or @releaseDomain where these are no nodes.

        Raises XsError EINVAL (no such special name), EACCES (not the owner).
        """
        if name not in self._special_perms:
            raise XsError("EINVAL", name, "no such special name")
        need = Access.WRITE | Access.OWNER
        if access(self._special_perms[name], who) & need != need:
            raise XsError("EACCES", name, f"domain {who.domid} does not own it")
        self._special_perms[name] = perms

    # -- introspection -------------------------------------------------------------------------

    def nodes_owned(self, domid: int) -> int:
        """Number of nodes that ``domid`` owns."""
        return self.tree.nodes_owned(domid)

    def watches_of(self, domid: int) -> int:
        """Number of watches set by connections of ``domid``."""
        return self.watches.counts[domid]

    def transactions_of(self, domid: int) -> int:
        """Number of open transactions of connections of ``domid``."""
        return self.transactions[domid]

    def outstanding_of(self, domid: int) -> int:
        """Number of replies to ``domid`` that it has not taken."""
        return sum(c.outstanding for c in self._connections_of(domid))

    def memory_of(self, domid: int) -> int:
        """Bytes of the nodes of ``domid`` and of the watch events that it has not taken."""
        return self.tree.memory_of(domid) + self.events_of(domid)

    def usage_of(self, domid: int) -> dict[str, int]:
        """How much ``domid`` has of everything that the limits of :class:`Quota` bound at all
        times."""
        return {
            "nodes": self.nodes_owned(domid),
            "watches": self.watches_of(domid),
            "outstanding": self.outstanding_of(domid),
            "memory": self.memory_of(domid),
            "transactions": self.transactions_of(domid),
        }

    def connections_of(self, domid: int) -> int:
        """Number of open connections of ``domid``."""
        return len(self._connections_of(domid))

    def events_of(self, domid: int) -> int:
        """Bytes of watch events that connections of ``domid`` have not taken."""
        return sum(c.events.size for c in self._connections_of(domid))

    def holders(self) -> list[int]:
        """Domains that own nodes or have connections, in the order of their numbers."""
        return sorted({*self.tree.owners(), *(c.domid for c in self._connections)})

    def _connections_of(self, domid: int) -> list[Connection]:
        return [c for c in self._connections if c.domid == domid]

    def _guest(self, domid: int) -> Domain:
        if domid == 0:
            raise XsError("EINVAL", str(domid), "not for domain 0")
        return self._introduced(domid, self.like.not_introduced)

    def _introduced(self, domid: int, errno: str) -> Domain:
        domain = self.domains.introduced(domid)
        if domain is None:
            raise XsError(errno, str(domid), "not introduced")
        return domain

    def _forget(self, domid: int) -> None:
        # The ring goes first, or it would ask for a new connection of the domain.
        if self.rings is not None:
            self.rings.forget(domid)
        for connection in self._connections_of(domid):
            connection.close()
        was_introduced = self.is_introduced(domid)
        root = self.tree.root
        if root.perms[0].domid == domid:
            # xen 4.17 xenstored deletes it, and every later request fails with EACCES.
            self.tree.set_perms(root, (evolve(root.perms[0], domid=0), *root.perms[1:]))
        for node in self.tree.tops_owned(domid):
            if self.like.tells_of_death:
                self.direct.remove(node.path)
            else:
                self.tree.remove(node)
        if not self.like.knows_lives:
            self.tree.forget(domid)
        self.tree.end_life()
        for stub in self.domains.forget(domid):
            self._refresh(stub)
        self.peaks.forget(domid)
        for name, perms in self._special_perms.items():
            self._special_perms[name] = perms[:1] + tuple(
                perm for perm in perms[1:] if perm.domid != domid
            )
        if was_introduced:
            self._fire_special(RELEASE_DOMAIN)

    def _refresh(self, domid: int) -> None:
        for connection in self._connections_of(domid):
            connection.identity = self.identity(domid)

    def _fire_special(self, name: str) -> None:
        listed = self.like.specials is Specials.LISTED
        node = self.tree.lookup(f"/{name}" if listed else name)
        if node is None:
            # Not in the tree, or removed: then only privileged connections hear of it.
            perms = [self._special_perms.get(name, self.tree.root.perms)]
        else:
            perms = visible_perms(self.tree, node)
        self.watches.tell(self.watches.covering(name, exact=True), name, as_they_were, perms)
