"""XenStore as a service of the machine: what xenstored does in domain 0, and how domains reach it.

The store itself knows no hypervisor. This file tells it which domains exist and when one dies or
shuts down (VIRQ_DOM_EXC), and makes a delivery of the run loop of each watch event that a client
has to take. Programs of domain 0 are connected within the process, as those of a real domain 0 are
over a socket; guests use their ring pages (:mod:`xennet.xenstored.rings`).
"""

from __future__ import annotations

from functools import partial

from attrs import define, field

from xennet.abi.xen import VIRQ_DOM_EXC
from xennet.hypervisor import Domain, Machine
from xennet.interface import HypercallError
from xennet.observe import StoreOperation
from xennet.runloop import Call, Delivery, RunLoop
from xennet.xenstore import Client, Store, StoreOp
from xennet.xenstore.client.nodes import StoreConnection
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_server import FEATURES
from xennet.xenstored.rings import StoreRings


@define(eq=False, repr=False)
class _EventPump:
    """Makes a delivery of the run loop of each watch event of one client."""

    _run_loop: RunLoop
    _domain: Domain
    _client: Client
    _delivery: Delivery
    _call: Call = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._call = partial(self._deliver, self._delivery)

    def wake(self) -> None:
        """Post a delivery: the client has events."""
        if self._domain.running:
            self._run_loop.post_call(self._delivery, self._call)

    def _deliver(self, _: Delivery) -> None:
        # The client may have been closed since the delivery was posted.
        client = self._client
        if client.events:
            try:
                client.poll_one()
            finally:
                if client.events:
                    self.wake()


class XenStoreService:
    """``store`` (None: a new one) serving ``machine``, which must have its domain 0.

    ``server`` is what sessions of other transports are made of. ``deliveries``: see
    :mod:`xennet.xenstored.rings`.
    """

    def __init__(
        self, machine: Machine, store: Store | None = None, *, deliveries: bool = False
    ) -> None:
        self.store = Store() if store is None else store
        self.server = Server(self.store, features=FEATURES)
        self._machine = machine
        self._dom0 = machine.domain(0)
        self._rings = StoreRings(machine, self.server, deliveries)
        self._known: set[int] = set()
        self._clients = 0
        port = self._dom0.bind_virq(VIRQ_DOM_EXC, 0)
        self._dom0.set_handler(port, self._check_domains)
        self._dom0.unmask(port)
        machine.on_create(self._created)
        machine.observers.on_toggle(StoreOperation, self._observe)

    def __repr__(self) -> str:
        return f"<XenStoreService {self.store!r}>"

    def introduce(self, domain: Domain) -> None:
        """XS_INTRODUCE of a domain by the toolstack, with the ring page and port that its builder
        made.

        If the builder has made none, they are made now.
        """
        ring = self._machine.build_store_ring(domain.domid)
        self._rings.introduce(domain.domid, ring.gfn, ring.port)

    def connect(self, domain: Domain, name: str = "") -> Client:
        """A connection of ``domain``, which is introduced first if it was not yet.

        Domain 0 may have many. A guest has one, over its ring: a new one takes the ring over from
        an earlier one, whose watches and transactions are dropped. Watch events arrive as
        deliveries ("xenstore", domid, n), where n numbers the clients of the machine, from 1.
        ``name`` is for observers.
        """
        if not self.store.is_introduced(domain.domid):
            self.introduce(domain)
        self._clients += 1
        name = name or f"dom{domain.domid}"
        connection: StoreConnection
        if domain.privileged:
            connection = self.store.connect(domain.domid)
        else:
            connection = self._rings.connect(domain, name)
        client = Client(connection, name=name)
        delivery = Delivery("xenstore", domain.domid, self._clients)
        client.on_pending = _EventPump(self._machine.run_loop, domain, client, delivery).wake
        return client

    def _created(self, domain: Domain) -> None:
        domid = domain.domid
        if domid in self._known:
            # An earlier domain of this number died, and VIRQ_DOM_EXC has not been handled yet.
            self._died(domid)
        self._known.add(domid)
        self.store.domain_created(domid)

    def _check_domains(self) -> None:
        """Look at all domains: VIRQ_DOM_EXC does not tell which one it is about (check_domains of
        xenstored)."""
        for domid in sorted(self._known):
            try:
                info = self._dom0.domain_info(domid)
            except HypercallError:
                self._died(domid)
                continue
            if info.dying:
                self._died(domid)
            elif info.shutdown is not None:
                self.store.domain_shut_down(domid)

    def _died(self, domid: int) -> None:
        self._known.remove(domid)
        self.store.domain_died(domid)

    def _observe(self, active: bool) -> None:
        self.store.observer = self._operation if active else None

    def _operation(self, op: StoreOp) -> None:
        self._machine.observers.emit(
            StoreOperation(op.who, op.domid, op.op, op.path, op.value, op.tx, op.errno or "")
        )
