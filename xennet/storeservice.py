"""XenStore as a service of the machine: what xenstored does in domain 0, and how domains reach it.

The store itself knows no hypervisor. Here it learns which domains exist, when one dies or shuts
down (VIRQ_DOM_EXC), and here the run loop learns of watch events that wait for somebody.
"""

from __future__ import annotations

from attrs import define

from xennet.abi.xen import VIRQ_DOM_EXC
from xennet.hypervisor import Domain, Machine
from xennet.interface import HypercallError
from xennet.observe import StoreOperation
from xennet.runloop import Delivery, RunLoop
from xennet.xenstore import Client, Store, StoreOp


@define(eq=False)
class _EventPump:
    """Brings the watch events of one client through the run loop, one event a delivery."""

    _run_loop: RunLoop
    _domain: Domain
    _client: Client
    _delivery: Delivery

    def wake(self) -> None:
        """The client has events waiting."""
        if self._domain.running:
            self._run_loop.post(self._delivery, self._deliver)

    def _deliver(self, _: Delivery) -> None:
        try:
            self._client.poll_one()
        finally:
            if self._client.pending:
                self.wake()


class XenStoreService:
    """``store`` (a new one unless given) serving ``machine``, which must have its domain 0."""

    def __init__(self, machine: Machine, store: Store | None = None) -> None:
        self.store = Store() if store is None else store
        self._machine = machine
        self._dom0 = machine.domain(0)
        self._known: set[int] = set()
        self._clients = 0
        port = self._dom0.bind_virq(VIRQ_DOM_EXC, 0)
        self._dom0.set_handler(port, self._check_domains)
        self._dom0.unmask(port)
        machine.on_create(self._created)
        machine.observers.on_toggle(StoreOperation, self._observe)

    def introduce(self, domain: Domain) -> None:
        """XS_INTRODUCE: the toolstack made this domain known to the store."""
        self.store.introduce(domain.domid)

    def connect(self, domain: Domain, name: str = "") -> Client:
        """A connection of ``domain``, which is introduced if it was not yet.

        Its watch events arrive as deliveries ("xenstore", domid, n), where n numbers the clients of
        the machine, from 1. ``name`` is for observers.
        """
        if not self.store.is_introduced(domain.domid):
            self.introduce(domain)
        self._clients += 1
        client = Client(self.store.connect(domain.domid), name=name)
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
        """VIRQ_DOM_EXC does not say which domain it is about (check_domains of xenstored)."""
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
